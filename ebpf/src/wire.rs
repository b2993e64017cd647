//! The wire format, version 1: one header and one `repr(C)` record per kind.
//!
//! Every record is `Header` followed by its body, in native byte order, without hidden padding:
//!
//! ```text
//!   0      2     4     6      7       8            16          24      28      32
//!   | kind | len | cpu | lane | ctx   | seq        | time_ns   | tid   | tgid  | body …
//! ```
//!
//! * `len` is the whole record's length in bytes, header included.
//! * `seq` is dense per (`cpu`, `lane`), starting at 1: a number that never arrives is a record that
//!   was lost. A record interrupted by another of its own CPU may arrive after it.
//! * `time_ns` is CLOCK_MONOTONIC.
//! * `tid`/`tgid` name the task that was current, which in interrupt context is a bystander.
//! * Records of the agent itself (HOST … DETACH) have `cpu` = [`AGENT_CPU`].
//!
//! Bodies hold integers and arrays of integers only. A value that could not be read is marked by a
//! clear bit in `valid`, never by a zero.
//!
//! This file must never depend on a kernel header or on a crate.

mod bounds;
mod config;
mod image;
mod values;

use core::mem::size_of;

pub use bounds::{
    BOUNDS, CGROUP_PATH_LEN, CpuCounters, LANES, LISTED_MAX, LIVE_IO_ENDS_MAX, OPEN_DIRECT_IOS_MAX,
    OPEN_FSYNCS_MAX, RELEASING_MAX, RQ_BIOS_MAX, TASK_TABLES, WATCH_SLOTS_MAX, WatchCall,
    WatchCounters, bound, task_table,
};
pub use config::{config_key, subject};
pub use image::{
    IO_END_FLAG_OFFSET, IO_END_INODE_OFFSET, IO_END_LIST_VEC_OFFSET, IO_END_SIZE, IoEndImage,
};
pub use values::{backend, cgroup, context, fsync_phase, valid, watch_end};

/// Version of this format; a recording of another is refused.
pub const VERSION: u16 = 1;

/// `Header::cpu` of records that the agent writes itself.
pub const AGENT_CPU: u16 = u16::MAX;

/// Longest record in bytes, a bound for readers.
pub const RECORD_LEN_MAX: usize = 256;

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Record kind, a `Record::KIND`.
    pub kind: u16,
    /// Length of the whole record in bytes.
    pub len: u16,
    /// CPU that wrote it, or [`AGENT_CPU`].
    pub cpu: u16,
    /// Sequence lane: 0 where the kernel has atomic fetch-and-add, else the nesting depth.
    pub lane: u8,
    /// One of [`context`].
    pub context: u8,
    /// Sequence number, dense per (`cpu`, `lane`).
    pub seq: u64,
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// Thread id of the current task.
    pub tid: u32,
    /// Thread group id of the current task.
    pub tgid: u32,
}

/// A record of the wire.
///
/// # Safety
/// An implementor is `repr(C)`, starts with [`Header`], consists of integers and arrays of integers
/// only and has no padding: any bytes are a valid value, and every byte of a value is initialised.
pub unsafe trait Record: Copy {
    /// `Header::kind` of this record.
    const KIND: u16;
}

/// The bytes of a record, as they go over the wire.
pub fn bytes_of<R: Record>(record: &R) -> &[u8] {
    // SAFETY: Record promises that every byte of a value is initialised; the slice borrows it.
    unsafe { core::slice::from_raw_parts(core::ptr::from_ref(record).cast(), size_of::<R>()) }
}

macro_rules! records {
    ($( $(#[$doc:meta])* $kind:literal $name:ident $label:literal { $( $(#[$fdoc:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub struct $name {
                /// The common header.
                pub header: Header,
                $( $(#[$fdoc])* pub $field: $ty, )*
            }
            // SAFETY: repr(C), integers only; the assert below proves that there is no padding.
            unsafe impl Record for $name {
                const KIND: u16 = $kind;
            }
            const _: () = assert!(
                size_of::<$name>() == size_of::<Header>() $( + size_of::<$ty>() )*
                    && size_of::<$name>() <= RECORD_LEN_MAX
                    && size_of::<$name>() % 8 == 0
            );
        )*
        /// Every record: kind, name, length in bytes.
        pub const RECORDS: &[(u16, &str, usize)] =
            &[ $( ($kind, $label, size_of::<$name>()), )* ];
    };
}

const _: () = assert!(size_of::<Header>() == 32 && IO_END_SIZE == 64);

records! {
    /// fexit `ext4_init_io_end`: an io_end was born.
    1 IoEndBirth "io_end_birth" {
        /// Address of the io_end.
        io_end: u64,
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// `inode->i_sb->s_dev`, the kernel's own encoding (12 bits major, 20 bits minor).
        dev: u32,
        /// Bits of [`valid`].
        valid: u32,
    }
    /// fexit `ext4_alloc_io_end_vec`: a range was added, its offset and size are filled in later.
    2 RangeAdded "range_added" {
        /// Address of the io_end.
        io_end: u64,
        /// `ext4_io_end_vec`, or a negative errno as the kernel's error pointer; 0 from a kprobe, which
        /// sees the entry only.
        vec: u64,
    }
    /// fentry `submit_bio` of a bio whose `bi_end_io` is `ext4_end_bio`.
    3 BioAttach "bio_attach" {
        /// Address of the io_end, `bi_private`.
        io_end: u64,
        /// Address of the bio.
        bio: u64,
        /// `bi_iter.bi_sector`, units of 512 bytes.
        sector: u64,
        /// `bi_iter.bi_size`, bytes.
        bytes: u32,
        /// `bi_opf`.
        opf: u32,
    }
    /// fentry `ext4_end_bio`.
    4 BioEnd "bio_end" {
        /// Address of the io_end, `bi_private`.
        io_end: u64,
        /// Address of the bio.
        bio: u64,
        /// `bi_status` (a `blk_status_t`, 0 = ok).
        status: u32,
        /// Bits of [`valid`].
        valid: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `ext4_put_io_end`: the writeback task drops its reference, may convert inline.
    5 Put "put" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `ext4_put_io_end_defer`: a reference is dropped in any context.
    6 PutDefer "put_defer" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `ext4_end_io_end` (a real function from 6.15): the io_end is claimed.
    7 Claim "claim" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `ext4_convert_unwritten_io_end_vec`; the claim itself where [`Claim`] does not exist.
    8 ConvertBegin "convert_begin" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fexit `ext4_convert_unwritten_io_end_vec`.
    9 ConvertEnd "convert_end" {
        /// Address of the io_end.
        io_end: u64,
        /// 0 or a negative errno.
        ret: i64,
    }
    /// fentry `ext4_release_io_end`: the io_end dies; its address may be reused from here on.
    10 Release "release" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `ext4_end_io_rsv_work`: the inode's worker starts.
    11 WorkerBegin "worker_begin" {
        /// Address of the inode (from the work by `container_of`).
        inode: u64,
    }
    /// fexit `ext4_end_io_rsv_work`.
    12 WorkerEnd "worker_end" {
        /// Address of the inode, as in [`WorkerBegin`]; by now it may be freed.
        inode: u64,
    }
    /// fexit `ext4_release_io_end`, only where the entry was skipped because its program was already
    /// running on that CPU; the address may belong to another io_end by now.
    13 ReleaseLate "release_late" {
        /// Address of the io_end.
        io_end: u64,
    }
    /// Whose io_end it is, where its birth could not tell: with the first bio that `block_bio_queue`
    /// shows, or `submit_bio` where ext4 is a module without BTF.
    14 IoEndInode "io_end_inode" {
        /// Address of the io_end.
        io_end: u64,
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// `inode->i_sb->s_dev`.
        dev: u32,
        /// Bits of [`valid`].
        valid: u32,
    }
    /// `block_rq_complete` or `block_bio_complete`: the device is done with a bio or with a part of it,
    /// before `ext4_end_bio`.
    15 BioDone "bio_done" {
        /// Address of the io_end, `bi_private`.
        io_end: u64,
        /// Address of the bio; of a split one the bio that was submitted.
        bio: u64,
        /// Bytes of this part; 0 if `whole`.
        bytes: u32,
        /// 1 when the whole bio is done (`block_bio_complete`), 0 for a part of it.
        whole: u32,
        /// Status of this part (a `blk_status_t`, 0 = ok); on 5.10 of a request a positive errno.
        status: u32,
        /// Bits of [`valid`].
        valid: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// `workqueue_queue_work` of an inode's conversion work: the first io_end of a batch is being
    /// handed over, the lock is held and the list still empty.
    16 WorkQueued "work_queued" {
        /// Address of the inode (from the work by `container_of`).
        inode: u64,
    }
    /// `workqueue_execute_start`: the io_end is on the inode's list when the worker starts.
    17 Listed "listed" {
        /// Address of the io_end.
        io_end: u64,
        /// Address of the inode whose list it is on.
        inode: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// Zero.
        pad: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// fentry `replica_requeue` (subject replica only): the io_end's work could not do it now and puts it
    /// back, and is about to set QUEUED in its flag.
    18 Requeue "requeue" {
        /// Address of the io_end.
        io_end: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// The word of the lock of the inode's list: 0 when nobody holds it. Another value does not say who.
        lock: u32,
        /// The io_end at that moment.
        image: IoEndImage,
    }
    /// A hardware watchpoint on the word `flag` of an io_end: somebody has just written it.
    19 FlagWrite "flag_write" {
        /// Address of the io_end.
        io_end: u64,
        /// The instruction after the store.
        ip: u64,
        /// Bits of [`valid`].
        valid: u32,
        /// The word of the lock of the inode's list: 0 when nobody holds it. Another value does not say who.
        lock: u32,
        /// The io_end after the store.
        image: IoEndImage,
    }
    /// fentry `ext4_file_write_iter` with IOCB_DIRECT: a direct write begins.
    20 DirectIoBegin "direct_io_begin" {
        /// Address of the kiocb.
        iocb: u64,
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// `ki_pos`, bytes.
        pos: i64,
        /// Bytes to write, `iov_iter.count`.
        bytes: u64,
        /// `s_dev`.
        dev: u32,
        /// Bits of [`valid`].
        valid: u32,
    }
    /// fentry `ext4_dio_write_end_io`: the direct write completes.
    21 DirectIoCompleteBegin "direct_io_complete_begin" {
        /// Address of the kiocb.
        iocb: u64,
        /// Bytes written.
        bytes: i64,
        /// 0 or a negative errno.
        error: i32,
        /// `IOMAP_DIO_UNWRITTEN` (1), `IOMAP_DIO_COW` (2).
        flags: u32,
    }
    /// fexit `ext4_dio_write_end_io`.
    22 DirectIoCompleteEnd "direct_io_complete_end" {
        /// Address of the kiocb.
        iocb: u64,
        /// Bytes (5.10 to 6.12) or 0 (6.18), or a negative errno.
        ret: i64,
    }
    /// fexit `ext4_file_write_iter` with IOCB_DIRECT: the call returned, maybe before completion.
    23 DirectIoReturn "direct_io_return" {
        /// Address of the kiocb; by now another I/O may own it.
        iocb: u64,
        /// Bytes, `-EIOCBQUEUED` (-529) while in flight, or a negative errno.
        ret: i64,
    }
    /// Before [`DirectIoCompleteBegin`] or [`DirectIoCompleteEnd`]: the inode's `i_dio_count` is 0, so that
    /// truncate waits for no direct I/O.
    24 DirectIoUncounted "direct_io_uncounted" {
        /// Address of the kiocb.
        iocb: u64,
    }
    /// fentry `ext4_sync_file`.
    30 FsyncBegin "fsync_begin" {
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// First byte.
        start: i64,
        /// Last byte; `i64::MAX` for the whole file.
        end: i64,
        /// `s_dev`.
        dev: u32,
        /// Non-zero for fdatasync.
        datasync: u32,
        /// Bits of [`valid`].
        valid: u32,
        /// 1 when this task's phases are followed, 0 when the table of open fsyncs was full.
        phases_followed: u32,
    }
    /// fexit `ext4_sync_file`, matched to its begin by task.
    31 FsyncEnd "fsync_end" {
        /// 0 or a negative errno.
        ret: i64,
    }
    /// A phase function was entered by a task inside `ext4_sync_file`.
    32 FsyncPhaseBegin "fsync_phase_begin" {
        /// One of [`fsync_phase`].
        phase: u32,
        /// Zero.
        pad: u32,
    }
    /// The phase function returned.
    33 FsyncPhaseEnd "fsync_phase_end" {
        /// One of [`fsync_phase`].
        phase: u32,
        /// Zero.
        pad: u32,
        /// The function's return value; 0 where it returns nothing, and for `filemap_writeback`.
        ret: i64,
    }
    /// fentry `ext4_destroy_inode` of an inode whose conversion work was queued at least once: it is
    /// evicted, and its memory goes.
    40 InodeDestroy "inode_destroy" {
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// `s_dev`.
        dev: u32,
        /// Bits of [`valid`].
        valid: u32,
    }
    /// fentry `ext4_evict_inode` of an inode that still has pages: whoever evicts it waits for those that
    /// are under writeback.
    41 EvictionBegin "eviction_begin" {
        /// Address of the inode.
        inode: u64,
        /// `inode->i_ino`.
        ino: u64,
        /// `s_dev`.
        dev: u32,
        /// Bits of [`valid`].
        valid: u32,
    }
    /// fexit `ext4_evict_inode`, where the begin was told; matched to it by task.
    42 EvictionEnd "eviction_end" {
        /// Address of the inode, as in [`EvictionBegin`].
        inode: u64,
    }
    /// Written by the nesting test's programs only (`probes/nesting.rs`).
    60 Nesting "nesting" {
        /// 1 in the interrupted program, 2 in the interrupting one.
        role: u32,
        /// Position in this program run.
        step: u32,
    }
    /// The host that the stream was taken on; a stream's first record. Where one stream follows another
    /// the numbers of the programs begin at 1 again, their totals at 0.
    64 Host "host" {
        /// Wire version of the writer.
        version: u16,
        /// Zero.
        pad: u16,
        /// CPUs that may come online.
        cpus: u32,
        /// `uname -r`, NUL padded.
        release: [u8; 64],
        /// Key of the hashes that stand for kernel addresses outside of traces, random per run.
        hash_key: u64,
    }
    /// A block device that carries an ext4, before its first use.
    65 Device "device" {
        /// `s_dev`.
        dev: u32,
        /// Zero.
        pad: u32,
        /// Kernel name (`vda1`), NUL padded.
        name: [u8; 32],
    }
    /// A kernel symbol that the stream refers to, before its first use.
    66 Symbol "symbol" {
        /// Address.
        address: u64,
        /// Name, NUL padded.
        name: [u8; 64],
    }
    /// A bound or threshold that verdicts depend on.
    67 Config "config" {
        /// One of [`config_key`].
        key: u32,
        /// Zero.
        pad: u32,
        /// The value in force.
        value: u64,
    }
    /// One second passed; everything before it was emitted before it.
    68 Tick "tick" {
        /// Ordinal, from 1.
        ordinal: u64,
    }
    /// Totals of one CPU as the programs count them, read after the stream before it was drained.
    69 Loss "loss" {
        /// The CPU.
        of_cpu: u32,
        /// Zero.
        pad: u32,
        /// Records that the programs tried to emit.
        emitted: u64,
        /// Records that found no room in the ring.
        dropped: u64,
    }
    /// Hits of one probe that the kernel skipped because its program, or for a kprobe another one, was
    /// already running. Never sent where the kernel does not count them.
    70 Misses "misses" {
        /// Index into the probe table.
        probe: u32,
        /// Zero.
        pad: u32,
        /// Total since attach.
        total: u64,
    }
    /// A probe was attached, or could not be.
    71 Attach "attach" {
        /// Index into the probe table.
        probe: u32,
        /// One of [`backend`]; `NONE` when nothing is attached.
        backend: u8,
        /// 1 when it should be attached and could not be, 0 when this kernel needs it not.
        failed: u8,
        /// Zero.
        pad: [u8; 2],
    }
    /// A probe was detached.
    72 Detach "detach" {
        /// Index into the probe table.
        probe: u32,
        /// Zero.
        pad: u32,
    }
    /// First record of a slice: what came before it was not kept. The states that held then follow
    /// (HOST, CONFIG, SYMBOL, DEVICE, ATTACH or DETACH, LOSS, MISSES, PROGRAM_LOSS, TASK_NAME), then the stream.
    73 Slice "slice" {
        /// Records that were not kept.
        evicted: u64,
    }
    /// What the programs left out at their own bounds: totals of all CPUs, read with those of LOSS and
    /// written after them. A stream without it does not say what was left out.
    74 ProgramLoss "program_loss" {
        /// By [`bound`].
        left_out: [u64; BOUNDS],
    }
    /// What a task was called at a TICK after its first record; thread ids are used again, so the
    /// last word counts. Only for people: no verdict depends on it.
    75 TaskName "task_name" {
        /// Thread id.
        task: u32,
        /// Zero.
        pad: u32,
        /// `comm`, NUL padded.
        comm: [u8; 16],
    }
    /// A watchpoint was put on the `flag` of an io_end, on every CPU that is watched; only for people and for
    /// counts: no verdict depends on it.
    76 WatchBegin "watch_begin" {
        /// Address of the io_end.
        io_end: u64,
        /// When all CPUs had it, CLOCK_MONOTONIC nanoseconds.
        at_ns: u64,
        /// Which of the slots.
        slot: u32,
        /// CPUs that have it.
        cpus: u32,
    }
    /// It was taken off again.
    77 WatchEnd "watch_end" {
        /// Address of the io_end.
        io_end: u64,
        /// When its io_end was released; else when it began to be taken off, CLOCK_MONOTONIC nanoseconds.
        at_ns: u64,
        /// Which of the slots.
        slot: u32,
        /// One of [`watch_end`].
        why: u32,
    }
    /// Totals of the watchpoints since they were opened, read with those of LOSS.
    78 WatchTotals "watch_totals" {
        /// Stores that a watchpoint saw.
        hits: u64,
        /// Of those, the ones that found no room in the ring, or its lock held.
        lost: u64,
        /// Interrupts sent to CPUs to put watchpoints on and to take them off.
        interrupts: u64,
        /// io_ends that were over, or stale, before a watchpoint was on them.
        late: u64,
        /// Slots that the host gives us now.
        slots: u32,
        /// CPUs that are watched.
        cpus: u32,
    }
    /// The cgroup of a process whose fsync was seen, as `/proc/PID/cgroup` showed it at its
    /// first sight within a second; told again when it changed. Only for people: no verdict depends on it.
    79 TaskCgroup "task_cgroup" {
        /// Thread group id.
        task: u32,
        /// Bits of [`cgroup`].
        bits: u32,
        /// Path from the root of the hierarchy, NUL padded; of a longer one its end.
        path: [u8; CGROUP_PATH_LEN],
    }
}

/// Records per run of the interrupted program of the nesting test.
pub const NESTING_LONG_RUN: u32 = 32;
