//! A recording as a source: the wire stream in a file, in checksummed blocks, with an index.
//!
//! ```text
//!  | head | block | block | … | index | tail |        agent/docs/trace-format.md, byte by byte
//!           └ zstd of (length, record)*
//! ```
//!
//! [`Writer`] takes records as the stream brings them, malformed ones too; [`Reader`] gives back the
//! same bytes in the same order. A file that was cut reads up to its last whole block, then says
//! [`TraceError::Truncated`]; anything else that is not a recording is an error with its offset.
//! Neither looks further into a record than its time. Memory is bounded by two blocks and the index,
//! whatever a file claims. A recording holds kernel addresses: files are made with mode 0600.

mod error;
mod format;
mod reader;
mod writer;

pub use error::TraceError;
pub use format::{VERSIONS, Version};
pub use reader::Reader;
pub use writer::{Existing, Writer, Written};
