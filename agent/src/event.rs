//! Domain types: what a decoded record says, in the field's own terms.
//!
//! Everything after `decode` speaks these types only. A newtype stands wherever two integers could
//! be swapped. This module must never interpret: no state, no verdict, no kernel generation.

mod bound;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use bound::{LeftOut, ProgramBound};
pub use endiod_wire::wire::{CGROUP_PATH_LEN, IO_END_LIST_VEC_OFFSET, IoEndImage};

/// A moment, CLOCK_MONOTONIC nanoseconds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Nanos(pub u64);

impl Nanos {
    /// Time since `earlier`, zero if the clocks of two CPUs disagree on the order.
    pub fn since(self, earlier: Nanos) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }

    /// In seconds, for metrics and people.
    #[expect(clippy::cast_precision_loss, reason = "a histogram needs no more than 53 bits")]
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }
}

macro_rules! ids {
    ($( $(#[$doc:meta])* $name:ident($inner:ty) ),* $(,)?) => { $(
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
        )]
        pub struct $name(pub $inner);
    )* };
}

ids! {
    /// A CPU number.
    Cpu(u16),
    /// Address of a `struct ext4_io_end`. Reused at once: only with a birth time it names an object.
    IoEndAddr(u64),
    /// Address of a `struct bio`.
    BioAddr(u64),
    /// Address of a `struct inode`.
    InodeAddr(u64),
    /// Address of an instruction, or of a function.
    CodeAddr(u64),
    /// Address of a `struct kiocb`.
    IocbAddr(u64),
    /// An inode number, unique within its device.
    Ino(u64),
    /// `s_dev`, the kernel's own encoding.
    DevId(u32),
    /// Index into the probe table.
    ProbeId(u32),
}

impl fmt::Display for DevId {
    /// `major:minor`, as in `/proc/self/mountinfo`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0 >> 20, self.0 & 0xf_ffff)
    }
}

/// The task that was current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Thread id.
    pub tid: u32,
    /// Thread group id.
    pub tgid: u32,
}

/// Execution context of a probed function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Context {
    /// The program could not tell.
    Unknown,
    /// Process context, kernel threads included.
    Task,
    /// Soft interrupt.
    SoftIrq,
    /// Hard interrupt.
    HardIrq,
    /// Non-maskable interrupt.
    Nmi,
}

/// When and where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Time.
    pub at: Nanos,
    /// CPU; `None` for the agent's own records.
    pub cpu: Option<Cpu>,
    /// Sequence lane of that CPU.
    pub lane: u8,
    /// Number in that lane, from 1.
    pub seq: u64,
    /// Current task; a bystander in interrupt context.
    pub task: Task,
    /// Execution context.
    pub context: Context,
}

/// Where an inode lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InodeId {
    /// Inode number.
    pub ino: Ino,
    /// Device of its superblock.
    pub dev: DevId,
}

/// A phase of `ext4_sync_file`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsyncPhase {
    /// Dirty pages are submitted.
    DataSubmit,
    /// Writeback, conversion included, is waited for.
    DataWait,
    /// The journal commit is waited for.
    Journal,
    /// The device's cache is flushed.
    Barrier,
}

impl FsyncPhase {
    /// All phases, in the order of the call.
    pub const ALL: [FsyncPhase; 4] =
        [FsyncPhase::DataSubmit, FsyncPhase::DataWait, FsyncPhase::Journal, FsyncPhase::Barrier];

    /// The `phase` label.
    pub fn label(self) -> &'static str {
        match self {
            FsyncPhase::DataSubmit => "data_submit",
            FsyncPhase::DataWait => "data_wait",
            FsyncPhase::Journal => "journal",
            FsyncPhase::Barrier => "barrier",
        }
    }
}

/// A back end of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// fentry or fexit.
    Fentry,
    /// A raw tracepoint.
    RawTracepoint,
    /// A kprobe; the kernel skips hits of it without counting them all.
    Kprobe,
    /// A hardware watchpoint on some objects; what it does not show may have happened all the same.
    Watchpoint,
}

impl Backend {
    /// The `backend` label.
    pub fn label(self) -> &'static str {
        match self {
            Backend::Fentry => "fentry",
            Backend::RawTracepoint => "raw_tp",
            Backend::Kprobe => "kprobe",
            Backend::Watchpoint => "watchpoint",
        }
    }
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When and where.
    pub stamp: Stamp,
    /// What.
    pub body: Body,
}

/// An event of one io_end that carries an image of it (`None`: it could not be read).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The io_end.
    pub io_end: IoEndAddr,
    /// Its first 64 bytes at that moment.
    pub image: Option<IoEndImage>,
}

/// What an io_end shows of the layout that is assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayoutSign {
    /// It has it.
    Fits,
    /// It has another.
    Misfit,
}

/// What a record says; see `wire.rs` for the kernel function behind each.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant mirrors the wire record of its name")]
pub enum Body {
    IoEndBirth {
        io_end: IoEndAddr,
        inode: InodeAddr,
        id: Option<InodeId>,
    },
    RangeAdded {
        io_end: IoEndAddr,
        failed: bool,
    },
    BioAttach {
        io_end: IoEndAddr,
        bio: BioAddr,
        sector: u64,
        bytes: u32,
    },
    BioEnd {
        bio: BioAddr,
        status: u32,
        /// Its `bi_end_io` is gone: it had ended before.
        ended_before: bool,
        seen: Seen,
    },
    Put(Seen),
    PutDefer(Seen),
    Claim(Seen),
    ConvertBegin(Seen),
    ConvertEnd {
        io_end: IoEndAddr,
        ret: i64,
    },
    Release(Seen),
    ReleaseLate {
        io_end: IoEndAddr,
    },
    WorkerBegin {
        inode: InodeAddr,
    },
    WorkerEnd {
        inode: InodeAddr,
    },
    IoEndInode {
        io_end: IoEndAddr,
        inode: InodeAddr,
        id: Option<InodeId>,
        /// `None` if that was not asked, or could not be told.
        layout: Option<LayoutSign>,
    },
    /// `part_bytes` is `None` when the whole bio is done.
    BioDone {
        bio: BioAddr,
        part_bytes: Option<u32>,
        status: u32,
        seen: Seen,
    },
    WorkQueued {
        inode: InodeAddr,
    },
    Listed {
        inode: InodeAddr,
        seen: Seen,
    },
    Requeue {
        seen: Seen,
        /// Is the lock of the inode's list held by anybody?
        locked: Option<bool>,
    },
    FlagWrite {
        seen: Seen,
        /// Is the lock of the inode's list held by anybody?
        locked: Option<bool>,
        /// The instruction after the store.
        ip: CodeAddr,
    },
    DirectIoBegin {
        iocb: IocbAddr,
        id: Option<InodeId>,
        pos_bytes: i64,
        len_bytes: Option<u64>,
    },
    DirectIoCompleteBegin {
        iocb: IocbAddr,
        bytes: i64,
        error: i32,
        flags: u32,
    },
    DirectIoCompleteEnd {
        iocb: IocbAddr,
        ret: i64,
    },
    DirectIoReturn {
        iocb: IocbAddr,
        ret: i64,
    },
    /// It completes, and its inode counts no direct I/O.
    DirectIoUncounted {
        iocb: IocbAddr,
    },
    FsyncBegin {
        inode: InodeAddr,
        id: Option<InodeId>,
        range: FsyncRange,
        phases_followed: bool,
    },
    FsyncEnd {
        ret: i64,
    },
    FsyncPhaseBegin {
        phase: FsyncPhase,
    },
    FsyncPhaseEnd {
        phase: FsyncPhase,
        ret: i64,
    },
    InodeDestroy {
        inode: InodeAddr,
        id: Option<InodeId>,
    },
    EvictionBegin {
        inode: InodeAddr,
        id: Option<InodeId>,
    },
    EvictionEnd {
        inode: InodeAddr,
    },
    Nesting {
        role: u32,
        step: u32,
    },
    Host {
        version: u16,
        cpus: u32,
        release: Name<64>,
        hash_key: u64,
    },
    Device {
        dev: DevId,
        name: Name<32>,
    },
    Symbol {
        address: CodeAddr,
        name: Name<64>,
    },
    Config {
        key: u32,
        value: u64,
    },
    Tick {
        ordinal: u64,
    },
    Loss {
        of_cpu: Cpu,
        emitted: u64,
        dropped: u64,
    },
    Misses {
        probe: ProbeId,
        total: u64,
    },
    Attach {
        probe: ProbeId,
        backend: Option<Backend>,
        failed: bool,
    },
    Detach {
        probe: ProbeId,
    },
    Slice {
        evicted: u64,
    },
    ProgramLoss {
        left_out: LeftOut,
    },
    TaskName {
        tid: u32,
        comm: Name<16>,
    },
    TaskCgroup {
        tgid: u32,
        path: Name<CGROUP_PATH_LEN>,
        /// That is the end of a longer one.
        cut: bool,
    },
    WatchBegin {
        io_end: IoEndAddr,
        slot: u32,
        at: Nanos,
        cpus: u32,
    },
    WatchEnd {
        io_end: IoEndAddr,
        slot: u32,
        at: Nanos,
        /// Because it was released.
        released: bool,
    },
    WatchTotals(WatchTotals),
}

/// What the watchpoints of a stream did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchTotals {
    /// Stores that a watchpoint saw.
    pub hits: u64,
    /// Of those, the ones that are not in the stream.
    pub lost: u64,
    /// Interrupts sent to CPUs.
    pub interrupts: u64,
    /// io_ends that were over before a watchpoint was on them.
    pub late: u64,
    /// Slots that there are now.
    pub slots: u32,
    /// CPUs that are watched.
    pub cpus: u32,
}

/// What an `ext4_sync_file` was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsyncRange {
    /// Which bytes; `None` where the back end cannot tell (a raw tracepoint).
    pub bytes: Option<ByteRange>,
    /// fdatasync.
    pub datasync: bool,
}

/// A range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte.
    pub first: i64,
    /// Last byte; `i64::MAX` for the whole file.
    pub last: i64,
}

impl FsyncRange {
    /// The `op` label: what the caller asked for.
    pub fn op(self) -> &'static str {
        let whole = self.bytes.map(|bytes| bytes.first == 0 && bytes.last == i64::MAX);
        match (whole, self.datasync) {
            (Some(true), false) => "fsync",
            (Some(true), true) => "fdatasync",
            (Some(false), false) => "range_sync",
            (Some(false), true) => "range_datasync",
            (None, false) => "unknown_sync",
            (None, true) => "unknown_datasync",
        }
    }
}

/// A NUL-padded name from the wire; what is not printable ASCII shows as `?`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Name<const N: usize>(pub [u8; N]);

impl<const N: usize> Name<N> {
    /// From text, cut to fit.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; N];
        let len = text.len().min(N);
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        Name(bytes)
    }

    /// Its text; nothing if that is no UTF-8.
    pub fn text(&self) -> Option<&str> {
        let bytes = self.0.split(|byte| *byte == 0).next().unwrap_or(&[]);
        std::str::from_utf8(bytes).ok()
    }
}

impl<const N: usize> fmt::Display for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.split(|byte| *byte == 0).next().unwrap_or(&[]);
        for byte in text {
            let shown =
                if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '?' };
            write!(f, "{shown}")?;
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Debug for Name<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
