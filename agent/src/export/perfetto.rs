//! Items as a Perfetto trace (protos/perfetto/trace of Perfetto, TrackEvent), packet by packet.
//!
//! ```text
//!   io_ends        io_end 0           ▐ inode 12 ▐submit▐      ▐queue▐convert▐
//!                  io_end 0, device        ▐ device ▐
//!   direct I/O     direct write 0     ▐ direct_write ▐
//!   task 20        (its thread)       ▐ fsync ▐data_submit▐data_wait▐journal ▐barrier▐▐
//!   findings       ✗ moments, each with an arrow from its io_end
//!   lost           moments at which losses were told
//! ```
//!
//! Packets come in no order of time, as the format allows: a span is written when it is over. Slices of
//! one track nest or follow each other: what clocks of different CPUs or losses left askew is cut to fit.
//! Single events of io_ends are not drawn; the JSON lines have them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    item::{Call, Item, Life, Loss, Phase, What},
    protobuf::Message,
    tracks::Tracks,
};
use crate::detect::ObjectKind;
use crate::finding::Finding;

/// Fields of `Trace`, `TracePacket` and what is in them, by the names of the schema.
mod field {
    pub(super) const PACKET: u32 = 1;
    pub(super) const CLOCK_SNAPSHOT: u32 = 6;
    pub(super) const TIMESTAMP: u32 = 8;
    pub(super) const TRUSTED_PACKET_SEQUENCE_ID: u32 = 10;
    pub(super) const TRACK_EVENT: u32 = 11;
    pub(super) const SEQUENCE_FLAGS: u32 = 13;
    pub(super) const TIMESTAMP_CLOCK_ID: u32 = 58;
    pub(super) const TRACE_PACKET_DEFAULTS: u32 = 59;
    pub(super) const TRACK_DESCRIPTOR: u32 = 60;

    pub(super) mod clock_snapshot {
        pub(in super::super) const CLOCKS: u32 = 1;
        pub(in super::super) const PRIMARY_TRACE_CLOCK: u32 = 2;
        pub(in super::super) const CLOCK_ID: u32 = 1;
        pub(in super::super) const CLOCK_TIMESTAMP: u32 = 2;
    }

    pub(super) mod descriptor {
        pub(in super::super) const UUID: u32 = 1;
        pub(in super::super) const NAME: u32 = 2;
        pub(in super::super) const THREAD: u32 = 4;
        pub(in super::super) const PARENT_UUID: u32 = 5;
        pub(in super::super) const THREAD_PID: u32 = 1;
        pub(in super::super) const THREAD_TID: u32 = 2;
        pub(in super::super) const THREAD_NAME: u32 = 5;
    }

    pub(super) mod event {
        pub(in super::super) const DEBUG_ANNOTATIONS: u32 = 4;
        pub(in super::super) const TYPE: u32 = 9;
        pub(in super::super) const TRACK_UUID: u32 = 11;
        pub(in super::super) const CATEGORIES: u32 = 22;
        pub(in super::super) const NAME: u32 = 23;
        pub(in super::super) const FLOW_IDS: u32 = 47;
    }

    pub(super) mod annotation {
        pub(in super::super) const BOOL_VALUE: u32 = 2;
        pub(in super::super) const UINT_VALUE: u32 = 3;
        pub(in super::super) const STRING_VALUE: u32 = 6;
        pub(in super::super) const NAME: u32 = 10;
    }
}

use field::{annotation, clock_snapshot, descriptor, event};

/// `BUILTIN_CLOCK_MONOTONIC`.
const MONOTONIC: u64 = 3;
/// `SEQ_INCREMENTAL_STATE_CLEARED`.
const STATE_CLEARED: u64 = 1;
/// All packets are of one writer.
const SEQUENCE: u64 = 1;
/// `TrackEvent.Type`.
const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const INSTANT: u64 = 3;

/// Tracks that are always there, by their uuid and name.
const IO_ENDS: (u64, &str) = (1, "io_ends");
const DIRECT_IOS: (u64, &str) = (2, "direct I/O");
const FINDINGS: (u64, &str) = (3, "findings");
const LOST: (u64, &str) = (4, "lost");
/// uuids of the others begin with these bits.
const LIFE_TRACKS: u64 = 1 << 40;
const DEVICE_TRACKS: u64 = 2 << 40;
const DIRECT_IO_TRACKS: u64 = 3 << 40;
const THREAD_TRACKS: u64 = 4 << 40;

/// Writes a trace.
#[derive(Default)]
pub struct Perfetto {
    bytes: Vec<u8>,
    begun: bool,
    io_ends: Tracks,
    direct_ios: Tracks,
    names: BTreeMap<u32, String>,
    threads: BTreeSet<u32>,
    /// When the last slice of a thread ended.
    free_from: BTreeMap<u32, u64>,
}

/// A slice of a track.
struct Slice<'a> {
    track: u64,
    name: &'a str,
    begin_ns: u64,
    end_ns: Option<u64>,
    category: &'static str,
    annotations: Vec<Message>,
    flow: Option<u64>,
}

impl Perfetto {
    /// Takes the bytes that are written by now.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Writes an item.
    pub fn item(&mut self, item: &Item) {
        match item {
            Item::Stream { at_ns, .. } => self.begin(*at_ns),
            Item::Task { tid, name } => self.name(*tid, name),
            Item::IoEnd(life) => self.life(life),
            Item::Fsync(call) | Item::Eviction(call) | Item::WorkerRun(call) => self.call(call),
            Item::DirectIo(call) => self.direct_io(call),
            Item::Finding(finding) => self.finding(finding),
            Item::Loss(loss) => self.loss(loss),
            Item::Event(_) | Item::End { .. } => {}
        }
    }

    /// The clock, and the tracks that are always there.
    fn begin(&mut self, at_ns: u64) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        let mut clock = Message::default();
        clock.uint(clock_snapshot::CLOCK_ID, MONOTONIC);
        clock.uint(clock_snapshot::CLOCK_TIMESTAMP, at_ns);
        let mut snapshot = Message::default();
        snapshot.message(clock_snapshot::CLOCKS, &clock);
        snapshot.uint(clock_snapshot::PRIMARY_TRACE_CLOCK, MONOTONIC);
        let mut defaults = Message::default();
        defaults.uint(field::TIMESTAMP_CLOCK_ID, MONOTONIC);
        let mut packet = Message::default();
        packet.uint(field::SEQUENCE_FLAGS, STATE_CLEARED);
        packet.message(field::TRACE_PACKET_DEFAULTS, &defaults);
        packet.message(field::CLOCK_SNAPSHOT, &snapshot);
        self.packet(packet);
        for (uuid, name) in [IO_ENDS, DIRECT_IOS, FINDINGS, LOST] {
            self.track(uuid, None, name);
        }
    }

    fn packet(&mut self, mut packet: Message) {
        packet.uint(field::TRUSTED_PACKET_SEQUENCE_ID, SEQUENCE);
        let mut trace = Message::default();
        trace.message(field::PACKET, &packet);
        self.bytes.extend_from_slice(trace.bytes());
    }

    fn track(&mut self, uuid: u64, parent: Option<u64>, name: &str) {
        let mut track = Message::default();
        track.uint(descriptor::UUID, uuid).text(descriptor::NAME, name);
        if let Some(parent) = parent {
            track.uint(descriptor::PARENT_UUID, parent);
        }
        self.describe(&track);
    }

    fn describe(&mut self, track: &Message) {
        let mut packet = Message::default();
        packet.message(field::TRACK_DESCRIPTOR, track);
        self.packet(packet);
    }

    /// The track of a thread, described before its first use.
    fn thread(&mut self, tgid: u32, tid: u32) -> u64 {
        let uuid = THREAD_TRACKS | u64::from(tid);
        if self.threads.insert(tid) {
            let name = self.names.get(&tid).cloned().unwrap_or_else(|| format!("task {tid}"));
            let mut thread = Message::default();
            thread.uint(descriptor::THREAD_PID, tgid.into());
            thread.uint(descriptor::THREAD_TID, tid.into());
            thread.text(descriptor::THREAD_NAME, &name);
            let mut track = Message::default();
            track.uint(descriptor::UUID, uuid).message(descriptor::THREAD, &thread);
            self.describe(&track);
        }
        uuid
    }

    /// A thread's name; told again with its next slice.
    fn name(&mut self, tid: u32, name: &str) {
        if self.names.insert(tid, name.to_owned()).is_none_or(|before| before != name) {
            self.threads.remove(&tid);
        }
    }

    fn life(&mut self, life: &Life) {
        let (at, is_new) = self.io_ends.place(life.begin_ns, life.end_ns);
        let (track, device) = (LIFE_TRACKS | at as u64, DEVICE_TRACKS | at as u64);
        if is_new {
            self.track(track, Some(IO_ENDS.0), &format!("io_end {at}"));
            self.track(device, Some(IO_ENDS.0), &format!("io_end {at}, device"));
        }
        let name = life.inode.map_or("inode unknown".to_owned(), |inode| format!("inode {inode}"));
        let mut annotations = vec![
            text("object", &life.object),
            text("state", life.state),
            number("bios", life.bios.into()),
            number("ranges", life.ranges.into()),
            number("submitter", life.tid.into()),
            truth("complete", life.complete),
        ];
        annotations.extend(life.device.as_ref().map(|device| text("device", device)));
        annotations.extend(life.gaps.iter().map(|gap| text("not seen", gap)));
        let (of_device, others): (Vec<&Phase>, Vec<&Phase>) =
            life.phases.iter().partition(|phase| phase.phase == "device");
        let flow = Some(flow(&life.object));
        let Life { begin_ns, end_ns, .. } = *life;
        let category = "io_end";
        let whole = Slice { track, name: &name, begin_ns, end_ns, category, annotations, flow };
        self.nested(whole, &others);
        for Phase { phase, begin_ns, end_ns } in of_device {
            let (begin_ns, category) = (*begin_ns, "io_end");
            let end_ns = end_ns.map(|end| end.min(life.end_ns.unwrap_or(end)).max(begin_ns));
            let (track, annotations, flow) = (device, Vec::new(), None);
            let name = phase;
            self.nested(Slice { track, name, begin_ns, end_ns, category, annotations, flow }, &[]);
        }
    }

    fn call(&mut self, call: &Call) {
        let track = self.thread(call.tgid, call.tid);
        let free_from = self.free_from.entry(call.tid).or_default();
        let begin_ns = call.begin_ns.max(*free_from);
        let end_ns = call.end_ns.map(|end| end.max(begin_ns));
        *free_from = end_ns.unwrap_or(u64::MAX);
        let category = match call.what {
            What::Fsync => "fsync",
            What::Eviction => "eviction",
            What::DirectIo => "direct_io",
            What::WorkerRun => "worker",
        };
        let (name, annotations, flow) = (call.op, of_call(call), None);
        let phases: Vec<&Phase> = call.phases.iter().collect();
        let whole = Slice { track, name, begin_ns, end_ns, category, annotations, flow };
        self.nested(whole, &phases);
    }

    fn direct_io(&mut self, call: &Call) {
        let (at, is_new) = self.direct_ios.place(call.begin_ns, call.end_ns);
        let track = DIRECT_IO_TRACKS | at as u64;
        if is_new {
            self.track(track, Some(DIRECT_IOS.0), &format!("direct write {at}"));
        }
        let mut annotations = of_call(call);
        annotations.push(number("tid", call.tid.into()));
        let Call { begin_ns, end_ns, op: name, .. } = *call;
        let (category, flow) = ("direct_io", None);
        self.nested(Slice { track, name, begin_ns, end_ns, category, annotations, flow }, &[]);
    }

    /// A slice and the phases in it, in the order of time; each is cut to what it is in.
    fn nested(&mut self, whole: Slice<'_>, phases: &[&Phase]) {
        let mut phases = phases.to_vec();
        phases.sort_by_key(|it| (it.begin_ns, Reverse(it.end_ns.unwrap_or(u64::MAX))));
        let mut open = vec![whole.end_ns.unwrap_or(u64::MAX)];
        let (track, category) = (whole.track, whole.category);
        self.slice_begins(&whole);
        for phase in phases {
            let begin_ns = phase.begin_ns.max(whole.begin_ns);
            while open.len() > 1 && open.last().is_some_and(|end| *end <= begin_ns) {
                self.slice_ends(track, open.pop());
            }
            let around = open.last().copied().unwrap_or(u64::MAX);
            let begin_ns = begin_ns.min(around);
            let end_ns = phase.end_ns.unwrap_or(u64::MAX).clamp(begin_ns, around);
            let (name, annotations, flow) = (phase.phase, Vec::new(), None);
            let end_of = Some(end_ns);
            self.slice_begins(&Slice {
                track,
                name,
                begin_ns,
                end_ns: end_of,
                category,
                annotations,
                flow,
            });
            open.push(end_ns);
        }
        while let Some(end_ns) = open.pop() {
            self.slice_ends(track, Some(end_ns));
        }
    }

    fn slice_begins(&mut self, slice: &Slice<'_>) {
        let mut told = Message::default();
        told.uint(event::TYPE, SLICE_BEGIN).uint(event::TRACK_UUID, slice.track);
        told.text(event::NAME, slice.name).text(event::CATEGORIES, slice.category);
        for annotation in &slice.annotations {
            told.message(event::DEBUG_ANNOTATIONS, annotation);
        }
        if let Some(flow) = slice.flow {
            told.fixed(event::FLOW_IDS, flow);
        }
        self.track_event(slice.begin_ns, &told);
    }

    /// What is open at the end of the stream stays open.
    fn slice_ends(&mut self, track: u64, end_ns: Option<u64>) {
        let Some(end_ns) = end_ns.filter(|end| *end != u64::MAX) else { return };
        let mut told = Message::default();
        told.uint(event::TYPE, SLICE_END).uint(event::TRACK_UUID, track);
        self.track_event(end_ns, &told);
    }

    fn instant(
        &mut self,
        at_ns: u64,
        track: u64,
        name: &str,
        annotations: &[Message],
        flow: Option<u64>,
    ) {
        let mut told = Message::default();
        told.uint(event::TYPE, INSTANT).uint(event::TRACK_UUID, track).text(event::NAME, name);
        for annotation in annotations {
            told.message(event::DEBUG_ANNOTATIONS, annotation);
        }
        if let Some(flow) = flow {
            told.fixed(event::FLOW_IDS, flow);
        }
        self.track_event(at_ns, &told);
    }

    fn track_event(&mut self, at_ns: u64, told: &Message) {
        let mut packet = Message::default();
        packet.uint(field::TIMESTAMP, at_ns).message(field::TRACK_EVENT, told);
        self.packet(packet);
    }

    fn finding(&mut self, finding: &Finding) {
        let mut annotations = vec![
            text("id", &finding.id),
            text("confidence", finding.confidence),
            text("claim", finding.claim),
            text("what", finding.what),
            text("object_kind", finding.object_kind.label()),
            text("object", &finding.object),
        ];
        for (name, party) in ["first", "second"].into_iter().zip(&finding.parties) {
            let party = party.as_ref().map(|it| format!("{} by task {}", it.symbol, it.tid));
            annotations.extend(party.map(|party| text(name, &party)));
        }
        let has_flow = finding.object_kind == ObjectKind::IoEnd;
        let flow = has_flow.then(|| flow(&finding.object));
        self.instant(finding.at_ns, FINDINGS.0, finding.rule, &annotations, flow);
    }

    fn loss(&mut self, loss: &Loss) {
        let count = [number("count", loss.count)];
        self.instant(loss.at_ns, LOST.0, loss.stage, &count, None);
    }
}

fn of_call(call: &Call) -> Vec<Message> {
    let mut annotations = Vec::new();
    annotations.extend(call.inode.map(|inode| number("inode", inode)));
    annotations.extend(call.device.as_ref().map(|device| text("device", device)));
    annotations.extend(call.bytes.map(|bytes| number("bytes", bytes)));
    let errno = call.errno.map(|errno| number("errno", errno.unsigned_abs().into()));
    annotations.extend(errno);
    annotations
}

fn annotated(name: &str) -> Message {
    let mut annotation = Message::default();
    annotation.text(annotation::NAME, name);
    annotation
}

fn text(name: &str, value: &str) -> Message {
    let mut annotation = annotated(name);
    annotation.text(annotation::STRING_VALUE, value);
    annotation
}

fn number(name: &str, value: u64) -> Message {
    let mut annotation = annotated(name);
    annotation.uint(annotation::UINT_VALUE, value);
    annotation
}

fn truth(name: &str, value: bool) -> Message {
    let mut annotation = annotated(name);
    annotation.uint(annotation::BOOL_VALUE, value.into());
    annotation
}

/// What binds the moments of one object together: FNV-1a of its id.
fn flow(object: &str) -> u64 {
    object.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
