//! The conversion worker's runs by the workqueue's tracepoints (5.10 to 7.3), of every work: filtered.
//!
//! Whose work it is follows from where it lies in `ext4_inode_info`. Where that is not described, the list
//! just before the work tells: its first io_end names the inode, and from then on the distance is known.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use endiod_wire::{
    layout::LIST_BEFORE_WORK,
    wire::{IO_END_INODE_OFFSET, LISTED_MAX, Listed, WorkQueued, WorkerBegin, WorkerEnd, bound},
};

use super::seen::{fill, rounds};
use crate::{
    emit::{count_left_out, emit, emit_in_loop},
    kernel::{
        EXT4_END_IO_RSV_WORK, EXT4_INODE_RSV_LIST, EXT4_INODE_RSV_WORK, WORK_FUNC, inode_id,
        inode_of_work, layout_is_assumed, read, read_at,
    },
    maps::LEARNED,
};

/// An inode's work lies within its `ext4_inode_info`, which is not as large as a page.
const INODE_TO_WORK_MAX: u64 = 4096;

/// `(req_cpu, pwq, work)`: by `ext4_put_io_end_defer`, which holds the lock; the list is still empty.
#[raw_tracepoint(tracepoint = "workqueue_queue_work")]
fn tp_workqueue_queue_work(ctx: RawTracePointContext) -> i32 {
    let work: u64 = ctx.arg(2);
    if is_conversion(work)
        && let Some(inode) = inode_of_work(work)
    {
        emit(|record: &mut WorkQueued| record.inode = inode);
    }
    0
}

/// `(work)`: the worker has not taken the list yet; others may still add to its end.
#[raw_tracepoint(tracepoint = "workqueue_execute_start")]
fn tp_workqueue_execute_start(ctx: RawTracePointContext) -> i32 {
    let work: u64 = ctx.arg(0);
    if !is_conversion(work) {
        return 0;
    }
    let Some(inode) = worker_begins(work) else { return 0 };
    let head = list_of(work);
    let mut next = next_of(head);
    for _ in 0..rounds(LISTED_MAX) {
        if next == 0 || next == head {
            return 0;
        }
        // `list` is the first member of an io_end.
        listed(next, inode);
        next = next_of(next);
    }
    if next != 0 && next != head {
        count_left_out(bound::LIST_WALK);
    }
    0
}

/// `(work, function)`: the work may be freed by now, only its address is used.
#[raw_tracepoint(tracepoint = "workqueue_execute_end")]
fn tp_workqueue_execute_end(ctx: RawTracePointContext) -> i32 {
    let (work, function): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    if function == EXT4_END_IO_RSV_WORK.load()
        && let Some(inode) = inode_of_work(work)
    {
        emit(|record: &mut WorkerEnd| record.inode = inode);
    }
    0
}

/// The worker of an inode starts; whose, if it can be told.
#[inline(always)]
pub(super) fn worker_begins(work: u64) -> Option<u64> {
    let inode = match inode_of_work(work) {
        None if layout_is_assumed() => learn_inode(work)?,
        known => known?,
    };
    emit(|record: &mut WorkerBegin| record.inode = inode);
    Some(inode)
}

/// The inode that the first io_end on the list before the work names, if that is a list with an io_end on
/// it: the io_end links back to it, and names an inode of an ext4 just before the work.
#[inline(always)]
fn learn_inode(work: u64) -> Option<u64> {
    let head = list_of(work);
    let first = next_of(head);
    // `list.prev` is an io_end's second word.
    if first == 0 || first == head || read_at::<u64>(first + 8)? != head {
        return None;
    }
    let inode = read_at::<u64>(first + IO_END_INODE_OFFSET)?;
    let inode_to_work = work.wrapping_sub(inode);
    if inode_to_work == 0 || inode_to_work > INODE_TO_WORK_MAX {
        return None;
    }
    inode_id(inode)?;
    let learned = LEARNED.get_ptr_mut(0)?;
    // SAFETY: the map's value is live for ever; whoever races writes the same.
    unsafe { (*learned).inode_to_work = inode_to_work };
    Some(inode)
}

/// `i_rsv_conversion_list` of the inode whose `i_rsv_conversion_work` this is.
#[inline(always)]
fn list_of(work: u64) -> u64 {
    if layout_is_assumed() {
        return work - LIST_BEFORE_WORK;
    }
    work - u64::from(EXT4_INODE_RSV_WORK.load()) + u64::from(EXT4_INODE_RSV_LIST.load())
}

#[inline(always)]
fn is_conversion(work: u64) -> bool {
    read::<u64>(work, &WORK_FUNC) == Some(EXT4_END_IO_RSV_WORK.load())
}

/// `list_head.next`, 0 if it cannot be read.
#[inline(always)]
fn next_of(list_head: u64) -> u64 {
    read_at(list_head).unwrap_or(0)
}

#[inline(always)]
fn listed(io_end: u64, inode: u64) {
    emit_in_loop(|record: &mut Listed| {
        fill(record, io_end);
        record.inode = inode;
    });
}
