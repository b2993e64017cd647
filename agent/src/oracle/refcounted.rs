//! The completion core of 5.5 to 7.3, as an executable specification, by generation.
//!
//! ```text
//!   submitter: attach … set UNWRITTEN … attach … put ─┐
//!   bio, bio, bio: end, set FAILED if it failed, put ─┤ count reaches 0, once
//!                        ┌────────────────────────────┼──────────────────────────┐
//!       put_defer, to defer                  nothing to do                put by the submitter
//!                        ▼                            │                          ▼
//!       Listed: lock, queue_work if the               │                   claimed in place
//!       list is empty, list_add, unlock               │                          │
//!                        ▼                            │                          │
//!       one worker: takes the whole list,             │                          │
//!       claims one after the other                    │                          │
//!                        └──────────┬─────────────────┼──────────────────────────┘
//!                                   ▼ converts        ▼
//!                                   └──────────► released: chained bios finished one by one, freed
//! ```
//!
//! What holds in every generation: a bio holds a reference until its put; the last put, and only it,
//! hands the io_end over; a claim is made at count 0 and off the list; UNWRITTEN is set by the
//! submitter, FAILED by a bio, each while it holds a reference, and UNWRITTEN is cleared by the
//! claimer; the only pin on the inode is the writeback bit of bios that wait for the release.
//! [`Generation`] says what differs. A step is a critical section, an atomic operation, a plain
//! load or a plain store: no flag write is atomic, nor under a lock.
//!
//! A [`World`] has one io_end or two, each with a submitter of its own, which covers two rounds of one
//! task. They are of one inode, and share its list, or of two inodes of one superblock, and share the
//! worker only: `rsv_conversion_wq` runs one work at a time (`max_active` 1; since 6.9 one on each
//! NUMA node, never the same twice). fsync waits for the writeback of what was submitted when it
//! began; evict begins when the submitters are through and fsync returned, waits for all writeback and
//! frees the inode. Memory is not reused after it is freed.

mod bio;
mod closing;
mod list;
#[cfg(test)]
mod probes;
mod state;
mod submitter;
mod waiters;
mod world;

#[cfg(test)]
pub(super) use probes::OWNERS;
pub use state::State;
pub use world::{Generation, World, Write};

use super::explore::{Core, Step};
use super::property::{Properties, Property};
use state::{Flag, Fsync, Worker};

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
    /// An io_end with a failed write goes back to the list instead of being released.
    FailedListedAgain,
    /// The handle of a failed io_end is kept.
    HandleKept,
    /// FAILED is not looked at before the conversion.
    FailedIgnored,
    /// The work is queued only if something is on the list already.
    QueuedIfNotEmpty,
    /// The io_end is listed after the lock was given back.
    ListedUnlocked,
    /// The worker takes the list without the lock: it copies it, then empties it.
    TakenUnlocked,
    /// The worker takes the first of the list only.
    TakesOne,
    /// A work that is queued while it runs does not run again.
    RunNotRepeated,
    /// The release looks at the inode once the last bio is finished.
    InodeAfterWriteback,
}

const ONE: World = World::one(Write::of(1));
const ONE_FAILS: World = World::one(Write { failing: 1, ..Write::of(1) });
const ONE_IN_PLACE: World = World::one(Write { defers: false, ..Write::of(1) });
const TWO: World = World::two(Write::of(1), Write::of(1));

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
    (Mutant::FailedListedAgain, ONE_FAILS, Property::Evict),
    (Mutant::QueuedIfNotEmpty, ONE, Property::Deadlock),
    (Mutant::ListedUnlocked, ONE, Property::Deadlock),
    (Mutant::TakenUnlocked, TWO, Property::Deadlock),
    (Mutant::TakesOne, TWO, Property::Deadlock),
    (Mutant::RunNotRepeated, TWO, Property::Deadlock),
    (Mutant::InodeAfterWriteback, ONE, Property::UsedAfterFree),
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
    /// Of each io_end: its submitter and three bios.
    const OF_IO_END: u8 = 4;
    const WORKER: Lane = Lane(2 * Lane::OF_IO_END);

    fn fsync(inode: u8) -> Lane {
        Lane(Lane::WORKER.0 + 1 + inode)
    }

    fn evict(inode: u8) -> Lane {
        Lane(Lane::WORKER.0 + 3 + inode)
    }

    fn bit(self) -> u16 {
        1 << self.0
    }
}

/// Who acts on which io_end, or on its inode.
#[derive(Clone, Copy, Debug)]
struct On {
    lane: Lane,
    io: u8,
}

impl On {
    fn submitter(io: u8) -> On {
        On { lane: Lane(io * Lane::OF_IO_END), io }
    }

    fn bio(io: u8, at: u8) -> On {
        On { lane: Lane(io * Lane::OF_IO_END + 1 + at), io }
    }
}

impl Core for Refcounted {
    type State = State;

    fn initial(&self) -> State {
        State::new(&self.world)
    }

    fn steps(&self, state: &State, out: &mut Vec<Step<State>>) {
        for io in 0..self.world.io_ends {
            out.extend(self.submit(state, io));
            for bio in 0..self.world.write(io).bios {
                out.extend(self.bio(state, io, bio));
            }
        }
        for inode in 0..self.world.inodes {
            out.extend(self.fsync(state, inode));
            out.extend(self.evict(state, inode));
        }
        out.extend(self.work(state));
        out.extend(self.hang(state));
    }

    fn done(&self, state: &State) -> bool {
        let waited = |inode: u8| {
            let inode = state.inode(inode);
            inode.freed && (!self.world.fsync || inode.fsync == Fsync::Returned)
        };
        let quiet = state.worker == Worker::Idle && state.works.is_empty();
        quiet
            && (0..self.world.io_ends).all(|io| state.io(io).is_over())
            && (0..self.world.inodes).all(waited)
    }

    fn lanes(&self) -> Vec<&'static str> {
        let of_io_ends = [
            "submitter a",
            "bio a1",
            "bio a2",
            "bio a3",
            "submitter b",
            "bio b1",
            "bio b2",
            "bio b3",
        ];
        let waiters: [&str; 4] = match self.world.inodes {
            1 => ["fsync", "", "evict", ""],
            _ => ["fsync a", "fsync b", "evict a", "evict b"],
        };
        of_io_ends.into_iter().chain(["worker"]).chain(waiters).collect()
    }

    fn view(&self, state: &State) -> String {
        state.view(&self.world)
    }
}

impl Refcounted {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn step(&self, on: On, what: &'static str, next: State) -> Step<State> {
        let On { lane, io } = on;
        Step { lane: lane.0, what, object: Some(io), next, broken: Properties::NONE }
    }

    /// A step that touches the io_end.
    fn touch(&self, state: &State, on: On, what: &'static str, next: State) -> Step<State> {
        let mut step = self.step(on, what, next);
        step.broken.note(Property::UsedAfterFree, state.io(on.io).freed > 0);
        step
    }

    /// A step that touches the io_end and its inode.
    fn touch_inode(&self, state: &State, on: On, what: &'static str, next: State) -> Step<State> {
        let mut step = self.touch(state, on, what, next);
        let gone = state.inode(self.world.inode(on.io)).freed;
        step.broken.note(Property::UsedAfterFree, gone);
        step
    }

    /// A plain store to flag of what was loaded, with `bit` set or cleared.
    fn store(
        &self,
        state: &State,
        on: On,
        (loaded, bit, set): (Flag, Flag, bool),
        what: &'static str,
    ) -> Step<State> {
        let mut next = *state;
        let now = state.io(on.io).flag;
        next.io_mut(on.io).flag = if set { loaded | bit } else { loaded & !bit };
        let mut step = self.touch(state, on, what, next);
        step.broken.note(Property::UpdateLost, (loaded ^ now) & !bit != 0);
        step
    }
}
