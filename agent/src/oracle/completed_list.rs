//! The completion core of 2012 (3.2 to 3.6), as an executable specification: read it in one sitting.
//!
//! ```text
//!                 interrupt: lock, add, unlock; queue_work
//!   InFlight ─────────────────────────────────────────────► Listed
//!                                                      ┌──────┴───────┐
//!          worker: lock, trylock, del, unlock          ▼              ▼   fsync: lock, del, IN_FSYNC, unlock
//!                                             claimed by worker   claimed by fsync
//!                                                      │ converts     │ converts; lock, clear IN_FSYNC, unlock
//!                                                      ▼              ▼
//!                                                    Freed ◄─── the worker alone frees, later
//! ```
//!
//! The rules of the fixed core:
//!
//! 1. A claim is the removal from the list under the lock.
//! 2. The flush claim also sets IN_FSYNC in that critical section, and clears it in a later one.
//! 3. The worker looks at IN_FSYNC, then at the list, then tries the inode mutex, all in one hold.
//! 4. Every requeue sets QUEUED inside that hold and decides to yield by the old value.
//! 5. Once an io_end was listed, only the worker frees it.
//!
//! [`Variant`] takes the halves of commit 491caa43639a out: rule 2 and the first look of rule 3 are
//! its first half, rule 4 is its second. A step is a critical section, a plain load or a plain
//! store; a plain store in the middle of a critical section, which nobody makes with both halves in,
//! is left out: only QUEUED could be lost by it. The work queue runs one work at a time, in order
//! (`max_active` 1). evict (`ext4_evict_inode`, 3.2) begins when the last fsync has returned: it
//! flushes, then waits until no io_end lives. Nothing here is bounded but the number of io_ends and
//! tasks: the worker may requeue for ever. Memory is not reused after it is freed.
//!
//! **Yield** is a step that touches nothing, so no safety hangs on it. What hangs on it is that a
//! worker which requeues for ever lets the flusher go on that it waits for: see [`World::one_cpu`], in
//! which a worker that never yields keeps evict from returning. A decision by the new value yields
//! at the first requeue too: that breaks [`Property::Yield`] and no other.

mod flush;
#[cfg(test)]
mod probes;
mod state;
mod worker;

pub use state::{State, Variant, World};

use super::explore::{Core, Step};
use super::property::{Properties, Property};
use state::{Interrupt, Lane};

/// What is left out of the fix, or done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The worker claims without taking the io_end off the list.
    ClaimLeavesListed,
    /// The flush claim sets IN_FSYNC after the lock was given back.
    InFsyncUnlocked,
    /// The flush claim never clears IN_FSYNC.
    InFsyncKept,
    /// The flusher frees what it converted.
    FlusherFrees,
    /// fsync flushes without the inode mutex.
    FlushWithoutMutex,
    /// The worker drops a work that it cannot do now, instead of requeueing it.
    WorkDropped,
    /// The interrupt queues the work before it lists the io_end.
    QueuedBeforeListed,
    /// The worker decides to yield by the flag as it is after the requeue.
    YieldsByNewValue,
    /// The worker never yields.
    NeverYields,
}

/// A core that is wrong on purpose, the world that shows it and the property that it breaks.
pub const MUTANTS: &[(Variant, World, Property)] = &[
    (Variant::WITHOUT_IN_FSYNC, SMALL, Property::FreedInUse),
    (mutant(Mutant::QueuedBeforeListed), World { fsyncs: 0, ..SMALL }, Property::UsedAfterFree),
    (mutant(Mutant::ClaimLeavesListed), SMALL, Property::Converted),
    (mutant(Mutant::FlusherFrees), SMALL, Property::FreedOnce),
    (Variant::QUEUED_UNLOCKED, SMALL, Property::UpdateLost),
    (mutant(Mutant::InFsyncUnlocked), SMALL, Property::WriteRule),
    (mutant(Mutant::FlushWithoutMutex), SMALL, Property::FsyncEarly),
    (mutant(Mutant::WorkDropped), SMALL, Property::Deadlock),
    (mutant(Mutant::InFsyncKept), SMALL, Property::Evict),
    (mutant(Mutant::YieldsByNewValue), SMALL, Property::Yield),
    (Variant::WITHOUT_YIELD, World { one_cpu: true, ..SMALL }, Property::Evict),
];

const SMALL: World = World { io_ends: 1, fsyncs: 1, one_cpu: false };

const fn mutant(mutant: Mutant) -> Variant {
    Variant { mutant: Some(mutant), ..Variant::FIXED }
}

/// A variant in a world.
#[derive(Clone, Copy, Debug)]
pub struct CompletedList {
    /// Which core.
    pub variant: Variant,
    /// In which world.
    pub world: World,
}

impl Core for CompletedList {
    type State = State;

    fn initial(&self) -> State {
        State::new(self.world)
    }

    fn steps(&self, state: &State, out: &mut Vec<Step<State>>) {
        for object in 0..self.world.io_ends {
            out.extend(self.interrupt(state, object));
        }
        let flushers = if state.on_cpu { 0..0 } else { 0..self.world.fsyncs + 1 };
        for flusher in flushers {
            out.extend(self.flush(state, flusher));
        }
        out.extend(self.work(state));
    }

    fn done(&self, state: &State) -> bool {
        let freed = state.io[..usize::from(self.world.io_ends)].iter().all(|io| io.freed > 0);
        let quiet = state.worker_is_idle() && state.works.is_empty();
        let ended = state.interrupts[..usize::from(self.world.io_ends)]
            .iter()
            .all(|interrupt| *interrupt == Interrupt::Done);
        freed && quiet && ended && (0..=self.world.fsyncs).all(|at| state.returned(at))
    }

    fn lanes(&self) -> Vec<&'static str> {
        vec!["interrupt", "fsync P1", "fsync P2", "worker W", "evict E"]
    }

    fn view(&self, state: &State) -> String {
        state.view(self.world)
    }
}

impl CompletedList {
    /// `ext4_end_bio`, `ext4_end_io_dio`: list it, then queue its work.
    fn interrupt(&self, state: &State, object: u8) -> Option<Step<State>> {
        let mut next = *state;
        let early = self.variant.mutant == Some(Mutant::QueuedBeforeListed);
        let at = usize::from(object);
        let lists = match (state.interrupts[at], early) {
            (Interrupt::InFlight, false) | (Interrupt::Half, true) => true,
            (Interrupt::Half, false) | (Interrupt::InFlight, true) => false,
            (Interrupt::Done, _) => return None,
        };
        next.interrupts[at] = state.interrupts[at].next();
        let mut step = self.step(Lane::INTERRUPT, "queue_work {}", Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[at].freed > 0);
        if lists {
            step.what = "lock, list_add {}, unlock";
            step.next.list.push(object);
            step.next.io[at].completed = true;
        } else {
            step.next.works.push(object);
        }
        Some(step)
    }

    fn step(&self, lane: Lane, what: &'static str, object: Option<u8>, next: State) -> Step<State> {
        Step { lane: lane.0, what, object, next, broken: Properties::NONE }
    }
}
