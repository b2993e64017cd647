//! An fsync returns 0 before the write that it had to wait for is converted (5.10 to 7.3).
//!
//! ```text
//!   submitter's put ──► fsync waits for writeback ──► fsync returns 0 ──► claim, conversion
//!                                                     │                   after a crash the blocks
//!                                                     │                   are unwritten: read as zeros
//!                                                     └ InFlight, Queued or Claimed: illegal
//! ```
//!
//! What an fsync had to wait for is `lifecycle/pass_by.rs`. A bio that ends while UNWRITTEN is set is
//! chained to its io_end, and the writeback of its folios ends in `ext4_release_io_end` (`ext4_end_bio`,
//! 5.10 to 7.3; before "ext4: defer clearing of PageWriteback after extent conversion", 3.11, an fsync
//! flushed the list instead).
//!
//! This rule must never charge an io_end whose bios could all have been finished before its release: one
//! that was not seen to chain any, or that is Final.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Act, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::FsyncBeforeConversion,
    claim: "an fsync returned 0 before a write that it had to wait for was converted",
    ways: &[Way {
        needs: &[
            Need::function(Witness::Birth),
            Need::function(Witness::Attach),
            Need::function(Witness::BioEnd),
            Need::function(Witness::Put),
            Need::function(Witness::PutDefer),
            Need::function(Witness::ConvertBegin),
            Need::function(Witness::ConvertEnd),
            Need::function(Witness::Release),
            Need::function(Witness::FsyncBegin),
            Need::function(Witness::FsyncEnd),
            Need::function(Witness::DataWait),
        ],
        fixture: "fsync_before_conversion_queued.trace",
        check,
    }],
    despite: &[],
    sound: "the submitter puts its reference after it set the writeback of all its folios, and the \
            wait begins after that put was entered: so the wait covers all that are still under \
            writeback. In flight, a bio has not entered ext4_end_bio. Queued or claimed, a chained bio \
            was seen in the io_end, and its folios' writeback ends after ext4_release_io_end was \
            entered. The folios are the fsync's own: it is of the whole file, or its task made the \
            io_end within this call, whose data_submit takes no folio out of its range.",
    misses: "range syncs (O_SYNC writes) that another task's writeback served; io_ends that were not \
            submitted when the wait began; a write whose folios are no longer under writeback though \
            none was chained; what is over before the fsync returns, however late",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.act != Act::FsyncReturned {
        return None;
    }
    let object = step.object;
    let (attached, ended) = object.bios();
    let charge = |confidence, what, first| Some(Charge { confidence, what, first });
    match step.before {
        State::InFlight if object.was_unwritten() && attached > ended => charge(
            Confidence::Likely,
            "an fsync that had to wait for it returned 0 while a bio of it was in flight",
            None,
        ),
        State::Queued if object.was_pinned() => charge(
            Confidence::Likely,
            "an fsync that had to wait for it returned 0 while it waited for its conversion",
            None,
        ),
        State::Claimed if object.was_pinned() => charge(
            Confidence::Certain,
            "an fsync that had to wait for it returned 0 while its conversion was under way",
            object.claim(),
        ),
        _ => None,
    }
}
