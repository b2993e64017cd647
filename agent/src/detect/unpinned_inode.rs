//! An io_end waits for its worker, and nothing keeps its inode in memory (5.10 to 7.3).
//!
//! ```text
//!   L1   last put leaves it to the worker, io_end->bio = NULL     the inode may be evicted any time
//!        the worker claims it, io_end->bio = NULL                 the same, where only the claim shows it
//!        on the list as the worker starts, io_end->bio = NULL     the same, by raw tracepoints
//!        inode destroyed, io_end in flight, queued or claimed     it was: list head, lock and work
//!                                                                 of the worker are freed memory
//! ```
//!
//! Nobody takes a reference to the inode: the only pin is the writeback of the folios whose bios are
//! chained at `io_end->bio`, for `truncate_inode_pages_final` waits for it in `ext4_evict_inode`. That
//! was the use after free of 6.15 to 6.15.9 and 6.16.0 (CVE-2025-38580), of a failed bio
//! without data_err=abort: `ext4_put_io_end_defer` listed it for its FAILED, `ext4_end_bio` had not chained
//! it ("ext4: fix inode use after free in ext4_end_io_rsv_work()", c678bdc99875, 6.17).
//!
//! Of a write without UNWRITTEN that failed the last put alone does not show that it is listed: whether it
//! is hangs on the kernel and on its mount. The claim by another task than the submitter's shows it.
//!
//! This rule must never take an inode for destroyed before `ext4_destroy_inode`: an eviction that began
//! may wait.

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::event::Context;
use crate::lifecycle::{Act, IoEndStep, Move, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::UnpinnedInode,
    claim: "an io_end was left to a worker while nothing kept its inode in memory",
    ways: &[
        Way {
            needs: &[
                Need::function(Witness::Birth),
                Need::function(Witness::Attach),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::Release),
                Need::function(Witness::InodeDestroy),
                Need::fact(Fact::BiosChained),
            ],
            fixture: "unpinned_inode_destroyed.trace",
            check: |step| queued(step).or_else(|| claimed(step)).or_else(|| destroyed(step)),
        },
        Way {
            needs: &[
                Need::function(Witness::Birth),
                Need::function(Witness::Attach),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::Release),
                Need::function(Witness::InodeDestroy),
            ],
            fixture: "unpinned_inode_destroyed.trace",
            check: destroyed,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Attach),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::any(Witness::Release),
                Need::fact(Fact::BiosChained),
            ],
            fixture: "unpinned_inode_queued.trace",
            check: |step| queued(step).or_else(|| claimed(step)),
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::tracepoint(Witness::WorkerBegin),
                Need::any(Witness::Release),
                Need::fact(Fact::BiosChained),
            ],
            fixture: "raw_tp_unpinned_inode.trace",
            check: listed,
        },
    ],
    despite: &[],
    sound: "L1: ext4_end_bio chains a bio before it puts its reference, and a list holds what was put, \
            so the last put, the walk of the list and the claim see a chain if there is one; it is the \
            object's own word. Destroyed: the inode is its address, which the io_end was born with; evict() \
            calls ext4_destroy_inode after ext4_evict_inode waited for all writeback, and writeback \
            ends after ext4_release_io_end was entered.",
    misses: "an inode that goes while its io_end is final, or without its work ever having been queued; \
            with raw tracepoints the end of the inode, and what is added to the list after its walk",
};

fn queued(step: &IoEndStep<'_>) -> Option<Charge> {
    let image = step.image?;
    if step.action != Move::LastPutQueues || image.bio != 0 {
        return None;
    }
    let proven = image.count == 1;
    let confidence = if proven { Confidence::Certain } else { Confidence::Likely };
    let what = match step.object.bios() {
        (0, _) => "it was left to the worker without a bio: nothing pins its inode",
        _ => "it was left to the worker without a bio chained to it: nothing pins its inode",
    };
    Some(Charge { confidence, what, first: None })
}

fn claimed(step: &IoEndStep<'_>) -> Option<Charge> {
    let object = step.object;
    let claims = step.act == Act::Claim && step.before == State::Final;
    let by_worker = step.stamp.context == Context::Task && step.stamp.task != object.owner();
    let unpinned = step.image?.bio == 0;
    (claims && by_worker && unpinned).then_some(Charge {
        confidence: Confidence::Certain,
        what: "its worker claimed it without a bio chained to it: nothing pinned its inode",
        first: None,
    })
}

fn listed(step: &IoEndStep<'_>) -> Option<Charge> {
    let unpinned = step.act == Act::Listed && step.image?.bio == 0;
    (unpinned && step.before != State::Released).then_some(Charge {
        confidence: Confidence::Certain,
        what: "it was on the worker's list without a bio chained to it: nothing pins its inode",
        first: None,
    })
}

fn destroyed(step: &IoEndStep<'_>) -> Option<Charge> {
    let charge = |confidence, what, first| Some(Charge { confidence, what, first });
    if step.act != Act::InodeDestroyed {
        return None;
    }
    match step.before {
        State::InFlight => {
            charge(Confidence::Likely, "its inode was destroyed while it was in flight", None)
        }
        State::Queued => charge(
            Confidence::Likely,
            "its inode was destroyed while it waited for its worker",
            None,
        ),
        State::Claimed | State::Converted => charge(
            Confidence::Certain,
            "its inode was destroyed while it was converted",
            step.object.claim(),
        ),
        _ => None,
    }
}
