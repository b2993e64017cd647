//! fsync and its phases: `ext4_sync_file` and what it calls (`fs/ext4/fsync.c`, 5.10 to 7.3).
//!
//! The functions inside are generic, so a phase counts only while its task is in `ext4_sync_file`:
//!
//! ```text
//! ext4_sync_file ┬ __filemap_fdatawrite_range   data_submit  (filemap_writeback from 7.2)
//!                ├ __filemap_fdatawait_range    data_wait    conversion included
//!                ├ ext4_fc_commit | ext4_force_commit   journal
//!                └ blkdev_issue_flush           barrier
//! ```

use aya_ebpf::{
    macros::{fentry, fexit, raw_tracepoint},
    programs::{FEntryContext, FExitContext, RawTracePointContext},
};
use endiod_wire::wire::{
    FsyncBegin, FsyncEnd, FsyncPhaseBegin, FsyncPhaseEnd, bound, fsync_phase, valid,
};

use crate::{
    emit::{count_left_out, emit},
    kernel::{FILE_F_INODE, FLUSH_ARGS, read, tid, told_inode},
    maps::OPEN_FSYNCS,
};

/// `int ext4_sync_file(struct file *file, loff_t start, loff_t end, int datasync)`.
#[fentry]
fn ext4_sync_file(ctx: FEntryContext) -> i32 {
    let (file, start, end, datasync): (u64, i64, i64, u32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    let followed = follow_phases(file);
    emit(|record: &mut FsyncBegin| {
        begin(record, file, datasync);
        record.start = start;
        record.end = end;
        record.valid |= valid::RANGE;
        record.phases_followed = u32::from(followed);
    });
    0
}

/// Notes that the task is inside, for the programs on the phases' functions; whether there was room.
#[inline(always)]
fn follow_phases(file: u64) -> bool {
    let followed = OPEN_FSYNCS.insert(tid(), file, 0).is_ok();
    if !followed {
        count_left_out(bound::OPEN_FSYNCS);
    }
    followed
}

/// Sets what both back ends see, and the rest to "unknown".
#[inline(always)]
fn begin(record: &mut FsyncBegin, file: u64, datasync: u32) {
    let inode = read::<u64>(file, &FILE_F_INODE).unwrap_or(0);
    record.inode = inode;
    (record.ino, record.dev, record.valid) = told_inode(inode);
    record.start = 0;
    record.end = 0;
    record.datasync = datasync;
    record.phases_followed = 0;
}

/// Its return: an `int`.
#[fexit]
fn ext4_sync_file_exit(ctx: FExitContext) -> i32 {
    // Absent when the table was full at entry.
    let _ = OPEN_FSYNCS.remove(tid());
    let ret: i32 = ctx.arg(4);
    emit(|record: &mut FsyncEnd| record.ret = i64::from(ret));
    0
}

/// `(file, datasync)`; skipped on a file system that was shut down (5.10 to 7.3), which returns at once.
#[raw_tracepoint(tracepoint = "ext4_sync_file_enter")]
fn tp_ext4_sync_file_enter(ctx: RawTracePointContext) -> i32 {
    let (file, datasync): (u64, u32) = (ctx.arg(0), ctx.arg(1));
    let followed = follow_phases(file);
    emit(|record: &mut FsyncBegin| {
        begin(record, file, datasync);
        record.phases_followed = u32::from(followed);
    });
    0
}

/// `(inode, ret)`.
#[raw_tracepoint(tracepoint = "ext4_sync_file_exit")]
fn tp_ext4_sync_file_exit(ctx: RawTracePointContext) -> i32 {
    // Absent when the table was full at entry.
    let _ = OPEN_FSYNCS.remove(tid());
    let ret: i32 = ctx.arg(1);
    emit(|record: &mut FsyncEnd| record.ret = i64::from(ret));
    0
}

macro_rules! phases {
    ($( $(#[$doc:meta])* $function:ident, $exit:ident, $phase:ident, $ret:expr; )*) => { $(
        $(#[$doc])*
        #[fentry]
        fn $function(_ctx: FEntryContext) -> i32 {
            phase_begin(fsync_phase::$phase)
        }

        #[doc = "Its return."]
        #[fexit]
        fn $exit(ctx: FExitContext) -> i32 {
            let ret: fn(&FExitContext) -> i32 = $ret;
            phase_end(fsync_phase::$phase, ret(&ctx))
        }
    )* };
}

phases! {
    /// `int __filemap_fdatawrite_range(mapping, start, end, sync_mode)`, up to 7.1.
    __filemap_fdatawrite_range, __filemap_fdatawrite_range_exit, DATA_SUBMIT, |ctx| ctx.arg(4);
    /// `int filemap_writeback(mapping, start, end, sync_mode, nr_to_write)`, from 7.2.
    filemap_writeback, filemap_writeback_exit, DATA_SUBMIT, |_| 0;
    /// `void __filemap_fdatawait_range(mapping, start, end)`.
    __filemap_fdatawait_range, __filemap_fdatawait_range_exit, DATA_WAIT, |_| 0;
    /// `int ext4_fc_commit(journal_t *journal, tid_t commit_tid)`.
    ext4_fc_commit, ext4_fc_commit_exit, JOURNAL, |ctx| ctx.arg(2);
    /// `int ext4_force_commit(struct super_block *sb)`: data=journal (up to 6.1), directories (6.12).
    ext4_force_commit, ext4_force_commit_exit, JOURNAL, |ctx| ctx.arg(1);
    /// `int blkdev_issue_flush(struct block_device *bdev)`, with a gfp mask before 5.12.
    blkdev_issue_flush, blkdev_issue_flush_exit, BARRIER, flush_ret;
}

/// The verifier takes loads from the context at constant offsets only: the barrier keeps the compiler
/// from merging the two into one load at a chosen address.
#[inline(always)]
fn flush_ret(ctx: &FExitContext) -> i32 {
    if FLUSH_ARGS.load() == 2 { core::hint::black_box(ctx.arg(2)) } else { ctx.arg(1) }
}

#[inline(always)]
fn phase_begin(phase: u32) -> i32 {
    if in_fsync() {
        emit(|record: &mut FsyncPhaseBegin| {
            record.phase = phase;
            record.pad = 0;
        });
    }
    0
}

#[inline(always)]
fn phase_end(phase: u32, ret: i32) -> i32 {
    if in_fsync() {
        emit(|record: &mut FsyncPhaseEnd| {
            record.phase = phase;
            record.pad = 0;
            record.ret = i64::from(ret);
        });
    }
    0
}

#[inline(always)]
fn in_fsync() -> bool {
    OPEN_FSYNCS.get_ptr(tid()).is_some()
}
