//! After `new` the core allocates nothing, however many events it takes; a lane of the sequence takes
//! its memory at its first hole.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use endiod::detect::{Detectors, Rule};
use endiod::event::{Backend, Body, Context, Cpu, Event, InodeAddr, IocbAddr, Nanos, Stamp, Task};
use endiod::lifecycle::{Capacities, Lifecycle};
use endiod::limits::DIRECT_IOS_ENDED_MAX;
use endiod::sequence::{Sequences, Start};
use endiod::witnesses::Witnesses;

use crate::back_ends::raw_tracepoints;
use crate::crimes::witnesses_of;
use crate::world::{Kernel, Random, World};

/// The system's allocator, counting what each thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged; the count is a thread-local that is
// initialised at compile time and has no destructor, so touching it never allocates.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's obligations on `layout` are those of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above, which is `System`'s.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn the_core_allocates_nothing_per_event() {
    nothing_is_allocated(&witnesses_of(Kernel::V6_18), |world, _| world.events.clone());
}

#[test]
fn nor_for_raw_tracepoints() {
    nothing_is_allocated(&Witnesses::all_by(Backend::RawTracepoint), |world, seed| {
        raw_tracepoints(&world.events, &mut Random(seed))
    });
}

/// More of them than are kept once they have ended, each with a completion too many.
#[test]
fn nor_for_direct_writes_and_evictions() {
    let capacities = Capacities { io_ends: 8, bios: 8, direct_ios: 8, fsyncs: 8, evictions: 8 };
    let mut lifecycle = Lifecycle::new(capacities);
    let mut detectors = Detectors::new();
    let before = ALLOCATIONS.with(Cell::get);
    for round in 0..3 * DIRECT_IOS_ENDED_MAX as u64 {
        let (iocb, inode) = (IocbAddr(0x1000 + 64 * round), InodeAddr(0x2000 + round));
        let complete = Body::DirectIoCompleteBegin { iocb, bytes: 1, error: 0, flags: 0 };
        for body in [
            Body::DirectIoBegin { iocb, id: None, pos_bytes: 0, len_bytes: None },
            complete,
            Body::DirectIoCompleteEnd { iocb, ret: 1 },
            Body::DirectIoReturn { iocb, ret: 1 },
            complete,
            Body::EvictionBegin { inode, id: None },
            Body::EvictionEnd { inode },
            Body::Tick { ordinal: round },
        ] {
            let task = Task { tid: 7, tgid: 7 };
            let (at, context) = (Nanos(1_000 * round), Context::Task);
            let stamp = Stamp { at, cpu: Some(Cpu(0)), lane: 0, seq: round, task, context };
            let event = Event { stamp, body };
            lifecycle.observe(&event, &mut |step| detectors.step(&step));
            detectors.observe(&event, &mut |_| {});
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
    let found = detectors.tally().confirmed[Rule::DirectIoOrder as usize];
    assert_eq!(found, 3 * DIRECT_IOS_ENDED_MAX as u64);
}

fn nothing_is_allocated(witnesses: &Witnesses, view: impl Fn(&World, u64) -> Vec<Event>) {
    let capacities = Capacities { io_ends: 8, bios: 8, direct_ios: 8, fsyncs: 8, evictions: 8 };
    let mut lifecycle = Lifecycle::new(capacities);
    lifecycle.set_witnesses(witnesses);
    let mut detectors = Detectors::new();
    detectors.arm(witnesses);
    let mut sequences = Sequences::new(8, Start::AtOne);
    let (mut allocated, mut taken, mut later) = (0, 0, 0);
    for seed in 0..400 {
        let mut world = World::new(seed, Kernel::V6_18, 5);
        while world.step() {}
        // A reordered tail makes irregular steps and held candidates too.
        let mut events = view(&world, seed);
        let middle = events.len() / 2;
        events[middle..].reverse();
        if seed == 0 {
            // Each lane's first hole: the second number comes before the first.
            for cpu in 0..8 {
                let stamp = Stamp { cpu: Some(Cpu(cpu)), lane: 0, seq: 2, ..events[0].stamp };
                sequences.arrive(&stamp);
                sequences.arrive(&Stamp { seq: 1, ..stamp });
            }
        }
        let before = ALLOCATIONS.with(Cell::get);
        for event in &mut events {
            event.stamp.at = Nanos(event.stamp.at.0 + later);
            sequences.arrive(&event.stamp);
            lifecycle.observe(event, &mut |step| detectors.step(&step));
            detectors.observe(event, &mut |_| {});
            taken += 1;
        }
        later += 1_000;
        let mut tick = events[0];
        tick.body = Body::Tick { ordinal: seed };
        detectors.observe(&tick, &mut |_| {});
        allocated += ALLOCATIONS.with(Cell::get) - before;
    }
    assert!(taken > 10_000, "only {taken} events");
    assert!(lifecycle.summary().irregular_steps > 100, "nothing irregular in it");
    assert_eq!(allocated, 0, "allocations in {taken} events");
}
