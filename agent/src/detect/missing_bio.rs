//! The bios of an io_end do not add up (5.10 to 7.3).
//!
//! ```text
//!   L3   last put ──► bios attached > bios ended      a reference was dropped in a bio's place
//!        ext4_end_bio ──► bios ended > bios attached  a bio ended that was never submitted
//! ```
//!
//! This rule must never watch where a bio may be submitted unseen: from 7.0 on by
//! `__blk_crypto_submit_bio`, if that is not probed, and in a build that inlines `submit_bio`. So it begins
//! when 64 bios have ended and of 64 at most one was not seen attached.

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::lifecycle::{Gap, IoEndStep, Move, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::MissingBio,
    claim: "a bio of an io_end ended unseen, or was never submitted",
    ways: &[Way {
        needs: &[
            Need::any(Witness::Birth),
            Need::function(Witness::Attach),
            Need::function(Witness::BioEnd),
            Need::function(Witness::Put),
            Need::function(Witness::PutDefer),
            Need::any(Witness::Release),
            Need::fact(Fact::AllBiosSeen),
        ],
        fixture: "missing_bio_swallowed.trace",
        check,
    }],
    despite: &[Gap::AttachMissed],
    sound: "ext4_end_bio is entered before the put of its bio, and a put that reads a count of 1 comes after \
            all other puts: by then every bio that was attached must have been seen to end. Every bio with \
            ext4_end_bio passes submit_bio, or before it __blk_crypto_submit_bio, before the device can \
            end it. Hits that the kernel skipped are told, and suppress it.",
    misses: "a swallowed bio where the last two puts race, or where others were attached unseen; a bio that \
             never ends, which keeps its io_end in flight; the first 64 bios",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let (attached, ended) = step.object.bios();
    let what = match step.action {
        Move::LastPut | Move::LastPutQueues if ended < attached && is_last(step) => {
            "its last reference was dropped before every bio of it had ended"
        }
        Move::BioEnd if ended == attached + 1 && step.before != State::Adopted => {
            "a bio of it ended that was never submitted"
        }
        _ => return None,
    };
    Some(Charge { confidence: Confidence::Likely, what, first: None })
}

fn is_last(step: &IoEndStep<'_>) -> bool {
    let attaches_seen = !step.object.gaps().contains(Gap::AttachMissed);
    attaches_seen && step.image.is_some_and(|image| image.count == 1)
}
