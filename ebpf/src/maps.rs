//! Every map of the programs, its size and what happens when it is full.
//!
//! The agent may change sizes at load time; the only lifecycle state here is which
//! io_ends live, which the slab tracepoints must know to tell a release from any other free.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use endiod_wire::wire::{
    CpuCounters, LIVE_IO_ENDS_MAX, OPEN_DIRECT_IOS_MAX, OPEN_FSYNCS_MAX, RELEASING_MAX,
    WATCH_SLOTS_MAX, WatchCounters,
};

/// The stream. Full: the newest record is dropped and counted in [`CPUS`].
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Counters of each CPU, one entry; never full.
#[map]
pub(crate) static CPUS: PerCpuArray<CpuCounters> = PerCpuArray::with_max_entries(1, 0);

// The tables of tasks: an entry leaves with its call's return, or with its task (`probes/task.rs`).

/// Tasks inside `ext4_sync_file`: tid to file; and inside `ext4_evict_inode`: [`evicting`] to inode, for one
/// may be in both. Full: that fsync's phases are not followed, its record says so, that eviction is not
/// reported, and it is counted.
#[map]
pub(crate) static OPEN_FSYNCS: HashMap<u32, u64> = HashMap::with_max_entries(OPEN_FSYNCS_MAX, 0);

/// A task's second key in [`OPEN_FSYNCS`]: thread ids end below 2^22 (`PID_MAX_LIMIT`, 5.10 to 7.3).
#[inline(always)]
pub(crate) fn evicting(tid: u32) -> u32 {
    tid | 1 << 31
}

/// Tasks inside a direct write: tid to kiocb. Full: that write is not reported, and counted.
#[map]
pub(crate) static OPEN_DIRECT_IOS: HashMap<u32, u64> =
    HashMap::with_max_entries(OPEN_DIRECT_IOS_MAX, 0);

/// Tasks inside `ext4_release_io_end`: tid to io_end. Full: its exit reports a release that the agent
/// saw already, and ignores.
#[map]
pub(crate) static RELEASING: HashMap<u32, u64> = HashMap::with_max_entries(RELEASING_MAX, 0);

/// Live io_ends, where the slab tracepoints watch. Full: the newcomer's release is not seen, and
/// counted.
#[map]
pub(crate) static LIVE_IO_ENDS: HashMap<u64, Live> = HashMap::with_max_entries(LIVE_IO_ENDS_MAX, 0);

/// The value of [`LIVE_IO_ENDS`]. Two words, because two CPUs may write one each at the same time.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Live {
    /// 1 once its inode was told.
    pub(crate) told: u32,
    /// 1 while the free of its address's last owner is still to come.
    pub(crate) free_owed: u32,
}

/// What the slab tracepoints know, one entry; never full.
#[map]
pub(crate) static SLAB: Array<Slab> = Array::with_max_entries(1, 0);

/// What was learned of an ext4 without BTF, one entry; never full.
#[map]
pub(crate) static LEARNED: Array<Learned> = Array::with_max_entries(1, 0);

/// The value of [`LEARNED`].
#[repr(C)]
pub(crate) struct Learned {
    /// How far an inode's conversion work lies behind it, bytes; 0 until a worker ran.
    pub(crate) inode_to_work: u64,
}

/// The value of [`SLAB`].
#[repr(C)]
pub(crate) struct Slab {
    /// The cache of io_ends, 0 until one was born.
    pub(crate) cache: u64,
    /// 1 once a free was seen, so that what enters [`LIVE_IO_ENDS`] leaves it.
    pub(crate) frees_watched: u64,
}

/// The io_end that each watchpoint is on, or is to be put on; 0: none. A program that finds a slot at 0
/// gives it to a newborn; the agent alone makes it 0 again.
#[map]
pub(crate) static WATCHED: Array<u64> = Array::with_max_entries(WATCH_SLOTS_MAX, 0);

/// Births and releases of what [`WATCHED`] names. It holds as many as the agent can be late by; full: the
/// newborn's slot is free again, and a release goes unsaid, so that its watchpoint stays until its time
/// is over.
#[map]
pub(crate) static WATCH_CALLS: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Counters of each CPU's watchpoints, one entry; never full.
#[map]
pub(crate) static WATCH_COUNTS: PerCpuArray<WatchCounters> = PerCpuArray::with_max_entries(1, 0);
