//! A reference is used that does not exist, or the end comes while some do (5.10
//! to 7.3).
//!
//! ```text
//!   D3   put or ext4_end_bio entered, count = 0 or > 2^30     the caller must own a reference
//!        device done with a bio, the same                     the bio still owns its reference
//!   D4   claimed or released, count > 0                       the last reference must be gone
//! ```
//!
//! The count is read from the object itself. This rule must never use the model's count, nor the
//! bytes at `kmem_cache_free`, which up to 5.15 comes after the memory is free.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Act, COUNT_SANE_MAX, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::BadReference,
    claim: "an io_end's reference count contradicts what was done with it",
    ways: &[
        Way {
            needs: &[Need::any(Witness::Birth), Need::function(Witness::Release)],
            fixture: "bad_reference_put_at_zero.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::tracepoint(Witness::BioDone),
                Need::any(Witness::Release),
            ],
            fixture: "raw_tp_bad_reference_bio.trace",
            check: done_without_reference,
        },
    ],
    despite: &[],
    sound: "D3: the caller's own reference keeps the count at 1 or more until it drops it, which \
            is after the probe has read it; block_rq_complete and block_bio_complete come before \
            bi_end_io, for each part of a bio, so the bio still has its own. D4: ext4_end_io_end, the conversion and the release \
            are reached only after the count went to 0, and nobody can take a reference then. The \
            address is that of a live incarnation whose birth was seen.",
    misses: "a surplus or missing reference before it shows as a count of 0 or above 0 at one of \
             these points; a wrong count that is back in order when the next probe reads it; with \
             raw tracepoints all but the device's points",
};

/// Can this be the count of an object that someone holds?
pub(super) fn holds_a_reference(count: u32) -> bool {
    (1..=COUNT_SANE_MAX).contains(&count)
}

fn done_without_reference(step: &IoEndStep<'_>) -> Option<Charge> {
    let done = matches!(step.act, Act::PartDone | Act::BioDone);
    if step.before == State::Released || !done {
        return None;
    }
    let what = match step.image?.count {
        count if holds_a_reference(count) => return None,
        0 => "the device was done with a bio while the count was 0",
        _ => "the device was done with a bio while the count was saturated",
    };
    Some(Charge { confidence: Confidence::Certain, what, first: None })
}

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.before == State::Released {
        return None;
    }
    let count = step.image?.count;
    let what = match step.act {
        Act::Put | Act::PutDefer if count == 0 => "a reference was dropped while the count was 0",
        Act::BioEnd if count == 0 => "a bio ended while the count was 0",
        Act::Put | Act::PutDefer | Act::BioEnd if count > COUNT_SANE_MAX => {
            "a reference was used while the count was saturated"
        }
        Act::Claim if count > 0 => "it was claimed while references were held",
        Act::ConvertBegin if count > 0 => "it was converted while references were held",
        Act::Release if count > 0 => "it was released while references were held",
        _ => return None,
    };
    let claimed_before = matches!(step.before, State::Claimed | State::Converted);
    let first = step.object.claim().filter(|_| claimed_before);
    Some(Charge { confidence: Confidence::Certain, what, first })
}
