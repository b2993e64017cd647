//! A reference core has no run with what was seen of one io_end (5.5 to 7.3, and 3.2 to 3.6 by name).
//!
//! ```text
//!   event ──► oracle: sets of states ──► empty: no run of the core explains it ──► candidate
//! ```
//!
//! No step is judged here: the cores judge the events by themselves, and what they say is heard beside
//! the step of the same event, which lends object, parties and history. This rule must never share code
//! with the oracle beyond its words.

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::lifecycle::{IoEndStep, State};
use crate::oracle::in_step::{Judge, Said};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::OracleDivergence,
    claim: "no run of a reference core explains what was seen of an io_end",
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
            Need::fact(Fact::CoreDescribed),
        ],
        fixture: "oracle_divergence.trace",
        check: |_| None,
    }],
    despite: &[],
    sound: "each core keeps every state that explains what was seen, widened by every step that no probe \
            sees; in every interleaving of small worlds of a sound core the set is never empty, which a \
            test explores; and nothing is judged of a life that a loss may have touched, of a kernel that \
            no core describes, or where a program is not fentry's.",
    misses: "what no event and no image shows (agent/docs/oracle.md has the share and the kinds); what \
             follows the first divergence of an object; an object that found no room in the io_end \
             table, whose divergence is counted and not told",
};

/// What the cores said at the event of this step, if one of them diverged there.
pub(super) fn charge(said: &Said, step: &IoEndStep<'_>) -> Option<Charge> {
    let id = step.object.id();
    if !said.is_fresh() || said.addr != id.addr || said.born != Some(id.born) {
        return None;
    }
    let (old, new) =
        (said.fresh.diverged(Judge::CompletedList), said.fresh.diverged(Judge::Refcounted));
    let what = match (old, new) {
        (true, true) => "neither the core of 2012 nor that of 5.5 to 7.3 has a run with it",
        (true, false) => "the fixed core of 2012 has no run with it",
        (false, _) => "the core of 5.5 to 7.3 has no run with it",
    };
    let object = step.object;
    let first = match step.before {
        State::Released => object.release(),
        _ => object.claim().filter(|claim| claim.task != step.stamp.task),
    };
    Some(Charge { confidence: Confidence::Likely, what, first })
}
