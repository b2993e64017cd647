//! Worlds that no kernel ran: io_ends of a simulated protocol, as wire bytes.
//!
//! ```text
//!   seed ─► world (actors take one atomic step each, in random order) ─► tape ─► faults ─► records
//!             refcounted: 5.5 to 7.3        completed_list: 2012, fixed or not     lost, reordered,
//!                                                                                  cut, doubled
//! ```
//!
//! A second implementation of the protocols, on purpose: this module must never call
//! [`crate::oracle`], `lifecycle` or `detect`. Everything comes from one seed, through [`Random`].

mod completed_list;
mod faults;
mod random;
mod refcounted;
mod tape;

use std::fmt;

pub use completed_list::Half;
pub use faults::Faults;
pub use random::Random;
pub use refcounted::Slip;

use tape::Tape;

/// Which protocol is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum World {
    /// The core of 2012, with these halves of its fix.
    CompletedList(Half),
    /// The core of 5.5 to 7.3, with something that its kernel does wrong, if anything.
    Refcounted(Option<Slip>),
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
    /// What happens to the records.
    pub faults: Faults,
}

/// A simulated stream.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// The records, as they come from the ring.
    pub records: Vec<Vec<u8>>,
    /// Breaches of the protocol that the world committed.
    pub breaches: u64,
    /// What was derived from the seed, to be printed.
    pub derived: Derived,
}

/// What a seed chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Derived {
    /// Release that the stream claims.
    pub release: &'static str,
    /// CPUs.
    pub cpus: u16,
    /// Addresses that io_ends share.
    pub addresses: usize,
    /// Of 1,000 bios so many fail.
    pub failing: u32,
    /// Mounted with data_err=abort.
    pub data_err_abort: bool,
    /// Records before the faults.
    pub records: usize,
    /// Records lost, cut, doubled, exchanged.
    pub faulty: [u64; 4],
}

impl fmt::Display for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Derived { release, cpus, addresses, failing, data_err_abort, records, faulty } = self;
        let [lost, cut, doubled, exchanged] = faulty;
        write!(
            f,
            "release {release}, {cpus} CPUs, {addresses} addresses, {failing} of 1000 bios "
        )?;
        write!(
            f,
            "fail, data_err_abort {data_err_abort}; {records} records: {lost} lost, {cut} cut"
        )?;
        write!(f, ", {doubled} doubled, {exchanged} exchanged")
    }
}

/// Runs a world to its end.
pub fn simulate(options: &Options) -> Simulated {
    let mut random = Random::new(options.seed);
    let mut derived = Derived {
        release: "",
        cpus: 2 + random.below(3) as u16,
        addresses: 1 + random.below(8) as usize,
        failing: if random.one_in(2) { 0 } else { random.below(300) as u32 },
        data_err_abort: random.one_in(2),
        records: 0,
        faulty: [0; 4],
    };
    let mut tape = Tape::default();
    let breaches = match options.world {
        World::CompletedList(half) => {
            derived.release = "3.2.0-endiod-sim";
            tape.announce(derived.release, derived.cpus, true);
            completed_list::run(half, options.lives, &derived, &mut random, &mut tape)
        }
        World::Refcounted(slip) => {
            let releases = ["5.10.0-endiod-sim", "6.12.0-endiod-sim", "6.18.0-endiod-sim"];
            let kernel = random.below(releases.len() as u64) as usize;
            derived.release = releases[kernel];
            tape.announce(derived.release, derived.cpus, kernel == 2);
            refcounted::run(slip, kernel, options.lives, &derived, &mut random, &mut tape)
        }
    };
    tape.tick();
    tape.tick();
    derived.records = tape.len();
    let records = faults::apply(tape, options.faults, &mut random, &mut derived);
    Simulated { records, breaches, derived }
}
