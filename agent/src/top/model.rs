//! Looks on while a stream passes, and counts what a screen can show.
//!
//! ```text
//!  step ──► device, process       event TICK ──► rates of the second ──► snapshot (asked for)
//! ```
//!
//! Only complete lives are timed, as in the metrics. It must never keep the pipeline waiting: its tables are
//! bounded, and a step costs one look-up in each.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    callers::Callers,
    rate::{HALF_TICKS, Rate},
    snapshot::{ALL, DeviceView, FindingView, OTHERS, Snapshot, StateRow, UNKNOWN},
};
use crate::{
    event::{Body, DevId, Event, FsyncPhase, InodeId, Name, Nanos},
    finding::Finding,
    lifecycle::{DirectIoDone, FsyncDone, IoEnd, Level, State, Step},
    limits::{DEVICE_NAMES_MAX, TOP_DEVICES_MAX},
    metrics::IoEndPhase,
    pipeline::{Onlooker, Pipeline},
};

/// What one device does.
#[derive(Clone, Debug, Default)]
struct Device {
    io_end: [Rate; IoEndPhase::ALL.len()],
    fsync: BTreeMap<&'static str, Rate>,
    fsync_phases: [Rate; FsyncPhase::ALL.len()],
    fsyncs: Rate,
    fsync_errors: u64,
    direct: Rate,
    direct_errors: u64,
}

impl Device {
    fn rates(&mut self) -> impl Iterator<Item = &mut Rate> {
        let Device { io_end, fsync, fsync_phases, fsyncs, direct, .. } = self;
        let rows = io_end.iter_mut().chain(fsync.values_mut()).chain(fsync_phases.iter_mut());
        rows.chain([fsyncs, direct])
    }

    fn view(&self, name: String) -> DeviceView {
        let rows = |labels: Vec<&'static str>, rates: &[Rate]| {
            labels.into_iter().zip(rates.iter().map(Rate::row)).collect()
        };
        DeviceView {
            name,
            io_end: rows(IoEndPhase::ALL.iter().map(|it| it.label()).collect(), &self.io_end),
            fsync: self.fsync.iter().map(|(op, rate)| (*op, rate.row())).collect(),
            fsync_phases: rows(
                FsyncPhase::ALL.iter().map(|it| it.label()).collect(),
                &self.fsync_phases,
            ),
            fsyncs: self.fsyncs.row(),
            fsync_errors: self.fsync_errors,
            direct: self.direct.row(),
            direct_errors: self.direct_errors,
        }
    }
}

/// The model of all screens.
#[derive(Debug, Default)]
pub struct Model {
    all: Device,
    devices: BTreeMap<DevId, Device>,
    others: Option<Device>,
    /// Of objects whose inode is not known.
    unknown: Option<Device>,
    names: BTreeMap<DevId, Name<32>>,
    callers: Callers,
    findings: Arc<Vec<FindingView>>,
    /// States that an io_end could be seen in, by [`State`]; once told they stay told.
    told: [bool; State::ALL.len()],
    /// The first record, the last TICK and the latest record.
    begun: Option<Nanos>,
    ticked: Nanos,
    latest: Nanos,
    ticks: u64,
    is_new: bool,
}

impl Model {
    /// Has a TICK come since this was asked?
    pub fn ticked(&mut self) -> bool {
        std::mem::take(&mut self.is_new)
    }

    /// What there is to show. Rates are those of the last second.
    pub fn snapshot(&mut self, pipeline: &Pipeline) -> Snapshot {
        self.take_findings(pipeline.findings());
        let now = self.latest;
        let levels = pipeline.in_flight(now);
        let of = |name, level: Level| StateRow {
            name,
            count: level.count,
            oldest: level.oldest_age.map(Nanos::as_secs_f64),
        };
        for state in pipeline.states_told() {
            self.told[state as usize] = true;
        }
        let states = State::live().filter(|state| self.told[*state as usize]);
        let (processes, cgroups) = self.callers.rows();
        let known = self.devices.iter().map(|(dev, device)| device.view(self.name_of(*dev)));
        let rest = [(UNKNOWN, &self.unknown), (OTHERS, &self.others)];
        let rest = rest.into_iter().filter_map(|(name, it)| Some(it.as_ref()?.view(name.into())));
        Snapshot {
            seconds: now.since(self.begun.unwrap_or(now)).as_secs_f64(),
            health: pipeline.health(),
            states: states.map(|it| of(it.label(), levels.io_ends_in(it))).collect(),
            calls: [
                of("fsync", levels.fsyncs),
                of("direct I/O", levels.direct_ios),
                of("eviction", levels.evictions),
            ],
            devices: [self.all.view(ALL.to_owned())].into_iter().chain(known).chain(rest).collect(),
            processes,
            cgroups,
            findings: Arc::clone(&self.findings),
        }
    }

    /// Findings are only ever added.
    fn take_findings(&mut self, all: &[Finding]) {
        let Some(new) = all.get(self.findings.len()..).filter(|new| !new.is_empty()) else {
            return;
        };
        let told = new.iter().map(|finding| FindingView {
            id: finding.id.clone(),
            rule: finding.rule,
            confidence: finding.confidence,
            device: finding
                .device_name
                .clone()
                .or_else(|| finding.device.clone())
                .unwrap_or_else(|| UNKNOWN.to_owned()),
            text: finding.to_string(),
        });
        Arc::make_mut(&mut self.findings).extend(told);
    }

    fn name_of(&self, dev: DevId) -> String {
        self.names.get(&dev).map_or_else(|| dev.to_string(), Name::to_string)
    }

    fn tick(&mut self, at: Nanos) {
        let elapsed = at.since(self.ticked);
        self.ticked = at;
        self.ticks += 1;
        let window_moves = self.ticks.is_multiple_of(HALF_TICKS);
        let rest = self.others.iter_mut().chain(&mut self.unknown).chain([&mut self.all]);
        for device in self.devices.values_mut().chain(rest) {
            device.rates().for_each(|rate| rate.tick(elapsed, window_moves));
        }
        self.callers.tick(elapsed, window_moves);
        self.is_new = true;
    }

    /// Tells all devices together and the one.
    fn on(&mut self, inode: Option<InodeId>, mut tell: impl FnMut(&mut Device)) {
        tell(&mut self.all);
        let has_room = self.devices.len() < TOP_DEVICES_MAX;
        tell(match inode.map(|inode| inode.dev) {
            None => self.unknown.get_or_insert_default(),
            Some(dev) if has_room || self.devices.contains_key(&dev) => {
                self.devices.entry(dev).or_default()
            }
            Some(_) => self.others.get_or_insert_default(),
        });
    }

    fn released(&mut self, object: &IoEnd) {
        if !object.complete() {
            return;
        }
        let it = object.phases();
        let phases = [it.submit, it.device, it.queue, it.convert, it.total];
        self.on(object.inode(), |device| {
            for (rate, took) in device.io_end.iter_mut().zip(phases) {
                took.into_iter().for_each(|took| rate.observe(took));
            }
        });
    }

    fn fsync(&mut self, done: &FsyncDone) {
        self.callers.fsync(done);
        self.on(done.inode, |device| {
            device.fsyncs.observe(done.duration);
            device.fsync.entry(done.range.op()).or_default().observe(done.duration);
            device.fsync_errors += u64::from(done.errno.is_some());
            for (rate, took) in device.fsync_phases.iter_mut().zip(done.phases) {
                took.into_iter().for_each(|took| rate.observe(took));
            }
        });
    }

    fn direct_io(&mut self, done: &DirectIoDone) {
        self.on(done.inode, |device| {
            device.direct.observe(done.duration);
            device.direct_errors += u64::from(done.errno.is_some());
        });
    }
}

impl Onlooker for Model {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndReleased(object) => self.released(object),
            Step::FsyncDone(done) => self.fsync(done),
            Step::DirectIoDone(done) => self.direct_io(done),
            Step::IoEndBorn(_)
            | Step::IoEndAdopted(_)
            | Step::IoEndIdentified(_)
            | Step::IoEndMoved(_)
            | Step::IoEndLost(_)
            | Step::DirectIoRefused(_)
            | Step::DirectIoBroken(_)
            | Step::EvictionDone(_) => {}
        }
    }

    fn event(&mut self, event: &Event) {
        let at = event.stamp.at;
        if self.begun.is_none() {
            (self.begun, self.ticked) = (Some(at), at);
        }
        self.latest = self.latest.max(at);
        match event.body {
            Body::Tick { .. } => self.tick(at),
            Body::TaskName { tid, comm } => self.callers.name(tid, comm),
            Body::TaskCgroup { tgid, path, cut } => self.callers.cgroup(tgid, path, cut),
            Body::Device { dev, name }
                if self.names.len() < DEVICE_NAMES_MAX || self.names.contains_key(&dev) =>
            {
                self.names.insert(dev, name);
            }
            _ => {}
        }
    }
}
