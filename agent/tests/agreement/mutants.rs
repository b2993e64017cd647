//! The check itself can fail: with a simulator that hides what it did, and with every mutant of the
//! oracle, each in the world that shows it.

use std::collections::BTreeSet;

use endiod::{
    oracle::in_step::{Mutant, Oracle},
    source::sim::{Half, Slip, World},
};

use crate::{NONE, told::run};

const SEEDS: u64 = 10;

/// Does the check fail in one seed at least?
fn fails(world: World, mutant: Option<Mutant>) -> bool {
    (0..SEEDS).any(|seed| {
        let oracle = mutant.map(Oracle::wrong).unwrap_or_default();
        let told = run(world, seed, NONE, oracle);
        told.agrees(&told.breached()).is_err()
    })
}

/// Where a mutant shows, and the core that it is of.
fn world_of(mutant: Mutant) -> World {
    match mutant {
        Mutant::FreesWhatOthersClaim => World::CompletedList(Half::UNFIXED),
        Mutant::RequeuesUnlocked => {
            World::CompletedList(Half { queued_in_lock: false, ..Half::FIXED })
        }
        Mutant::ListsNothing => World::CompletedList(Half::FIXED),
        Mutant::ClaimsTwice => World::Refcounted(Some(Slip::SecondClaim)),
        Mutant::ReleasesTwice => World::Refcounted(Some(Slip::SecondRelease)),
        Mutant::PutsWhatNobodyHolds => World::Refcounted(Some(Slip::SurplusPut)),
        Mutant::ClaimsWhileHeld => World::Refcounted(Some(Slip::ClaimedWhileHeld)),
        Mutant::ConvertsWhatIsFreed => World::Refcounted(Some(Slip::UsedAfterRelease)),
        Mutant::NeverDefers | Mutant::NeverFreesDirectly => World::Refcounted(None),
    }
}

#[test]
fn every_mutant_of_the_oracle_makes_the_agreement_fail() {
    for mutant in Mutant::ALL {
        let world = world_of(mutant);
        assert!(fails(world, Some(mutant)), "{mutant:?} survives in {world:?}");
        assert!(!fails(world, None), "without it the agreement fails in {world:?}");
    }
}

/// Each slip and each half of the fix left out, in a simulator that says it did nothing wrong.
#[test]
fn every_mutant_of_the_simulator_makes_the_agreement_fail() {
    let slips = Slip::ALL.map(|slip| World::Refcounted(Some(slip)));
    let halves = [(false, false), (false, true), (true, false)]
        .map(|(in_fsync, queued_in_lock)| World::CompletedList(Half { in_fsync, queued_in_lock }));
    for world in slips.into_iter().chain(halves) {
        let hidden = (0..3 * SEEDS).find(|seed| {
            let told = run(world, *seed, NONE, Oracle::default());
            told.agrees(&BTreeSet::new()).is_err()
        });
        assert!(hidden.is_some(), "{world:?}: nothing gives it away");
    }
}
