//! Hardware watchpoints on the `flag` of some live io_ends: the store itself, and who made it.
//!
//! ```text
//!  birth ─► a slot at 0? ─► WATCHED[slot] = io_end ─► WATCH_CALLS ─► agent: breakpoint on each CPU
//!  store ─► watch_io_end_flag ─► FLAG_WRITE                            │
//!  release ─► WATCHED has it? ─► WATCH_CALLS ─► agent: off, then WATCHED[slot] = 0
//! ```
//!
//! A newborn is told to the agent only while a slot is free, so a busy host wakes it no more often than its
//! slots turn. Two CPUs may give one slot away at the same time: the later word counts on both sides, and the
//! other io_end is not watched.
//!
//! The breakpoint is a trap: the program runs right after the store, on the CPU and in the context that made
//! it (x86; arm64 stops before the store, where the new value is not to be seen). The kernel runs it as it
//! does an NMI's program, and not at all while a kprobe's or classic tracepoint's program is at work on the CPU.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_ktime_get_ns,
    macros::{fentry, fexit, perf_event},
    maps::Array,
    programs::{FEntryContext, FExitContext, PerfEventContext},
};
use endiod_wire::wire::{FlagWrite, IO_END_FLAG_OFFSET, WATCH_SLOTS_MAX, WatchCall};

use crate::{
    emit::{cpu, emit_as_nmi},
    kernel::{WATCH_SLOTS, interrupted_context, read_image_and_lock},
    maps::{WATCH_CALLS, WATCH_COUNTS, WATCHED},
};

/// `struct bpf_perf_event_data` of x86 in words: `regs.ip`, and the address that the event is on.
const IP: usize = 16;
const ADDR: usize = 22;

/// Somebody has written the `flag` of an io_end that has a watchpoint.
#[perf_event]
fn watch_io_end_flag(ctx: PerfEventContext) -> i32 {
    let words = ctx.as_ptr().cast::<u64>();
    // SAFETY: both lie in the structure that the kernel hands over; it is read in whole words.
    let (ip, addr) = unsafe { (words.add(IP).read_volatile(), words.add(ADDR).read_volatile()) };
    let io_end = addr - IO_END_FLAG_OFFSET;
    let written = emit_as_nmi(|record: &mut FlagWrite| {
        record.header.context = interrupted_context(cpu());
        record.io_end = io_end;
        record.ip = ip;
        (record.valid, record.lock) = read_image_and_lock(io_end, &mut record.image);
    });
    let Some(counters) = WATCH_COUNTS.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is live for ever; nothing on this CPU interrupts a debug exception but one
    // that is none of ours.
    unsafe {
        (*counters).hits += 1;
        (*counters).lost += u64::from(!written);
    }
    0
}

/// `ext4_io_end_t *ext4_init_io_end(struct inode *inode, gfp_t flags)`.
///
/// A program of its own: what it tells wakes the agent, which on a preemptible kernel may run in the middle of it,
/// and the kernel skips the hits of a program meanwhile. Those of this one cost a watchpoint, those of the
/// program that tells the birth would cost the io_end.
#[fexit]
fn ext4_init_io_end_exit_watch(ctx: FExitContext) -> i32 {
    let io_end: u64 = ctx.arg(2);
    if io_end != 0 {
        born(io_end);
    }
    0
}

/// `static void ext4_release_io_end(ext4_io_end_t *io_end)`, likewise: if it is skipped its watchpoint ages.
#[fentry]
fn ext4_release_io_end_watch(ctx: FEntryContext) -> i32 {
    released(ctx.arg(0));
    0
}

/// A newborn takes a free slot, if there is one.
#[inline(always)]
pub(super) fn born(io_end: u64) {
    for slot in 0..WATCH_SLOTS_MAX {
        let Some(watched) = slot_of(slot) else { return };
        // SAFETY: the map's value is live for ever; who races is told of in this file's head.
        if unsafe { watched.read_volatile() } == 0 {
            // SAFETY: as above.
            unsafe { watched.write_volatile(io_end) };
            if !call(io_end, slot, 1) {
                // SAFETY: as above.
                unsafe { watched.write_volatile(0) };
            }
            return;
        }
    }
}

/// Who is released has its watchpoint taken off.
#[inline(always)]
pub(super) fn released(io_end: u64) {
    for slot in 0..WATCH_SLOTS_MAX {
        let Some(watched) = slot_of(slot) else { return };
        // SAFETY: the map's value is live for ever.
        if unsafe { watched.read_volatile() } == io_end {
            call(io_end, slot, 0);
            return;
        }
    }
}

/// Tells the agent; whether there was room.
#[inline(always)]
fn call(io_end: u64, slot: u32, born: u32) -> bool {
    // SAFETY: the helper takes no argument and cannot fail.
    let at_ns = unsafe { bpf_ktime_get_ns() };
    WATCH_CALLS.output::<WatchCall>(WatchCall { io_end, at_ns, slot, born }, 0).is_ok()
}

/// Whose a slot is; nothing of one that is not in use.
#[inline(always)]
fn slot_of(slot: u32) -> Option<*mut u64> {
    let slots: &Array<u64> = &WATCHED;
    if slot < WATCH_SLOTS.load() { slots.get_ptr_mut(slot) } else { None }
}
