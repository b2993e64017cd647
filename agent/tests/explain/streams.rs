//! Streams for stories: worlds that were simulated, tasks renamed, as recordings in a directory.

#![allow(dead_code, reason = "two test programs use a part of it each")]

use std::{
    collections::BTreeMap,
    fs,
    mem::offset_of,
    path::{Path, PathBuf},
};

use endiod::{
    metrics::Metrics,
    pipeline::{Onlooker, Pipeline, names},
    source::{
        own::OwnRecords,
        sim::{Chosen, Faults, Half, Options, Random, World, simulate},
        trace::Writer,
    },
    story::{Collector, Story},
};
use endiod_wire::wire::{AGENT_CPU, Header};

/// The first half of the fix alone: the fsync path marks what it works on, the worker writes QUEUED
/// outside of the lock.
pub(crate) const BUG_2: Half = Half { in_fsync: true, queued_in_lock: false };

pub(crate) const NO_FAULTS: Faults = Faults { lost: 0, cut: 0, doubled: 0, exchanged: 0 };

pub(crate) fn records(world: World, seed: u64, lives: u32, faults: Faults) -> Vec<Vec<u8>> {
    simulate(&Options { world, seed, lives, chosen: Chosen::default(), faults }).records
}

/// A recording of these records.
pub(crate) fn recorded(records: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.finish().unwrap().0
}

/// The whole pipeline while somebody looks on.
pub(crate) fn watched(records: &[Vec<u8>], onlooker: &mut impl Onlooker) -> Pipeline {
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    records.iter().for_each(|record| pipeline.feed_before(record, onlooker));
    pipeline.finish();
    pipeline
}

/// The story of an io_end, with one of its findings or none.
pub(crate) fn story(records: &[Vec<u8>], object: &str, finding: Option<&str>) -> Story {
    let mut collector = Collector::new(object);
    let pipeline = watched(records, &mut collector);
    let picked = |it: &endiod::finding::Finding| Some(it.id.as_str()) == finding;
    let kernel = pipeline.summary().kernel;
    collector.tell(&kernel, pipeline.protocol(), pipeline.findings(), picked).unwrap()
}

/// Control characters, other alphabets, the longest that there is, nothing.
pub(crate) const NAMES: [[u8; 16]; 6] = [
    *b"\x1b[31;1m\x07\r\n\t\x7f\x01\x02\0\0",
    *b"aio-stress\0\0\0\0\0\0",
    *b"\xe2\x9c\x97\xe2\x97\x8f\xe2\x94\x83\xf0\x9f\x92\xa9\xc3\xa9\0",
    *b"0123456789abcdef",
    [0; 16],
    [0xff; 16],
];

/// Gives every task another number, and each of them a name of these after the first record.
pub(crate) fn renamed(records: &[Vec<u8>], seed: u64, comms: &[[u8; 16]]) -> Vec<Vec<u8>> {
    let mut random = Random::new(seed);
    let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
    let mut renamed = Vec::new();
    for record in records {
        let mut record = record.clone();
        let is_whole = record.len() >= size_of::<Header>();
        if is_whole && record[offset_of!(Header, cpu)..][..2] != AGENT_CPU.to_ne_bytes() {
            let tid_at = offset_of!(Header, tid);
            let tid = u32::from_ne_bytes(record[tid_at..][..4].try_into().unwrap());
            let fresh = 1 + numbers.len() as u32 * 4_000_000 / 9 + random.below(9) as u32;
            let number = *numbers.entry(tid).or_insert(fresh);
            record[tid_at..][..4].copy_from_slice(&number.to_ne_bytes());
        }
        renamed.push(record);
    }
    let mut named = Vec::new();
    for (number, comm) in numbers.values().zip(comms.iter().cycle()) {
        OwnRecords::default().task_name(*number, *comm, &mut |it| named.push(it.to_vec()));
    }
    renamed.splice(1..1, named);
    renamed
}

/// A directory of its own, gone at the end.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("endiod-story-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}
