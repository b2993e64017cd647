//! A bounded reader of BTF: where a member of a kernel struct lies, which functions exist.
//!
//! ```text
//!  /sys/kernel/btf/vmlinux ── parse ───────► base: type ids 1..n,   strings 0..s
//!  /sys/kernel/btf/ext4 ───── parse_split ─► split: type ids n+1.., strings s.., falls back to base
//! ```
//!
//! Bytes in, answers out: this module must never do I/O, never panic on hostile bytes and never
//! guess. Where two types of one name give different answers the result is an error, not the first.
//!
//! Invariants: every type record was bounds-checked by `parse`; every walk over type ids has a named
//! limit, because ids may form loops. Units: bytes, except inside a member's encoding (bits).

mod error;
mod layout;
mod member;
#[cfg(test)]
mod tests;

use std::ops::Range;

pub use self::error::BtfError;
use self::layout::{Kind, PARAM_LEN, RawType};
use self::member::Walk;

/// Largest blob accepted; vmlinux has about 6 MB, so this leaves a factor of ten.
pub const BLOB_LEN_MAX: usize = 64 << 20;
/// Most types in a blob and its base: the kernel's own `BTF_MAX_TYPE`.
pub const TYPE_ID_MAX: u32 = 0xf_ffff;
/// Longest chain of typedefs, qualifiers, pointers and arrays; the kernel resolves at most 32.
pub const CHAIN_LEN_MAX: usize = 32;
/// Members looked at for one answer. The largest struct of a 6.18 kernel has 272 with its anonymous
/// ones; those of a hostile blob multiply without end.
pub const MEMBERS_VISITED_MAX: usize = 1 << 16;
/// Types of one name that are compared before giving up; a 6.18 kernel has 4 at the most.
pub const CANDIDATES_MAX: usize = 64;
/// Most parameters of a function that are listed; a 6.18 kernel has 18 at the most.
pub const PARAMS_MAX: u32 = 64;
/// Longest name put into an answer: the kernel's `KSYM_NAME_LEN`. Longer ones are cut.
pub const NAME_LEN_MAX: usize = 512;
/// What the kernel puts before a tracepoint's name (include/trace/bpf_probe.h).
const TRACEPOINT_PREFIX: &str = "btf_trace_";
/// Bytes of a name that enter its hash; the rest is compared, so that a blob whose every type
/// carries one huge name costs no more to index than an honest one.
const HASHED_LEN_MAX: usize = 64;

/// A type's number in the kernel's own count: what `BPF_PROG_LOAD` takes as `attach_btf_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u32);

/// Where a member lies in its struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// From the start of the outermost struct.
    pub offset_bytes: u32,
    /// Of the member's type; zero for a flexible array.
    pub size_bytes: u32,
}

/// Parsed BTF over borrowed bytes, with the BTF it builds on if it is a module's.
#[derive(Debug)]
pub struct Btf<'a> {
    bytes: &'a [u8],
    strings: Range<usize>,
    types_end: usize,
    /// Byte of each type record, by id less `first_id`.
    offsets: Vec<u32>,
    /// Structs, unions, functions and tracepoints: hash of the name in the high half, id in the low; sorted.
    names: Vec<u64>,
    first_id: u32,
    first_string: u32,
    base: Option<&'a Btf<'a>>,
}

impl<'a> Btf<'a> {
    /// Reads self-contained BTF, such as vmlinux's.
    pub fn parse(bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        Btf::parse_above(None, bytes)
    }

    /// Reads a module's BTF, whose ids and strings continue those of `base`.
    pub fn parse_split(base: &'a Btf<'a>, bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        Btf::parse_above(Some(base), bytes)
    }

    /// The member of `struct_name` (a struct or union) at a path such as `bi_iter.bi_sector`.
    ///
    /// Anonymous structs and unions on the way are not named in the path, as in C.
    pub fn struct_field(&self, struct_name: &str, path: &str) -> Result<Field, BtfError> {
        let mut walk = Walk::new(self, struct_name, path);
        agreed(struct_name, &self.structs(struct_name)?, |root| walk.field(root))
    }

    /// The size of a struct or union in bytes.
    pub fn struct_size(&self, struct_name: &str) -> Result<u32, BtfError> {
        let candidates = self.structs(struct_name)?;
        agreed(struct_name, &candidates, |id| Ok(self.raw(id)?.size_or_type))
    }

    /// Whether a function of that name is described; inlined ones are not.
    pub fn has_function(&self, name: &str) -> bool {
        !self.find(name, |kind| kind == Kind::Func).is_empty()
    }

    /// The id to attach to; an error if several functions of that name exist.
    pub fn function_id(&self, name: &str) -> Result<TypeId, BtfError> {
        let candidates = self.functions(name)?;
        agreed(name, &candidates, Ok)
    }

    /// The types of a function's parameters, such as `struct inode *`, `int` or `...`.
    ///
    /// Qualifiers (`const`) are left out and typedefs keep their name.
    pub fn function_params(&self, name: &str) -> Result<Vec<String>, BtfError> {
        let candidates = self.functions(name)?;
        agreed(name, &candidates, |id| self.params(name, TypeId(self.raw(id)?.size_or_type)))
    }

    /// The types of a tracepoint's arguments, as [`Btf::function_params`] writes them.
    ///
    /// The kernel describes each as the typedef `btf_trace_…` of a function that also gets a
    /// `void *` first, which is left out (5.0 and later).
    pub fn tracepoint_params(&self, name: &str) -> Result<Vec<String>, BtfError> {
        let typedef = format!("{TRACEPOINT_PREFIX}{name}");
        let candidates = self.find(&typedef, |kind| kind == Kind::Typedef);
        if candidates.is_empty() {
            return Err(BtfError::MissingTracepoint { name: name.to_owned() });
        }
        agreed(name, &candidates, |id| {
            let pointer = self.raw(TypeId(self.raw(id)?.size_or_type))?;
            if pointer.kind != Kind::Ptr {
                return Err(BtfError::MissingTracepoint { name: name.to_owned() });
            }
            let mut params = self.params(name, TypeId(pointer.size_or_type))?;
            params.drain(..params.len().min(1));
            Ok(params)
        })
    }

    /// How many types this blob describes, without its base.
    pub fn type_count(&self) -> usize {
        self.offsets.len()
    }

    fn parse_above(base: Option<&'a Btf<'a>>, bytes: &'a [u8]) -> Result<Btf<'a>, BtfError> {
        if bytes.len() > BLOB_LEN_MAX {
            return Err(BtfError::TooLarge { len: bytes.len() });
        }
        let layout::Sections { types, strings } = layout::sections(bytes)?;
        let table = &bytes[strings.clone()];
        // A split blob may have no strings of its own, and its first is an ordinary one.
        let opens_well = base.is_some() || table.first() == Some(&0);
        let closes_well = table.last().map_or(base.is_some(), |&byte| byte == 0);
        if !(opens_well && closes_well) {
            return Err(BtfError::Strings);
        }
        let (first_id, first_string) = base.map_or((1, 0), Btf::next);
        let mut btf = Btf {
            types_end: types.end,
            offsets: Vec::with_capacity(types.len() / 24),
            names: Vec::new(),
            bytes,
            strings,
            first_id,
            first_string,
            base,
        };
        btf.index(types.start)?;
        Ok(btf)
    }

    /// Walks all type records once, checks their bounds and notes the names worth finding.
    fn index(&mut self, types_start: usize) -> Result<(), BtfError> {
        let (mut at, mut id) = (types_start, self.first_id);
        while at < self.types_end {
            let raw = layout::read_type(self.bytes, at, self.types_end)?;
            if id > TYPE_ID_MAX {
                return Err(BtfError::TooManyTypes);
            }
            let offset = u32::try_from(at).expect("BLOB_LEN_MAX is below 4 GiB");
            self.offsets.push(offset);
            let wanted = match raw.kind {
                Kind::Struct | Kind::Union | Kind::Func => raw.name != 0,
                Kind::Typedef => self.string(raw.name).starts_with(TRACEPOINT_PREFIX.as_bytes()),
                _ => false,
            };
            if wanted {
                let hash = hash(self.string(raw.name));
                self.names.push(u64::from(hash) << 32 | u64::from(id));
            }
            (at, id) = (raw.tail.1, id + 1);
        }
        self.names.sort_unstable();
        Ok(())
    }

    /// The first id and string offset that a blob on top of this one uses.
    fn next(&self) -> (u32, u32) {
        let count = u32::try_from(self.offsets.len()).expect("at most TYPE_ID_MAX types");
        let strings_len = u32::try_from(self.strings.len()).expect("at most BLOB_LEN_MAX bytes");
        (self.first_id + count, self.first_string.saturating_add(strings_len))
    }

    fn structs(&self, name: &str) -> Result<Vec<TypeId>, BtfError> {
        let found = self.find(name, |kind| matches!(kind, Kind::Struct | Kind::Union));
        if found.is_empty() {
            return Err(BtfError::MissingStruct { name: name.to_owned() });
        }
        Ok(found)
    }

    fn functions(&self, name: &str) -> Result<Vec<TypeId>, BtfError> {
        let found = self.find(name, |kind| kind == Kind::Func);
        if found.is_empty() {
            return Err(BtfError::MissingFunction { name: name.to_owned() });
        }
        Ok(found)
    }

    /// Ids of that name, at most one more than `CANDIDATES_MAX`: a module's own, else the base's.
    fn find(&self, name: &str, wanted: impl Fn(Kind) -> bool) -> Vec<TypeId> {
        let key = u64::from(hash(name.as_bytes())) << 32;
        let mut layer = Some(self);
        while let Some(btf) = layer {
            let first = btf.names.partition_point(|&entry| entry < key);
            let found: Vec<TypeId> = btf.names[first..]
                .iter()
                .take_while(|&&entry| entry >> 32 == key >> 32)
                .map(|&entry| TypeId(entry as u32))
                .filter(|&id| {
                    let raw = btf.raw(id);
                    raw.is_ok_and(|raw| wanted(raw.kind) && btf.string(raw.name) == name.as_bytes())
                })
                .take(CANDIDATES_MAX + 1)
                .collect();
            if !found.is_empty() {
                return found;
            }
            layer = btf.base;
        }
        Vec::new()
    }

    fn params(&self, name: &str, id: TypeId) -> Result<Vec<String>, BtfError> {
        let proto = self.raw(id)?;
        if proto.kind != Kind::FuncProto {
            return Err(BtfError::MissingFunction { name: name.to_owned() });
        }
        if proto.vlen > PARAMS_MAX {
            let max = PARAMS_MAX as usize;
            return Err(BtfError::Limit { name: name.to_owned(), what: "parameter list", max });
        }
        let owner = self.owner(id)?;
        let mut params = Vec::new();
        for index in 0..proto.vlen as usize {
            let at = proto.tail.0 + index * PARAM_LEN;
            let (param, id) = (owner.word(at)?, owner.word(at + 4)?);
            if (param, id) == (0, 0) {
                params.push("...".to_owned());
            } else {
                params.push(self.type_name(name, TypeId(id))?);
            }
        }
        Ok(params)
    }

    fn type_name(&self, asked: &str, mut id: TypeId) -> Result<String, BtfError> {
        let mut stars = String::new();
        for _ in 0..CHAIN_LEN_MAX {
            let Some(raw) = (id.0 != 0).then(|| self.raw(id)).transpose()? else {
                return Ok(spaced("void", &stars));
            };
            let prefix = match raw.kind {
                Kind::Ptr => {
                    stars.push('*');
                    ""
                }
                Kind::Const | Kind::Volatile | Kind::Restrict | Kind::TypeTag => "",
                Kind::Struct => "struct ",
                Kind::Union => "union ",
                Kind::Enum | Kind::Enum64 => "enum ",
                Kind::Fwd if raw.kind_flag => "union ",
                Kind::Fwd => "struct ",
                Kind::Array => return Ok(spaced("array", &stars)),
                Kind::FuncProto => return Ok(spaced("function", &stars)),
                Kind::Int | Kind::Typedef | Kind::Float => "",
                Kind::Func | Kind::Var | Kind::Datasec | Kind::DeclTag => {
                    return Err(BtfError::BadTypeId { id: id.0 });
                }
            };
            if raw.is_reference() && raw.kind != Kind::Typedef {
                id = TypeId(raw.size_or_type);
                continue;
            }
            let name = self.string(raw.name);
            let name = String::from_utf8_lossy(&name[..name.len().min(NAME_LEN_MAX)]);
            let name = if name.is_empty() { "(anonymous)" } else { &name };
            return Ok(spaced(&format!("{prefix}{name}"), &stars));
        }
        let what = "chain of types";
        Err(BtfError::Limit { name: asked.to_owned(), what, max: CHAIN_LEN_MAX })
    }

    /// The blob that holds `id`: this one or one below it.
    fn owner(&self, id: TypeId) -> Result<&Btf<'a>, BtfError> {
        let mut btf = self;
        while id.0 < btf.first_id {
            btf = btf.base.ok_or(BtfError::BadTypeId { id: id.0 })?;
        }
        Ok(btf)
    }

    fn raw(&self, id: TypeId) -> Result<RawType, BtfError> {
        let owner = self.owner(id)?;
        let at = owner.offsets.get((id.0 - owner.first_id) as usize);
        let at = *at.ok_or(BtfError::BadTypeId { id: id.0 })?;
        layout::read_type(owner.bytes, at as usize, owner.types_end)
    }

    fn word(&self, at: usize) -> Result<u32, BtfError> {
        layout::u32_at(self.bytes, at).ok_or(BtfError::Truncated { what: "type", offset: at })
    }

    /// The string at `offset` without its zero; empty if there is none, which no name equals.
    fn string(&self, offset: u32) -> &[u8] {
        let mut btf = self;
        while offset < btf.first_string {
            let Some(base) = btf.base else { return &[] };
            btf = base;
        }
        let table = &btf.bytes[btf.strings.clone()];
        let tail = table.get((offset - btf.first_string) as usize..).unwrap_or(&[]);
        tail.split(|&byte| byte == 0).next().unwrap_or(&[])
    }
}

/// The one answer that all candidates give.
fn agreed<T: PartialEq>(
    name: &str,
    candidates: &[TypeId],
    mut answer: impl FnMut(TypeId) -> Result<T, BtfError>,
) -> Result<T, BtfError> {
    let ambiguous = BtfError::Ambiguous { name: name.to_owned(), count: candidates.len() };
    if candidates.len() > CANDIDATES_MAX {
        return Err(ambiguous);
    }
    let (&first, rest) = candidates.split_first().expect("callers refuse an empty list");
    let one = answer(first);
    if rest.iter().all(|&id| answer(id) == one) { one } else { Err(ambiguous) }
}

fn spaced(name: &str, stars: &str) -> String {
    if stars.is_empty() { name.to_owned() } else { format!("{name} {stars}") }
}

/// FNV-1a over the first `HASHED_LEN_MAX` bytes of a name.
fn hash(name: &[u8]) -> u32 {
    let head = &name[..name.len().min(HASHED_LEN_MAX)];
    head.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
