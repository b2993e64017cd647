//! The flight recorder: the last bytes of the stream, always, in one block of memory.
//!
//! ```text
//!   push ──► │ newest … oldest │ ──evicted──► preamble: the last HOST, CONFIG, SYMBOL, DEVICE,
//!              bounded in bytes                ATTACH/DETACH, LOSS, MISSES, PROGRAM_LOSS of each thing
//!
//!   slice  =  SLICE  +  preamble  +  what the block holds  =  a stream of its own
//! ```
//!
//! A record that announces something (a device's name, a CPU's losses) outlives its eviction, replaced
//! by the next about the same: so a slice replays like the whole stream for everything born inside it.
//! A HOST begins a new stream, numbered anew: what was kept of the old one is forgotten, so that a slice
//! never holds parts of two.
//! This module must never look further into a record than its kind and subject, never do I/O, and
//! never grow.

mod preamble;

use std::collections::VecDeque;

use endiod_wire::wire::{self, RECORD_LEN_MAX, Record as _, bytes_of};

use crate::decode;

use preamble::Preamble;

/// Keeps the newest records.
pub struct Recorder {
    capacity_bytes: usize,
    /// Whole records, oldest first, end to end.
    newest: VecDeque<u8>,
    /// What was announced by evicted records and still holds.
    preamble: Preamble,
    /// Records evicted so far.
    evicted: u64,
}

impl Recorder {
    /// Keeps at most `capacity_bytes` of records; 0 keeps none.
    pub fn new(capacity_bytes: usize) -> Self {
        Recorder {
            capacity_bytes,
            newest: VecDeque::with_capacity(capacity_bytes),
            preamble: Preamble::default(),
            evicted: 0,
        }
    }

    /// Takes the next record of the stream. What is no record is not kept: it could not be framed.
    pub fn push(&mut self, record: &[u8]) {
        let whole =
            decode::header(record).is_ok_and(|header| usize::from(header.len) == record.len());
        if !whole || record.len() > RECORD_LEN_MAX || record.len() > self.capacity_bytes {
            return;
        }
        if u16::from_ne_bytes([record[0], record[1]]) == wire::Host::KIND {
            self.newest.clear();
            self.preamble = Preamble::default();
            self.evicted = 0;
        }
        while self.newest.len() + record.len() > self.capacity_bytes {
            self.evict();
        }
        self.newest.extend(record);
    }

    /// Everything that is kept, as a stream: what was announced before first, then the newest records, oldest first.
    /// As long as nothing was evicted it is the stream itself.
    pub fn slice(&self) -> Vec<u8> {
        if self.evicted == 0 {
            return self.newest.iter().copied().collect();
        }
        let first = self.first();
        let (front, back) = self.newest.as_slices();
        let parts = [bytes_of(&first)].into_iter().chain(self.preamble.records());
        parts.chain([front, back]).flatten().copied().collect()
    }

    /// The record that says that this is a slice, stamped as what comes first after it.
    fn first(&self) -> wire::Slice {
        let announced = self.preamble.records().next().and_then(|it| decode::header(it).ok());
        wire::Slice {
            header: wire::Header {
                kind: wire::Slice::KIND,
                len: u16::try_from(size_of::<wire::Slice>()).expect("records are short"),
                cpu: wire::AGENT_CPU,
                lane: 0,
                context: wire::context::TASK,
                seq: 0,
                time_ns: announced.map_or(0, |header| header.time_ns),
                tid: 0,
                tgid: 0,
            },
            evicted: self.evicted,
        }
    }

    /// Bytes that are kept, announcements not counted.
    pub fn len_bytes(&self) -> usize {
        self.newest.len()
    }

    /// Records that are no longer kept.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Announcements that are no longer known because there were too many.
    pub fn forgotten(&self) -> u64 {
        self.preamble.left_out()
    }

    fn evict(&mut self) {
        let kind = u16::from_ne_bytes([self.newest[0], self.newest[1]]);
        let len = usize::from(u16::from_ne_bytes([self.newest[2], self.newest[3]]));
        self.evicted += 1;
        if kind < wire::Host::KIND {
            // An event, by far the most: nothing of it is kept.
            self.newest.drain(..len);
            return;
        }
        let record: Vec<u8> = self.newest.drain(..len).collect();
        self.preamble.observe(&record);
    }
}

/// The records of a slice, one by one.
pub fn records(slice: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = slice;
    std::iter::from_fn(move || {
        let len = usize::from(decode::header(rest).ok()?.len);
        let (record, after) = rest.split_at_checked(len.max(1))?;
        rest = after;
        Some(record)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        decode::decode,
        event::{Body, Cpu, DevId, Event, LeftOut, ProbeId},
        source::own::OwnRecords,
    };

    fn events(stream: &[u8]) -> Vec<Event> {
        records(stream).map(|record| decode(record).unwrap()).collect()
    }

    fn ticks(events: &[Event]) -> Vec<u64> {
        let tick = |event: &Event| match event.body {
            Body::Tick { ordinal } => Some(ordinal),
            _ => None,
        };
        events.iter().filter_map(tick).collect()
    }

    #[test]
    fn the_newest_records_are_kept_within_the_bound() {
        let tick = size_of::<wire::Tick>();
        let mut recorder = Recorder::new(10 * tick + tick / 2);
        let mut own = OwnRecords::default();
        for _ in 0..1000 {
            own.tick(&mut |record| recorder.push(record));
            assert!(recorder.len_bytes() <= 10 * tick + tick / 2);
        }
        assert_eq!(ticks(&events(&recorder.slice())), (991..=1000).collect::<Vec<_>>());
        assert_eq!(recorder.evicted(), 990);
    }

    #[test]
    fn a_state_outlives_its_eviction_and_its_successor_replaces_it() {
        let mut recorder = Recorder::new(size_of::<wire::Host>());
        let mut own = OwnRecords::default();
        let mut push = |record: &[u8]| recorder.push(record);
        own.host(2, "6.1.0", 7, &mut push);
        own.device(DevId(1), "vda", &mut push);
        own.device(DevId(2), "vdb", &mut push);
        own.attach(ProbeId(3), wire::backend::FENTRY, false, &mut push);
        own.loss(Cpu(0), 10, 0, &mut push);
        own.loss(Cpu(0), 20, 4, &mut push);
        own.program_loss(LeftOut([1, 0, 0, 0, 0]), &mut push);
        own.program_loss(LeftOut([2, 0, 0, 7, 0]), &mut push);
        own.device(DevId(1), "sda", &mut push);
        own.detach(ProbeId(3), &mut push);
        own.tick(&mut push);
        own.tick(&mut push);
        own.tick(&mut push);
        let slice = events(&recorder.slice());
        let told: Vec<String> = slice
            .iter()
            .filter_map(|event| match event.body {
                Body::Host { release, .. } => Some(format!("host {release}")),
                Body::Device { dev, name } => Some(format!("{dev} {name}")),
                Body::Detach { probe } => Some(format!("detach {}", probe.0)),
                Body::Attach { probe, .. } => Some(format!("attach {}", probe.0)),
                Body::Loss { emitted, .. } => Some(format!("emitted {emitted}")),
                Body::ProgramLoss { left_out } => Some(format!("left out {:?}", left_out.0)),
                _ => None,
            })
            .collect();
        let states = ["host 6.1.0", "0:1 sda", "0:2 vdb", "emitted 20", "detach 3"];
        assert_eq!(told[..5], states);
        assert_eq!(told[5..], ["left out [2, 0, 0, 7, 0]"]);
        assert!(matches!(slice[0].body, Body::Slice { .. }), "{:?}", slice[0]);
    }

    #[test]
    fn a_host_begins_a_new_stream_and_the_old_one_is_forgotten() {
        let mut recorder = Recorder::new(2 * size_of::<wire::Host>());
        let mut own = OwnRecords::default();
        let mut push = |record: &[u8]| recorder.push(record);
        own.host(2, "6.1.0", 7, &mut push);
        own.device(DevId(1), "vda", &mut push);
        (0..9).for_each(|_| own.tick(&mut push));
        OwnRecords::default().host(2, "6.1.0", 8, &mut push);
        assert_eq!((recorder.evicted(), recorder.forgotten()), (0, 0));
        let [Event { body: Body::Host { hash_key: 8, .. }, .. }] = events(&recorder.slice())[..]
        else {
            panic!("{:?}", events(&recorder.slice()));
        };
    }

    #[test]
    fn what_cannot_be_framed_is_not_kept() {
        let mut recorder = Recorder::new(4096);
        recorder.push(&[0xff; 40]);
        recorder.push(&[]);
        assert_eq!(recorder.len_bytes(), 0);
    }

    #[test]
    fn a_recorder_without_room_keeps_nothing() {
        let mut recorder = Recorder::new(0);
        OwnRecords::default().tick(&mut |record| recorder.push(record));
        assert!(recorder.slice().is_empty());
    }

    #[test]
    fn announcements_are_bounded() {
        let mut recorder = Recorder::new(size_of::<wire::Device>());
        let mut own = OwnRecords::default();
        let over = 10;
        for dev in 0..=u32::try_from(crate::limits::PREAMBLE_RECORDS_MAX + over).unwrap() {
            own.device(DevId(dev), "vda", &mut |record| recorder.push(record));
        }
        assert_eq!(recorder.forgotten(), over as u64);
    }
}
