//! Steps to metrics, and to the durations of the last summary.
//!
//! Device handles are resolved once and kept; per step there is one look-up by device and a few
//! atomic additions.

use std::collections::BTreeMap;

use crate::{
    detect::{Detectors, Lack, Rule, Suppressed, Tally, Verdict},
    event::{DevId, FsyncPhase, InodeId, Nanos, ProbeId, WatchTotals},
    finding::Finding,
    lifecycle::{
        Act, DirectIoDone, FsyncDone, IoEnd, IoEndStep, Lifecycle, Move, Phases, State, Step, Table,
    },
    limits,
    metrics::{DeviceMetrics, IoEndPhase, Metrics, Scope, TableUse, WatchpointsUse},
    octaves::Octaves,
    oracle::in_step::{Judge, Oracle, Outcome},
    probes::Witness,
    witnesses::Witnesses,
};

use super::{
    names,
    watching::{Hits, Watching},
};

/// Durations of everything that was timed, all devices together.
#[derive(Default)]
pub(super) struct Durations {
    pub(super) io_end: [Octaves; 5],
    pub(super) direct_io: Octaves,
    pub(super) fsync: BTreeMap<&'static str, Octaves>,
    pub(super) fsync_phase: [Octaves; 4],
    pub(super) eviction: Octaves,
}

pub(super) struct Meter {
    metrics: Metrics,
    unknown: DeviceMetrics,
    /// Those beyond the bound of `devices`, once there are any.
    others: Option<DeviceMetrics>,
    devices: BTreeMap<DevId, DeviceMetrics>,
    pub(super) durations: Durations,
    pub(super) ranges: u64,
    /// Lives that were left to the worker.
    pub(super) queued: u64,
    /// Evictions were watched, if only for a time.
    pub(super) evictions_watched: bool,
    /// States that an io_end could be seen in, by [`State`].
    told: [bool; State::ALL.len()],
    suppressed: Tally,
    /// What the cores said, as far as it is exported.
    oracle: [[u64; Outcome::ALL.len()]; Judge::ALL.len()],
    table_full: [u64; Table::ALL.len()],
    /// The last tick of this stream.
    ticked_at: Option<Nanos>,
    /// What is told of the watchpoints.
    watched: (WatchTotals, Hits, Nanos),
}

impl Meter {
    pub(super) fn new(metrics: Metrics) -> Self {
        Meter {
            unknown: metrics.unknown_device(),
            metrics,
            others: None,
            devices: BTreeMap::new(),
            durations: Durations::default(),
            ranges: 0,
            queued: 0,
            evictions_watched: false,
            told: [false; State::ALL.len()],
            suppressed: Tally::default(),
            oracle: Default::default(),
            table_full: [0; Table::ALL.len()],
            ticked_at: None,
            watched: Default::default(),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(super) fn name_device(&mut self, dev: DevId, name: &str) {
        if self.has_room_for(dev) {
            self.devices.insert(dev, self.metrics.device(dev, Some(name)));
        }
    }

    fn device(&mut self, dev: Option<DevId>) -> &DeviceMetrics {
        let Some(dev) = dev else { return &self.unknown };
        let has_room = self.has_room_for(dev);
        let metrics = &self.metrics;
        if !has_room {
            return self.others.get_or_insert_with(|| metrics.other_devices());
        }
        self.devices.entry(dev).or_insert_with(|| metrics.device(dev, None))
    }

    fn has_room_for(&self, dev: DevId) -> bool {
        self.devices.len() < limits::DEVICE_NAMES_MAX || self.devices.contains_key(&dev)
    }

    fn device_of(&mut self, inode: Option<InodeId>) -> &DeviceMetrics {
        self.device(inode.map(|inode| inode.dev))
    }

    pub(super) fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndBorn(object)
            | Step::IoEndAdopted(object)
            | Step::IoEndIdentified(object) => self.started(object),
            Step::IoEndMoved(moved) => self.moved(moved),
            Step::IoEndReleased(object) => self.released(object),
            // Its release was not seen: it is neither in flight nor completed in order.
            Step::IoEndLost(object) => self.completed(object),
            Step::DirectIoDone(done) => self.direct_io(done),
            Step::DirectIoRefused(_) | Step::DirectIoBroken(_) => {}
            Step::FsyncDone(done) => self.fsync(done),
            Step::EvictionDone(done) => {
                self.durations.eviction.observe(done.duration);
                self.device_of(done.inode).eviction(done.duration);
            }
        }
    }

    /// Counts an io_end where its device is known; else that is left to `completed`.
    fn started(&mut self, object: &IoEnd) {
        if let Some(inode) = object.inode() {
            self.device_of(Some(inode)).io_end_started();
        }
    }

    fn completed(&mut self, object: &IoEnd) {
        let device = self.device_of(object.inode());
        if object.inode().is_none() {
            device.io_end_started();
        }
        device.io_end_completed();
    }

    fn moved(&mut self, moved: &IoEndStep<'_>) {
        if moved.before == State::Released {
            return; // the step of a tombstone: no object has it
        }
        match moved.act {
            Act::Range => self.ranges += 1,
            Act::Attach => self.metrics.bio_attached(),
            Act::BioEnd => self.metrics.bio_ended(),
            _ if moved.action == Move::BioDone => self.metrics.bio_ended(),
            _ => {}
        }
        if moved.object.state() == State::Queued && moved.before != State::Queued {
            self.queued += 1;
        }
    }

    fn released(&mut self, object: &IoEnd) {
        let Phases { submit, device, queue, convert, total } = object.phases();
        let phases = [submit, device, queue, convert, total];
        let complete = object.complete();
        self.completed(object);
        let series = self.device_of(object.inode()).clone();
        if !complete {
            return;
        }
        for ((phase, took), octaves) in
            IoEndPhase::ALL.into_iter().zip(phases).zip(&mut self.durations.io_end)
        {
            if let Some(took) = took {
                series.io_end_phase(phase, took);
                octaves.observe(took);
            }
        }
    }

    fn direct_io(&mut self, done: &DirectIoDone) {
        self.durations.direct_io.observe(done.duration);
        let series = self.device_of(done.inode);
        series.direct_io(done.duration);
        if let Some(errno) = done.errno {
            series.direct_io_error(i64::from(errno));
        }
    }

    fn fsync(&mut self, done: &FsyncDone) {
        self.durations.fsync.entry(done.range.op()).or_default().observe(done.duration);
        for (took, octaves) in done.phases.iter().zip(&mut self.durations.fsync_phase) {
            if let Some(took) = took {
                octaves.observe(*took);
            }
        }
        let series = self.device_of(done.inode);
        series.fsync(done.range, done.duration);
        for (phase, took) in FsyncPhase::ALL.into_iter().zip(done.phases) {
            if let Some(took) = took {
                series.fsync_phase(phase, took);
            }
        }
        if let Some(errno) = done.errno {
            series.fsync_error(i64::from(errno));
        }
    }

    /// `finding` is the one that is kept of the verdict.
    pub(super) fn violation(
        &mut self,
        dev: Option<DevId>,
        verdict: &Verdict,
        finding: Option<&Finding>,
    ) {
        let Verdict { rule, confidence, stamp, .. } = verdict;
        let finding = finding.map(|finding| (&*finding.id, stamp.at));
        self.device(dev).violation(rule.label(), confidence.label(), finding);
    }

    /// Gauges and table losses, once a second.
    pub(super) fn tick(&mut self, lifecycle: &Lifecycle, now: Nanos) {
        let in_flight = lifecycle.in_flight(now);
        for state in State::live() {
            // Once told it stays told: what was counted remains true when a probe goes.
            self.told[state as usize] |= lifecycle.tells(state);
            if !self.told[state as usize] {
                continue;
            }
            let level = in_flight.io_ends_in(state);
            self.metrics.set_in_flight(state.label(), level.count, level.oldest_age);
        }
        let [io_ends, direct_ios, fsyncs, evictions] = lifecycle.live();
        for (table, entries, max_entries) in [
            (Table::IoEnds, io_ends, lifecycle.io_ends_max()),
            (Table::Bios, lifecycle.open_bios(), limits::BIOS_MAX),
            (Table::DirectIos, direct_ios, limits::DIRECT_IOS_MAX),
            (Table::Fsyncs, fsyncs, limits::FSYNCS_MAX),
            (Table::Evictions, evictions, limits::EVICTIONS_MAX),
        ] {
            let max_entries = max_entries as u64;
            self.metrics.set_table(table.label(), TableUse { entries, max_entries });
        }
        for (table, before) in Table::ALL.iter().zip(&mut self.table_full) {
            let full = lifecycle.summary().full(*table);
            let refused = full - std::mem::replace(before, full);
            self.metrics.events_lost(names::TABLE, table.label(), refused);
        }
    }

    /// The programs were loaded anew: nothing was watched meanwhile.
    pub(super) fn begin_stream(&mut self) {
        self.ticked_at = None;
    }

    /// The rules that are armed have watched since the last tick.
    pub(super) fn rules_watched(&mut self, detectors: &Detectors, now: Nanos) {
        let Some(before) = self.ticked_at.replace(now) else { return };
        for rule in Rule::ALL.iter().filter(|rule| detectors.is_armed(**rule)) {
            self.metrics.rule_active(rule.label(), now.since(before));
        }
    }

    /// Brings what is told of the watchpoints up to date.
    pub(super) fn watching(&mut self, watching: &Watching) {
        let Some(totals) = watching.totals() else { return };
        let (hits, armed) = (watching.hits(), watching.armed());
        let before = std::mem::replace(&mut self.watched, (totals, hits, armed));
        self.metrics.watchpoints(&WatchpointsUse {
            slots: totals.slots,
            coverage: watching.coverage(),
            armed: armed.since(before.2),
            interrupts: totals.interrupts - before.0.interrupts,
            late: totals.late - before.0.late,
            hits: [
                hits.named - before.1.named,
                hits.unnamed - before.1.unnamed,
                hits.between.saturating_sub(before.1.between),
                hits.lost - before.1.lost,
            ],
        });
        self.metrics.observing(Scope::Watchpoints);
    }

    /// Brings the counters of suppressed verdicts up to the tally.
    pub(super) fn suppressed(&mut self, tally: &Tally) {
        for rule in Rule::ALL {
            for reason in Suppressed::ALL {
                let rose =
                    tally.suppressed(*rule, reason) - self.suppressed.suppressed(*rule, reason);
                if rose > 0 {
                    self.metrics.suppressed(rule.label(), reason.label(), rose);
                }
            }
        }
        self.suppressed = *tally;
    }

    /// Brings the counters of the cores up to their tallies.
    pub(super) fn oracle(&mut self, oracle: &Oracle) {
        for judge in Judge::ALL {
            for outcome in Outcome::ALL {
                let total = oracle.tally(judge).outcome(outcome);
                let told = &mut self.oracle[judge as usize][outcome as usize];
                let rose = total - std::mem::replace(told, total);
                self.metrics.oracle_events(judge.label(), outcome.label(), rose);
            }
        }
    }

    pub(super) fn arm(&self, rule: Rule, detectors: &Detectors) {
        if detectors.is_armed(rule) {
            self.metrics.arm_rule(rule.label(), rule.confidences());
        } else {
            self.metrics.disarm_rule(rule.label());
        }
        for lack in Lack::ALL {
            self.metrics.set_degraded(rule.label(), lack.label(), detectors.lacks(rule, lack));
        }
    }

    /// Exports the rows that what is witnessed can fill.
    pub(super) fn observe(&mut self, witnesses: &Witnesses) {
        let sees = |witness| witnesses.sees(witness);
        let evictions = sees(Witness::EvictionBegin) && sees(Witness::EvictionEnd);
        self.evictions_watched |= evictions;
        let first_sight = sees(Witness::Birth) || sees(Witness::Attach);
        for (scope, observed) in [
            (Scope::IoEnd, first_sight && sees(Witness::Release)),
            (
                Scope::Bio,
                sees(Witness::Attach) && (sees(Witness::BioEnd) || sees(Witness::BioDone)),
            ),
            (Scope::DirectIo, sees(Witness::DirectIoBegin) && sees(Witness::DirectIoComplete)),
            (Scope::Fsync, sees(Witness::FsyncBegin) && sees(Witness::FsyncEnd)),
            (Scope::Eviction, evictions),
        ] {
            if observed {
                self.metrics.observing(scope);
            }
        }
    }

    pub(super) fn probe(&self, probe: ProbeId, function: &str, backend: &'static str) {
        self.metrics.probe_attached(probe, function, backend);
    }

    pub(super) fn probe_gone(&self, probe: ProbeId) {
        self.metrics.probe_detached(probe);
    }
}
