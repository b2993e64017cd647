//! Why a question to BTF has no answer.
//!
//! Each variant names what was asked and the part that failed, so that a caller can tell "this
//! kernel has no such member" from "these bytes are no BTF". This module must never format bytes of
//! the blob: names are the caller's own.

use super::{BLOB_LEN_MAX, TYPE_ID_MAX};

/// Why a BTF question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// More bytes than `BLOB_LEN_MAX`.
    #[error("read BTF: {len} bytes are more than the {BLOB_LEN_MAX} accepted; is this BTF?")]
    TooLarge {
        /// Bytes given.
        len: usize,
    },
    /// A part reaches past the end.
    #[error("read BTF: the {what} ends outside of the data at byte {offset}; read the file whole")]
    Truncated {
        /// The part that does not fit.
        what: &'static str,
        /// Where.
        offset: usize,
    },
    /// The first two bytes are not BTF's.
    #[error("read BTF: magic {magic:#06x} instead of 0xeb9f; not BTF, or of the other byte order")]
    Magic {
        /// What they are.
        magic: u16,
    },
    /// A version that does not exist yet.
    #[error("read BTF: version {version} is unknown, only 1 is; update endiod")]
    Version {
        /// The version found.
        version: u8,
    },
    /// The string section does not start and end with a zero byte.
    #[error("read BTF: the string section is not enclosed in zero bytes")]
    Strings,
    /// A kind newer than this reader.
    #[error("read BTF: unknown kind {kind} at byte {offset}; update endiod")]
    UnknownKind {
        /// The kind's number.
        kind: u32,
        /// Byte of the type record.
        offset: usize,
    },
    /// More types than `TYPE_ID_MAX`.
    #[error("read BTF: more than {TYPE_ID_MAX} types")]
    TooManyTypes,
    /// A type refers to an id that is not there.
    #[error("read BTF: type id {id} does not exist")]
    BadTypeId {
        /// The id.
        id: u32,
    },
    /// No struct or union of that name.
    #[error("look up struct {name}: the kernel's BTF has none")]
    MissingStruct {
        /// The name asked for.
        name: String,
    },
    /// The struct exists, the member does not.
    #[error("look up {path} in struct {name}: no member {member}")]
    MissingField {
        /// The struct.
        name: String,
        /// The path asked for.
        path: String,
        /// The part of the path that failed.
        member: String,
    },
    /// The member is a bit-field, which has no byte offset.
    #[error("look up {path} in struct {name}: {member} is a bit-field")]
    BitField {
        /// The struct.
        name: String,
        /// The path asked for.
        path: String,
        /// The part of the path that failed.
        member: String,
    },
    /// The path goes on behind a member that has no members.
    #[error("look up {path} in struct {name}: {member} is asked of a type without members")]
    NotAStruct {
        /// The struct.
        name: String,
        /// The path asked for.
        path: String,
        /// The part of the path that failed.
        member: String,
    },
    /// The member has no size, or does not lie inside its struct.
    #[error("look up {path} in struct {name}: its type has no size or reaches outside")]
    NoSize {
        /// The struct.
        name: String,
        /// The path asked for.
        path: String,
    },
    /// No function of that name.
    #[error("look up function {name}: the kernel's BTF has none")]
    MissingFunction {
        /// The name asked for.
        name: String,
    },
    /// No tracepoint of that name.
    #[error("look up tracepoint {name}: the kernel's BTF has none")]
    MissingTracepoint {
        /// The name asked for.
        name: String,
    },
    /// Types of one name disagree.
    #[error("look up {name}: {count} types have that name and differ")]
    Ambiguous {
        /// The name asked for.
        name: String,
        /// How many have it, up to `CANDIDATES_MAX`.
        count: usize,
    },
    /// A walk reached one of the limits above.
    #[error("look up {name}: its {what} is longer than {max}")]
    Limit {
        /// The name asked for.
        name: String,
        /// What was walked.
        what: &'static str,
        /// The limit.
        max: usize,
    },
}
