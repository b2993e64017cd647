//! Two programs that force nesting, for the test that numbers survive it. The agent never loads
//! them.
//!
//! `nesting_long` emits a long run of records in a task; `nesting_short` emits a short one from an
//! interrupt on the same CPU, so that it lands in the middle of the long run again and again. Both
//! also add to `NESTING_CONTROL` the naive way (load, add, store): what it lacks in the end is what
//! the interrupts would have cost a naive sequence number, and proves that they did interfere.

use aya_ebpf::{
    macros::{fentry, map, raw_tracepoint},
    maps::PerCpuArray,
    programs::{FEntryContext, RawTracePointContext},
};
use endiod_wire::wire::{NESTING_LONG_RUN, Nesting};

use crate::emit::emit;

/// Records per run of the interrupting program.
const SHORT_RUN: u32 = 2;

/// The naive counter of each CPU.
#[map]
static NESTING_CONTROL: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Run in a task by BPF_PROG_TEST_RUN.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn nesting_long(_ctx: RawTracePointContext) -> i32 {
    for step in 0..NESTING_LONG_RUN {
        number(1, step);
    }
    0
}

/// Run by an interrupt: a bio of ext4 ends.
#[fentry]
fn nesting_short(_ctx: FEntryContext) -> i32 {
    for step in 0..SHORT_RUN {
        number(2, step);
    }
    0
}

#[inline(always)]
fn number(role: u32, step: u32) {
    let Some(control) = NESTING_CONTROL.get_ptr_mut(0) else { return };
    // SAFETY: the map's value is live for ever.
    let naive = unsafe { control.read_volatile() };
    emit(|record: &mut Nesting| {
        record.role = role;
        record.step = step;
    });
    // SAFETY: as above. The record was emitted in between to make the window as wide as it is in a
    // program that does work between taking a number and storing it.
    unsafe { control.write_volatile(naive + 1) };
}
