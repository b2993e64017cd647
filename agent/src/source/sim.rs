//! Worlds that no kernel ran: io_ends of a simulated protocol, as wire bytes.
//!
//! ```text
//!   seed ─► world (actors take one atomic step each, in random order) ─► tape ─► faults ─► records
//!             refcounted: 5.5 to 7.3        completed_list: 2012, fixed or not     lost, exchanged,
//!                                                                                  cut, doubled
//! ```
//!
//! A second implementation of the protocols, on purpose: this module must never call
//! [`crate::oracle`], `lifecycle` or `detect`. Everything comes from one seed, through [`Random`]; what
//! can be chosen in its place is in [`Chosen`], and [`Simulated::command`] spells all of it out.

mod addresses;
mod command;
mod completed_list;
mod derived;
mod faults;
mod random;
mod refcounted;
mod slip;
mod tape;

pub use completed_list::Half;
pub use derived::{Chosen, Derived, Release};
pub use faults::Faults;
pub use random::Random;
pub use slip::Slip;

pub use tape::{HASH_KEY, LifeId};

use std::collections::{BTreeMap, BTreeSet};

use tape::Tape;

/// Which protocol is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// The core of 2012, with these halves of its fix.
    CompletedList(Half),
    /// The core of 5.5 to 7.3, with something that its kernel does wrong, if anything.
    Refcounted(Option<Slip>),
}

impl World {
    /// Every core by its name.
    pub const CORES: [(&str, World); 5] = [
        ("fixed", World::CompletedList(Half::FIXED)),
        ("unfixed", World::CompletedList(Half::UNFIXED)),
        ("without_in_fsync", World::CompletedList(Half { in_fsync: false, ..Half::FIXED })),
        ("queued_unlocked", World::CompletedList(Half { queued_in_lock: false, ..Half::FIXED })),
        ("refcounted", World::Refcounted(None)),
    ];

    /// The name of its core; what its kernel does wrong has one of its own.
    pub fn core(self) -> &'static str {
        let core = match self {
            World::CompletedList(_) => self,
            World::Refcounted(_) => World::Refcounted(None),
        };
        let row = World::CORES.iter().find(|(_, world)| *world == core);
        row.expect("both halves of the fix make four cores").0
    }

    /// What its kernel does wrong, now and then.
    pub fn slip(self) -> Option<Slip> {
        match self {
            World::CompletedList(_) => None,
            World::Refcounted(slip) => slip,
        }
    }

    /// The kernels that spoke it.
    pub fn releases(self) -> &'static [Release] {
        match self {
            World::CompletedList(_) => &[Release::V3_2],
            World::Refcounted(_) => {
                &[Release::V5_10, Release::V6_12, Release::V6_16, Release::V6_18]
            }
        }
    }
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which protocol.
    pub world: World,
    /// The seed of everything else.
    pub seed: u64,
    /// io_ends.
    pub lives: u32,
    /// What is not left to the seed.
    pub chosen: Chosen,
    /// What happens to the records.
    pub faults: Faults,
}

/// A simulated stream.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// What was asked for.
    pub options: Options,
    /// The records, as they come from the ring.
    pub records: Vec<Vec<u8>>,
    /// io_ends of which the world broke the protocol.
    pub breached: BTreeSet<LifeId>,
    /// io_ends of which a record was lost or cut, and when the first of these was written, ns.
    pub touched: BTreeMap<LifeId, u64>,
    /// What was derived from the seed, or chosen.
    pub derived: Derived,
    /// What the faults did.
    pub done: faults::Done,
}

/// Runs a world to its end.
///
/// # Panics
/// The chosen release never spoke the world's protocol.
pub fn simulate(options: &Options) -> Simulated {
    let Options { world, seed, lives, chosen, faults } = *options;
    let mut random = Random::new(seed);
    let derived = Derived::draw(world, chosen, &mut random);
    assert!(world.releases().contains(&derived.release), "{world:?} of {:?}", derived.release);
    let mut tape = Tape::default();
    tape.announce(derived.release, derived.cpus);
    if let World::Refcounted(_) = world {
        tape.watch_age();
    }
    let breached = match world {
        World::CompletedList(half) => {
            completed_list::run(half, lives, &derived, &mut random, &mut tape)
        }
        World::Refcounted(slip) => refcounted::run(slip, lives, &derived, &mut random, &mut tape),
    };
    tape.tick();
    if let World::Refcounted(_) = world {
        tape.pause();
    }
    tape.tick();
    let (records, done, touched) = faults::apply(tape, faults, &mut random);
    Simulated { options: *options, records, breached, touched, derived, done }
}

#[cfg(test)]
mod tests {
    use super::{Half, Release, Slip, World};

    #[test]
    fn every_world_has_a_core_and_every_release_a_world() {
        for in_fsync in [false, true] {
            for queued_in_lock in [false, true] {
                let world = World::CompletedList(Half { in_fsync, queued_in_lock });
                assert_eq!(
                    World::CORES.iter().filter(|(name, _)| *name == world.core()).count(),
                    1
                );
            }
        }
        for slip in Slip::ALL {
            assert_eq!(World::Refcounted(Some(slip)).core(), "refcounted");
        }
        for release in Release::ALL {
            let worlds = World::CORES.iter().filter(|(_, it)| it.releases().contains(&release));
            assert!(worlds.count() > 0, "{release:?}");
        }
    }
}
