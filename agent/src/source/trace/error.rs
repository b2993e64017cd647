//! Why a recording cannot be written or read; offsets are bytes from the start of the file.

use std::io;

use super::format::NEWEST;

/// Why a recording cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The file system said no.
    #[error("cannot {what} the recording at byte {at}: {source}")]
    Io {
        /// What was attempted.
        what: &'static str,
        /// How far it had come.
        at: u64,
        /// Why not.
        source: io::Error,
    },
    /// The file begins with something else.
    #[error("not a recording of endiod: its magic is not at byte 0")]
    NotARecording,
    /// A version that came after this program.
    #[error(
        "the recording has format version {found}, this endiod reads up to version {newest}: \
         replay it with a newer endiod",
        newest = NEWEST.number
    )]
    Newer {
        /// The file's version.
        found: u16,
    },
    /// The records are of another version of the wire.
    #[error(
        "the recording has wire version {found} in format version {format}, which this endiod does not know"
    )]
    Wire {
        /// The records' version.
        found: u16,
        /// The file's version.
        format: u16,
    },
    /// Bytes that no writer wrote.
    #[error("the recording is damaged at byte {at}: {what}")]
    Damaged {
        /// Where the damaged part begins.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A length beyond what any writer writes.
    #[error(
        "the recording is damaged at byte {at}: {what} of {len} bytes, at most {max} are possible"
    )]
    TooLong {
        /// Where the part with that length begins.
        at: u64,
        /// What is that long.
        what: &'static str,
        /// The length.
        len: u64,
        /// The bound.
        max: u64,
    },
    /// The file ends before its recording does: it was cut, or the recorder died.
    #[error(
        "the recording is cut off: it is whole up to byte {at} and what came after is not in the file"
    )]
    Truncated {
        /// End of the last whole block.
        at: u64,
    },
}

impl TraceError {
    pub(super) fn damaged(at: u64, what: &'static str) -> Self {
        TraceError::Damaged { at, what }
    }
}
