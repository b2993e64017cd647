//! Two parties process one incarnation (5.10 to 7.3).
//!
//! ```text
//!   D1   Claimed or Converted ──claim──►                  a second claim
//!        Claimed ──convert, by another task──►            work under someone else's claim
//!   D6   Queued … Converted ──put that reads 1──►         the last reference is dropped again
//!   D8   never queued ──claim by the inode's worker──►    the worker took what was not its own
//! ```
//!
//! This rule must never take a claim and the conversion under it (`ext4_end_io_end`, then
//! `ext4_convert_unwritten_io_end_vec` by the same task, 6.15 on) for two claims.

use super::{Charge, Confidence, Detector, Rule};
use crate::lifecycle::{Act, IoEndStep, Irregular, Move, State};

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::DoubleProcess,
    claim: "two parties processed one io_end, or one processed it twice",
    needs: &[Act::Birth, Act::Attach, Act::Put, Act::PutDefer, Act::ConvertBegin, Act::Release],
    sound: "D1: one incarnation has one claim, made by the one task that took it off the list or \
            dropped its last reference; claims, conversions and releases of an incarnation are in \
            program order of that task, so no exchange between CPUs makes a second one. D6: the \
            object was on the list or claimed at count 0, so its count had been 0. D8: every put \
            enters before the claim, so the model knows at the claim whether it was queued; where \
            two functions race for the last put, or FAILED may defer, nothing is charged.",
    misses: "a worker that claims where the deferral is unknown (FAILED on 6.15 on, or the \
             submitter's ext4_put_io_end racing a bio's put); a second worker whose claim we see as \
             the first because the true first one has no probed entry; a release by a stranger \
             while a claim is open, which shows as use_after_release or release_twice",
    fixture: "double_process_second_claim.trace",
    check,
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    match step.action {
        Move::Claim | Move::Convert => claim(step),
        Move::PutBeyondLast => second_last_put(step),
        _ => None,
    }
}

fn claim(step: &IoEndStep<'_>) -> Option<Charge> {
    let first = step.object.claim();
    let charge = |confidence, what| Some(Charge { confidence, what, first });
    match (step.irregular?, step.before) {
        (_, State::Released | State::Adopted) => None,
        (Irregular::NotQueued, _) => Some(Charge {
            confidence: Confidence::Likely,
            what: "the inode's worker claimed an io_end that was never queued",
            first: None,
        }),
        (Irregular::ForeignClaim, State::Claimed) => {
            charge(Confidence::Certain, "a task processed it while another task's claim was open")
        }
        (Irregular::ForeignClaim, State::Converted) => {
            charge(Confidence::Certain, "a task claimed it after another task had converted it")
        }
        (Irregular::SecondConversion, _) => {
            charge(Confidence::Certain, "one task converted it twice")
        }
        (Irregular::NoTransition, State::Claimed | State::Converted) => {
            charge(Confidence::Certain, "one task claimed it twice")
        }
        _ => None,
    }
}

fn second_last_put(step: &IoEndStep<'_>) -> Option<Charge> {
    let image = step.image?;
    let listed = step.before == State::Queued && image.list_next != step.object.id().addr.0;
    let was_zero = listed || step.object.claimed_at_zero();
    let handed_over = matches!(step.before, State::Queued | State::Claimed | State::Converted);
    (image.count == 1 && was_zero && handed_over).then_some(Charge {
        confidence: Confidence::Certain,
        what: "its last reference was dropped again after it had been handed over",
        first: step.object.claim(),
    })
}
