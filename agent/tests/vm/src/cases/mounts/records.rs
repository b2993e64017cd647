//! What the records of a row tell beyond its counts: fsyncs open at once, and interrupts that met a
//! program at work. It reads a slice of the flight recorder and must never be taken for a total.
//!
//! ```text
//!  number taken ─────────────► place in the ring ─► filled      the outer program
//!                 interrupt: number, place                      the inner one comes first
//! ```
//!
//! Only an interrupt between those two is told apart: the outer record comes after the inner one, or on
//! kernels before 5.12 the inner one has a lane of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
};

use anyhow::{Context as _, Result};
use endiod::{
    decode::decode,
    event::{Body, Context, Cpu, Stamp},
    source::trace::Reader,
};

/// What was read of a slice.
#[derive(Debug, Default)]
pub(super) struct Records {
    /// The most tasks that were inside `ext4_sync_file` at once.
    pub(super) fsyncs_at_once: usize,
    /// Records written in interrupts.
    pub(super) in_interrupts: u64,
    /// Interrupts that met a program between its number and its place in the ring.
    pub(super) nested: u64,
    syncing: BTreeSet<u32>,
    /// The highest number of each CPU and lane, and the context of its record.
    highest: BTreeMap<(Cpu, u8), (u64, Context)>,
}

impl Records {
    /// Reads all of them.
    pub(super) fn of(slice: &Path) -> Result<Records> {
        let file = File::open(slice).with_context(|| format!("cannot open {}", slice.display()))?;
        let mut reader = Reader::new(BufReader::new(file))?;
        let mut records = Records::default();
        while let Some(bytes) = reader.next_record()? {
            let event = decode(bytes).map_err(|why| anyhow::anyhow!("a bad record: {why:?}"))?;
            records.context(&event.stamp);
            match event.body {
                Body::FsyncBegin { .. } => {
                    records.syncing.insert(event.stamp.task.tid);
                }
                Body::FsyncEnd { .. } => {
                    records.syncing.remove(&event.stamp.task.tid);
                }
                _ => {}
            }
            records.fsyncs_at_once = records.fsyncs_at_once.max(records.syncing.len());
        }
        Ok(records)
    }

    fn context(&mut self, stamp: &Stamp) {
        let Some(cpu) = stamp.cpu else { return };
        let is_interrupt =
            |context| matches!(context, Context::SoftIrq | Context::HardIrq | Context::Nmi);
        let inner = is_interrupt(stamp.context);
        self.in_interrupts += u64::from(inner);
        let here = (stamp.seq, stamp.context);
        let highest = self.highest.entry((cpu, stamp.lane)).or_insert(here);
        let overtaken = stamp.seq < highest.0 && is_interrupt(highest.1);
        self.nested += u64::from(overtaken || (inner && stamp.lane > 0));
        if stamp.seq > highest.0 {
            *highest = here;
        }
    }
}
