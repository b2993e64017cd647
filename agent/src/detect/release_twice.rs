//! An incarnation is released twice (5.10 to 7.3).
//!
//! ```text
//!   Released ──release──►      and no birth at that address in between
//! ```
//!
//! This rule must never look at an address alone: it is reused at once.

use super::{Charge, Confidence, Detector, Rule};
use crate::lifecycle::{Act, IoEndStep, Move, State};

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::ReleaseTwice,
    claim: "one io_end was released twice",
    needs: &[Act::Birth, Act::Release],
    sound: "every birth is the exit of ext4_init_io_end, which ran before anyone else could reach \
            the object, and a release is recorded before the memory is freed: two releases without \
            a birth between them are of one incarnation unless that birth was lost, and a loss \
            suppresses the verdict.",
    misses: "a second release after the tombstone was forgotten (tombstones_max later releases), or \
             after the address was born again: then it ends the newborn's life",
    fixture: "release_twice.trace",
    check,
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let twice = step.before == State::Released
        && matches!(step.action, Move::Release | Move::ReleaseFailed);
    twice.then_some(Charge {
        confidence: Confidence::Certain,
        what: "it was released a second time",
        first: step.object.release(),
    })
}
