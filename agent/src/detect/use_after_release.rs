//! A released incarnation is used (5.10 to 7.3).
//!
//! ```text
//!   Released ──range, attach, bio end, put, claim, convert, convert end──►
//! ```
//!
//! Each of these acts needs a reference or the claim, and the release comes after the last of both.
//! This rule must never charge an event that may belong to a later incarnation.

use super::{Charge, Confidence, Detector, Rule};
use crate::lifecycle::{Act, IoEndStep, State};

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::UseAfterRelease,
    claim: "a released io_end was used",
    needs: &[Act::Birth, Act::Release],
    sound: "whoever ranges, attaches, ends a bio or puts holds a reference, and whoever claims or \
            converts holds the claim; ext4_release_io_end is entered only without either. Each \
            probe ends before its caller gives up what it holds, so no exchange between CPUs puts \
            the use behind the release. An event of a later incarnation comes after its birth.",
    misses: "a use after the tombstone was forgotten or the address born again (it is then taken \
             for the newborn's), and any use that enters no probed function",
    fixture: "use_after_release_put.trace",
    check,
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.before != State::Released {
        return None;
    }
    let what = match step.act {
        Act::Birth | Act::Release => return None,
        Act::Range => "a range was added after its release",
        Act::Attach => "a bio was attached after its release",
        Act::BioEnd => "a bio of it ended after its release",
        Act::Put | Act::PutDefer => "a reference was dropped after its release",
        Act::Claim => "it was claimed after its release",
        Act::ConvertBegin => "it was converted after its release",
        Act::ConvertEnd => "its conversion ended after its release",
    };
    Some(Charge { confidence: Confidence::Certain, what, first: step.object.release() })
}
