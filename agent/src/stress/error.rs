//! Why a run cannot be what was asked: the flag or file, its value, and what to change.
//!
//! I/O that fails during a run is not here: it is counted in the report.

use std::io;
use std::path::PathBuf;

use super::plan::{BUFFERS_LEN_MAX, DIRECT_ALIGNMENT, THREADS_MAX, WRITTEN_UNITS_MAX};
use super::size::Bytes;

/// Why the run was refused or broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StressError {
    /// The command line names no file.
    #[error("no files given; name at least one on the file system under test")]
    NoFiles,
    /// An `-o` outside of 0 to 3.
    #[error("unknown op {text:?} for -o; 0 is write, 1 read, 2 random write, 3 random read")]
    UnknownOp {
        /// What was given.
        text: String,
    },
    /// A size that is no number with one of the suffixes.
    #[error("{text:?} is no size; give a number with b, k, m or g, such as 64k")]
    BadSize {
        /// What was given.
        text: String,
    },
    /// A seed that is no 64-bit number.
    #[error("{text:?} is no seed; give a number of 64 bits, decimal or 0x…")]
    BadSeed {
        /// What was given.
        text: String,
    },
    /// A count or size of zero.
    #[error("{flag} is 0; {what} must be at least 1")]
    Zero {
        /// The flag.
        flag: &'static str,
        /// What it counts.
        what: &'static str,
    },
    /// A flag of aio-stress that has no meaning here.
    #[error("aio-stress's {flag} is not supported: {reason}")]
    Unsupported {
        /// The flag.
        flag: &'static str,
        /// Why, and what to do.
        reason: &'static str,
    },
    /// More threads than the bound.
    #[error("-t {threads} is more than {THREADS_MAX} threads; lower it")]
    TooManyThreads {
        /// What was given.
        threads: u32,
    },
    /// The file, or a context's part of it, does not hold one record.
    #[error("a part of {size} does not hold a record of {record}; raise -s, or lower -r, -c or -C")]
    SizeBelowRecord {
        /// Bytes of the part.
        size: Bytes,
        /// Bytes of a record.
        record: Bytes,
    },
    /// A size beyond what a file offset can hold.
    #[error("-s {size} is more than a file can have; lower it")]
    SizeTooLarge {
        /// What was given.
        size: Bytes,
    },
    /// An alignment that is no power of two.
    #[error("-a {alignment} is not a power of two; try 4k")]
    BadAlignment {
        /// What was given.
        alignment: Bytes,
    },
    /// Something that direct I/O needs aligned.
    #[error("{flag} {value} is not a multiple of {DIRECT_ALIGNMENT} bytes, which -O needs")]
    DirectAlignment {
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: Bytes,
    },
    /// Buffers beyond the bound.
    #[error(
        "{needed} of buffers (files × -d × -r) are more than {}; lower -d or -r",
        Bytes(BUFFERS_LEN_MAX)
    )]
    BuffersTooLarge {
        /// What the run would allocate.
        needed: Bytes,
    },
    /// `-v` cannot remember what was written.
    #[error("-v over {units} records is more than the {WRITTEN_UNITS_MAX} remembered; lower -s")]
    VerifyTooLarge {
        /// Records or alignment units of one file.
        units: u64,
    },
    /// `-v` with nothing to compare.
    #[error("-v checks what this run wrote, and it writes nothing; add -o 0 or -o 2")]
    VerifyWithoutWrite,
    /// A file did not open.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Not a regular file.
    #[error("open {}: not a regular file; stress would overwrite it", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// `EINVAL` for `O_DIRECT`.
    #[error(
        "open {}: its file system refuses O_DIRECT (as tmpfs before Linux 6.6); use ext4, or --buffered",
        path.display()
    )]
    DirectRefused {
        /// The file.
        path: PathBuf,
    },
    /// `io_setup` found `fs.aio-max-nr` used up.
    #[error(
        "io_setup for {events} events: the host's limit is reached; raise fs.aio-max-nr, or \
         lower -t or -d"
    )]
    AioLimit {
        /// What was asked for.
        events: u32,
    },
    /// Another failure of the AIO system calls.
    #[error("{call}")]
    Aio {
        /// The system call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A thread did not start.
    #[error("start thread {started} of the run; lower -t")]
    Spawn {
        /// How many had started.
        started: usize,
        /// What the kernel said.
        source: io::Error,
    },
}
