//! Real lives: those of the recordings, each with its worker's begin, and nothing lost or missed while it
//! lasted that could be of it.

use std::{collections::BTreeMap, fs, path::Path};

use endiod::{
    decode::decode,
    event::{Body, Event, IoEndImage, Nanos, ProbeId, Seen},
    oracle::in_step::{Judge, Oracle, Outcome, Protocol},
    probes::{Witness, probe},
    source::trace::Reader,
};

pub(crate) const RECORDINGS: [&str; 6] =
    ["buffered-5.10", "buffered-6.1", "buffered-6.18", "failing/6.1", "failing/6.18", "lives-6.1"];

/// A life of a recording, and the HOST record of its stream.
pub(crate) struct Life {
    pub(crate) host: Event,
    pub(crate) claims: bool,
    pub(crate) events: Vec<Event>,
}

impl Life {
    pub(crate) fn has_bios(&self) -> bool {
        self.events.iter().any(|it| matches!(it.body, Body::BioAttach { .. }))
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.events.iter().any(|it| matches!(it.body, Body::BioEnd { status, .. } if status != 0))
    }
}

pub(crate) fn lives() -> Vec<Life> {
    RECORDINGS.iter().flat_map(|name| lives_of(name)).collect()
}

pub(crate) fn lives_of(name: &str) -> Vec<Life> {
    let mut found = Found::default();
    records_of(name).iter().for_each(|record| found.take(decode(record).unwrap()));
    found.whole.append(&mut found.epoch);
    found.whole
}

pub(crate) fn records_of(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let bytes = fs::read(dir.join(format!("{name}.endiod"))).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.to_vec());
    }
    records
}

#[derive(Default)]
struct Found {
    host: Option<Event>,
    open: BTreeMap<u64, Vec<Event>>,
    workers: BTreeMap<u32, Event>,
    /// Totals of losses and misses, by what they are of.
    totals: BTreeMap<(bool, u32), u64>,
    /// Lives that ended since the last TICK.
    epoch: Vec<Life>,
    whole: Vec<Life>,
}

impl Found {
    fn take(&mut self, event: Event) {
        let tid = event.stamp.task.tid;
        match event.body {
            Body::Host { .. } => self.host = Some(event),
            Body::WorkerBegin { .. } => drop(self.workers.insert(tid, event)),
            Body::WorkerEnd { .. } => drop(self.workers.remove(&tid)),
            Body::Loss { of_cpu, dropped, .. } => self.total((true, of_cpu.0.into()), dropped),
            Body::Misses { probe, total } if may_be_of_a_life(probe) => {
                self.total((false, probe.0), total);
            }
            Body::Tick { .. } => self.whole.append(&mut self.epoch),
            Body::IoEndBirth { io_end, .. } => drop(self.open.insert(io_end.0, vec![event])),
            _ => self.step(event),
        }
    }

    /// What is open at a rise, or ended in its epoch, may lack an event.
    fn total(&mut self, of: (bool, u32), total: u64) {
        if self.totals.insert(of, total).unwrap_or(0) != total {
            self.epoch.clear();
            self.open.clear();
        }
    }

    fn step(&mut self, event: Event) {
        let (body, tid) = (event.body, event.stamp.task.tid);
        let Some(addr) = io_end(&body) else { return };
        let Some(events) = self.open.get_mut(&addr) else { return };
        let first = matches!(body, Body::Claim(_) | Body::ConvertBegin(_));
        let inside = events.iter().any(|it| matches!(it.body, Body::WorkerBegin { .. }));
        events.extend(self.workers.get(&tid).filter(|_| first && !inside).copied());
        events.push(event);
        if matches!(body, Body::Release(_)) {
            let events = self.open.remove(&addr).unwrap();
            let host = self.host.unwrap();
            let Body::Host { release, .. } = host.body else { unreachable!("it is a HOST") };
            let claims = Protocol::of(&release.0) == Protocol::Refcounted { claims: true };
            self.epoch.push(Life { host, claims, events });
        }
    }
}

/// May a skipped hit of that program be missing from a life that was seen released? Not one of its release.
fn may_be_of_a_life(id: ProbeId) -> bool {
    use Witness::{
        Attach, BioEnd, Birth, Claim, ConvertBegin, ConvertEnd, Put, PutDefer, Range, WorkerBegin,
        WorkerEnd,
    };
    let lives = [Birth, Range, Attach, BioEnd, Put, PutDefer, Claim, ConvertBegin, ConvertEnd];
    let witness = probe(id).unwrap().witness;
    lives.contains(&witness) || [WorkerBegin, WorkerEnd].contains(&witness)
}

pub(crate) fn io_end(body: &Body) -> Option<u64> {
    match body {
        Body::IoEndBirth { io_end, .. }
        | Body::RangeAdded { io_end, .. }
        | Body::BioAttach { io_end, .. }
        | Body::ConvertEnd { io_end, .. } => Some(io_end.0),
        body => seen(body).map(|seen| seen.io_end.0),
    }
}

pub(crate) fn seen(body: &Body) -> Option<Seen> {
    match body {
        Body::BioEnd { seen, .. }
        | Body::Put(seen)
        | Body::PutDefer(seen)
        | Body::Claim(seen)
        | Body::ConvertBegin(seen)
        | Body::Release(seen) => Some(*seen),
        _ => None,
    }
}

/// The bytes that an event shows of its io_end.
pub(crate) fn image(body: &mut Body) -> Option<&mut IoEndImage> {
    match body {
        Body::BioEnd { seen, .. }
        | Body::Put(seen)
        | Body::PutDefer(seen)
        | Body::Claim(seen)
        | Body::ConvertBegin(seen)
        | Body::Release(seen) => seen.image.as_mut(),
        _ => None,
    }
}

/// An oracle at the begin of a life's stream.
pub(crate) fn oracle(life: &Life) -> Oracle {
    let mut oracle = Oracle::default();
    oracle.set_claim_probe(life.claims);
    oracle.set_witnessed(true);
    oracle.observe(&life.host);
    oracle
}

/// Does a core have a run with these events? Both are asked.
pub(crate) fn diverges(life: &Life, events: &[Event]) -> [bool; 2] {
    diverges_where(life, events, false)
}

/// The same, where bios may be attached that no probe sees, or not.
pub(crate) fn diverges_where(life: &Life, events: &[Event], bios_unseen: bool) -> [bool; 2] {
    let mut oracle = oracle(life);
    oracle.set_bios_unseen(bios_unseen);
    events.iter().for_each(|event| oracle.observe(event));
    let mut tick = life.host;
    tick.stamp.at = Nanos(u64::MAX);
    tick.body = Body::Tick { ordinal: 1 };
    oracle.observe(&tick);
    Judge::ALL.map(|judge| oracle.tally(judge).outcome(Outcome::Diverged) > 0)
}
