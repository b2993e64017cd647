//! The flags of aio-stress 0.21, and ours, as given: nothing here is checked.
//!
//! Each option says which flag it is; its meaning is that of aio-stress's code where its usage text
//! differs. Must never hold what follows from other options: that is the plan's. Units: bytes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::StressError;
use super::pattern::Seed;
use super::size::Bytes;

/// One of aio-stress's four stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// `-o 0`: from start to end.
    Write = 0,
    /// `-o 1`: from start to end.
    Read = 1,
    /// `-o 2`: as many records as the file holds, at random offsets.
    RandomWrite = 2,
    /// `-o 3`: likewise.
    RandomRead = 3,
}

impl Op {
    /// All ops in the order in which a run goes through them.
    pub const ALL: [Op; 4] = [Op::Write, Op::Read, Op::RandomWrite, Op::RandomRead];

    /// Whether it writes.
    pub fn is_write(self) -> bool {
        matches!(self, Op::Write | Op::RandomWrite)
    }

    /// Whether its offsets are random.
    pub fn is_random(self) -> bool {
        matches!(self, Op::RandomWrite | Op::RandomRead)
    }
}

impl FromStr for Op {
    type Err = StressError;

    fn from_str(text: &str) -> Result<Op, StressError> {
        let number = text.parse::<usize>().ok();
        let op = number.and_then(|number| Op::ALL.get(number)).copied();
        op.ok_or_else(|| StressError::UnknownOp { text: text.to_owned() })
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Op::Write => "write",
            Op::Read => "read",
            Op::RandomWrite => "random write",
            Op::RandomRead => "random read",
        })
    }
}

/// The flags of aio-stress 0.21, and ours, before anything is checked.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files, created if they do not exist, never truncated.
    pub files: Vec<PathBuf>,
    /// `-t`: threads; more than there are contexts are dropped.
    pub threads: u32,
    /// `-s`: size of each file.
    pub size: Bytes,
    /// `-r`: bytes of one I/O. A stage makes as many I/Os as the file holds records.
    pub record: Bytes,
    /// `-a`: alignment of buffers and of random offsets. Without it buffers are page-aligned and
    /// random offsets are multiples of the record.
    pub alignment: Option<Bytes>,
    /// `-d`: I/Os in flight for each file.
    pub depth: u32,
    /// `-i`: I/Os queued for a file before the next file has its turn.
    pub turn: u32,
    /// `-b`: most I/Os of one `io_submit`; by default as many as all turns together.
    pub submit_max: Option<u32>,
    /// `-I`: most rounds, each one `io_submit`, of each thread in each stage.
    pub rounds_max: Option<u64>,
    /// `-c`: parts of each file that are worked on independently, each with its own descriptor.
    pub contexts: u32,
    /// `-C`: part n covers the file without this many bytes, times n, at both ends.
    pub context_offset: Bytes,
    /// `-o`: the stages, run in the order of their numbers; none means all four.
    pub ops: Vec<Op>,
    /// `-O`: O_DIRECT.
    pub direct: bool,
    /// `-S`: O_SYNC.
    pub sync: bool,
    /// `--buffered`: no O_DIRECT even with `-O`; without `-S`, an fsync after each write.
    pub buffered: bool,
    /// `--fdatasync`: explicit syncs are fdatasync.
    pub fdatasync: bool,
    /// Not `-n`: sync each part of each file after each stage.
    pub stage_sync: bool,
    /// Not `-x`: the first thread to end a stage ends it for all.
    pub stonewall: bool,
    /// `-v`: write a pattern, and compare what is read with what was written.
    pub verify: bool,
    /// `-u`: unlink the files at the end.
    pub unlink: bool,
    /// `-l`: report how long `io_submit` took.
    pub submit_latency: bool,
    /// `-L`: report how long I/Os took.
    pub completion_latency: bool,
    /// `--seed`.
    pub seed: Seed,
}

impl Default for Options {
    /// aio-stress's defaults.
    fn default() -> Options {
        Options {
            files: Vec::new(),
            threads: 1,
            size: Bytes(1 << 30),
            record: Bytes(64 << 10),
            alignment: None,
            depth: 64,
            turn: 8,
            submit_max: None,
            rounds_max: None,
            contexts: 1,
            context_offset: Bytes(2 << 20),
            ops: Vec::new(),
            direct: false,
            sync: false,
            buffered: false,
            fdatasync: false,
            stage_sync: true,
            stonewall: true,
            verify: false,
            unlink: false,
            submit_latency: false,
            completion_latency: false,
            seed: Seed::default(),
        }
    }
}
