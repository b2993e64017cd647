//! The one path from a program to the ring: number, reserve, fill, submit.
//!
//! A number is taken before room is reserved, so a record that finds no room leaves a gap that the
//! agent sees, and is counted besides. Programs nest: an interrupt may run one in the middle of
//! another on the same CPU. Numbers stay unique and dense all the same:
//!
//! * from 5.12 by an atomic fetch-and-add, all in lane 0;
//! * before (feature `lanes`), where the kernel runs programs with preemption off, by nesting depth:
//!   whoever interrupts a program runs to its end first, so each depth has one writer at a time.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id, generated::bpf_ktime_get_ns},
    maps::ring_buf::RingBufEntry,
};
use aya_log_ebpf::warn;
use endiod_wire::wire::{BOUNDS, CpuCounters, Header, LANES, Record};

use crate::{
    kernel::current_context,
    maps::{CPUS, EVENTS},
};

/// How often a program that may only try the ring's lock does so: it is held for some tens of
/// instructions, and each try takes about as many.
const TRIES: u32 = 4;

/// At most one log line per CPU in this time.
const LOG_INTERVAL_NS: u64 = 1_000_000_000;

/// Emits one record; `fill` sets every field but the header.
#[inline(always)]
pub(crate) fn emit<R: Record + 'static>(fill: impl FnOnce(&mut R)) {
    emit_and(fill, report_drop);
}

/// The same for the body of a loop: a drop is counted and not logged, because the verifier follows the
/// 2,900 instructions of a log line anew in each round.
#[inline(always)]
pub(crate) fn emit_in_loop<R: Record + 'static>(fill: impl FnOnce(&mut R)) {
    emit_and(fill, |_, _| ());
}

#[inline(always)]
fn emit_and<R: Record + 'static>(
    fill: impl FnOnce(&mut R),
    report: impl FnOnce(*mut CpuCounters, u64),
) {
    let Some(counters) = CPUS.get_ptr_mut(0) else { return };
    let lane = enter(counters);
    let seq = increment(emitted(counters, lane));
    match EVENTS.reserve::<R>(0) {
        Some(entry) => write(entry, lane, seq, fill),
        None => {
            let dropped = increment(dropped(counters, lane));
            report(counters, dropped);
        }
    }
    leave(counters, lane);
}

/// Emits a record from a program that the kernel runs as it does an NMI's, where the lock of the ring is only
/// tried: whether it was written. Its number is taken after it has room, so that one which finds none leaves
/// no gap that would cost others their verdicts; nothing runs on this CPU between the two.
#[inline(always)]
pub(crate) fn emit_as_nmi<R: Record + 'static>(fill: impl FnOnce(&mut R)) -> bool {
    let Some(counters) = CPUS.get_ptr_mut(0) else { return false };
    for _ in 0..TRIES {
        let Some(entry) = EVENTS.reserve::<R>(0) else { continue };
        let lane = enter(counters);
        write(entry, lane, increment(emitted(counters, lane)), fill);
        leave(counters, lane);
        return true;
    }
    false
}

#[inline(always)]
fn write<R: Record + 'static>(
    mut entry: RingBufEntry<R>,
    lane: usize,
    seq: u64,
    fill: impl FnOnce(&mut R),
) {
    // SAFETY: a Record is integers only, so whatever the ring's memory holds is a value; the kernel
    // zeroes that memory once and only records are written to it.
    let record = unsafe { entry.assume_init_mut() };
    // SAFETY: a Record is repr(C) and starts with its Header.
    unsafe { core::ptr::from_mut(record).cast::<Header>().write(header::<R>(lane, seq)) };
    fill(record);
    entry.submit(0);
}

#[inline(always)]
fn header<R: Record>(lane: usize, seq: u64) -> Header {
    let pid_tgid = bpf_get_current_pid_tgid();
    // SAFETY: the helper takes no argument and cannot fail.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    let cpu = cpu();
    Header {
        kind: R::KIND,
        len: size_of::<R>() as u16,
        cpu: cpu as u16,
        lane: lane as u8,
        context: current_context(cpu),
        seq,
        time_ns,
        tid: pid_tgid as u32,
        tgid: (pid_tgid >> 32) as u32,
    }
}

/// The CPU that this program runs on.
#[inline(always)]
pub(crate) fn cpu() -> u32 {
    // SAFETY: the helper takes no argument and cannot fail.
    unsafe { bpf_get_smp_processor_id() }
}

#[inline(always)]
fn emitted(counters: *mut CpuCounters, lane: usize) -> *mut u64 {
    // SAFETY: `lane` is below LANES and the map's value is live for ever.
    unsafe { (&raw mut (*counters).emitted).cast::<u64>().add(lane) }
}

#[inline(always)]
fn dropped(counters: *mut CpuCounters, lane: usize) -> *mut u64 {
    // SAFETY: `lane` is below LANES and the map's value is live for ever.
    unsafe { (&raw mut (*counters).dropped).cast::<u64>().add(lane) }
}

#[inline(always)]
fn left_out(counters: *mut CpuCounters, lane: usize, bound: usize) -> *mut u64 {
    // SAFETY: `lane` is below LANES, `bound` below BOUNDS, and the map's value is live for ever.
    unsafe { (&raw mut (*counters).left_out).cast::<u64>().add(lane * BOUNDS + bound) }
}

/// Adds one and returns the new value, so that numbers start at 1.
///
/// Written as the instruction itself: the BPF target has no `AtomicU64::fetch_add` (it lacks
/// compare-and-swap), and the intrinsic is no interface. A test disassembles it.
#[cfg(not(feature = "lanes"))]
#[inline(always)]
pub(crate) fn increment(counter: *mut u64) -> u64 {
    let mut value = 1u64;
    // SAFETY: the counter is an aligned u64 of a map value that is live for ever; the instruction
    // writes nothing else.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            value = inout(reg) value,
            counter = in(reg) counter,
            options(nostack),
        );
    }
    value + 1
}

/// Adds one and returns the new value; the caller is this lane's only writer.
#[cfg(feature = "lanes")]
#[inline(always)]
pub(crate) fn increment(counter: *mut u64) -> u64 {
    // SAFETY: the counter is an aligned u64 of a map value that is live for ever.
    let value = unsafe { counter.read_volatile() } + 1;
    // SAFETY: as above.
    unsafe { counter.write_volatile(value) };
    value
}

#[cfg(not(feature = "lanes"))]
#[inline(always)]
fn enter(_counters: *mut CpuCounters) -> usize {
    0
}

#[cfg(not(feature = "lanes"))]
#[inline(always)]
fn leave(_counters: *mut CpuCounters, _lane: usize) {}

/// Takes the lane of this nesting depth. A program that interrupts between the read and the write
/// finds the same depth, uses the lane and is gone before this one goes on.
#[cfg(feature = "lanes")]
#[inline(always)]
fn enter(counters: *mut CpuCounters) -> usize {
    // SAFETY: the map's value is live for ever.
    let depth = unsafe { (&raw const (*counters).depth).read_volatile() };
    // SAFETY: as above.
    unsafe { (&raw mut (*counters).depth).write_volatile(depth + 1) };
    // Task, softirq, hardirq and NMI: four levels exist, the mask is for the verifier.
    depth as usize & (LANES - 1)
}

#[cfg(feature = "lanes")]
#[inline(always)]
fn leave(counters: *mut CpuCounters, lane: usize) {
    // SAFETY: the map's value is live for ever.
    unsafe { (&raw mut (*counters).depth).write_volatile(lane as u64) };
}

#[cfg(not(feature = "lanes"))]
const _: () = assert!(LANES > 0);

/// Counts what was left out at one of the programs' own bounds, a constant of `wire::bound`. It counts
/// in the lane of its nesting depth as the numbers do, so that no interrupt costs a count.
#[inline(always)]
pub(crate) fn count_left_out(bound: usize) {
    let Some(counters) = CPUS.get_ptr_mut(0) else { return };
    let lane = enter(counters);
    increment(left_out(counters, lane, bound));
    leave(counters, lane);
}

/// Says in the daemon's log that records are lost, at most once a second and CPU.
#[inline(never)]
fn report_drop(counters: *mut CpuCounters, dropped: u64) {
    // SAFETY: the helper takes no argument and cannot fail.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    // SAFETY: the map's value is live for ever; a torn race with an interrupt costs one log line.
    let logged_ns = unsafe { (*counters).logged_ns };
    if now_ns - logged_ns < LOG_INTERVAL_NS && logged_ns != 0 {
        return;
    }
    // SAFETY: as above.
    unsafe { (*counters).logged_ns = now_ns };
    warn!((), "ring full on cpu {}: {} records dropped so far", cpu(), dropped);
}
