//! What can happen to records between the programs and the agent.
//!
//! * lost: no room in the ring; LOSS tells it before the next TICK;
//! * cut: the record is shorter than its length;
//! * doubled: it comes twice;
//! * exchanged: two probes of different CPUs that overlapped come in the other order.
//!
//! It must never undo what a host keeps: a probe that ended before another began comes first.

use std::{collections::BTreeMap, fmt};

use super::Random;
use super::tape::{LifeId, NS_PER_STEP, Placed, Tape};

/// How often, of 1,000 records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Lost.
    pub lost: u32,
    /// Cut.
    pub cut: u32,
    /// Doubled.
    pub doubled: u32,
    /// Exchanged with the one after it, where both overlapped.
    pub exchanged: u32,
}

/// What happened to how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Records before the faults.
    pub records: usize,
    /// Lost.
    pub lost: u64,
    /// Cut.
    pub cut: u64,
    /// Doubled.
    pub doubled: u64,
    /// Exchanged with the one after it.
    pub exchanged: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Done { records, lost, cut, doubled, exchanged } = self;
        write!(f, "{records} records: {lost} lost, {cut} cut, {doubled} doubled, ")?;
        write!(f, "{exchanged} exchanged")
    }
}

/// The records as the agent gets them, and when a record of a life first was lost or cut.
pub(super) fn apply(
    tape: Tape,
    faults: Faults,
    random: &mut Random,
) -> (Vec<Vec<u8>>, Done, BTreeMap<LifeId, u64>) {
    let mut touched = BTreeMap::new();
    let mut touch = |life: Option<LifeId>, at| {
        if let Some(life) = life {
            touched.entry(life).or_insert(NS_PER_STEP * at);
        }
    };
    let mut done = Done { records: tape.len(), ..Done::default() };
    let mut totals = vec![(0, 0); tape.cpus()];
    let mut records = tape.records;
    exchange(&mut records, faults.exchanged, random, &mut done);
    let mut stream = Vec::with_capacity(records.len());
    for Placed { mut bytes, cpu, life, tick, placed_at, .. } in records {
        let Some(cpu) = cpu else {
            if tick {
                let rows = (0..).zip(&totals);
                stream.extend(rows.map(|(cpu, (emitted, dropped))| {
                    Tape::loss(cpu, *emitted, *dropped, placed_at)
                }));
            }
            stream.push(bytes);
            continue;
        };
        let (emitted, dropped) = &mut totals[usize::from(cpu)];
        *emitted += 1;
        if random.per_mille(faults.lost) {
            *dropped += 1;
            done.lost += 1;
            touch(life, placed_at);
            continue;
        }
        if random.per_mille(faults.cut) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
            done.cut += 1;
            touch(life, placed_at);
        } else if random.per_mille(faults.doubled) {
            stream.push(bytes.clone());
            done.doubled += 1;
        }
        stream.push(bytes);
    }
    (stream, done, touched)
}

fn exchange(records: &mut [Placed], often: u32, random: &mut Random, done: &mut Done) {
    for at in 1..records.len() {
        let (before, after) = (&records[at - 1], &records[at]);
        let both = before.loose && after.loose && before.cpu != after.cpu;
        if both && before.read_at > after.placed_at && random.per_mille(often) {
            records.swap(at - 1, at);
            done.exchanged += 1;
        }
    }
}
