//! The completion core of 5.5 to 7.3, as an executable specification, by generation.
//!
//! ```text
//!   submitter: attach … set UNWRITTEN … attach … put ─┐
//!   bio, bio, bio: end, set FAILED if it failed, put ─┤ count reaches 0, once
//!                        ┌────────────────────────────┼──────────────────────────┐
//!       put_defer, to defer                  nothing to do                put by the submitter
//!                        ▼                            │                          ▼
//!                     Listed ─► the worker claims     │                   claimed in place
//!                        └──────────┬─────────────────┼──────────────────────────┘
//!                                   ▼ converts        ▼
//!                                   └──────────► released: chained bios finished, freed
//! ```
//!
//! What holds in every generation: a bio holds a reference until its put; the last put, and only it,
//! hands the io_end over; a claim is made at count 0 and off the list; UNWRITTEN is set by the
//! submitter, FAILED by a bio, each while it holds a reference, and UNWRITTEN is cleared by the
//! claimer; the only pin on the inode is the writeback bit of bios that wait for the release.
//! [`Generation`] says what differs. A step is a critical section, an atomic operation, a plain
//! load or a plain store: no flag write is atomic, nor under a lock. fsync waits for the writeback of
//! what was submitted when it began; evict begins when the submitter is through and fsync returned, waits
//! for all writeback and frees the inode. Memory is not reused after it is freed.

mod bio;
mod closing;
#[cfg(test)]
mod probes;
mod state;
mod submitter;
mod waiters;

#[cfg(test)]
pub(super) use probes::OWNER;
pub use state::{Bios, Generation, State, World};

use super::explore::{Core, Step};
use super::property::{Properties, Property};
use state::{Evict, Flag, Fsync, Submitter, Worker};

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A bio takes no reference.
    NoReference,
    /// The put decrements and tests in two steps.
    PutNotAtomic,
    /// `ext4_put_io_end_defer` lists the io_end and releases it as well.
    ListedAndReleased,
    /// A bio sets FAILED after its put.
    FailedAfterPut,
    /// Writeback is cleared when a bio ends, before the conversion (before 3.11).
    WritebackClearedEarly,
    /// The work is queued only if something is on the list already.
    WorkNotQueued,
    /// An io_end with a failed write goes back to the list instead of being released.
    FailedListedAgain,
    /// The handle of a failed io_end is kept.
    HandleKept,
    /// FAILED is not looked at before the conversion.
    FailedIgnored,
}

const ONE: World = World { bios: Bios { count: 1, early: 0, failing: 0 }, ..World::PLAIN };
const ONE_FAILS: World = World { bios: Bios { count: 1, early: 0, failing: 1 }, ..World::PLAIN };
const ONE_IN_PLACE: World = World { submitter_defers: false, ..ONE };

/// A mutant, the world that shows it and the property that it breaks.
pub const MUTANTS: &[(Mutant, World, Property)] = &[
    (Mutant::ListedAndReleased, ONE, Property::FreedInUse),
    (Mutant::NoReference, ONE, Property::UsedAfterFree),
    (Mutant::PutNotAtomic, ONE_IN_PLACE, Property::Converted),
    (Mutant::PutNotAtomic, ONE_IN_PLACE, Property::FreedOnce),
    (Mutant::FailedAfterPut, ONE_FAILS, Property::UpdateLost),
    (Mutant::FailedAfterPut, ONE_FAILS, Property::WriteRule),
    (Mutant::WritebackClearedEarly, ONE, Property::FsyncEarly),
    (Mutant::FailedIgnored, ONE_FAILS, Property::FailedConverted),
    (Mutant::HandleKept, ONE_FAILS, Property::HandleLeaked),
    (Mutant::WorkNotQueued, ONE, Property::Deadlock),
    (Mutant::FailedListedAgain, ONE_FAILS, Property::Evict),
];

/// A generation in a world.
#[derive(Clone, Copy, Debug)]
pub struct Refcounted {
    /// Which core.
    pub generation: Generation,
    /// In which world.
    pub world: World,
    /// What is done wrong on purpose.
    pub mutant: Option<Mutant>,
}

/// Lanes, in the order of [`Core::lanes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lane(u8);

impl Lane {
    const SUBMITTER: Lane = Lane(0);
    const WORKER: Lane = Lane(4);
    const FSYNC: Lane = Lane(5);
    const EVICT: Lane = Lane(6);

    fn bio(at: u8) -> Lane {
        Lane(1 + at)
    }
}

impl Core for Refcounted {
    type State = State;

    fn initial(&self) -> State {
        State::new()
    }

    fn steps(&self, state: &State, out: &mut Vec<Step<State>>) {
        out.extend(self.submit(state));
        for bio in 0..self.world.bios.count {
            out.extend(self.bio(state, bio));
        }
        out.extend(self.fsync(state));
        out.extend(self.evict(state));
        out.extend(self.work(state));
    }

    fn done(&self, state: &State) -> bool {
        let waited = !self.world.fsync || state.fsync == Fsync::Returned;
        let bios = self.world.bios.all() & !state.bios_done();
        state.evict == Evict::Returned
            && waited
            && bios == 0
            && state.submitter == Submitter::Done
            && state.worker == Worker::Idle
            && !state.work_queued
            && state.freed > 0
    }

    fn lanes(&self) -> Vec<&'static str> {
        vec!["submitter S", "bio 1", "bio 2", "bio 3", "worker W", "fsync P", "evict E"]
    }

    fn view(&self, state: &State) -> String {
        state.view()
    }
}

impl Refcounted {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn step(&self, lane: Lane, what: &'static str, next: State) -> Step<State> {
        Step { lane: lane.0, what, object: None, next, broken: Properties::NONE }
    }

    /// A step that touches the io_end.
    fn touch(&self, state: &State, lane: Lane, what: &'static str, next: State) -> Step<State> {
        let mut step = self.step(lane, what, next);
        step.broken.note(Property::UsedAfterFree, state.freed > 0);
        step
    }

    /// A plain store to flag of what was loaded, with `bit` set or cleared.
    fn store(
        &self,
        state: &State,
        lane: Lane,
        (loaded, bit, set): (Flag, Flag, bool),
        what: &'static str,
    ) -> Step<State> {
        let mut next = *state;
        next.flag = if set { loaded | bit } else { loaded & !bit };
        let mut step = self.touch(state, lane, what, next);
        step.broken.note(Property::UpdateLost, (loaded ^ state.flag) & !bit != 0);
        step
    }
}
