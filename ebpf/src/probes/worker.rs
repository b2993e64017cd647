//! The conversion worker's runs by the workqueue's tracepoints (5.10 to 7.3), of every work: filtered.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use endiod_wire::wire::{LISTED_MAX, Listed, WorkQueued, WorkerEnd, bound};

use super::seen::{fill, rounds, worker_begins};
use crate::{
    emit::{count_left_out, emit, emit_in_loop},
    kernel::{
        EXT4_END_IO_RSV_WORK, EXT4_INODE_RSV_LIST, EXT4_INODE_RSV_WORK, WORK_FUNC, inode_of_work,
        read, read_at,
    },
};

/// `(req_cpu, pwq, work)`: by `ext4_put_io_end_defer`, which holds the lock; the list is still empty.
#[raw_tracepoint(tracepoint = "workqueue_queue_work")]
fn tp_workqueue_queue_work(ctx: RawTracePointContext) -> i32 {
    let work: u64 = ctx.arg(2);
    if is_conversion(work) {
        emit(|record: &mut WorkQueued| record.inode = inode_of_work(work));
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
    let inode = inode_of_work(work);
    worker_begins(inode);
    let head = work - u64::from(EXT4_INODE_RSV_WORK.load()) + u64::from(EXT4_INODE_RSV_LIST.load());
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
    if function == EXT4_END_IO_RSV_WORK.load() {
        emit(|record: &mut WorkerEnd| record.inode = inode_of_work(work));
    }
    0
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
