//! The bytes of BTF: header, type records, string table.
//!
//! ```text
//!  header: magic u16 · version u8 · flags u8 · hdr_len u32 · type_off · type_len · str_off · str_len
//!  type:   name_off u32 · info u32 · size or type u32 · tail (its length follows from info)
//!  info:   31 kind_flag · 30..24 kind · 23..0 vlen
//! ```
//!
//! Offsets in the header count from its end. Bits 16–23 and 29–30 of `info` were reserved, and zero,
//! while kinds had 5 bits and vlen had 16: the wide masks read both forms.
//! This module must never follow a type id and never panic on any bytes. Units: bytes, host order.

use std::ops::Range;

use super::BtfError;

/// The first two bytes, in the byte order of the host that wrote them.
pub(super) const MAGIC: u16 = 0xeb9f;
/// The only version that exists.
pub(super) const VERSION: u8 = 1;
/// Bytes of the header's known part; a longer header is legal and its rest is not ours to read.
pub(super) const HEADER_LEN: usize = 24;
/// Bytes of a type record without its tail.
pub(super) const TYPE_LEN: usize = 12;
/// Bytes of a struct or union member: name, type, offset.
pub(super) const MEMBER_LEN: usize = 12;
/// Bytes of a function parameter: name, type.
pub(super) const PARAM_LEN: usize = 8;

/// What a type record describes: `BTF_KIND_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

/// Every kind, its number in `info`, the fixed part of its tail and the bytes per vlen.
///
/// A function's vlen is its linkage, so it has no tail.
const KINDS: [(u32, Kind, usize, usize); 19] = [
    (1, Kind::Int, 4, 0),
    (2, Kind::Ptr, 0, 0),
    (3, Kind::Array, 12, 0),
    (4, Kind::Struct, 0, MEMBER_LEN),
    (5, Kind::Union, 0, MEMBER_LEN),
    (6, Kind::Enum, 0, 8),
    (7, Kind::Fwd, 0, 0),
    (8, Kind::Typedef, 0, 0),
    (9, Kind::Volatile, 0, 0),
    (10, Kind::Const, 0, 0),
    (11, Kind::Restrict, 0, 0),
    (12, Kind::Func, 0, 0),
    (13, Kind::FuncProto, 0, PARAM_LEN),
    (14, Kind::Var, 4, 0),
    (15, Kind::Datasec, 0, 12),
    (16, Kind::Float, 0, 0),
    (17, Kind::DeclTag, 4, 0),
    (18, Kind::TypeTag, 0, 0),
    (19, Kind::Enum64, 0, 12),
];

/// One decoded type record.
#[derive(Clone, Copy, Debug)]
pub(super) struct RawType {
    /// Offset of the name in the string table; zero is no name.
    pub(super) name: u32,
    pub(super) kind: Kind,
    /// For a struct or union: members carry bit-field sizes. For a forward: it is a union.
    pub(super) kind_flag: bool,
    pub(super) vlen: u32,
    /// The size in bytes or the type referred to, by kind.
    pub(super) size_or_type: u32,
    /// Where the tail starts and ends, in bytes of the whole blob.
    pub(super) tail: (usize, usize),
}

impl RawType {
    /// Whether `size_or_type` is the type that this one wraps.
    pub(super) fn is_reference(&self) -> bool {
        match self.kind {
            Kind::Ptr
            | Kind::Typedef
            | Kind::Volatile
            | Kind::Const
            | Kind::Restrict
            | Kind::TypeTag => true,
            Kind::Int
            | Kind::Array
            | Kind::Struct
            | Kind::Union
            | Kind::Enum
            | Kind::Fwd
            | Kind::Func
            | Kind::FuncProto
            | Kind::Var
            | Kind::Datasec
            | Kind::Float
            | Kind::DeclTag
            | Kind::Enum64 => false,
        }
    }
}

/// Where the two sections lie in the blob.
#[derive(Debug)]
pub(super) struct Sections {
    pub(super) types: Range<usize>,
    pub(super) strings: Range<usize>,
}

/// Reads the header and checks that both sections lie inside the blob.
pub(super) fn sections(bytes: &[u8]) -> Result<Sections, BtfError> {
    if bytes.len() < HEADER_LEN {
        return Err(BtfError::Truncated { what: "header", offset: bytes.len() });
    }
    let word = |at| u32_at(bytes, at).map_or(0, |value| value as usize);
    let magic = u16::from_ne_bytes([bytes[0], bytes[1]]);
    if magic != MAGIC {
        return Err(BtfError::Magic { magic });
    }
    if bytes[2] != VERSION {
        return Err(BtfError::Version { version: bytes[2] });
    }
    let header_len = word(4);
    if header_len < HEADER_LEN || header_len > bytes.len() {
        return Err(BtfError::Truncated { what: "header", offset: header_len });
    }
    let section = |what, offset: usize, len: usize| {
        let start = header_len.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= bytes.len() => Ok(start..end),
            _ => Err(BtfError::Truncated { what, offset: bytes.len() }),
        }
    };
    Ok(Sections {
        types: section("type section", word(8), word(12))?,
        strings: section("string section", word(16), word(20))?,
    })
}

/// Decodes the type record at `at`; its tail must end at or before `end`.
pub(super) fn read_type(bytes: &[u8], at: usize, end: usize) -> Result<RawType, BtfError> {
    let truncated = BtfError::Truncated { what: "type record", offset: at };
    let record = bytes.get(at..end).and_then(|rest| rest.first_chunk::<TYPE_LEN>());
    let Some(record) = record else { return Err(truncated) };
    let word =
        |i: usize| u32::from_ne_bytes([record[i], record[i + 1], record[i + 2], record[i + 3]]);
    let info = word(4);
    let (number, vlen) = ((info >> 24) & 0x7f, info & 0xff_ffff);
    // The table is in the order of the numbers, from 1.
    let row = usize::try_from(number).ok().and_then(|n| KINDS.get(n.wrapping_sub(1)));
    let Some(&(_, kind, fixed_len, entry_len)) = row else {
        return Err(BtfError::UnknownKind { kind: number, offset: at });
    };
    let start = at + TYPE_LEN;
    let tail_len = fixed_len + entry_len * vlen as usize;
    if tail_len > end - start {
        return Err(truncated);
    }
    Ok(RawType {
        name: word(0),
        kind,
        kind_flag: info >> 31 == 1,
        vlen,
        size_or_type: word(8),
        tail: (start, start + tail_len),
    })
}

/// The 32-bit word at `at`, if it lies inside `bytes`.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::KINDS;

    #[test]
    fn kinds_are_in_the_order_of_their_numbers() {
        for (index, row) in KINDS.iter().enumerate() {
            assert_eq!(row.0 as usize, index + 1, "{:?}", row.1);
        }
    }
}
