//! The walk from a struct to a member: through paths, anonymous members, typedefs and qualifiers.
//!
//! ```text
//!  "bi_iter.bi_sector":  struct bio ─member─► typedefs, const… ─► struct bvec_iter ─member─► size
//! ```
//!
//! This module must never recurse: nested anonymous members wait on a list, and every member looked
//! at costs one unit of a budget that all types of the same name share.
//! Units: a member's encoded offset counts bits, an answer counts bytes.

use super::layout::{Kind, MEMBER_LEN, RawType};
use super::{Btf, BtfError, CHAIN_LEN_MAX, Field, MEMBERS_VISITED_MAX, TypeId};

/// Size of a pointer on every target that the programs are built for.
const POINTER_LEN: u32 = 8;

/// One search for a member, with what is left of its budget.
pub(super) struct Walk<'a> {
    btf: &'a Btf<'a>,
    name: &'a str,
    path: &'a str,
    members_left: usize,
}

/// A member as encoded: its offset counts bits.
struct Member {
    type_id: TypeId,
    offset_bits: u64,
    is_bit_field: bool,
}

impl<'a> Walk<'a> {
    /// A search for `path` in the struct `name`, with a fresh budget.
    pub(super) fn new(btf: &'a Btf<'a>, name: &'a str, path: &'a str) -> Walk<'a> {
        Walk { btf, name, path, members_left: MEMBERS_VISITED_MAX }
    }

    /// Where the path leads from `root`.
    pub(super) fn field(&mut self, root: TypeId) -> Result<Field, BtfError> {
        let root_len = self.btf.raw(root)?.size_or_type;
        let (mut at, mut offset_bits) = (root, 0);
        for member in self.path.split('.') {
            let parent = self.strip(at)?;
            if !matches!(parent.map(|(_, raw)| raw.kind), Some(Kind::Struct | Kind::Union)) {
                return Err(self.failed(member, |name, path, member| BtfError::NotAStruct {
                    name,
                    path,
                    member,
                }));
            }
            let (parent, _) = parent.expect("checked above");
            let Some(found) = self.member(parent, member)? else {
                return Err(self.failed(member, |name, path, member| BtfError::MissingField {
                    name,
                    path,
                    member,
                }));
            };
            offset_bits += found.offset_bits;
            at = found.type_id;
            if found.is_bit_field || offset_bits % 8 != 0 || self.is_partial_int(at)? {
                return Err(self.failed(member, |name, path, member| BtfError::BitField {
                    name,
                    path,
                    member,
                }));
            }
        }
        let size = self.size(at)?;
        let room = u64::from(root_len).checked_sub(offset_bits / 8);
        let inside = size.filter(|&size| room.is_some_and(|room| size <= room));
        let bytes = |value: u64| u32::try_from(value).ok();
        let field = inside.and_then(|size| {
            Some(Field { offset_bytes: bytes(offset_bits / 8)?, size_bytes: bytes(size)? })
        });
        let (name, path) = (self.name.to_owned(), self.path.to_owned());
        field.ok_or(BtfError::NoSize { name, path })
    }

    /// The member of that name in `parent` or in anonymous structs and unions inside it.
    fn member(&mut self, parent: TypeId, wanted: &str) -> Result<Option<Member>, BtfError> {
        let mut pending = vec![(parent, 0u64)];
        while let Some((id, parent_bits)) = pending.pop() {
            let (raw, owner) = (self.btf.raw(id)?, self.btf.owner(id)?);
            for at in (raw.tail.0..raw.tail.1).step_by(MEMBER_LEN) {
                self.members_left =
                    self.members_left.checked_sub(1).ok_or_else(|| BtfError::Limit {
                        name: self.name.to_owned(),
                        what: "list of members",
                        max: MEMBERS_VISITED_MAX,
                    })?;
                let type_id = TypeId(owner.word(at + 4)?);
                let encoded = owner.word(at + 8)?;
                // With kind_flag: bits 31–24 are the bit-field's width, zero for a plain member.
                let (bits, width) =
                    if raw.kind_flag { (encoded & 0xff_ffff, encoded >> 24) } else { (encoded, 0) };
                let offset_bits = parent_bits + u64::from(bits);
                let name = self.btf.string(owner.word(at)?);
                if name.is_empty() {
                    let inner = self.strip(type_id)?;
                    if let Some((inner, RawType { kind: Kind::Struct | Kind::Union, .. })) = inner {
                        pending.push((inner, offset_bits));
                    }
                } else if name == wanted.as_bytes() {
                    return Ok(Some(Member { type_id, offset_bits, is_bit_field: width != 0 }));
                }
            }
        }
        Ok(None)
    }

    /// The type behind typedefs and qualifiers; `None` is void.
    fn strip(&self, mut id: TypeId) -> Result<Option<(TypeId, RawType)>, BtfError> {
        for _ in 0..CHAIN_LEN_MAX {
            if id.0 == 0 {
                return Ok(None);
            }
            let raw = self.btf.raw(id)?;
            if !raw.is_reference() || raw.kind == Kind::Ptr {
                return Ok(Some((id, raw)));
            }
            id = TypeId(raw.size_or_type);
        }
        Err(self.chain_too_long())
    }

    /// The size in bytes; `None` where the type has none.
    fn size(&self, mut id: TypeId) -> Result<Option<u64>, BtfError> {
        let mut count = 1u64;
        for _ in 0..CHAIN_LEN_MAX {
            let Some((stripped, raw)) = self.strip(id)? else { return Ok(None) };
            let len = match raw.kind {
                Kind::Ptr => POINTER_LEN,
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Float => raw.size_or_type,
                Kind::Array => {
                    let owner = self.btf.owner(stripped)?;
                    id = TypeId(owner.word(raw.tail.0)?);
                    let elements = u64::from(owner.word(raw.tail.0 + 8)?);
                    let Some(product) = count.checked_mul(elements) else { return Ok(None) };
                    count = product;
                    continue;
                }
                _ => return Ok(None),
            };
            return Ok(count.checked_mul(u64::from(len)));
        }
        Err(self.chain_too_long())
    }

    /// Whether it is an integer that uses only some bits of its bytes: how compilers and pahole
    /// before kind_flag (Linux 5.0) wrote bit-fields.
    fn is_partial_int(&self, id: TypeId) -> Result<bool, BtfError> {
        let Some((id, raw)) = self.strip(id)? else { return Ok(false) };
        if raw.kind != Kind::Int {
            return Ok(false);
        }
        let encoding = self.btf.owner(id)?.word(raw.tail.0)?;
        let (shift_bits, width_bits) = ((encoding >> 16) & 0xff, encoding & 0xff);
        Ok(shift_bits != 0 || u64::from(width_bits) != u64::from(raw.size_or_type) * 8)
    }

    fn failed(
        &self,
        member: &str,
        error: impl FnOnce(String, String, String) -> BtfError,
    ) -> BtfError {
        error(self.name.to_owned(), self.path.to_owned(), member.to_owned())
    }

    fn chain_too_long(&self) -> BtfError {
        let what = "chain of types";
        BtfError::Limit { name: self.name.to_owned(), what, max: CHAIN_LEN_MAX }
    }
}
