//! What the cores said, counted.
//!
//! `allowed + diverged + could_not_tell` is every event of an io_end that the core was asked about,
//! once the stream is over.

use crate::event::{IoEndAddr, Nanos};

/// A core that judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Judge {
    /// The fixed core of 2012.
    CompletedList,
    /// The core of 5.5 to 7.3.
    Refcounted,
}

impl Judge {
    /// Both.
    pub const ALL: [Judge; 2] = [Judge::CompletedList, Judge::Refcounted];

    /// The `core` label.
    pub fn label(self) -> &'static str {
        match self {
            Judge::CompletedList => "completed_list",
            Judge::Refcounted => "refcounted",
        }
    }
}

/// What a core says of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Outcome {
    /// It has a run with this event.
    Allowed,
    /// It has none, and nothing was lost.
    Diverged,
    /// Something was lost, its birth or a bio of it was not seen, a probe is missing or is not fentry, or
    /// no core describes this kernel.
    CouldNotTell,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 3] = [Outcome::Allowed, Outcome::Diverged, Outcome::CouldNotTell];

    /// The `outcome` label.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Allowed => "allowed",
            Outcome::Diverged => "diverged",
            Outcome::CouldNotTell => "could_not_tell",
        }
    }
}

/// Counts of one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    outcomes: [u64; Outcome::ALL.len()],
    /// Sizes of the allowed sets, summed over the events that were judged by one.
    states: u64,
    judged: u64,
}

impl Tally {
    /// Events with that outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.outcomes[outcome as usize]
    }

    /// Mean size of the set of allowed states after an event; `None` before the first.
    #[expect(clippy::cast_precision_loss, reason = "a mean needs no more than 53 bits")]
    pub fn states_mean(&self) -> Option<f64> {
        (self.judged > 0).then(|| self.states as f64 / self.judged as f64)
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        self.outcomes[outcome as usize] += 1;
    }

    pub(super) fn states(&mut self, states: u32) {
        self.states += u64::from(states);
        self.judged += 1;
    }
}

/// A core has no run with what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Which core.
    pub judge: Judge,
    /// The io_end.
    pub addr: IoEndAddr,
    /// Its birth.
    pub born: Nanos,
    /// When.
    pub at: Nanos,
    /// At which event.
    pub act: &'static str,
}

/// A divergence until its TICK.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub(super) divergence: Divergence,
}
