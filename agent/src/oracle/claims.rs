//! What `endiod verify` claims: every core and world, how many states it has, and what it breaks.
//!
//! ```text
//!   CLAIMS    fixed 2012, 2 io_ends × 2 fsyncs     68,304 states   holds
//!             QUEUED set outside of the lock …                     breaks evict_returns, …
//!   mutants   one per core and property, each of which must be broken
//! ```
//!
//! The counts are pinned: a change of a core that changes no verdict still shows. A row must never be
//! changed without reading why its core behaves differently.

use super::completed_list::{self, CompletedList, Variant};
use super::explore::{Explored, explore};
use super::property::{Properties, Property};
use super::refcounted::{self, Generation, Refcounted, World, Write};
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
    world: W,
    states: usize,
    breaks: &'static [Property],
) -> Claim {
    let core = Refcounted { generation: generation.0, world: world.0, mutant: None };
    let subject = Subject::Refcounted(core);
    // A world of two io_ends repeats what one of them shows, but for what they share.
    let told = world.0.io_ends == 1 || world.0.hangs;
    Claim { core: generation.1, world: world.1, subject, states, breaks, told }
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

const fn fails(failing: u8, write: Write) -> Write {
    Write { failing, ..write }
}

const fn early(write: Write) -> Write {
    Write { early: 1, ..write }
}

const fn placed(write: Write) -> Write {
    Write { defers: false, ..write }
}

const fn written(write: Write) -> Write {
    Write { unwritten: false, ..write }
}

const fn one(write: Write) -> World {
    World::one(write)
}

const fn abort(world: World) -> World {
    World { data_err_abort: true, ..world }
}

const fn apart(world: World) -> World {
    World { inodes: 2, ..world }
}

const A: Write = Write::of(1);
const B2: Write = Write::of(2);
const B3: Write = Write::of(3);

type W = (World, &'static str);
const DEFERRED: W = (one(B3), "3 bios, put_defer");
const PLACED: W = (one(placed(B3)), "3 bios, put");
const WRITTEN: W = (one(written(B3)), "3 bios, nothing unwritten");
const MAPPED: W = (one(early(B3)), "3 bios, 1 before UNWRITTEN");
const FAILS: W = (one(fails(1, B3)), "3 bios, 1 fails");
const ABORTS: W = (abort(one(fails(3, B3))), "3 bios, 2 fail, abort");
const FAILS_PLACED: W = (one(placed(fails(1, B3))), "3 bios, 1 fails, put");
const FAILS_WRITTEN: W = (one(written(fails(1, B3))), "3 bios, 1 fails, written");
const ABORTS_WRITTEN: W = (abort(one(written(fails(1, B3)))), "the same, abort");
const RACE: W = (one(early(fails(1, B2))), "1 of 2 fails before UNWRITTEN");

const TWO: W = (World::two(A, A), "2 io_ends, 1 inode");
const TWO_BIOS: W = (World::two(B2, A), "2 io_ends of 2 and 1 bios");
const TWO_OF_2: W = (World::two(B2, B2), "2 io_ends of 2 bios");
const TWO_MIXED: W = (World::two(A, placed(A)), "2 io_ends, 1 of them put");
const TWO_FAIL: W = (abort(World::two(A, fails(1, A))), "2 io_ends, 1 fails, abort");
const TWO_WRITTEN: W = (World::two(A, written(fails(1, A))), "2 io_ends, 1 written, fails");
const INODES: W = (apart(World::two(A, A)), "2 inodes, 1 worker");
const INODES_FAIL: W = (abort(apart(World::two(A, fails(1, A)))), "2 inodes, 1 fails, abort");
const INODES_OF_3: W = (apart(World::two(B2, A)), "2 inodes, 2 and 1 bios");
const HANGS: W = (World { hangs: true, ..INODES.0 }, "2 inodes, a conversion hangs");

use Property::{
    Deadlock, Evict, FailedConverted, FreedInUse, HandleLeaked, UpdateLost, UsedAfterFree,
    WriteRule, Yield,
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
    new(G4C, DEFERRED, 2_161, &[]),
    new(G4C, PLACED, 2_437, &[]),
    new(G4C, WRITTEN, 2_009, &[]),
    new(G4C, MAPPED, 3_275, &[]),
    new(G4C, FAILS, 2_161, &[FailedConverted]),
    new(G4C, FAILS_WRITTEN, 2_009, &[]),
    new(G4C, TWO, 2_526, &[]),
    new(G4C, TWO_BIOS, 11_260, &[]),
    new(G4C, TWO_MIXED, 3_450, &[]),
    new(G4C, TWO_FAIL, 2_526, &[FailedConverted]),
    new(G4C, TWO_WRITTEN, 2_599, &[]),
    new(G4C, INODES, 6_928, &[]),
    new(G4C, INODES_FAIL, 6_928, &[FailedConverted]),
    new(G4D, DEFERRED, 2_161, &[]),
    new(G4D, PLACED, 2_437, &[]),
    new(G4D, WRITTEN, 2_009, &[]),
    new(G4D, MAPPED, 3_275, &[]),
    new(G4D, FAILS, 2_653, &[]),
    new(G4D, FAILS_PLACED, 2_936, &[FailedConverted]),
    new(G4D, FAILS_WRITTEN, 2_667, &[]),
    new(G4D, RACE, 1_816, &[UpdateLost, FailedConverted, HandleLeaked]),
    new(G4D, TWO, 2_526, &[]),
    new(G4D, TWO_BIOS, 11_260, &[]),
    new(G4D, TWO_MIXED, 3_450, &[]),
    new(G4D, TWO_FAIL, 2_970, &[]),
    new(G4D, TWO_WRITTEN, 3_127, &[]),
    new(G4D, INODES, 6_928, &[]),
    new(G4D, INODES_FAIL, 8_168, &[]),
    new(G5, DEFERRED, 2_161, &[]),
    new(G5, PLACED, 2_437, &[]),
    new(G5, WRITTEN, 2_009, &[]),
    new(G5, MAPPED, 3_275, &[]),
    new(G5, FAILS, 2_653, &[]),
    new(G5, ABORTS, 3_799, &[]),
    new(G5, FAILS_PLACED, 2_893, &[]),
    new(G5, FAILS_WRITTEN, 2_819, &[UsedAfterFree]),
    new(G5, ABORTS_WRITTEN, 5_125, &[]),
    new(G5, RACE, 1_881, &[UsedAfterFree, UpdateLost, FailedConverted]),
    new(G5, TWO, 2_526, &[]),
    new(G5, TWO_BIOS, 11_260, &[]),
    new(G5, TWO_MIXED, 3_450, &[]),
    new(G5, TWO_FAIL, 2_970, &[]),
    new(G5, TWO_WRITTEN, 3_881, &[UsedAfterFree]),
    new(G5, INODES, 6_928, &[]),
    new(G5, INODES_FAIL, 8_168, &[]),
    new(G6, DEFERRED, 2_161, &[]),
    new(G6, PLACED, 2_437, &[]),
    new(G6, WRITTEN, 2_009, &[]),
    new(G6, MAPPED, 3_275, &[]),
    new(G6, FAILS, 2_653, &[]),
    new(G6, ABORTS, 3_799, &[]),
    new(G6, FAILS_PLACED, 2_893, &[]),
    new(G6, FAILS_WRITTEN, 2_667, &[]),
    new(G6, ABORTS_WRITTEN, 5_125, &[]),
    new(G6, RACE, 1_816, &[UpdateLost, FailedConverted, HandleLeaked]),
    new(G6, TWO, 2_526, &[]),
    new(G6, TWO_BIOS, 11_260, &[]),
    new(G6, TWO_MIXED, 3_450, &[]),
    new(G6, TWO_FAIL, 2_970, &[]),
    new(G6, TWO_WRITTEN, 3_127, &[]),
    new(G6, INODES, 6_928, &[]),
    new(G6, INODES_FAIL, 8_168, &[]),
    new(G6, TWO_OF_2, 51_163, &[]),
    new(G6, INODES_OF_3, 28_975, &[]),
    new(G6, HANGS, 7_144, &[Deadlock, Evict]),
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
