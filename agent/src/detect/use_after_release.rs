//! A released incarnation is used (5.10 to 7.3).
//!
//! ```text
//!   Released ──range, attach, bio end or done, put, listed, claim, convert, convert end──►
//! ```
//!
//! Each of these acts needs a reference, the list or the claim, and the release comes after the last
//! of all. That order holds for `ext4_release_io_end`. The tracepoint `kmem_cache_free` comes after the
//! memory is free up to 5.15 ("mm: emit the "free" trace report before freeing memory in
//! kmem_cache_free()", 5.16, moved it): the release of one incarnation can then follow the birth of
//! the next and be taken for that one's. So where a raw tracepoint tells the release, only the object's own
//! bytes accuse: a bio that the device is done with still holds its reference, in whichever
//! incarnation, and a count of 0 there says that the memory is nobody's.
//!
//! This rule must never charge an event that may belong to a later incarnation.

use super::bad_reference::holds_a_reference;
use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Act, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::UseAfterRelease,
    claim: "a released io_end was used",
    ways: &[
        Way {
            needs: &[Need::any(Witness::Birth), Need::function(Witness::Release)],
            fixture: "use_after_release_put.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::tracepoint(Witness::BioDone),
                Need::tracepoint(Witness::Release),
            ],
            fixture: "raw_tp_use_after_release_bio.trace",
            check: done_without_reference,
        },
    ],
    despite: &[],
    sound: "whoever ranges, attaches, ends a bio or puts holds a reference, so does a bio that the \
            device is done with (the tracepoints are before bi_end_io), what is on a worker's list \
            is taken off before its release, and whoever claims or converts holds the claim; ext4_release_io_end is entered only without either. Each \
            probe ends before its caller gives up what it holds, so no exchange between CPUs puts \
            the use behind the release. An event of a later incarnation comes after its birth. With \
            raw tracepoints the count must also be 0 or saturated, which no live incarnation's is.",
    misses: "a use after the tombstone was forgotten or the address born again (it is then taken \
             for the newborn's), and any use that enters no probed function; with raw tracepoints \
             attaches, lists, and memory whose count reads as a small number again",
};

const DONE: &str = "the device was done with a bio of it after its release";

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.before != State::Released {
        return None;
    }
    let what = match step.act {
        Act::Birth
        | Act::Release
        | Act::FsyncReturned
        | Act::InodeDestroyed
        | Act::Lingers
        | Act::FlagWrite => return None,
        Act::Range => "a range was added after its release",
        Act::Attach => "a bio was attached after its release",
        Act::BioEnd => "a bio of it ended after its release",
        Act::Put | Act::PutDefer => "a reference was dropped after its release",
        Act::Claim => "it was claimed after its release",
        Act::ConvertBegin => "it was converted after its release",
        Act::ConvertEnd => "its conversion ended after its release",
        Act::PartDone | Act::BioDone => DONE,
        Act::Listed => "it was on a worker's list after its release",
        Act::Requeue => "its work put it back after its release",
    };
    Some(Charge { confidence: Confidence::Certain, what, first: step.object.release() })
}

fn done_without_reference(step: &IoEndStep<'_>) -> Option<Charge> {
    let done = matches!(step.act, Act::PartDone | Act::BioDone);
    if step.before != State::Released || !done || holds_a_reference(step.image?.count) {
        return None;
    }
    let first = step.object.release();
    Some(Charge { confidence: Confidence::Certain, what: DONE, first })
}
