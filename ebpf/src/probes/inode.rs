//! The end of an inode: `fs/ext4/super.c` (5.10 to 7.3).
//!
//! `ext4_destroy_inode` comes after `ext4_evict_inode` returned, when nothing may point to the inode any
//! more. Caches are dropped by the million, so an inode leaves at once unless its conversion work was
//! queued since it was allocated: only such a one can be the inode of an io_end that a worker takes.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use endiod_wire::wire::{InodeDestroy, valid};

use crate::{
    emit::emit,
    kernel::{EXT4_INODE_RSV_WORK, EXT4_INODE_VFS_INODE, WORK_DATA, inode_id, read},
};

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
        let id = inode_id(inode);
        let (ino, dev) = id.unwrap_or((0, 0));
        record.inode = inode;
        record.ino = ino;
        record.dev = dev;
        record.valid = if id.is_some() { valid::INODE } else { 0 };
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
