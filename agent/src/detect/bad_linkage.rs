//! An io_end or a bio of it is linked where it cannot be (5.10 to 7.3).
//!
//! ```text
//!   D5   put while a reference is held, claim, conversion, release ──► list not self-linked
//!   D7   ext4_end_bio ──► the bio's bi_end_io is NULL: it has been there before
//! ```
//!
//! A put on an io_end that is on the list by rights is no crime of the list: `bad_reference` and
//! `double_process` see it. This rule must never use the bytes at `kmem_cache_free`, which up to 5.15
//! comes after the memory is free.

use super::bad_reference::holds_a_reference;
use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Act, Gap, IoEndStep, Irregular, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::BadLinkage,
    claim: "an io_end is on a list, or a bio ends, where it cannot be",
    ways: &[Way {
        needs: &[
            Need::any(Witness::Birth),
            Need::function(Witness::BioEnd),
            Need::function(Witness::Put),
            Need::function(Witness::PutDefer),
            Need::function(Witness::ConvertBegin),
            Need::function(Witness::Release),
        ],
        fixture: "bad_linkage_in_flight.trace",
        check,
    }],
    despite: &[Gap::AttachMissed, Gap::ClaimMissed],
    sound: "ext4_add_complete_io links it only after its count went to 0, which the reference of whoever \
            puts forbids; ext4_do_flush_completed_IO unlinks it before it calls anything that is probed, \
            and ext4_release_io_end itself stops the kernel over one that is linked. bio_endio calls \
            bi_end_io, which ext4_end_bio clears first of all: a bio without it has been there. The \
            bytes are those of a live incarnation whose birth was seen.",
    misses: "a wrong link that is gone again when the next probe reads it; a link of the ranges or of the \
             bios; the neighbours on the list",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.before == State::Released {
        return None;
    }
    if step.irregular == Some(Irregular::EndedBefore) {
        return charge("a bio of it ended that had ended before");
    }
    let image = step.image?;
    if image.list_next == step.object.id().addr.0 {
        return None;
    }
    let handed_over = matches!(step.before, State::Queued | State::Claimed | State::Converted);
    match step.act {
        Act::Put | Act::PutDefer if !handed_over && holds_a_reference(image.count) => {
            charge("it was on a list while references were held")
        }
        Act::Claim => charge("it was claimed without being taken off its list"),
        Act::ConvertBegin => charge("it was converted without being taken off its list"),
        Act::Release => charge("it was released while it was on a list"),
        _ => None,
    }
}

fn charge(what: &'static str) -> Option<Charge> {
    Some(Charge { confidence: Confidence::Certain, what, first: None })
}
