//! A conversion runs in an interrupt (5.10 to 7.3).
//!
//! ```text
//!   ext4_convert_unwritten_io_end_vec entered ──► in a soft or hard interrupt, or in an NMI
//! ```
//!
//! It starts a journal handle and takes `i_data_sem`: it sleeps. ("ext4: fix crashes in dioread_nolock
//! mode", 74dae4278546, 4.5, was one.) Where the context could not be told nothing is charged. This rule
//! must never take the task for a party: in an interrupt it is a bystander.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::event::Context;
use crate::lifecycle::{Act, Gap, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::ConvertInIrq,
    claim: "extents were converted in an interrupt",
    ways: &[Way {
        needs: &[
            Need::any(Witness::Birth),
            Need::function(Witness::ConvertBegin),
            Need::any(Witness::Release),
        ],
        fixture: "convert_in_irq.trace",
        check,
    }],
    despite: &[Gap::AttachMissed, Gap::PutMissed, Gap::ClaimMissed],
    sound: "the context is the CPU's own preempt count at the entry of the conversion, which its caller \
            cannot change while it is inside; ext4 converts in the submitter's task and in a kworker only.",
    misses: "conversions in a task that may not sleep (a lock held, preemption off); kernels whose preempt \
             count is not found, where every context is unknown",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.act != Act::ConvertBegin || step.before == State::Released {
        return None;
    }
    let what = match step.stamp.context {
        Context::SoftIrq => "it was converted in a soft interrupt",
        Context::HardIrq => "it was converted in a hard interrupt",
        Context::Nmi => "it was converted in an NMI",
        Context::Task | Context::Unknown => return None,
    };
    Some(Charge { confidence: Confidence::Certain, what, first: None })
}
