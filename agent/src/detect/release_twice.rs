//! An incarnation is released twice (5.10 to 7.3).
//!
//! ```text
//!   Released ──release──►      and no birth at that address in between
//! ```
//!
//! Raw tracepoints cannot serve it: the program tells frees of io_ends from others by the table of
//! those alive, so a second one is never shown.
//!
//! This rule must never look at an address alone: it is reused at once.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::ReleaseTwice,
    claim: "one io_end was released twice",
    ways: &[Way {
        needs: &[Need::any(Witness::Birth), Need::function(Witness::Release)],
        fixture: "release_twice.trace",
        check,
    }],
    despite: &[],
    sound: "every birth is the allocation in ext4_init_io_end or its exit, before anyone else could reach the \
            object, and a release is recorded before the memory is freed: two releases without \
            a birth between them are of one incarnation unless that birth was lost, and a loss \
            suppresses the verdict.",
    misses: "a second release after the tombstone was forgotten (tombstones_max later releases), or \
             after the address was born again: then it ends the newborn's life",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let twice = step.before == State::Released && step.action.releases();
    twice.then_some(Charge {
        confidence: Confidence::Certain,
        what: "it was released a second time",
        first: step.object.release(),
    })
}
