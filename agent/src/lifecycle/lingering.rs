//! What stays in one state for longer than the stream's CONFIG allows, looked for at each TICK.
//!
//! ```text
//!   live io_ends ──age ≥ STUCK_AFTER──► by device and halt ──► the oldest of each, with how many others,
//!                                                              and who waits
//! ```
//!
//! Where one halts many, one is told: the conversion queue of a superblock has max_active 1 (`ext4_fill_super`
//! allocates it, 3.11 to 7.3), so behind a conversion that does not return every other io_end that is left
//! to a worker of that device waits as well. These are counted, and told by the one in front.
//!
//! An age is a symptom: this module must never call it a breach, and never tell one without a CONFIG that
//! says from when on. Nothing is allocated; the waiting calls are in a map that is seeded at random, so they
//! are told in the order of their begin.

use super::Lifecycle;
use super::act::Act;
use super::io_end::IoEnd;
use super::put_backs::PutBack;
use super::sight::Sight;
use super::state::{Move, State};
use super::step::{IoEndStep, Step};
use super::table::Slot;
use crate::event::{DevId, InodeAddr, InodeId, Nanos, Stamp, Task};
use crate::limits;

/// Where an io_end got stuck, as far as what is seen tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// Its submitter still has its reference.
    Submitter,
    /// Bios of it have not ended.
    Device,
    /// All its bios ended, and a reference is left.
    Reference,
    /// Its last reference was dropped, nothing was to be converted, and it was not released.
    Release,
    /// It was left to its worker, which was not seen to run since.
    Worker,
    /// Its inode's worker runs and has not come to it.
    WorkerRuns,
    /// Its inode's worker ran since and left it where it is.
    PassedOver,
    /// Its work ran and put itself back, in the core of 2012.
    PutBack,
    /// It was claimed, and its conversion has not returned.
    Conversion,
    /// Its conversion returned, and it was not released.
    Converted,
}

impl Halt {
    /// Where it keeps the conversions of the whole superblock waiting: how far on.
    fn place_in_queue(self) -> Option<u8> {
        match self {
            Halt::Worker => Some(0),
            Halt::WorkerRuns => Some(1),
            Halt::Conversion | Halt::Converted => Some(2),
            _ => None,
        }
    }
}

/// A task in a call that waits for it, or is likely to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Who.
    pub task: Task,
    /// In what: a phase of fsync, an eviction, or a worker's run.
    pub call: &'static str,
    /// Since when.
    pub since: Nanos,
}

/// What is stuck with an io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lingering {
    /// Where.
    pub halt: Halt,
    /// Since when it is in its state.
    pub since: Nanos,
    /// Others of its device that are stuck in the same way, all younger.
    pub alike: u32,
    /// io_ends of its device that wait for their conversion, if this one keeps them waiting.
    pub delays: u32,
    /// How often its work put it back in that state, if it did.
    pub put_back: Option<PutBack>,
    /// Who waits, the longest first.
    pub waiters: [Option<Waiter>; limits::WAITERS_MAX],
    /// How many wait; more than are named.
    pub waiting: u32,
}

/// Those of one device that are stuck in the same way.
#[derive(Clone, Copy)]
pub(super) struct Group {
    dev: Option<DevId>,
    halt: Halt,
    oldest: Slot,
    since: Nanos,
    count: u32,
}

/// From which age on, and room for what is found.
pub(super) struct Watch {
    pub(super) stuck_after: Option<Nanos>,
    groups: Vec<Group>,
}

impl Watch {
    /// All memory is taken here.
    pub(super) fn new() -> Self {
        Watch { stuck_after: None, groups: Vec::with_capacity(limits::STUCK_GROUPS_MAX) }
    }

    fn enter(&mut self, found: Group) {
        let same = |group: &&mut Group| group.dev == found.dev && group.halt == found.halt;
        if let Some(group) = self.groups.iter_mut().find(same) {
            group.count += 1;
            if found.since < group.since {
                (group.oldest, group.since) = (found.oldest, found.since);
            }
        } else if self.groups.len() < limits::STUCK_GROUPS_MAX {
            self.groups.push(found);
        }
    }
}

impl Lifecycle {
    /// A second passed.
    pub(super) fn linger(&mut self, stamp: &Stamp, sink: &mut impl FnMut(Step<'_>)) {
        let Some(stuck_after) = self.watch.stuck_after else { return };
        self.watch.groups.clear();
        for (slot, object) in self.io_ends.iter_slots() {
            let since = object.state_since();
            if stamp.at.since(since) < stuck_after {
                continue;
            }
            let Some(halt) = self.halt_of(slot, object, stamp.at) else { continue };
            let dev = object.inode().map(|inode| inode.dev);
            self.watch.enter(Group { dev, halt, oldest: slot, since, count: 1 });
        }
        for at in 0..self.watch.groups.len() {
            let group = self.watch.groups[at];
            if self.is_behind_another(group) {
                continue;
            }
            self.tell_stuck(group, stamp, sink);
        }
    }

    /// Does it wait for a worker because another one, which is told, is further on and holds the queue?
    fn is_behind_another(&self, waiting: Group) -> bool {
        let of_device = self.watch.groups.iter().filter(|group| group.dev == waiting.dev);
        let further = waiting.halt.place_in_queue();
        of_device.map(|group| group.halt.place_in_queue()).any(|place| place > further)
            && further.is_some()
    }

    fn tell_stuck(&mut self, group: Group, stamp: &Stamp, sink: &mut impl FnMut(Step<'_>)) {
        let lingering = self.lingering(group);
        let object = self.io_ends.at(group.oldest);
        sink(Step::IoEndMoved(IoEndStep {
            object,
            before: object.state(),
            act: Act::Lingers,
            action: Move::PassBy,
            stamp: *stamp,
            image: None,
            earlier: object.snapshots,
            irregular: None,
            writer: None,
            lingers: Some(&lingering),
        }));
    }

    fn lingering(&self, group: Group) -> Lingering {
        let Group { dev, halt, oldest, since, count } = group;
        let inode = self.io_ends.inode_of(oldest);
        let object = self.io_ends.peek(oldest);
        let id = object.inode();
        let mut lingering = Lingering {
            halt,
            since,
            alike: count - 1,
            delays: 0,
            put_back: self.put_backs.of(object.id(), object.state()),
            waiters: [None; limits::WAITERS_MAX],
            waiting: 0,
        };
        let holds_the_queue = halt.place_in_queue().is_some();
        if holds_the_queue {
            let waits = |slot: Slot, object: &IoEnd| {
                slot != oldest
                    && object.state() == State::Queued
                    && object.inode().map(|it| it.dev) == dev
            };
            let waiting = self.io_ends.iter_slots().filter(|(slot, it)| waits(*slot, it)).count();
            lingering.delays = u32::try_from(waiting).unwrap_or(u32::MAX);
        }
        let whole_device = holds_the_queue && dev.is_some();
        self.calls.each_fsync(|synced, waiter| {
            let own = synced.is_some() && synced == id;
            if own || (whole_device && synced.map(|it| it.dev) == dev) {
                lingering.add(waiter);
            }
        });
        // Whoever evicts waits for every io_end of its inode, and so for the queue if one of them does.
        self.calls.each_eviction(|evicted, evicted_id, waiter| {
            // The place of an inode is another's once that is gone.
            let is_it = |at: Option<InodeAddr>, id: Option<InodeId>| match (evicted_id, id) {
                (Some(evicted), Some(id)) => evicted == id,
                _ => at == Some(evicted),
            };
            let delayed = whole_device && evicted_id.map(|it| it.dev) == dev;
            let has_one = || {
                let first = self.io_ends.first_of(evicted);
                first.is_some_and(|slot| is_it(Some(evicted), self.io_ends.peek(slot).inode()))
            };
            if is_it(inode, id) || (delayed && has_one()) {
                lingering.add(waiter);
            }
        });
        if halt == Halt::WorkerRuns
            && let Some((task, since)) = inode.and_then(|inode| self.workers.in_run_of(inode))
        {
            lingering.add(Waiter { task, call: "ext4_end_io_rsv_work", since });
        }
        lingering
    }

    fn halt_of(&self, slot: Slot, object: &IoEnd, now: Nanos) -> Option<Halt> {
        let (attached, ended) = object.bios();
        let Sight { references, .. } = self.sight;
        Some(match object.state() {
            State::Adopted | State::Released => return None,
            // Where puts are not seen it may be in flight.
            State::Submitting if !references && attached > ended => Halt::Device,
            State::Born | State::Ranged | State::Submitting => Halt::Submitter,
            State::InFlight if attached > ended => Halt::Device,
            State::InFlight => Halt::Reference,
            // The model counts to 0, and the last put still found another reference.
            State::Final | State::Queued if object.last_put_found_others() => Halt::Reference,
            State::Final => Halt::Release,
            State::Queued if self.is_put_back(object, now) => Halt::PutBack,
            State::Queued => self.halt_of_queued(slot, object),
            State::Claimed => Halt::Conversion,
            State::Converted => Halt::Converted,
        })
    }

    /// Was it put back within the last threshold? One that was and no longer is waits for something else.
    fn is_put_back(&self, object: &IoEnd, now: Nanos) -> bool {
        let put_back = self.put_backs.of(object.id(), State::Queued);
        let recent = |it: PutBack| Some(now.since(it.last)) < self.watch.stuck_after;
        put_back.is_some_and(recent)
    }

    fn halt_of_queued(&self, slot: Slot, object: &IoEnd) -> Halt {
        // A worker that starts was seen to have it on its list.
        match object.listed_run() {
            Some(run) if self.workers.is_open(run) => return Halt::WorkerRuns,
            Some(_) => return Halt::PassedOver,
            None => {}
        }
        let Some(inode) = self.io_ends.inode_of(slot) else { return Halt::Worker };
        if self.workers.in_run_of(inode).is_some() {
            return Halt::WorkerRuns;
        }
        let run_since = self.io_ends.last_run_of(slot).is_some_and(|at| at > object.state_since());
        if run_since { Halt::PassedOver } else { Halt::Worker }
    }

    /// Takes the threshold of a stream; 0 is none.
    pub(super) fn stuck_after(&mut self, ns: u64) {
        self.watch.stuck_after = Some(Nanos(ns)).filter(|after| after.0 > 0);
    }
}

impl Lingering {
    /// Keeps those that wait the longest.
    fn add(&mut self, waiter: Waiter) {
        self.waiting += 1;
        let mut waiter = Some(waiter);
        let key = |it: &Option<Waiter>| it.map(|it| (it.since, it.task.tid));
        for place in &mut self.waiters {
            let Some(newcomer) = waiter else { return };
            if place.is_none() || key(place) > Some((newcomer.since, newcomer.task.tid)) {
                waiter = place.replace(newcomer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Halt, Lingering, Waiter};
    use crate::event::{Nanos, Task};
    use crate::limits;

    #[test]
    fn those_that_wait_longest_are_named_in_their_order_and_all_are_counted() {
        let mut lingering = Lingering {
            halt: Halt::Device,
            since: Nanos(1),
            alike: 0,
            delays: 0,
            put_back: None,
            waiters: [None; limits::WAITERS_MAX],
            waiting: 0,
        };
        for since in [50, 20, 90, 10, 70, 30] {
            let task = Task { tid: 7, tgid: 7 };
            lingering.add(Waiter { task, call: "journal", since: Nanos(since) });
        }
        let named = lingering.waiters.map(|it| it.map(|it| it.since.0));
        assert_eq!(named, [Some(10), Some(20), Some(30), Some(50)]);
        assert_eq!(lingering.waiting, 6);
    }
}
