//! What a run says at its end: conservation totals, phases, findings; as text or as JSON.
//!
//! The text is for people, the JSON for tests and programs; both are written from [`Summary`]. It
//! must never compute: what is not in the summary is not known.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{event::ProgramBound, finding::Finding, octaves::Octaves};

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// Everything that one run saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `uname -r`.
    pub kernel: String,
    /// What was watched, where it was not that kernel's ext4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// From the first record to the last, seconds.
    pub seconds: f64,
    /// What became of the probes.
    pub probes: Probes,
    /// The stream and what was lost of it.
    pub stream: Stream,
    /// io_ends.
    pub io_ends: IoEnds,
    /// Direct writes.
    pub direct_ios: DirectIos,
    /// fsyncs.
    pub fsyncs: Fsyncs,
    /// Evictions of inodes with pages, where they are watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evictions: Option<Evictions>,
    /// Durations by what they measure.
    pub durations: BTreeMap<String, Quantiles>,
    /// Where the layout of io_ends had to be assumed, what was seen of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<LayoutLooks>,
    /// What the watchpoints saw, where there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchpoints: Option<Watched>,
    /// Confirmed findings, as their own schema says.
    pub findings: Vec<serde_json::Value>,
    /// Findings beyond the first of their object and rule, and those that found no room.
    pub findings_repeated: u64,
    /// Verdicts that were not pronounced, by rule and reason.
    pub suppressed: BTreeMap<String, u64>,
    /// What the reference cores said, by core.
    #[serde(default)]
    pub oracle: BTreeMap<String, Core>,
    /// The first divergences, as text.
    #[serde(default)]
    pub divergences: Vec<String>,
}

/// io_ends whose layout was looked at, where no BTF describes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayoutLooks {
    /// Whether the bytes of io_ends were believed at the end: one fitted and none did not.
    pub believed: bool,
    /// That had the one that was assumed.
    pub fits: u64,
    /// That had another.
    pub misfits: u64,
}

/// The watchpoints on flags of io_ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Slots at the end.
    pub slots: u32,
    /// CPUs that were watched at the end.
    pub cpus: u32,
    /// io_ends that had one.
    pub io_ends: u64,
    /// io_ends that were over before they had one.
    pub late: u64,
    /// How long io_ends had one, all together.
    pub armed_seconds: f64,
    /// That as a share of the lives of all io_ends; absent if none was over.
    pub coverage: Option<f64>,
    /// Stores that they saw.
    pub hits: u64,
    /// Of those, the ones that are not in the stream.
    pub lost: u64,
    /// Interrupts sent to CPUs for them.
    pub interrupts: u64,
}

/// What a reference core said of the events of io_ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Core {
    /// It has a run with the event.
    pub allowed: u64,
    /// It has none, and nothing was lost.
    pub diverged: u64,
    /// Something was lost, its birth or a bio of it was not seen, a probe is missing or is not fentry, or
    /// it does not describe this kernel.
    pub could_not_tell: u64,
    /// States that explain an io_end after an event, in the mean.
    pub states_mean: f64,
}

/// What became of the probes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probes {
    /// Attached.
    pub attached: usize,
    /// This kernel has no such function and needs none.
    pub absent: usize,
    /// Programs that could not be attached; the log says why.
    pub failed: Vec<String>,
    /// Hits that the kernel skipped because the program was already running on that CPU, of kprobes also
    /// because another one was, by program.
    pub missed: BTreeMap<String, u64>,
    /// Attached programs whose hits the kernel skips and does not count: kprobes before 6.7.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uncounted: Vec<String>,
}

/// The stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Records of the programs that were decoded, by kind.
    pub events: BTreeMap<String, u64>,
    /// Records that could not be decoded.
    pub malformed: u64,
    /// What the programs left out at their own bounds, by bound; absent where the stream does not tell,
    /// as those of earlier agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program_losses: Option<BTreeMap<String, u64>>,
    /// Per CPU.
    pub cpus: Vec<CpuStream>,
}

/// One CPU's part of the stream: `seen + dropped = emitted` once the programs are detached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuStream {
    /// The CPU.
    pub cpu: u16,
    /// Records that the programs tried to emit, as they counted; since they were attached, also where
    /// a slice shows less.
    pub emitted: u64,
    /// Of those, records that found no room in the ring, as they counted.
    pub dropped: u64,
    /// Distinct sequence numbers that arrived.
    pub seen: u64,
    /// Numbers that never arrived.
    pub missing: u64,
    /// Numbers that arrived twice.
    pub duplicates: u64,
}

/// io_ends: `born + adopted = released + lost + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoEnds {
    /// Births seen.
    pub born: u64,
    /// First seen after their birth.
    pub adopted: u64,
    /// Releases seen, of those two.
    pub released: u64,
    /// Of those two, whose address was born again before a release was seen.
    pub lost: u64,
    /// Alive at the end.
    pub in_flight: u64,
    /// Lives seen from birth to release without a gap.
    pub complete: u64,
    /// Ranges added.
    pub ranges: u64,
    /// Bios attached.
    pub bios_attached: u64,
    /// Bios ended.
    pub bios_ended: u64,
    /// Bios that the device was done with, where their ends are not seen.
    pub bios_done: u64,
    /// Of those two, the ones that failed, in part or in whole.
    pub bios_failed: u64,
    /// References dropped.
    pub puts: u64,
    /// Lives that were queued for the worker; where puts are not seen, that were seen on its list.
    pub queued: u64,
    /// Batches that were handed to a worker, where that is seen.
    pub handed_over: u64,
    /// io_ends seen on the list of a worker that starts, where that is seen.
    pub listed: u64,
    /// Worker runs.
    pub worker_runs: u64,
    /// Conversions that returned.
    pub converted: u64,
    /// Conversions that returned an error.
    pub conversion_errors: u64,
    /// Events of an io_end that had no start, and what else did not fit, by kind.
    pub orphans: BTreeMap<String, u64>,
    /// Lives with a gap, by reason.
    pub incomplete: BTreeMap<String, u64>,
}

/// Direct writes: `started = completed + not_direct + lost + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectIos {
    /// Begun with IOCB_DIRECT.
    pub started: u64,
    /// Completed by `ext4_dio_write_end_io`.
    pub completed: u64,
    /// Returned without: refused, or written through the page cache.
    pub not_direct: u64,
    /// Whose end was not seen.
    pub lost: u64,
    /// Open at the end.
    pub in_flight: u64,
    /// Completed with an error.
    pub errors: u64,
}

/// fsyncs: `started = completed + lost + in_flight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fsyncs {
    /// Entries of `ext4_sync_file`.
    pub started: u64,
    /// Returns.
    pub completed: u64,
    /// Whose return was not seen.
    pub lost: u64,
    /// Open at the end.
    pub in_flight: u64,
    /// Returned with an error.
    pub errors: u64,
}

/// Evictions of inodes that had pages: `started = completed + lost + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evictions {
    /// Entries of `ext4_evict_inode`.
    pub started: u64,
    /// Returns.
    pub completed: u64,
    /// Whose return was not seen.
    pub lost: u64,
    /// Open at the end.
    pub in_flight: u64,
}

/// A distribution; quantiles are upper edges of octaves, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: u64,
    /// Half took no longer.
    pub p50_seconds: f64,
    /// 99 of 100 took no longer.
    pub p99_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
}

impl Quantiles {
    /// Of what was observed; `None` when nothing was.
    pub fn of(octaves: &Octaves) -> Option<Self> {
        Some(Quantiles {
            count: octaves.count(),
            p50_seconds: octaves.quantile_secs(0.5)?,
            p99_seconds: octaves.quantile_secs(0.99)?,
            max_seconds: octaves.max().as_secs_f64(),
        })
    }
}

impl Summary {
    /// Records the programs tried to emit, all CPUs.
    pub fn emitted(&self) -> u64 {
        self.stream.cpus.iter().map(|cpu| cpu.emitted).sum()
    }

    /// Records that found no room in the ring, all CPUs.
    pub fn dropped(&self) -> u64 {
        self.stream.cpus.iter().map(|cpu| cpu.dropped).sum()
    }

    /// What the programs left out at that bound of theirs; 0 also where the stream does not tell.
    pub fn left_out(&self, bound: ProgramBound) -> u64 {
        let told = self.stream.program_losses.as_ref();
        told.and_then(|losses| losses.get(bound.label())).copied().unwrap_or(0)
    }

    /// Hits that the kernel skipped, all programs.
    pub fn missed(&self) -> u64 {
        self.probes.missed.values().sum()
    }

    /// Events that a reference core has no run with.
    pub fn diverged(&self) -> u64 {
        self.oracle.values().map(|core| core.diverged).sum()
    }

    /// Does a reference core describe this kernel?
    pub fn oracle_knows(&self) -> bool {
        !self.oracle.is_empty()
    }

    /// A finding as its JSON.
    pub fn finding(finding: &Finding) -> serde_json::Value {
        serde_json::to_value(finding).expect("a finding has string keys and finite numbers only")
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { kernel, seconds, probes, io_ends, direct_ios, fsyncs, .. } = self;
        writeln!(f, "kernel      {kernel}, watched for {seconds:.1} s")?;
        if let Some(subject) = &self.subject {
            writeln!(f, "subject     {subject}, and not the kernel's ext4")?;
        }
        write!(f, "probes      {} attached", probes.attached)?;
        write!(f, ", {} failed, {} hits missed", probes.failed.len(), self.missed())?;
        match probes.uncounted.len() {
            0 => writeln!(f)?,
            kprobes => writeln!(f, ", those of {kprobes} kprobes not counted")?,
        }
        write!(f, "events      {} emitted, {} lost", self.emitted(), self.dropped())?;
        writeln!(f, ", {} malformed", self.stream.malformed)?;
        for (bound, count) in self.stream.program_losses.iter().flatten() {
            writeln!(f, "            {count} left out by a program at its bound {bound}")?;
        }
        write!(f, "io_ends     {} born, {} adopted", io_ends.born, io_ends.adopted)?;
        write!(f, ", {} released, {} ended unseen", io_ends.released, io_ends.lost)?;
        writeln!(f, ", {} in flight", io_ends.in_flight)?;
        write!(f, "            {} bios attached", io_ends.bios_attached)?;
        let ended = io_ends.bios_ended + io_ends.bios_done;
        writeln!(f, ", {ended} ended; {} queued for the worker", io_ends.queued)?;
        write!(
            f,
            "direct I/O  {} started, {} completed",
            direct_ios.started, direct_ios.completed
        )?;
        writeln!(f, ", {} not direct, {} errors", direct_ios.not_direct, direct_ios.errors)?;
        write!(f, "fsync       {} started, {} returned", fsyncs.started, fsyncs.completed)?;
        writeln!(f, ", {} errors", fsyncs.errors)?;
        if let Some(Evictions { started, completed, .. }) = self.evictions {
            writeln!(f, "evictions   {started} started, {completed} returned")?;
        }
        self.fmt_layout(f)?;
        self.fmt_watchpoints(f)?;
        self.fmt_oracle(f)?;
        self.fmt_durations(f)?;
        self.fmt_findings(f)
    }
}

impl Summary {
    fn fmt_durations(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.durations.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<28}{:>8}{:>12}{:>12}{:>12}",
            "durations", "count", "p50 ≤", "p99 ≤", "max"
        )?;
        for (name, row) in &self.durations {
            let Quantiles { count, p50_seconds, p99_seconds, max_seconds } = *row;
            let [p50, p99, max] = [p50_seconds, p99_seconds, max_seconds].map(human_seconds);
            writeln!(f, "{name:<28}{count:>8}{p50:>12}{p99:>12}{max:>12}")?;
        }
        Ok(())
    }

    fn fmt_layout(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(LayoutLooks { believed, fits, misfits }) = self.layout else { return Ok(()) };
        let rules = if believed { "" } else { "; not believed: no rule is armed" };
        writeln!(f, "layout      assumed; {fits} io_ends had it, {misfits} another{rules}")
    }

    fn fmt_watchpoints(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(watched) = self.watchpoints else { return Ok(()) };
        let Watched { slots, cpus, io_ends, late, armed_seconds, hits, lost, .. } = watched;
        write!(
            f,
            "watchpoints {slots} on {cpus} CPUs: {io_ends} io_ends for {armed_seconds:.3} s"
        )?;
        if let Some(coverage) = watched.coverage {
            write!(f, ", {:.1} % of all lives", coverage * 100.0)?;
        }
        writeln!(f, "; {late} too late")?;
        let interrupts = watched.interrupts;
        writeln!(f, "            {hits} stores seen, {lost} lost; {interrupts} interrupts sent")
    }

    fn fmt_oracle(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, core) in &self.oracle {
            let Core { allowed, diverged, could_not_tell, states_mean } = core;
            write!(f, "oracle      {name}: {allowed} events allowed, {diverged} diverged")?;
            write!(f, ", {could_not_tell} could not be told")?;
            writeln!(f, "; {states_mean:.2} states explain an io_end")?;
        }
        for divergence in &self.divergences {
            writeln!(f, "divergence  {divergence}")?;
        }
        Ok(())
    }

    fn fmt_findings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        if self.findings.is_empty() {
            writeln!(f, "findings    none")?;
        }
        for finding in &self.findings {
            writeln!(f, "finding     {finding}")?;
        }
        for (reason, count) in &self.suppressed {
            writeln!(f, "suppressed  {count} × {reason}")?;
        }
        Ok(())
    }
}

/// Seconds in the unit that fits.
pub(crate) fn human_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.1} µs", s * 1e6),
        s if s < 1.0 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.2} s"),
    }
}
