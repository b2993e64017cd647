//! What `endiod verify` claims: every core and world, how many states it has, and what it breaks.
//!
//! ```text
//!   CLAIMS    fixed 2012, 2 io_ends × 2 fsyncs     52,560 states   holds
//!             QUEUED set outside of the lock …                     breaks evict_returns, …
//!   mutants   one per core and property, each of which must be broken
//! ```
//!
//! The counts are pinned: a change of a core that changes no verdict still shows. A row must never be
//! changed without reading why its core behaves differently.

use super::completed_list::{self, CompletedList, Variant};
use super::explore::{Explored, explore};
use super::property::{Properties, Property};
use super::refcounted::{self, Bios, Generation, Refcounted};
use super::story::story;

/// A core in a world.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// The core of 2012.
    CompletedList(CompletedList),
    /// The core of 5.5 to 7.3.
    Refcounted(Refcounted),
}

impl Subject {
    /// Explores it.
    pub fn explore(&self) -> Explored {
        match self {
            Subject::CompletedList(core) => explore(core),
            Subject::Refcounted(core) => explore(core),
        }
    }

    /// The shortest way to break `property`, if it is broken.
    pub fn story(&self, told: &Explored, property: Property) -> Option<String> {
        let way = told.counterexample(property)?;
        Some(match self {
            Subject::CompletedList(core) => story(core, property, way),
            Subject::Refcounted(core) => story(core, property, way),
        })
    }
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Which core.
    pub core: &'static str,
    /// In which world.
    pub world: &'static str,
    /// The two.
    pub subject: Subject,
    /// Reachable states.
    pub states: usize,
    /// What it breaks; all else holds.
    pub breaks: &'static [Property],
    /// Whether its counterexamples are worth reading.
    pub told: bool,
}

impl Claim {
    /// Whether what was explored is what the row says.
    pub fn is_met_by(&self, told: &Explored) -> bool {
        let breaks: Properties = self.breaks.iter().copied().collect();
        told.whole && told.states == self.states && told.broken() == breaks
    }
}

const fn old(
    core: &'static str,
    variant: Variant,
    world: (u8, u8, &'static str),
    states: usize,
    breaks: &'static [Property],
) -> Claim {
    let (io_ends, fsyncs, name) = world;
    let world = completed_list::World { io_ends, fsyncs };
    let subject = Subject::CompletedList(CompletedList { variant, world });
    Claim { core, world: name, subject, states, breaks, told: io_ends == 1 }
}

const fn new(
    generation: (Generation, &'static str),
    world: (refcounted::World, &'static str),
    states: usize,
    breaks: &'static [Property],
) -> Claim {
    let core = Refcounted { generation: generation.0, world: world.0, mutant: None };
    let subject = Subject::Refcounted(core);
    Claim { core: generation.1, world: world.1, subject, states, breaks, told: true }
}

const SMALL: (u8, u8, &str) = (1, 1, "1 io_end, 1 fsync");
const MIDDLE: (u8, u8, &str) = (2, 1, "2 io_ends, 1 fsync");
const LARGE: (u8, u8, &str) = (2, 2, "2 io_ends, 2 fsyncs");

const FIXED: (&str, Variant) = ("2012 fixed", Variant::FIXED);
const UNFIXED: (&str, Variant) = ("2012 unfixed", Variant::UNFIXED);
const NO_IN_FSYNC: (&str, Variant) = ("2012 without IN_FSYNC", Variant::WITHOUT_IN_FSYNC);
const UNLOCKED: (&str, Variant) = ("2012 QUEUED outside lock", Variant::QUEUED_UNLOCKED);

const G4C: (Generation, &str) = (Generation::G4c, "5.5 to 6.14");
const G4D: (Generation, &str) = (Generation::G4d, "6.6.y, 6.12.y, 6.14.y");
const G5: (Generation, &str) = (Generation::G5, "6.15.0, 6.16.0");
const G6: (Generation, &str) = (Generation::G6, "6.15.10 to 7.3");

const fn bios(count: u8, early: u8, failing: u8) -> refcounted::World {
    refcounted::World { bios: Bios { count, early, failing }, ..refcounted::World::PLAIN }
}

const fn in_place(world: refcounted::World) -> refcounted::World {
    refcounted::World { submitter_defers: false, ..world }
}

const fn written(world: refcounted::World) -> refcounted::World {
    refcounted::World { unwritten: false, ..world }
}

const fn abort(world: refcounted::World) -> refcounted::World {
    refcounted::World { data_err_abort: true, ..world }
}

type W = (refcounted::World, &'static str);
const DEFERRED: W = (bios(3, 0, 0), "3 bios, put_defer");
const PLACED: W = (in_place(bios(3, 0, 0)), "3 bios, put");
const WRITTEN: W = (written(bios(3, 0, 0)), "3 bios, nothing unwritten");
const MAPPED: W = (bios(3, 1, 0), "3 bios, 1 before UNWRITTEN");
const FAILS: W = (bios(3, 0, 1), "3 bios, 1 fails");
const ABORTS: W = (abort(bios(3, 0, 3)), "3 bios, 2 fail, abort");
const FAILS_PLACED: W = (in_place(bios(3, 0, 1)), "3 bios, 1 fails, put");
const FAILS_WRITTEN: W = (written(bios(3, 0, 1)), "3 bios, 1 fails, written");
const ABORTS_WRITTEN: W = (abort(written(bios(3, 0, 1))), "the same, abort");
const RACE: W = (bios(2, 1, 1), "1 of 2 fails before UNWRITTEN");

use Property::{
    Evict, FailedConverted, FreedInUse, HandleLeaked, UpdateLost, UsedAfterFree, WriteRule,
};

const BUG_1: &[Property] = &[FreedInUse, UsedAfterFree];
const BOTH_BUGS: &[Property] = &[FreedInUse, UsedAfterFree, WriteRule];
const BUG_2: &[Property] = &[FreedInUse, UsedAfterFree, UpdateLost, WriteRule, Evict];

/// Every row.
#[rustfmt::skip]
pub const CLAIMS: &[Claim] = &[
    old(FIXED.0, FIXED.1, SMALL, 327, &[]),
    old(FIXED.0, FIXED.1, MIDDLE, 9_794, &[]),
    old(FIXED.0, FIXED.1, LARGE, 52_560, &[]),
    old(UNFIXED.0, UNFIXED.1, SMALL, 499, BOTH_BUGS),
    old(UNFIXED.0, UNFIXED.1, MIDDLE, 17_168, BOTH_BUGS),
    old(UNFIXED.0, UNFIXED.1, LARGE, 93_146, BOTH_BUGS),
    old(NO_IN_FSYNC.0, NO_IN_FSYNC.1, SMALL, 319, BUG_1),
    old(NO_IN_FSYNC.0, NO_IN_FSYNC.1, MIDDLE, 9_264, BUG_1),
    old(NO_IN_FSYNC.0, NO_IN_FSYNC.1, LARGE, 49_570, BUG_1),
    old(UNLOCKED.0, UNLOCKED.1, SMALL, 715, BUG_2),
    old(UNLOCKED.0, UNLOCKED.1, MIDDLE, 30_234, BUG_2),
    old(UNLOCKED.0, UNLOCKED.1, LARGE, 166_972, BUG_2),
    new(G4C, DEFERRED, 1_318, &[]),
    new(G4C, PLACED, 1_348, &[]),
    new(G4C, WRITTEN, 2_639, &[]),
    new(G4C, MAPPED, 2_403, &[]),
    new(G4C, FAILS, 1_318, &[FailedConverted]),
    new(G4C, FAILS_WRITTEN, 2_639, &[]),
    new(G4D, DEFERRED, 1_318, &[]),
    new(G4D, PLACED, 1_348, &[]),
    new(G4D, WRITTEN, 2_639, &[]),
    new(G4D, MAPPED, 2_403, &[]),
    new(G4D, FAILS, 1_936, &[]),
    new(G4D, FAILS_PLACED, 1_973, &[FailedConverted]),
    new(G4D, FAILS_WRITTEN, 3_597, &[]),
    new(G4D, RACE, 1_916, &[UpdateLost, FailedConverted, HandleLeaked]),
    new(G5, DEFERRED, 1_318, &[]),
    new(G5, PLACED, 1_348, &[]),
    new(G5, WRITTEN, 2_639, &[]),
    new(G5, MAPPED, 2_403, &[]),
    new(G5, FAILS, 1_936, &[]),
    new(G5, ABORTS, 3_322, &[]),
    new(G5, FAILS_PLACED, 1_960, &[]),
    new(G5, FAILS_WRITTEN, 3_722, &[UsedAfterFree]),
    new(G5, ABORTS_WRITTEN, 4_657, &[]),
    new(G5, RACE, 1_985, &[UsedAfterFree, UpdateLost, FailedConverted]),
    new(G6, DEFERRED, 1_318, &[]),
    new(G6, PLACED, 1_348, &[]),
    new(G6, WRITTEN, 2_639, &[]),
    new(G6, MAPPED, 2_403, &[]),
    new(G6, FAILS, 1_936, &[]),
    new(G6, ABORTS, 3_322, &[]),
    new(G6, FAILS_PLACED, 1_960, &[]),
    new(G6, FAILS_WRITTEN, 3_597, &[]),
    new(G6, ABORTS_WRITTEN, 4_657, &[]),
    new(G6, RACE, 1_916, &[UpdateLost, FailedConverted, HandleLeaked]),
];

/// A core that is wrong on purpose, and the property that it must break.
#[derive(Clone, Debug)]
pub struct Wrong {
    /// What is wrong.
    pub name: String,
    /// The core in its world.
    pub subject: Subject,
    /// What must break.
    pub breaks: Property,
}

/// Every mutant of both cores.
pub fn mutants() -> impl Iterator<Item = Wrong> {
    let old = completed_list::MUTANTS.iter().map(|(variant, world, breaks)| Wrong {
        name: match variant.mutant {
            Some(mutant) => format!("2012 {mutant:?}"),
            None if variant.in_fsync => UNLOCKED.0.to_owned(),
            None => NO_IN_FSYNC.0.to_owned(),
        },
        subject: Subject::CompletedList(CompletedList { variant: *variant, world: *world }),
        breaks: *breaks,
    });
    let new = refcounted::MUTANTS.iter().map(|(mutant, world, breaks)| Wrong {
        name: format!("{} {mutant:?}", G6.1),
        subject: Subject::Refcounted(Refcounted {
            generation: G6.0,
            world: *world,
            mutant: Some(*mutant),
        }),
        breaks: *breaks,
    });
    old.chain(new)
}

#[cfg(test)]
mod tests {
    use super::{CLAIMS, G6, Property, Subject, mutants};

    /// The large worlds are explored by `endiod verify`, which a release build runs in seconds.
    const STATES_MAX: usize = 10_000;

    #[test]
    fn every_small_world_is_as_claimed() {
        for claim in CLAIMS.iter().filter(|claim| claim.states <= STATES_MAX) {
            let told = claim.subject.explore();
            let broken: Vec<_> = told.broken().iter().collect();
            let (core, world) = (claim.core, claim.world);
            assert!(claim.is_met_by(&told), "{core}, {world}: {} states, {broken:?}", told.states);
        }
    }

    #[test]
    fn every_mutant_breaks_its_property_and_the_core_without_it_does_not() {
        for wrong in mutants() {
            let breaks = wrong.breaks;
            assert!(!wrong.subject.explore().holds(breaks), "{} {breaks:?}", wrong.name);
            let right = match wrong.subject {
                Subject::CompletedList(mut core) => {
                    core.variant = super::Variant::FIXED;
                    Subject::CompletedList(core)
                }
                Subject::Refcounted(core) => {
                    Subject::Refcounted(super::Refcounted { mutant: None, ..core })
                }
            };
            assert!(right.explore().holds(breaks), "{}: {breaks:?} without it", wrong.name);
        }
    }

    /// What a core cannot break even on purpose, because it has no such thing.
    #[test]
    fn every_property_is_broken_by_a_mutant_of_each_core_that_has_it() {
        let broken = |old: bool, property: Property| {
            mutants().any(|wrong| {
                wrong.breaks == property
                    && old == matches!(wrong.subject, Subject::CompletedList(_))
            })
        };
        for property in Property::ALL {
            let modern_only =
                matches!(property, Property::FailedConverted | Property::HandleLeaked);
            assert!(broken(true, *property) || modern_only, "2012: {property:?}");
            assert!(broken(false, *property), "{}: {property:?}", G6.1);
        }
    }
}
