//! What a part of a stream must begin with: the records that announce what later ones refer to.
//!
//! Give it every record that will not be in the part, in their order; of each host, device, symbol,
//! bound and probe it keeps the last word. Of LOSS, MISSES, PROGRAM_LOSS and WATCH_TOTALS too, for they carry totals:
//! with the last ones before the part, a loss is dated to where it was and not to the part's first
//! second. It is bounded; what found no room is counted.

use std::collections::BTreeMap;

use endiod_wire::wire::{self, Record};

use crate::{
    decode::decode,
    event::{Body, Cpu},
    limits,
};

/// The last word on everything that was announced.
#[derive(Clone, Debug, Default)]
pub(super) struct Preamble {
    /// By kind, HOST first, and what is announced.
    records: BTreeMap<(u16, u64), Box<[u8]>>,
    left_out: u64,
}

impl Preamble {
    /// Takes a record that will not be in the part.
    pub(super) fn observe(&mut self, record: &[u8]) {
        let Some(key) = key(record) else { return };
        if self.records.len() < limits::PREAMBLE_RECORDS_MAX || self.records.contains_key(&key) {
            self.records.insert(key, record.into());
        } else {
            self.left_out += 1;
        }
    }

    /// What the part begins with.
    pub(super) fn records(&self) -> impl Iterator<Item = &[u8]> {
        self.records.values().map(AsRef::as_ref)
    }

    /// Announcements that found no room.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }
}

/// What a record announces; `None` for an event, a TICK, and what does not decode.
fn key(record: &[u8]) -> Option<(u16, u64)> {
    Some(match decode(record).ok()?.body {
        Body::Host { .. } => (wire::Host::KIND, 0),
        Body::Device { dev, .. } => (wire::Device::KIND, dev.0.into()),
        Body::Symbol { address, .. } => (wire::Symbol::KIND, address.0),
        Body::Config { key, .. } => (wire::Config::KIND, key.into()),
        Body::Loss { of_cpu: Cpu(cpu), .. } => (wire::Loss::KIND, cpu.into()),
        Body::Misses { probe, .. } => (wire::Misses::KIND, probe.0.into()),
        Body::ProgramLoss { .. } => (wire::ProgramLoss::KIND, 0),
        Body::WatchTotals(_) => (wire::WatchTotals::KIND, 0),
        Body::TaskName { tid, .. } => (wire::TaskName::KIND, tid.into()),
        Body::TaskCgroup { tgid, .. } => (wire::TaskCgroup::KIND, tgid.into()),
        Body::Attach { probe, .. } | Body::Detach { probe } => (wire::Attach::KIND, probe.0.into()),
        _ => return None,
    })
}
