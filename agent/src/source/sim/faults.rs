//! What can happen to records between the programs and the agent.
//!
//! * lost: no room in the ring; LOSS tells it before the next TICK;
//! * cut: the record is shorter than its length;
//! * doubled: it comes twice;
//! * exchanged: two probes of different CPUs that overlapped come in the other order.
//!
//! It must never undo what a host keeps: a probe that ended before another began comes first.

use super::tape::{Placed, Tape};
use super::{Derived, Random};

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

/// The records as the agent gets them.
pub(super) fn apply(
    tape: Tape,
    faults: Faults,
    random: &mut Random,
    derived: &mut Derived,
) -> Vec<Vec<u8>> {
    let mut totals = vec![(0, 0); tape.cpus()];
    let mut records = tape.records;
    exchange(&mut records, faults.exchanged, random, derived);
    let mut stream = Vec::with_capacity(records.len());
    for Placed { mut bytes, cpu, tick, placed_at, .. } in records {
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
            derived.faulty[0] += 1;
            continue;
        }
        if random.per_mille(faults.cut) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
            derived.faulty[1] += 1;
        } else if random.per_mille(faults.doubled) {
            stream.push(bytes.clone());
            derived.faulty[2] += 1;
        }
        stream.push(bytes);
    }
    stream
}

fn exchange(records: &mut [Placed], often: u32, random: &mut Random, derived: &mut Derived) {
    for at in 1..records.len() {
        let (before, after) = (&records[at - 1], &records[at]);
        let both = before.loose && after.loose && before.cpu != after.cpu;
        if both && before.read_at > after.placed_at && random.per_mille(often) {
            records.swap(at - 1, at);
            derived.faulty[3] += 1;
        }
    }
}
