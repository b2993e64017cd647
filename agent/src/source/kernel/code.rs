//! What the kernel calls the instructions that stores come from: `function+0x1a`, `function+0x1a[module]`.
//!
//! A kernel has a handful of them, so each is looked up in /proc/kallsyms when it is first seen, which takes tens
//! of milliseconds, and never again; beyond a bound none is. This module must never say who may write.

use std::{collections::BTreeSet, mem::offset_of};

use endiod_wire::wire::{FlagWrite, Record as _};

use crate::{host::Host, limits, source::own::OwnRecords};

/// The instructions that were looked up.
pub(super) struct Code {
    host: Host,
    known: BTreeSet<u64>,
}

impl Code {
    pub(super) fn new(host: &Host) -> Self {
        Code { host: host.clone(), known: BTreeSet::new() }
    }

    /// Delivers a record; before the first store from an instruction, what that is called.
    pub(super) fn named(
        &mut self,
        record: &[u8],
        own: &mut OwnRecords,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(ip) = written_from(record)
            && let Some(name) = self.name(ip)
        {
            own.symbol(ip, &name, deliver);
        }
        deliver(record);
    }

    /// The name of the instruction before `ip`, the first time that it is asked for and if there is one.
    fn name(&mut self, ip: u64) -> Option<String> {
        if self.known.len() == limits::WRITERS_MAX || !self.known.insert(ip) {
            return None;
        }
        // The store ends where `ip` begins, which may be the next function.
        let symbol = self.host.symbol_at(ip.wrapping_sub(1)).ok()??;
        let module = symbol.module.map_or(String::new(), |module| format!("[{module}]"));
        Some(format!("{}+{:#x}{module}", symbol.name, ip - symbol.address))
    }
}

/// The instruction after the store that a record tells of, if it tells of one.
fn written_from(record: &[u8]) -> Option<u64> {
    let kind = record.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    if kind != Some(FlagWrite::KIND) {
        return None;
    }
    let ip = record.get(offset_of!(FlagWrite, ip)..)?.first_chunk();
    ip.map(|bytes| u64::from_ne_bytes(*bytes))
}
