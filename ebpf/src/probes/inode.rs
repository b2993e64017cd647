//! The end of an inode: `fs/ext4/super.c` (5.10 to 7.3).
//!
//! ```text
//!   evict ┬ inode_wait_for_writeback   another task is in its writepages: not seen
//!         ├ ext4_evict_inode           waits for each page under writeback, so for its io_ends
//!         └ ext4_destroy_inode         nothing may point to the inode any more
//! ```
//!
//! Caches are dropped and files are removed by the million, so an inode leaves at once: at its eviction
//! unless it has pages, at its destruction unless its conversion work was queued since it was allocated.
//! Only such a one can be the inode of an io_end that is alive, or that a worker takes.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use endiod_wire::wire::{EvictionBegin, EvictionEnd, InodeDestroy, bound};

use crate::{
    emit::{count_left_out, emit},
    kernel::{
        EXT4_INODE_RSV_WORK, EXT4_INODE_VFS_INODE, INODE_NRPAGES, WORK_DATA, read, tid, told_inode,
    },
    maps::{OPEN_FSYNCS, evicting},
};

/// `void ext4_evict_inode(struct inode *inode)`. Where the count of pages cannot be read there may be some.
#[fentry]
fn ext4_evict_inode(ctx: FEntryContext) -> i32 {
    let inode: u64 = ctx.arg(0);
    if read::<u64>(inode, &INODE_NRPAGES) == Some(0) {
        return 0;
    }
    // Its end is told by what is noted here.
    if OPEN_FSYNCS.insert(evicting(tid()), inode, 0).is_err() {
        count_left_out(bound::OPEN_FSYNCS);
        return 0;
    }
    emit(|record: &mut EvictionBegin| {
        record.inode = inode;
        (record.ino, record.dev, record.valid) = told_inode(inode);
    });
    0
}

/// Its return. One eviction may be inside of another (of an inode that holds extended attributes, from 4.13
/// on): the inner one takes the place of the outer one, whose end is then not told.
#[fexit]
fn ext4_evict_inode_exit(ctx: FExitContext) -> i32 {
    let (inode, key): (u64, u32) = (ctx.arg(0), evicting(tid()));
    // SAFETY: the value is a plain number, and only its own task writes it.
    if unsafe { OPEN_FSYNCS.get(key) } != Some(&inode) {
        return 0;
    }
    // It is there.
    let _ = OPEN_FSYNCS.remove(key);
    emit(|record: &mut EvictionEnd| record.inode = inode);
    0
}

/// `static void ext4_destroy_inode(struct inode *inode)`.
#[fentry]
fn ext4_destroy_inode(ctx: FEntryContext) -> i32 {
    let inode: u64 = ctx.arg(0);
    let work =
        inode - u64::from(EXT4_INODE_VFS_INODE.load()) + u64::from(EXT4_INODE_RSV_WORK.load());
    if read::<u64>(work, &WORK_DATA).is_some_and(never_queued) {
        return 0;
    }
    emit(|record: &mut InodeDestroy| {
        record.inode = inode;
        (record.ino, record.dev, record.valid) = told_inode(inode);
    });
    0
}

/// `work_struct.data` as `INIT_WORK` in `ext4_alloc_inode` left it: `WORK_STRUCT_NO_POOL`, 31 ones
/// (`WORK_OFFQ_POOL_BITS`, include/linux/workqueue.h, 5.10 to 7.3) above flags that are 0. Where they
/// begin differs between kernels. Once it ran it names its last pool, which may be number 0; while it
/// waits it names its queue.
#[inline(always)]
fn never_queued(data: u64) -> bool {
    let lowest = data & data.wrapping_neg();
    data != 0 && data.wrapping_add(lowest) == lowest << 31
}
