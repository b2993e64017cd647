//! Totals of the stream itself: what was emitted, lost, missed and malformed.
//!
//! LOSS, MISSES and PROGRAM_LOSS carry cumulative totals; what is counted is how much they rose. The programs count
//! from 0 each time they are loaded, so a HOST, which begins a new stream, begins the totals anew and
//! adds the old ones up.

use endiod_wire::wire::RECORDS;

use crate::{
    event::{Backend, Cpu, LeftOut, Nanos, ProbeId},
    limits,
    probes::{Hook, PROBES},
    report::CpuStream,
};

/// What became of a probe, by its last ATTACH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProbeFate {
    Attached,
    /// This kernel has no such function and needs none.
    Absent,
    Failed,
}

impl ProbeFate {
    pub(super) fn of(backend: Option<Backend>, failed: bool) -> Self {
        match (backend, failed) {
            (Some(_), _) => ProbeFate::Attached,
            (None, false) => ProbeFate::Absent,
            (None, true) => ProbeFate::Failed,
        }
    }
}

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
    /// By CPU, sums over the streams that are over.
    pub(super) past: Vec<CpuStream>,
    /// By index in `PROBES`; `None` before a MISSES, which never comes where the kernel does not count.
    missed: Vec<Option<u64>>,
    /// Likewise, sums over the streams that are over.
    past_missed: Vec<u64>,
    /// What the programs left out; `None` until a stream tells.
    left_out: Option<LeftOut>,
    /// Likewise, of the streams that are over.
    past_left_out: Option<LeftOut>,
    /// By index in `PROBES`; `None` before an ATTACH.
    fates: [Option<ProbeFate>; PROBES.len()],
    /// Earliest and latest record.
    span: Option<(Nanos, Nanos)>,
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
            past: vec![CpuStream::default(); limits::CPUS_MAX],
            missed: vec![None; PROBES.len()],
            past_missed: vec![0; PROBES.len()],
            left_out: None,
            past_left_out: None,
            fates: [None; PROBES.len()],
            span: None,
            missing: 0,
            missing_told: 0,
        }
    }

    /// Begins a new stream; `streams` are the sums per CPU up to here.
    pub(super) fn restart(&mut self, streams: impl Iterator<Item = CpuStream>) {
        for stream in streams {
            self.past[usize::from(stream.cpu)] = stream;
        }
        self.cpus.fill(CpuTotals::default());
        self.fates.fill(None);
        for (past, missed) in self.past_missed.iter_mut().zip(&mut self.missed) {
            // Counted once is counted ever after: 0 and not `None`.
            *past += missed.as_mut().map_or(0, std::mem::take);
        }
        self.past_left_out = self.left_out();
        self.left_out = None;
        (self.missing, self.missing_told) = (0, 0);
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
        total.saturating_sub(missed.replace(total).unwrap_or(0))
    }

    /// Takes what the programs left out; how much more that is.
    pub(super) fn program_loss(&mut self, left_out: LeftOut) -> LeftOut {
        left_out.since(self.left_out.replace(left_out).unwrap_or_default())
    }

    /// What the programs left out; `None` if no stream told.
    pub(super) fn left_out(&self) -> Option<LeftOut> {
        match (self.past_left_out, self.left_out) {
            (Some(past), Some(now)) => Some(past.and(now)),
            (past, now) => past.or(now),
        }
    }

    /// Takes how many numbers have not arrived by this TICK; whether more than before are lost. What
    /// is missing at two TICKs is: a program that merely lost the CPU goes on within a second, and
    /// a record that found no room is told by LOSS at once.
    pub(super) fn missing_rose(&mut self, missing: u64) -> bool {
        let lost = std::mem::replace(&mut self.missing, missing).min(missing);
        std::mem::replace(&mut self.missing_told, lost) < lost
    }

    /// Takes what became of a probe; one that this version does not know is left out.
    pub(super) fn probe(&mut self, probe: ProbeId, fate: ProbeFate) {
        let index = usize::try_from(probe.0).unwrap_or(usize::MAX);
        if let Some(known) = self.fates.get_mut(index) {
            *known = Some(fate);
        }
    }

    /// What became of a program; `None` before its ATTACH, or if there was none.
    pub(super) fn fate(&self, program: &str) -> Option<ProbeFate> {
        let mut fates = PROBES.iter().zip(self.fates);
        fates.find(|(probe, _)| probe.program == program).and_then(|(_, fate)| fate)
    }

    /// Programs with that fate.
    pub(super) fn programs(&self, fate: ProbeFate) -> impl Iterator<Item = &'static str> {
        let fates = PROBES.iter().zip(self.fates);
        fates.filter(move |(_, found)| *found == Some(fate)).map(|(probe, _)| probe.program)
    }

    /// Takes a record's time.
    pub(super) fn saw(&mut self, at: Nanos) {
        let (first, last) = self.span.unwrap_or((at, at));
        self.span = Some((first.min(at), last.max(at)));
    }

    /// Time from the first record to the last; those that a slice repeats do not count.
    pub(super) fn length(&self) -> Nanos {
        self.span.map_or(Nanos(0), |(first, last)| last.since(first))
    }

    /// Hits missed, by program.
    pub(super) fn missed_by_program(&self) -> impl Iterator<Item = (String, u64)> {
        let both = self.missed.iter().zip(&self.past_missed);
        let sums = both.map(|(missed, past)| missed.unwrap_or(0) + past);
        PROBES.iter().zip(sums).map(|(probe, missed)| (probe.program.to_owned(), missed))
    }

    /// Attached programs whose hits every kernel skips, and this one without counting them.
    pub(super) fn uncounted(&self) -> impl Iterator<Item = &'static str> {
        let rows = PROBES.iter().zip(self.fates).zip(&self.missed);
        let skipped = rows.filter(|((probe, fate), missed)| {
            let is_on = *fate == Some(ProbeFate::Attached);
            is_on && probe.hook == Hook::Kprobe && missed.is_none()
        });
        skipped.map(|((probe, _), _)| probe.program)
    }
}
