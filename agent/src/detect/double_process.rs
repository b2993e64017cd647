//! Two parties process one incarnation (5.10 to 7.3).
//!
//! ```text
//!   D1   Claimed or Converted ──claim──►                  a second claim
//!        Claimed ──convert, by another task──►            work under someone else's claim
//!   D6   Queued … Converted ──put that reads 1──►         the last reference is dropped again
//!   D8   never queued ──claim by the inode's worker──►    the worker took what was not its own
//!   D1   listed in one worker run ──listed──► in another  a run takes and releases all it finds
//! ```
//!
//! The last one is all that raw tracepoints can see: no claim, no put. Attached bios must be seen by
//! `submit_bio` for the others: a throttled bio passes `block_bio_queue` after its submitter's put.
//!
//! This rule must never take a claim and the conversion under it (`ext4_end_io_end`, then
//! `ext4_convert_unwritten_io_end_vec` by the same task, 6.15 on) for two claims.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Gap, IoEndStep, Irregular, Move, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::DoubleProcess,
    claim: "two parties processed one io_end, or one processed it twice",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Attach),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::ConvertBegin),
                Need::any(Witness::Release),
            ],
            fixture: "double_process_second_claim.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::tracepoint(Witness::WorkerBegin),
                Need::tracepoint(Witness::WorkerEnd),
                Need::any(Witness::Release),
            ],
            fixture: "raw_tp_double_process_listed_again.trace",
            check: listed_again,
        },
    ],
    despite: &[Gap::ClaimMissed],
    sound: "D1: one incarnation has one claim, made by the one task that took it off the list or \
            dropped its last reference; claims, conversions and releases of an incarnation are in \
            program order of that task, so no exchange between CPUs makes a second one. D6: the \
            object was on the list or claimed at count 0, so its count had been 0. D8: every put \
            enters before the claim, so the model knows at the claim whether it was queued; where \
            two functions race for the last put, or FAILED may defer, nothing is charged. A conversion \
            without ext4_end_io_end is a claim as well. Listed \
            twice: ext4_do_flush_completed_IO takes the whole list under its lock and releases every \
            io_end of it before the run ends, one work never runs twice at once, and the walk is \
            before the run, when io_ends are only added; a birth between the two would be seen.",
    misses: "a worker that claims where the deferral is unknown (FAILED on 6.15 on, or the \
             submitter's ext4_put_io_end racing a bio's put); a second worker whose claim we see as \
             the first because the true first one has no probed entry; a release by a stranger \
             while a claim is open, which shows as use_after_release or release_twice; with raw \
             tracepoints every second party but a second worker run, and that one too where the \
             walk of the list ends at its bound",
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

fn listed_again(step: &IoEndStep<'_>) -> Option<Charge> {
    let again = step.irregular == Some(Irregular::ListedAgain) && step.before != State::Released;
    again.then_some(Charge {
        confidence: Confidence::Certain,
        what: "it was on the list of a second worker run after one had taken it",
        first: None,
    })
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
