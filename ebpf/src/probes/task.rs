//! Tasks that end: whatever they left in a table of open calls is struck off.
//!
//! An entry is taken out by the return of its call. Where the kernel skips that return, because its
//! program was already running on the CPU, the entry stays until the task calls again; a task that has
//! ended never does, and a table would fill with such. A task that ends is in no call, so this strikes off
//! no live one: `do_exit` (5.10 to 7.3) reports the task itself, before its id is given to another.

use aya_ebpf::{
    macros::raw_tracepoint,
    maps::{HashMap, PerCpuArray},
    programs::RawTracePointContext,
};
use endiod_wire::wire::{CpuCounters, task_table};

use crate::{
    emit::increment,
    kernel::tid,
    maps::{CPUS, OPEN_DIRECT_IOS, OPEN_FSYNCS, RELEASING, evicting},
};

/// `(task)`, from 6.16 on `(task, group_dead)`; the task is the current one. Every task of the host: each
/// costs four looks into a table.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn tp_sched_process_exit(_ctx: RawTracePointContext) -> i32 {
    let tid = tid();
    sweep(&OPEN_FSYNCS, tid, task_table::OPEN_FSYNCS);
    sweep(&OPEN_FSYNCS, evicting(tid), task_table::OPEN_FSYNCS);
    sweep(&OPEN_DIRECT_IOS, tid, task_table::OPEN_DIRECT_IOS);
    sweep(&RELEASING, tid, task_table::RELEASING);
    0
}

#[inline(always)]
fn sweep(table: &HashMap<u32, u64>, tid: u32, index: usize) {
    if table.get_ptr(tid).is_some() && table.remove(tid).is_ok() {
        count(&CPUS, index);
    }
}

/// The end of a task interrupts no program of its own CPU's, so this has one writer at a time.
#[inline(always)]
fn count(cpus: &PerCpuArray<CpuCounters>, index: usize) {
    let Some(counters) = cpus.get_ptr_mut(0) else { return };
    // SAFETY: `index` is below TASK_TABLES and the map's value is live for ever.
    increment(unsafe { (&raw mut (*counters).swept).cast::<u64>().add(index) });
}
