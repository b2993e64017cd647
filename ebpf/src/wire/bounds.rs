//! The programs' own bounds, and the counters that each CPU keeps of what they did.
//!
//! Sizes of the tables, lengths of the walks, and the value of the map that the agent reads once a
//! second. This file must never depend on a kernel header or on a crate.

use core::mem::size_of;

/// The programs' own bounds, indexes of [`super::ProgramLoss::left_out`]; what is beyond one is counted.
pub mod bound {
    /// Tasks inside `ext4_sync_file` or `ext4_evict_inode`: that fsync's phases are not told, that
    /// eviction is not.
    pub const OPEN_FSYNCS: usize = 0;
    /// Tasks inside a direct write: its begin and its return are not told.
    pub const OPEN_DIRECT_IOS: usize = 1;
    /// Live io_ends, where the slab tracepoints tell releases: that one's release is not told. One that
    /// was refused asks again with each bio, and is counted again.
    pub const LIVE_IO_ENDS: usize = 2;
    /// Bios of a completed request: from there on none is told as done.
    pub const REQUEST_WALK: usize = 3;
    /// io_ends on the list of a worker that starts: from there on none is told as listed.
    pub const LIST_WALK: usize = 4;
}

/// The programs' tables of tasks, indexes of [`CpuCounters::swept`].
pub mod task_table {
    /// Tasks inside `ext4_sync_file` or `ext4_evict_inode`.
    pub const OPEN_FSYNCS: usize = 0;
    /// Tasks inside a direct write.
    pub const OPEN_DIRECT_IOS: usize = 1;
    /// Tasks inside `ext4_release_io_end`.
    pub const RELEASING: usize = 2;
}

/// How many of [`task_table`] there are.
pub const TASK_TABLES: usize = 3;

/// How many [`bound`]s there are.
pub const BOUNDS: usize = 5;

/// Tasks inside `ext4_sync_file` whose phases are followed, and those inside `ext4_evict_inode`.
pub const OPEN_FSYNCS_MAX: u32 = 8_192;

/// Tasks inside a direct write that are followed.
pub const OPEN_DIRECT_IOS_MAX: u32 = 8_192;

/// Tasks inside `ext4_release_io_end` whose entry is noted.
pub const RELEASING_MAX: u32 = 8_192;

/// Live io_ends whose release the slab tracepoints recognise.
pub const LIVE_IO_ENDS_MAX: u32 = 32_768;

/// Watchpoints at once: x86 has four debug registers per CPU.
pub const WATCH_SLOTS_MAX: u32 = 4;

/// Bios of one request that `block_rq_complete` walks; a longer walk is cut and counted.
pub const RQ_BIOS_MAX: u32 = 128;

/// io_ends of one inode's list that `workqueue_execute_start` walks; a longer walk is cut and counted.
pub const LISTED_MAX: u32 = 128;

/// Sequence lanes of one CPU: lane 0, and one per nesting depth where fetch-and-add is missing.
pub const LANES: usize = 8;

/// One CPU's counters, the value of the programs' `CPUS` map (a per-CPU array of one).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuCounters {
    /// Records that the programs tried to emit, per lane; also the last number given out.
    pub emitted: [u64; LANES],
    /// Records that found no room in the ring, per lane.
    pub dropped: [u64; LANES],
    /// What was left out at the programs' own bounds, per lane and [`bound`].
    pub left_out: [[u64; BOUNDS]; LANES],
    /// Entries that tasks left behind and that were struck off when they ended, per [`task_table`].
    pub swept: [u64; TASK_TABLES],
    /// Programs that are at work on this CPU right now (kernels without fetch-and-add only).
    pub depth: u64,
    /// Time of the last log line, nanoseconds.
    pub logged_ns: u64,
    /// Address of this CPU's preempt count, 0 until it was looked up.
    pub preempt_count_at: u64,
    /// The io_end whose release was entered last, per kind of interrupt ([`super::context`]); 0 once it
    /// was left. Tasks have a map of their own.
    pub releasing: [u64; 8],
}

// SAFETY-relevant layout: integers only, no padding, so that user space may read it as bytes.
const _: () = assert!(size_of::<CpuCounters>() == 8 * ((2 + BOUNDS) * LANES + TASK_TABLES + 11));

/// What happened to an io_end that has, or is to have, a watchpoint: what the programs tell the agent
/// through a ring of their own (`WATCH_CALLS`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchCall {
    /// Address of the io_end.
    pub io_end: u64,
    /// When, CLOCK_MONOTONIC nanoseconds.
    pub at_ns: u64,
    /// The slot that it has.
    pub slot: u32,
    /// 1: it was born; 0: it was released.
    pub born: u32,
}

/// One CPU's counters of watchpoints, the value of the programs' `WATCH_COUNTS` map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounters {
    /// Stores seen.
    pub hits: u64,
    /// Of those, the ones that could not be written to the ring.
    pub lost: u64,
}

/// Bytes of a cgroup's path in `TaskCgroup`, of a longer one the last: a service of systemd has 40, a container's
/// scope, which says whose it is, 84. A decoded record stays as small as one with an image.
pub const CGROUP_PATH_LEN: usize = 96;
