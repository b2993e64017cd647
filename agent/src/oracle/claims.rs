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
    core: (&'static str, Variant),
    (world, name): Old,
    states: usize,
    breaks: &'static [Property],
) -> Claim {
    let subject = Subject::CompletedList(CompletedList { variant: core.1, world });
    Claim { core: core.0, world: name, subject, states, breaks, told: world.io_ends == 1 }
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

type Old = (completed_list::World, &'static str);

const fn of(io_ends: u8, fsyncs: u8, one_cpu: bool) -> completed_list::World {
    completed_list::World { io_ends, fsyncs, one_cpu }
}

const SMALL: Old = (of(1, 1, false), "1 io_end, 1 fsync");
const MIDDLE: Old = (of(2, 1, false), "2 io_ends, 1 fsync");
const LARGE: Old = (of(2, 2, false), "2 io_ends, 2 fsyncs");
const SMALL_CPU: Old = (of(1, 1, true), "1 io_end, 1 fsync, one CPU");
const LARGE_CPU: Old = (of(2, 2, true), "2 io_ends, 2 fsyncs, one CPU");

const FIXED: (&str, Variant) = ("2012 fixed", Variant::FIXED);
const UNFIXED: (&str, Variant) = ("2012 unfixed", Variant::UNFIXED);
const NO_IN_FSYNC: (&str, Variant) = ("2012 without IN_FSYNC", Variant::WITHOUT_IN_FSYNC);
const UNLOCKED: (&str, Variant) = ("2012 QUEUED outside lock", Variant::QUEUED_UNLOCKED);
const NO_YIELD: (&str, Variant) = ("2012 without yield", Variant::WITHOUT_YIELD);

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
    Evict, FailedConverted, FreedInUse, HandleLeaked, UpdateLost, UsedAfterFree, WriteRule, Yield,
};

const BUG_1: &[Property] = &[FreedInUse, UsedAfterFree];
const BOTH_BUGS: &[Property] = &[FreedInUse, UsedAfterFree, WriteRule];
const BUG_2: &[Property] = &[FreedInUse, UsedAfterFree, UpdateLost, WriteRule, Evict];

/// Every row.
#[rustfmt::skip]
pub const CLAIMS: &[Claim] = &[
    old(FIXED, SMALL, 395, &[]),
    old(FIXED, MIDDLE, 12_638, &[]),
    old(FIXED, LARGE, 68_304, &[]),
    old(FIXED, SMALL_CPU, 349, &[]),
    old(FIXED, LARGE_CPU, 60_460, &[]),
    old(NO_YIELD, SMALL_CPU, 238, &[Yield, Evict]),
    old(UNFIXED, SMALL, 529, BOTH_BUGS),
    old(UNFIXED, MIDDLE, 18_518, BOTH_BUGS),
    old(UNFIXED, LARGE, 100_594, BOTH_BUGS),
    old(NO_IN_FSYNC, SMALL, 379, BUG_1),
    old(NO_IN_FSYNC, MIDDLE, 11_692, BUG_1),
    old(NO_IN_FSYNC, LARGE, 62_990, BUG_1),
    old(UNLOCKED, SMALL, 766, BUG_2),
    old(UNLOCKED, MIDDLE, 32_978, BUG_2),
    old(UNLOCKED, LARGE, 182_278, BUG_2),
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

    #[test]
    fn to_yield_by_the_new_value_breaks_nothing_else() {
        use super::completed_list::{CompletedList, Mutant, Variant};
        let variant = Variant { mutant: Some(Mutant::YieldsByNewValue), ..Variant::FIXED };
        for world in [super::SMALL.0, super::MIDDLE.0, super::SMALL_CPU.0] {
            let told = super::explore(&CompletedList { variant, world });
            assert_eq!(told.broken().iter().collect::<Vec<_>>(), [Property::Yield], "{world:?}");
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
            let old_only = *property == Property::Yield;
            assert!(broken(true, *property) != modern_only, "2012: {property:?}");
            assert!(broken(false, *property) != old_only, "{}: {property:?}", G6.1);
        }
    }
}
