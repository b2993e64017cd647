//! What somebody who looks on wants to know each second: numbers that are there, and what is in flight.
//!
//! It must stay cheap: nothing is built that grows with the findings.

use serde::Serialize;

use super::{Pipeline, stream::ProbeFate};
use crate::{
    detect::{Rule, Suppressed},
    event::Nanos,
    lifecycle::{InFlight, State},
    oracle::in_step::{Judge, Outcome},
};

/// Whether what is told can be believed to be all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `uname -r`; empty before a HOST.
    pub kernel: String,
    /// Probes that are attached now.
    pub attached: usize,
    /// Probes that could not be.
    pub failed: usize,
    /// Hits that the kernel skipped.
    pub missed: u64,
    /// Records that found no room in the ring.
    pub lost: u64,
    /// What the programs left out at their bounds.
    pub left_out: u64,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// Verdicts that were not pronounced.
    pub suppressed: u64,
    /// Events that a reference core has no run with.
    pub diverged: u64,
    /// Findings, those that are not kept included.
    pub findings: u64,
}

impl Pipeline {
    /// As it is now.
    pub fn health(&self) -> Health {
        let tally = self.detectors.tally();
        let suppressed = Rule::ALL.iter().flat_map(|rule| {
            Suppressed::ALL.into_iter().map(|reason| tally.suppressed(*rule, reason))
        });
        let diverged = Judge::ALL.into_iter().map(|it| self.oracle.tally(it));
        Health {
            kernel: self.release.map(|release| release.to_string()).unwrap_or_default(),
            attached: self.attached.len(),
            failed: self.totals.programs(ProbeFate::Failed).count(),
            missed: self.totals.missed_by_program().map(|(_, missed)| missed).sum(),
            lost: self.cpus().map(|cpu| cpu.dropped).sum(),
            left_out: self.totals.left_out().map_or(0, |left_out| left_out.0.iter().sum()),
            malformed: self.totals.malformed,
            suppressed: suppressed.sum(),
            diverged: diverged.map(|tally| tally.outcome(Outcome::Diverged)).sum(),
            findings: self.findings.len() as u64 + self.findings_left_out,
        }
    }

    /// What is in flight at `now`; walks the live objects.
    pub fn in_flight(&self, now: Nanos) -> InFlight {
        self.lifecycle.in_flight(now)
    }

    /// States that an io_end can be seen in on this stream.
    pub fn states_told(&self) -> impl Iterator<Item = State> {
        State::live().filter(|state| self.lifecycle.tells(*state))
    }
}
