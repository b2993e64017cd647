//! What the small integers of records mean.

/// Execution context of the probed function, `Header::context`.
pub mod context {
    /// The program could not tell.
    pub const UNKNOWN: u8 = 0;
    /// Process context, kernel threads included.
    pub const TASK: u8 = 1;
    /// Soft interrupt.
    pub const SOFTIRQ: u8 = 2;
    /// Hard interrupt.
    pub const HARDIRQ: u8 = 3;
    /// Non-maskable interrupt.
    pub const NMI: u8 = 4;
}

/// Bits of `valid`: what the program could read.
pub mod valid {
    /// The 64 bytes of the io_end.
    pub const IMAGE: u32 = 1;
    /// Inode number and device.
    pub const INODE: u32 = 1 << 1;
    /// Fields of the bio.
    pub const BIO: u32 = 1 << 2;
    /// Fields of the kiocb and its iterator.
    pub const KIOCB: u32 = 1 << 3;
    /// First and last byte of an fsync.
    pub const RANGE: u32 = 1 << 4;
    /// Where the layout of io_ends is assumed: this one has it ([`crate::layout`]).
    pub const LAYOUT_FITS: u32 = 1 << 5;
    /// Where the layout of io_ends is assumed: this one has another.
    pub const LAYOUT_MISFIT: u32 = 1 << 6;
    /// The bio's `bi_end_io` is NULL: `ext4_end_bio` clears it, so it has been there with it before.
    pub const ENDED_BEFORE: u32 = 1 << 7;
    /// The word of a lock.
    pub const LOCK: u32 = 1 << 8;
}

/// Back ends, `Attach::backend`.
pub mod backend {
    /// No program is attached.
    pub const NONE: u8 = 0;
    /// fentry or fexit through vmlinux BTF.
    pub const FENTRY: u8 = 1;
    /// A raw tracepoint.
    pub const RAW_TRACEPOINT: u8 = 2;
    /// A kprobe at the entry of a function; the kernel skips hits without counting them.
    pub const KPROBE: u8 = 3;
    /// A hardware watchpoint on a word of an object.
    pub const WATCHPOINT: u8 = 4;
}

/// Why a watchpoint was taken off, `WatchEnd::why`.
pub mod watch_end {
    /// Its io_end was released.
    pub const RELEASED: u32 = 1;
    /// It was on one io_end for as long as one may have it.
    pub const AGED: u32 = 2;
    /// More stores than are let pass in a second.
    pub const TOO_MANY_HITS: u32 = 3;
    /// The CPUs to be watched changed, or a slot was lost.
    pub const CPUS_CHANGED: u32 = 4;
    /// The agent stops.
    pub const CLOSED: u32 = 5;
}

/// Phases of `ext4_sync_file`, `FsyncPhaseBegin::phase`.
pub mod fsync_phase {
    /// `__filemap_fdatawrite_range` (`filemap_writeback` from 7.2): dirty pages are submitted.
    pub const DATA_SUBMIT: u32 = 1;
    /// `__filemap_fdatawait_range`: writeback, extent conversion included, is waited for.
    pub const DATA_WAIT: u32 = 2;
    /// `ext4_fc_commit` or `ext4_force_commit`: the journal commit is waited for.
    pub const JOURNAL: u32 = 3;
    /// `blkdev_issue_flush`: the device's cache is flushed.
    pub const BARRIER: u32 = 4;
}

/// Bits of `TaskCgroup::bits`.
pub mod cgroup {
    /// The path is longer; its end is here.
    pub const CUT: u32 = 1;
    /// It is that of the version 1 hierarchy `memory`, for the unified one has no controllers here.
    pub const V1: u32 = 2;
}
