//! Builds the last summary from what the pipeline kept.

use std::collections::BTreeMap;

use endiod_wire::wire::{LANES, RECORDS, subject};

use super::{
    Pipeline,
    stream::{CpuTotals, ProbeFate},
};
use crate::{
    detect::{Rule, Suppressed},
    event::{Cpu, FsyncPhase, ProgramBound},
    layout::Looks,
    lifecycle::{Gap, IoEndId, Orphan},
    metrics::IoEndPhase,
    oracle::in_step::{Divergence, Outcome},
    report::{
        Core, CpuStream, DirectIos, Evictions, Fsyncs, IoEnds, LayoutLooks, Probes, Quantiles,
        SCHEMA, Stream, Summary,
    },
};

impl Pipeline {
    /// Everything that the stream told, and nothing else: a recording gives the same.
    pub fn summary(&self) -> Summary {
        let tally = self.detectors.tally();
        Summary {
            schema: SCHEMA,
            kernel: self.release.map(|release| release.to_string()).unwrap_or_default(),
            subject: self.subject.map(|subject| match subject {
                subject::REPLICA => "the replica's completion core of 2012".to_owned(),
                other => format!("unknown ({other})"),
            }),
            seconds: self.totals.length().as_secs_f64(),
            probes: self.probes(),
            stream: self.stream(),
            io_ends: self.io_ends(),
            direct_ios: self.direct_ios(),
            fsyncs: self.fsyncs(),
            evictions: self.evictions(),
            durations: self.durations(),
            layout: self.layout.looks().map(|Looks { fits, misfits }| {
                let believed = self.layout.is_believed();
                LayoutLooks { believed, fits, misfits }
            }),
            watchpoints: self.watching.report(),
            findings: self.findings.iter().map(Summary::finding).collect(),
            findings_repeated: self.findings_left_out + tally.repeated.iter().sum::<u64>(),
            oracle: self.cores(),
            divergences: self.oracle.divergences().iter().map(|it| self.divergence(it)).collect(),
            suppressed: nonzero(Rule::ALL.iter().flat_map(|rule| {
                Suppressed::ALL.into_iter().map(move |reason| {
                    let name = format!("{}: {}", rule.label(), reason.label());
                    (name, tally.suppressed(*rule, reason))
                })
            })),
        }
    }

    /// Of the cores that describe this kernel; the others have nothing to say.
    fn cores(&self) -> BTreeMap<String, Core> {
        let judges = self.oracle.protocol().judges().iter();
        let told = judges.map(|judge| {
            let tally = self.oracle.tally(*judge);
            let core = Core {
                allowed: tally.outcome(Outcome::Allowed),
                diverged: tally.outcome(Outcome::Diverged),
                could_not_tell: tally.outcome(Outcome::CouldNotTell),
                states_mean: tally.states_mean().unwrap_or_default(),
            };
            (judge.label().to_owned(), core)
        });
        told.collect()
    }

    fn divergence(&self, divergence: &Divergence) -> String {
        let Divergence { judge, addr, born, at, act } = divergence;
        let id = self.key.object(IoEndId { addr: *addr, born: *born });
        let (core, after) = (judge.label(), at.since(*born).0);
        format!("{core} has no run with {act} of {id}, {after} ns after its birth")
    }

    fn probes(&self) -> Probes {
        let programs = |fate| self.totals.programs(fate);
        Probes {
            attached: programs(ProbeFate::Attached).count(),
            absent: programs(ProbeFate::Absent).count(),
            failed: programs(ProbeFate::Failed).map(str::to_owned).collect(),
            missed: nonzero(self.totals.missed_by_program()),
            uncounted: self.totals.uncounted().map(str::to_owned).collect(),
        }
    }

    fn stream(&self) -> Stream {
        let kinds = RECORDS.iter().zip(self.totals.by_kind);
        Stream {
            events: nonzero(kinds.map(|((_, name, _), count)| ((*name).to_owned(), count))),
            malformed: self.totals.malformed,
            program_losses: self.totals.left_out().map(|left_out| {
                let bounds = ProgramBound::ALL.into_iter();
                nonzero(bounds.map(|bound| (bound.label().to_owned(), left_out.at(bound))))
            }),
            cpus: self.cpus().collect(),
        }
    }

    /// Every CPU on which a program ran.
    pub(super) fn cpus(&self) -> impl Iterator<Item = CpuStream> {
        let cpus = (0..).zip(self.totals.cpus.iter().zip(&self.totals.past));
        cpus.filter(|(_, (now, past))| now.emitted + past.emitted > 0).map(|(cpu, (now, past))| {
            let CpuTotals { emitted, dropped } = *now;
            let mut sum = CpuStream { cpu, ..*past };
            sum.emitted += emitted;
            sum.dropped += dropped;
            self.add_sequence(sum, emitted)
        })
    }

    /// Adds what the sequence of a CPU's lanes says. A number is missing if it is below the highest
    /// and did not arrive, or was given out after that.
    fn add_sequence(&self, mut cpu: CpuStream, emitted: u64) -> CpuStream {
        let mut highest = 0;
        for lane in 0..LANES {
            let lane = u8::try_from(lane).expect("there are 8 lanes");
            let Some(counts) = self.sequences.lane(Cpu(cpu.cpu), lane) else { continue };
            cpu.seen += counts.seen;
            cpu.duplicates += counts.repeated;
            cpu.missing += counts.missing;
            highest += counts.highest;
        }
        cpu.missing += emitted.saturating_sub(highest);
        cpu
    }

    fn io_ends(&self) -> IoEnds {
        let summary = self.lifecycle.summary();
        let orphans = Orphan::ALL.iter().map(|orphan| (orphan.label(), summary.orphan(*orphan)));
        let gaps = Gap::ALL.iter().zip(summary.incomplete);
        IoEnds {
            born: summary.io_ends_born,
            adopted: summary.io_ends_adopted,
            released: summary.io_ends_released,
            lost: summary.io_ends_lost,
            in_flight: self.lifecycle.live()[0],
            complete: summary.lives_complete,
            ranges: self.meter.ranges,
            bios_attached: summary.bios_attached,
            bios_ended: summary.bios_ended,
            bios_done: summary.bios_done,
            bios_failed: summary.bios_failed,
            puts: summary.puts,
            queued: self.meter.queued,
            handed_over: summary.batches_queued,
            listed: summary.listed,
            worker_runs: summary.worker_runs,
            converted: summary.conversions,
            conversion_errors: summary.conversion_errors,
            orphans: nonzero(orphans.map(|(name, count)| (name.to_owned(), count))),
            incomplete: nonzero(gaps.map(|(gap, count)| (gap.label().to_owned(), count))),
        }
    }

    fn direct_ios(&self) -> DirectIos {
        let summary = self.lifecycle.summary();
        DirectIos {
            started: summary.direct_ios_begun,
            completed: summary.direct_ios_completed,
            not_direct: summary.direct_ios_refused,
            lost: summary.direct_ios_lost,
            in_flight: self.lifecycle.live()[1],
            errors: summary.direct_io_errors,
        }
    }

    fn fsyncs(&self) -> Fsyncs {
        let summary = self.lifecycle.summary();
        Fsyncs {
            started: summary.fsyncs_begun,
            completed: summary.fsyncs_completed,
            lost: summary.fsyncs_lost,
            in_flight: self.lifecycle.live()[2],
            errors: summary.fsync_errors,
        }
    }

    /// A stream of a kernel or of an agent that does not watch them says nothing of them.
    fn evictions(&self) -> Option<Evictions> {
        let summary = self.lifecycle.summary();
        self.meter.evictions_watched.then(|| Evictions {
            started: summary.evictions_begun,
            completed: summary.evictions_completed,
            lost: summary.evictions_lost,
            in_flight: self.lifecycle.live()[3],
        })
    }

    fn durations(&self) -> BTreeMap<String, Quantiles> {
        let durations = &self.meter.durations;
        let io_end = IoEndPhase::ALL.iter().map(|phase| format!("io_end {}", phase.label()));
        let phase = FsyncPhase::ALL.iter().map(|phase| format!("fsync phase {}", phase.label()));
        let fsync = durations.fsync.iter().map(|(op, octaves)| ((*op).to_owned(), octaves));
        io_end
            .zip(&durations.io_end)
            .chain([("direct I/O".to_owned(), &durations.direct_io)])
            .chain(fsync)
            .chain(phase.zip(&durations.fsync_phase))
            .chain([("eviction".to_owned(), &durations.eviction)])
            .filter_map(|(name, octaves)| Some((name, Quantiles::of(octaves)?)))
            .collect()
    }
}

fn nonzero(counts: impl Iterator<Item = (String, u64)>) -> BTreeMap<String, u64> {
    counts.filter(|(_, count)| *count > 0).collect()
}
