//! An io_end is freed while another task processes it: the defect of 2012.
//!
//! ```text
//!   task P   claim, conversion entered ───────────────────────► returns into freed memory
//!   task W                 release, before that conversion has returned
//! ```
//!
//! "ext4: fix race between sync and completed io work" (491caa43639a, 3.3): the fsync path took an io_end
//! off the list and converted it, the work routine found the list empty and freed it. In the core of 2012
//! the one that frees need not be the one that converted, so only an open conversion is charged; from 3.11
//! on both are one task, and the same order is the same crime (5.10 to 7.3).
//!
//! This rule must never charge a release by the task that has the claim.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{IoEndStep, Irregular, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::WorkerFreedInUse,
    claim: "an io_end was freed while another task processed it",
    ways: &[Way {
        needs: &[
            Need::any(Witness::Birth),
            Need::function(Witness::ConvertBegin),
            Need::function(Witness::ConvertEnd),
            Need::function(Witness::Release),
        ],
        fixture: "worker_freed_in_use.trace",
        check,
    }],
    despite: &[],
    sound: "the claim is the entry of a function that works on the io_end until its conversion returns, which \
            its own probe tells; a release that comes between the two by another task frees what that \
            function still uses. Claim and return are in program order of one task, and no reordering of \
            two CPUs puts a release that came after the return before it: the record of the return is \
            placed before the function gives up what the release waits for.",
    misses: "a release between the return of the conversion and the claimer's last use; a free that does not \
             pass ext4_release_io_end",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let in_use = step.before == State::Claimed
        && step.action.releases()
        && step.irregular == Some(Irregular::ForeignClaim);
    in_use.then_some(Charge {
        confidence: Confidence::Certain,
        what: "it was freed before another task's conversion of it had returned",
        first: step.object.claim(),
    })
}
