//! A bit of the flag that was set is gone without the one write that may take it away (5.10 to 7.3).
//!
//! ```text
//!   F2   UNWRITTEN seen set ──► clear at the last put or the claim, or released unconverted
//!        FAILED seen set ─────► clear at the last put, the claim or the release
//!   F3   handle set ──────────► UNWRITTEN clear at the last put
//!   F4   a bio failed ────────► FAILED clear at the last put, the claim or the release
//! ```
//!
//! F4 holds where the kernel has `EXT4_IO_END_FAILED`. This rule must never compare two snapshots of
//! which the order is not proven: it looks back from a put that reads a count of 1, from the claim or
//! from the release, and everyone else who held a reference has read before that (`Snapshots`).

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::lifecycle::{Act, FLAG_FAILED, FLAG_UNWRITTEN, Flag, IoEndStep, Irregular, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::LostFlagUpdate,
    claim: "a bit of an io_end's flag was lost",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::BioEnd),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::ConvertBegin),
                Need::function(Witness::Release),
                Need::fact(Fact::FailedFlag),
            ],
            fixture: "lost_flag_update_failed.trace",
            check: |step| check(step).or_else(|| not_failed(step)),
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::BioEnd),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::ConvertBegin),
                Need::function(Witness::Release),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "lost_flag_update_unwritten.trace",
            check,
        },
    ],
    despite: &[],
    sound: "only the claimer clears UNWRITTEN, after it has converted (ext4_clear_io_unwritten_flag), and \
            nobody clears FAILED; ext4_end_bio sets FAILED before it puts, and mpage_map_one_extent moves \
            the handle in just before it sets UNWRITTEN, both with a reference that is gone when a put \
            reads 1. Up to 6.14 the worker of a kernel with FAILED clears UNWRITTEN unconverted: one with \
            FAILED is not charged at its release.",
    misses: "a bit that is set again before the next probe reads the flag; a bit that no probe saw set; \
             a last put that reads 2 because two of them race; kernels without FAILED, or of which that is \
             not known, lose nothing by F4",
};

/// The points from which everything that was seen lies behind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    LastPut,
    Claim,
    Release,
}

fn point(step: &IoEndStep<'_>) -> Option<Point> {
    let regular = step.irregular != Some(Irregular::ForeignClaim);
    match (step.act, step.before) {
        (_, State::Released | State::Adopted) => None,
        (Act::Release, _) => regular.then_some(Point::Release),
        (_, State::Claimed | State::Converted) => None,
        (Act::Claim | Act::ConvertBegin, _) => Some(Point::Claim),
        (Act::Put | Act::PutDefer, State::Queued) => None,
        (Act::Put | Act::PutDefer, _) => (step.image?.count == 1).then_some(Point::LastPut),
        _ => None,
    }
}

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let point = point(step)?;
    let image = step.image?;
    let flag = Flag::of(&image);
    let lost = |bit| step.earlier.saw_set(bit) && !flag.has(bit);
    let converted = step.object.claim().is_some() || flag.has(FLAG_FAILED);
    match point {
        _ if lost(FLAG_FAILED) => charge("FAILED was set in its flag and is gone"),
        Point::Release if lost(FLAG_UNWRITTEN) && !converted => {
            charge("UNWRITTEN was set in its flag and it was released unconverted")
        }
        Point::LastPut | Point::Claim if lost(FLAG_UNWRITTEN) => {
            charge("UNWRITTEN was set in its flag and is gone before anyone converted")
        }
        Point::LastPut if image.handle != 0 && !flag.has(FLAG_UNWRITTEN) => {
            charge("it has a handle for its conversion and no UNWRITTEN in its flag")
        }
        _ => None,
    }
}

fn not_failed(step: &IoEndStep<'_>) -> Option<Charge> {
    point(step)?;
    let lost = step.earlier.saw_bio_fail() && !Flag::of(&step.image?).has(FLAG_FAILED);
    if lost { charge("a bio of it failed and FAILED is not in its flag") } else { None }
}

fn charge(what: &'static str) -> Option<Charge> {
    Some(Charge { confidence: Confidence::Certain, what, first: None })
}
