//! Totals of the stream itself: what was emitted, lost, missed and malformed.
//!
//! LOSS and MISSES carry cumulative totals; what is counted is how much they rose.

use endiod_wire::wire::RECORDS;

use crate::{
    event::{Cpu, ProbeId},
    limits,
    probes::PROBES,
};

/// One CPU's totals as its programs counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuTotals {
    pub(super) emitted: u64,
    pub(super) dropped: u64,
}

pub(super) struct Totals {
    /// Decoded records, in the order of `RECORDS`.
    pub(super) by_kind: [u64; RECORDS.len()],
    pub(super) malformed: u64,
    pub(super) cpus: Vec<CpuTotals>,
    missed: Vec<u64>,
    /// Numbers that had not arrived at the last TICK, and those that were already told as lost.
    missing: u64,
    missing_told: u64,
}

impl Totals {
    pub(super) fn new() -> Self {
        Totals {
            by_kind: [0; RECORDS.len()],
            malformed: 0,
            cpus: vec![CpuTotals::default(); limits::CPUS_MAX],
            missed: vec![0; PROBES.len()],
            missing: 0,
            missing_told: 0,
        }
    }

    /// Takes a CPU's totals; how many more were dropped.
    pub(super) fn loss(&mut self, cpu: Cpu, emitted: u64, dropped: u64) -> u64 {
        let Some(totals) = self.cpus.get_mut(usize::from(cpu.0)) else { return 0 };
        let before = std::mem::replace(totals, CpuTotals { emitted, dropped });
        dropped.saturating_sub(before.dropped)
    }

    /// Takes a probe's total; how many more were missed.
    pub(super) fn missed(&mut self, probe: ProbeId, total: u64) -> u64 {
        let index = usize::try_from(probe.0).unwrap_or(usize::MAX);
        let Some(missed) = self.missed.get_mut(index) else { return 0 };
        total.saturating_sub(std::mem::replace(missed, total))
    }

    /// Takes how many numbers have not arrived by this TICK; whether more than before are lost. What
    /// is missing at two TICKs is: a program that merely lost the CPU goes on within a second, and
    /// a record that found no room is told by LOSS at once.
    pub(super) fn missing_rose(&mut self, missing: u64) -> bool {
        let lost = std::mem::replace(&mut self.missing, missing).min(missing);
        std::mem::replace(&mut self.missing_told, lost) < lost
    }

    /// Hits missed, by program.
    pub(super) fn missed_by_program(&self) -> impl Iterator<Item = (String, u64)> {
        PROBES.iter().zip(&self.missed).map(|(probe, missed)| (probe.program.to_owned(), *missed))
    }
}
