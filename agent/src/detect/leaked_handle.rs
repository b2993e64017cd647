//! The reserved journal handle is lost (5.10 to 7.3).
//!
//! ```text
//!   L2   release ──► handle not NULL                           its reservation is never given back
//!        last put that queues ──► NULL, and was not before     the conversion has no credits
//! ```
//!
//! On a file system without a journal no io_end ever has a handle, so one that is queued without is
//! charged only if it was seen with one. This rule must never use the bytes at `kmem_cache_free`, which
//! up to 5.15 comes after the memory is free.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::event::IO_END_LIST_VEC_OFFSET;
use crate::lifecycle::{Act, FLAG_UNWRITTEN, Gap, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::LeakedHandle,
    claim: "the journal handle of an io_end was lost",
    ways: &[Way {
        needs: &[
            Need::any(Witness::Birth),
            Need::function(Witness::Put),
            Need::function(Witness::PutDefer),
            Need::function(Witness::Release),
        ],
        fixture: "leaked_handle_released.trace",
        check,
    }],
    despite: &[Gap::AttachMissed, Gap::PutMissed, Gap::ClaimMissed],
    sound: "the claimer takes the handle out before it converts (ext4_end_io_end, before 6.15 also \
            ext4_put_io_end) and nobody puts one in after the submitter's put; ext4_release_io_end warns of \
            it. The submitter puts the handle in once, and only the claimer takes it out: a put that reads \
            a count of 1 comes before the claim and after all that was seen.",
    misses: "one that was queued without ever having been seen with a handle, which is legal without a \
             journal; a handle that was exchanged for another; a last put that reads 2 because two of \
             them race",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let image = step.image?;
    let charge = |what| Some(Charge { confidence: Confidence::Certain, what, first: None });
    let vec_self = step.object.id().addr.0.wrapping_add(IO_END_LIST_VEC_OFFSET);
    let queues = image.flag & FLAG_UNWRITTEN != 0 && image.vec_next != vec_self;
    match step.act {
        _ if step.before == State::Released => None,
        Act::Release if image.handle != 0 => charge("it was released with a journal handle"),
        Act::PutDefer if image.count == 1 && queues && lost(step, image.handle) => {
            charge("it was queued without the journal handle that it had")
        }
        _ => None,
    }
}

fn lost(step: &IoEndStep<'_>, handle: u64) -> bool {
    let handed_over = matches!(step.before, State::Queued | State::Claimed | State::Converted);
    handle == 0 && step.earlier.saw_handle() && !handed_over
}
