//! Direct writes: `fs/ext4/file.c` (5.10 to 7.3; from 5.5 on they have no io_end).
//!
//! The span begins at `ext4_file_write_iter` with IOCB_DIRECT and ends in `ext4_dio_write_end_io`,
//! maybe after the call returned and in another task. A write that falls back to the page cache or
//! is refused returns without a completion.

use aya_ebpf::{
    macros::{fentry, fexit},
    programs::{FEntryContext, FExitContext},
};
use endiod_wire::wire::{
    DirectIoBegin, DirectIoCompleteBegin, DirectIoCompleteEnd, DirectIoReturn, DirectIoUncounted,
    bound, valid,
};

use crate::{
    emit::{count_left_out, emit},
    kernel::{
        FILE_F_INODE, INODE_I_DIO_COUNT, IOV_ITER_COUNT, KIOCB_KI_FILP, KIOCB_KI_FLAGS,
        KIOCB_KI_POS, read, tid, told_inode,
    },
    maps::OPEN_DIRECT_IOS,
};

/// `IOCB_DIRECT` (include/linux/fs.h, 5.10 to 7.3).
const IOCB_DIRECT: u32 = 1 << 17;

/// `static ssize_t ext4_file_write_iter(struct kiocb *iocb, struct iov_iter *from)`.
#[fentry]
fn ext4_file_write_iter(ctx: FEntryContext) -> i32 {
    let (iocb, from): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    let Some(flags) = read::<u32>(iocb, &KIOCB_KI_FLAGS) else {
        count_left_out(bound::OPEN_DIRECT_IOS);
        return 0;
    };
    if flags & IOCB_DIRECT == 0 {
        // An entry that a skipped return left behind must not be taken for this write's.
        if OPEN_DIRECT_IOS.get_ptr(tid()).is_some() {
            let _ = OPEN_DIRECT_IOS.remove(tid());
        }
        return 0;
    }
    if OPEN_DIRECT_IOS.insert(tid(), iocb, 0).is_err() {
        count_left_out(bound::OPEN_DIRECT_IOS);
        return 0;
    }
    emit(|record: &mut DirectIoBegin| begin(record, iocb, from));
    0
}

#[inline(always)]
fn begin(record: &mut DirectIoBegin, iocb: u64, from: u64) {
    let file = read::<u64>(iocb, &KIOCB_KI_FILP).unwrap_or(0);
    let inode = read::<u64>(file, &FILE_F_INODE).unwrap_or(0);
    let bytes = read::<u64>(from, &IOV_ITER_COUNT);
    let pos = read::<i64>(iocb, &KIOCB_KI_POS);
    record.iocb = iocb;
    record.inode = inode;
    (record.ino, record.dev, record.valid) = told_inode(inode);
    record.pos = pos.unwrap_or(0);
    record.bytes = bytes.unwrap_or(0);
    if bytes.is_some() && pos.is_some() {
        record.valid |= valid::KIOCB;
    }
}

/// The call's return. The kiocb may be freed by now: only its address is used.
#[fexit]
fn ext4_file_write_iter_exit(ctx: FExitContext) -> i32 {
    let tid = tid();
    // SAFETY: the value is copied at once; only this task inserts and removes its own key.
    let Some(iocb) = (unsafe { OPEN_DIRECT_IOS.get(tid) }).copied() else { return 0 };
    let ret: i64 = ctx.arg(2);
    // The entry is this task's own; it cannot be gone.
    let _ = OPEN_DIRECT_IOS.remove(tid);
    emit(|record: &mut DirectIoReturn| {
        record.iocb = iocb;
        record.ret = ret;
    });
    0
}

/// `static int ext4_dio_write_end_io(struct kiocb *, ssize_t size, int error, unsigned flags)`.
#[fentry]
fn ext4_dio_write_end_io(ctx: FEntryContext) -> i32 {
    let (iocb, bytes, error, flags): (u64, i64, i32, u32) =
        (ctx.arg(0), ctx.arg(1), ctx.arg(2), ctx.arg(3));
    tell_uncounted(iocb);
    emit(|record: &mut DirectIoCompleteBegin| {
        record.iocb = iocb;
        record.bytes = bytes;
        record.error = error;
        record.flags = flags;
    });
    0
}

/// Its return: an `int`, sign-extended here.
#[fexit]
fn ext4_dio_write_end_io_exit(ctx: FExitContext) -> i32 {
    let (iocb, ret): (u64, i32) = (ctx.arg(0), ctx.arg(4));
    tell_uncounted(iocb);
    emit(|record: &mut DirectIoCompleteEnd| {
        record.iocb = iocb;
        record.ret = i64::from(ret);
    });
    0
}

/// `inode_dio_begin` came before the first bio, `inode_dio_end` comes after this function: in it the count
/// of the inode is above 0 (fs/iomap/direct-io.c, `iomap_dio_complete`, 5.10 to 7.3).
#[inline(always)]
fn tell_uncounted(iocb: u64) {
    if INODE_I_DIO_COUNT.load() == 0 {
        return;
    }
    let Some(file) = read::<u64>(iocb, &KIOCB_KI_FILP) else { return };
    let Some(inode) = read::<u64>(file, &FILE_F_INODE) else { return };
    if read::<u32>(inode, &INODE_I_DIO_COUNT) == Some(0) {
        emit(|record: &mut DirectIoUncounted| record.iocb = iocb);
    }
}
