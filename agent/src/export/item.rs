//! What an export tells: one JSON line each, or one or more packets of a Perfetto trace.
//!
//! The fields are documented in `agent/docs/export.md`; a test compares. Times are CLOCK_MONOTONIC
//! nanoseconds; an `end_ns` that is null is of a span that was open when the stream ended.

use serde::Serialize;

use crate::finding::Finding;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Item {
    /// A stream begins.
    Stream {
        /// When.
        at_ns: u64,
        /// `uname -r`.
        kernel: String,
        /// CPUs that may come online.
        cpus: u32,
    },
    /// What a task is called.
    Task {
        /// Thread.
        tid: u32,
        /// Its name, what is not printable ASCII as `?`.
        name: String,
    },
    /// An event of an io_end.
    Event(Event),
    /// The life of an io_end.
    IoEnd(Life),
    /// A call of `ext4_sync_file`.
    Fsync(Call),
    /// A call of `ext4_evict_inode`, of an inode that had pages.
    Eviction(Call),
    /// A direct write, from its call to its completion.
    DirectIo(Call),
    /// A run of `ext4_end_io_rsv_work`.
    WorkerRun(Call),
    /// A finding, as its own schema has it.
    Finding(Box<Finding>),
    /// Records that were lost, or hits that were skipped.
    Loss(Loss),
    /// The stream is over.
    End {
        /// Latest record.
        at_ns: u64,
        /// Records that could not be decoded.
        malformed: u64,
        /// Whether the recording was cut off.
        cut: bool,
    },
}

/// An event of an io_end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// When.
    pub at_ns: u64,
    /// The io_end.
    pub object: String,
    /// What happened, `put_defer` say.
    pub act: &'static str,
    /// The kernel function.
    pub symbol: &'static str,
    /// State after it.
    pub state: &'static str,
    /// CPU.
    pub cpu: Option<u16>,
    /// `task`, `softirq`, `hardirq`, `nmi`, `unknown`.
    pub context: &'static str,
    /// Current thread, a bystander in interrupt context.
    pub tid: u32,
    /// `flag`, if it was read.
    pub flag: Option<u32>,
    /// `count`, if it was read.
    pub count: Option<u32>,
}

/// The life of an io_end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Life {
    /// Its id.
    pub object: String,
    /// Birth, or first sight.
    pub begin_ns: u64,
    /// Release, or when its end was inferred.
    pub end_ns: Option<u64>,
    /// Inode number.
    pub inode: Option<u64>,
    /// Kernel name of its device, else `major:minor`.
    pub device: Option<String>,
    /// Task that made it.
    pub tid: u32,
    /// Last state; `lost` if its release was not seen.
    pub state: &'static str,
    /// All that the probes can show of a life was seen.
    pub complete: bool,
    /// What is missing.
    pub gaps: Vec<&'static str>,
    /// Bios attached.
    pub bios: u32,
    /// Ranges added.
    pub ranges: u16,
    /// submit, device, queue, convert.
    pub phases: Vec<Phase>,
}

/// A part of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Phase {
    /// Its name, as in the metrics.
    pub phase: &'static str,
    /// Begin.
    pub begin_ns: u64,
    /// End.
    pub end_ns: Option<u64>,
}

/// What kind of call it is; `Item` says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// `ext4_sync_file`.
    Fsync,
    /// `ext4_evict_inode`.
    Eviction,
    /// A direct write.
    DirectIo,
    /// `ext4_end_io_rsv_work`.
    WorkerRun,
}

/// A call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    /// Which kind.
    #[serde(skip)]
    pub what: What,
    /// Begin.
    pub begin_ns: u64,
    /// Return, or completion.
    pub end_ns: Option<u64>,
    /// The calling thread.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// Inode number.
    pub inode: Option<u64>,
    /// Kernel name of its device, else `major:minor`.
    pub device: Option<String>,
    /// `fsync`, `fdatasync`, `range_sync` …; `eviction`; `direct_write`; `worker_run`.
    pub op: &'static str,
    /// Bytes asked for.
    pub bytes: Option<u64>,
    /// Positive errno of a call that failed.
    pub errno: Option<i32>,
    /// data_submit, data_wait, journal, barrier.
    pub phases: Vec<Phase>,
    /// Phases beyond those kept.
    pub phases_left_out: u64,
}

/// Something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// When it was told.
    pub at_ns: u64,
    /// `ring`, `probe` or `program`.
    pub stage: &'static str,
    /// How much more than before.
    pub count: u64,
}
