//! Looks on while the pipeline works and tells items: spans when they are over, moments at once.
//!
//! ```text
//!   steps of io_ends ─► Event, and at the release Life
//!   fsync, its phases, evictions, direct writes, worker runs: begin ─► open call ─► end ─► Call
//!   at the end of the stream: what is open, as spans without an end
//! ```
//!
//! Open spans are bounded as the pipeline's tables are. A call whose begin was not seen is not told; one
//! whose end was not seen is open until its task begins another, and then left out: nobody knows how long
//! it took.

use std::collections::BTreeMap;

use super::item::{Call, Event as Told, Item, Life, Loss, Phase, What};
use crate::{
    event::{
        Body, Cpu, DevId, Event, FsyncPhase, InodeAddr, InodeId, IocbAddr, LeftOut, Name, Nanos,
        ProbeId, Stamp,
    },
    finding::{AddressKey, Finding, context_label},
    lifecycle::{IoEnd, IoEndId, IoEndStep, Phases, Step},
    limits,
    pipeline::Onlooker,
    story::{gap_labels, printable},
};

/// What an export is made of, in the order in which it is known.
#[derive(Default)]
pub struct Chronicle {
    key: Option<AddressKey>,
    items: Vec<Item>,
    lives: BTreeMap<IoEndId, IoEnd>,
    fsyncs: BTreeMap<u32, Open>,
    evictions: BTreeMap<u32, (InodeAddr, Open)>,
    runs: BTreeMap<u32, Open>,
    direct_ios: BTreeMap<IocbAddr, Open>,
    /// Whose inode an address was last.
    inodes: BTreeMap<InodeAddr, InodeId>,
    devices: BTreeMap<DevId, Name<32>>,
    dropped: BTreeMap<Cpu, u64>,
    missed: BTreeMap<ProbeId, u64>,
    left_out: LeftOut,
    findings_told: usize,
    now: Nanos,
}

/// A call that has begun.
struct Open {
    call: Call,
    /// Phases that have begun and not ended, by their place among the call's.
    phases: Vec<usize>,
    completion: Option<i32>,
}

impl Chronicle {
    /// Takes the items that are known by now.
    pub fn take(&mut self) -> Vec<Item> {
        std::mem::take(&mut self.items)
    }

    /// Tells the findings that are new; `all` are those of the pipeline.
    pub fn findings(&mut self, all: &[Finding]) {
        let new = all.get(self.findings_told..).unwrap_or_default();
        self.items.extend(new.iter().map(|finding| Item::Finding(Box::new(finding.clone()))));
        self.findings_told = all.len();
    }

    /// The stream is over: what is open is told.
    pub fn finish(&mut self, malformed: u64, cut: bool) {
        self.stream_over();
        self.items.push(Item::End { at_ns: self.now.0, malformed, cut });
    }

    fn stream_over(&mut self) {
        for (_, object) in std::mem::take(&mut self.lives) {
            let life = self.life(&object, None, object.state().label());
            self.items.push(Item::IoEnd(life));
        }
        let fsyncs = std::mem::take(&mut self.fsyncs).into_values();
        let evictions = std::mem::take(&mut self.evictions).into_values().map(|(_, open)| open);
        let runs = std::mem::take(&mut self.runs).into_values();
        let direct_ios = std::mem::take(&mut self.direct_ios).into_values();
        let open: Vec<Item> = fsyncs
            .chain(evictions)
            .chain(runs)
            .chain(direct_ios)
            .map(|open| item(open.call))
            .collect();
        self.items.extend(open);
    }

    fn object(&self, id: IoEndId) -> String {
        self.key.unwrap_or(AddressKey(0)).object(id)
    }

    fn device(&self, inode: Option<InodeId>) -> Option<String> {
        let dev = inode?.dev;
        Some(self.devices.get(&dev).map_or_else(|| dev.to_string(), ToString::to_string))
    }

    fn life(&self, object: &IoEnd, end_ns: Option<u64>, state: &'static str) -> Life {
        let (id, inode) = (object.id(), object.inode());
        Life {
            object: self.object(id),
            begin_ns: id.born.0,
            end_ns,
            inode: inode.map(|inode| inode.ino.0),
            device: self.device(inode),
            tid: object.owner().tid,
            state,
            complete: object.complete(),
            gaps: gap_labels(object.gaps()),
            bios: object.bios().0,
            ranges: object.ranges(),
            phases: phases(object),
        }
    }

    fn moved(&mut self, moved: &IoEndStep<'_>) {
        let IoEndStep { stamp, object, image, act, .. } = moved;
        self.items.push(Item::Event(Told {
            at_ns: stamp.at.0,
            object: self.object(object.id()),
            act: act.label(),
            symbol: act.function(),
            state: object.state().label(),
            cpu: stamp.cpu.map(|cpu| cpu.0),
            context: context_label(stamp.context),
            tid: stamp.task.tid,
            flag: image.map(|image| image.flag),
            count: image.map(|image| image.count),
        }));
        if let Some(kept) = self.lives.get_mut(&object.id()) {
            *kept = **object;
        }
    }

    fn over(&mut self, object: &IoEnd, state: &'static str) {
        self.lives.remove(&object.id());
        let end = object.release().and(object.phases().total);
        let end = end.map_or(self.now.0, |total| object.id().born.0 + total.0);
        let life = self.life(object, Some(end.max(object.id().born.0)), state);
        self.items.push(Item::IoEnd(life));
    }

    fn begin(&self, stamp: &Stamp, what: What, op: &'static str, inode: Option<InodeId>) -> Open {
        Open {
            call: Call {
                what,
                begin_ns: stamp.at.0,
                end_ns: None,
                tid: stamp.task.tid,
                tgid: stamp.task.tgid,
                inode: inode.map(|inode| inode.ino.0),
                device: self.device(inode),
                op,
                bytes: None,
                errno: None,
                phases: Vec::new(),
                phases_left_out: 0,
            },
            phases: Vec::new(),
            completion: None,
        }
    }

    fn end(&mut self, stamp: &Stamp, open: Option<Open>, ret: i64) {
        let Some(Open { mut call, .. }) = open else { return };
        call.end_ns = Some(stamp.at.0.max(call.begin_ns));
        call.errno = errno(ret);
        // How long a phase took whose end was not seen, nobody knows.
        call.phases.retain(|phase| phase.end_ns.is_some());
        self.items.push(item(call));
    }

    fn lost(&mut self, stamp: &Stamp, stage: &'static str, count: u64) {
        if count > 0 {
            self.items.push(Item::Loss(Loss { at_ns: stamp.at.0, stage, count }));
        }
    }

    /// Calls of tasks.
    fn of_call(&mut self, event: &Event) {
        let (stamp, tid) = (&event.stamp, event.stamp.task.tid);
        match event.body {
            Body::FsyncBegin { inode, id, range, .. } => {
                self.know(inode, id);
                let open = self.begin(stamp, What::Fsync, range.op(), id);
                insert(&mut self.fsyncs, tid, open, limits::FSYNCS_MAX);
            }
            Body::FsyncEnd { ret } => {
                let open = self.fsyncs.remove(&tid);
                self.end(stamp, open, ret);
            }
            Body::FsyncPhaseBegin { phase } => {
                if let Some(open) = self.fsyncs.get_mut(&tid) {
                    open.phase_begins(phase, stamp.at);
                }
            }
            Body::FsyncPhaseEnd { phase, .. } => {
                if let Some(open) = self.fsyncs.get_mut(&tid) {
                    open.phase_ends(phase, stamp.at);
                }
            }
            Body::WorkerBegin { inode } => {
                let id = self.inodes.get(&inode).copied();
                let open = self.begin(stamp, What::WorkerRun, "worker_run", id);
                insert(&mut self.runs, tid, open, limits::WORKERS_MAX);
            }
            Body::WorkerEnd { .. } => {
                let open = self.runs.remove(&tid);
                self.end(stamp, open, 0);
            }
            Body::EvictionBegin { inode, id } => {
                self.know(inode, id);
                let open = self.begin(stamp, What::Eviction, "eviction", id);
                insert(&mut self.evictions, tid, (inode, open), limits::EVICTIONS_MAX);
            }
            // One of another inode, whose begin was lost, leaves that which is open.
            Body::EvictionEnd { inode }
                if self.evictions.get(&tid).is_some_and(|(open, _)| *open == inode) =>
            {
                let open = self.evictions.remove(&tid).map(|(_, open)| open);
                self.end(stamp, open, 0);
            }
            Body::DirectIoBegin { iocb, id, len_bytes, .. } => {
                let mut open = self.begin(stamp, What::DirectIo, "direct_write", id);
                open.call.bytes = len_bytes;
                insert(&mut self.direct_ios, iocb, open, limits::DIRECT_IOS_MAX);
            }
            Body::DirectIoCompleteBegin { iocb, error, .. } => {
                if let Some(open) = self.direct_ios.get_mut(&iocb) {
                    open.completion = Some(error);
                }
            }
            Body::DirectIoCompleteEnd { iocb, ret } => {
                let open = self.direct_ios.remove(&iocb);
                let failed = open.as_ref().and_then(|open| open.completion).filter(|it| *it < 0);
                self.end(stamp, open, failed.map_or(ret, i64::from));
            }
            _ => {}
        }
    }

    /// Whose inode an address is: workers are told by address alone.
    fn know(&mut self, inode: InodeAddr, id: Option<InodeId>) {
        let Some(id) = id else { return };
        if self.inodes.len() < limits::IO_ENDS_MAX || self.inodes.contains_key(&inode) {
            self.inodes.insert(inode, id);
        }
    }

    /// The agent's own records.
    fn about_the_stream(&mut self, event: &Event) {
        let stamp = &event.stamp;
        match event.body {
            Body::Host { release, cpus, hash_key, .. } => {
                self.stream_over();
                self.key = Some(AddressKey(hash_key));
                (self.dropped, self.missed) = (BTreeMap::new(), BTreeMap::new());
                self.left_out = LeftOut::default();
                let kernel = printable(&release.0);
                self.items.push(Item::Stream { at_ns: stamp.at.0, kernel, cpus });
            }
            Body::Device { dev, name } => {
                if self.devices.len() < limits::DEVICE_NAMES_MAX {
                    self.devices.insert(dev, name);
                }
            }
            Body::TaskName { tid, comm } => {
                self.items.push(Item::Task { tid, name: printable(&comm.0) });
            }
            Body::IoEndBirth { inode, id, .. } | Body::IoEndInode { inode, id, .. } => {
                self.know(inode, id);
            }
            Body::Loss { of_cpu, dropped, .. } => {
                let before = self.dropped.insert(of_cpu, dropped).unwrap_or(0);
                self.lost(stamp, "ring", dropped.saturating_sub(before));
            }
            Body::Misses { probe, total } => {
                let before = self.missed.insert(probe, total).unwrap_or(0);
                self.lost(stamp, "probe", total.saturating_sub(before));
            }
            Body::ProgramLoss { left_out } => {
                let rose = left_out.since(std::mem::replace(&mut self.left_out, left_out));
                self.lost(stamp, "program", rose.0.iter().sum());
            }
            _ => self.of_call(event),
        }
    }
}

impl Onlooker for Chronicle {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndBorn(object) => {
                self.lives.insert(object.id(), **object);
                if let Some(first) = object.history().next() {
                    let object = self.object(object.id());
                    self.items.push(Item::Event(Told::of_birth(object, &first)));
                }
            }
            Step::IoEndAdopted(object) => drop(self.lives.insert(object.id(), **object)),
            Step::IoEndMoved(moved) => self.moved(moved),
            Step::IoEndIdentified(object) => {
                if let Some(kept) = self.lives.get_mut(&object.id()) {
                    *kept = **object;
                }
            }
            Step::IoEndReleased(object) => self.over(object, object.state().label()),
            Step::IoEndLost(object) => self.over(object, "lost"),
            Step::DirectIoDone(_)
            | Step::DirectIoRefused(_)
            | Step::DirectIoBroken(_)
            | Step::FsyncDone(_)
            | Step::EvictionDone(_) => {}
        }
    }

    fn event(&mut self, event: &Event) {
        self.now = self.now.max(event.stamp.at);
        self.about_the_stream(event);
    }
}

impl Told {
    fn of_birth(object: String, first: &crate::lifecycle::Told) -> Told {
        Told {
            at_ns: first.at.0,
            object,
            act: first.act.label(),
            symbol: first.act.function(),
            state: first.state.label(),
            cpu: first.cpu.map(|cpu| cpu.0),
            context: context_label(first.context),
            tid: first.tid,
            flag: None,
            count: None,
        }
    }
}

impl Open {
    fn phase_begins(&mut self, phase: FsyncPhase, at: Nanos) {
        if self.call.phases.len() == limits::CALL_PHASES_MAX {
            self.call.phases_left_out += 1;
            return;
        }
        self.phases.push(self.call.phases.len());
        self.call.phases.push(Phase { phase: phase.label(), begin_ns: at.0, end_ns: None });
    }

    fn phase_ends(&mut self, phase: FsyncPhase, at: Nanos) {
        let phases = &mut self.call.phases;
        let open = self.phases.iter().rposition(|at| phases[*at].phase == phase.label());
        let Some(open) = open else { return };
        let phase = &mut phases[self.phases.remove(open)];
        phase.end_ns = Some(at.0.max(phase.begin_ns));
    }
}

/// The phases of an io_end that are known, submit, queue and convert in their order; device overlaps.
fn phases(object: &IoEnd) -> Vec<Phase> {
    let Phases { submit, device, queue, convert, total: _ } = object.phases();
    let times = object.times();
    let named = [
        ("submit", submit, Some(object.id().born)),
        ("device", device, times.first_attach),
        ("queue", queue, times.last_put),
        ("convert", convert, times.claim),
    ];
    let phase = |(phase, took, begin): (&'static str, Option<Nanos>, Option<Nanos>)| {
        let begin_ns = begin?.0;
        Some(Phase { phase, begin_ns, end_ns: Some(begin_ns.saturating_add(took?.0)) })
    };
    named.into_iter().filter_map(phase).collect()
}

fn item(call: Call) -> Item {
    match call.what {
        What::Fsync => Item::Fsync(call),
        What::Eviction => Item::Eviction(call),
        What::DirectIo => Item::DirectIo(call),
        What::WorkerRun => Item::WorkerRun(call),
    }
}

fn insert<K: Ord, V>(calls: &mut BTreeMap<K, V>, key: K, open: V, most: usize) {
    if calls.len() < most || calls.contains_key(&key) {
        calls.insert(key, open);
    }
}

fn errno(ret: i64) -> Option<i32> {
    (ret < 0).then(|| i32::try_from(ret.unsigned_abs()).unwrap_or(i32::MAX))
}
