//! Extents are converted to written although a write to them failed: stale blocks become readable.
//!
//! ```text
//!   F6   conversion entered ──► FAILED in the flag, or a bio of it failed
//! ```
//!
//! From 6.15, and in 6.6.93, 6.12.31 and 6.14.9 (e856f93e0fb2), `ext4_end_bio` sets FAILED and the worker
//! does not convert. That is not all: in 6.6.y, 6.12.y and 6.14.y `ext4_put_io_end` still converts without a
//! look at FAILED (2f94b537c48d was not backported), so a stock kernel breaks this rule when the
//! submitter drops the last reference after a bio failed. Kernels before those convert after every failed
//! write. The finding says which of these it is.
//!
//! Where a kernel sets FAILED and the bit is lost (`lost_flag_update.rs`), it converts what failed for that.
//!
//! This rule must never charge a conversion of another incarnation than the one that failed.

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::lifecycle::{Act, FLAG_FAILED, Gap, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::ConvertAfterFailedWrite,
    claim: "extents were converted to written although a write to them failed",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::BioEnd),
                Need::function(Witness::ConvertBegin),
                Need::any(Witness::Release),
                Need::fact(Fact::FailedFlag),
            ],
            fixture: "convert_after_failed_write.trace",
            check: |step| by_flag(step).or_else(|| by_bio(step, LOST)),
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::BioEnd),
                Need::function(Witness::ConvertBegin),
                Need::any(Witness::Release),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "convert_after_failed_bio.trace",
            check: |step| by_bio(step, NO_FLAG),
        },
    ],
    despite: &[Gap::AttachMissed, Gap::ClaimMissed],
    sound: "the conversion's own probe reads the flag, and nobody clears FAILED; a bio's status is read by \
            the probe of ext4_end_bio, of a live incarnation whose birth was seen and which every conversion \
            of it comes after.",
    misses: "a failed bio whose end was not seen, on kernels without FAILED; a failure that the device did \
             not report",
};

fn by_flag(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.act != Act::ConvertBegin || step.image?.flag & FLAG_FAILED == 0 {
        return None;
    }
    let inline = step.object.submitter_put() == Some(Act::Put)
        && step.stamp.task.tid == step.object.owner().tid;
    charge(
        step,
        if inline {
            "it was converted by ext4_put_io_end with FAILED in its flag: 6.6.y, 6.12.y and 6.14.y do \
             that, for want of 2f94b537c48d"
        } else {
            "it was converted with FAILED in its flag"
        },
    )
}

/// On kernels that are known to set FAILED.
const LOST: &str =
    "it was converted after a bio of it had failed: FAILED was not seen in its flag, it was lost";
const NO_FLAG: &str =
    "it was converted after a bio of it had failed: kernels without e856f93e0fb2 do that";

fn by_bio(step: &IoEndStep<'_>, what: &'static str) -> Option<Charge> {
    if step.act != Act::ConvertBegin || !step.earlier.saw_bio_fail() {
        return None;
    }
    charge(step, what)
}

fn charge(step: &IoEndStep<'_>, what: &'static str) -> Option<Charge> {
    let first = step.object.claim().filter(|_| step.before == State::Claimed);
    (step.before != State::Released).then_some(Charge {
        confidence: Confidence::Certain,
        what,
        first,
    })
}
