//! What was seen of the canary: it listens to the lifecycle's steps and keeps what concerns one inode.
//!
//! It must never track an object itself: a life is whole when the lifecycle says so.

use std::fmt;

use endiod::{
    event::{InodeId, Nanos},
    lifecycle::{Act, FsyncDone, IoEnd, Move, Step},
};
use serde::Serialize;

use super::Canary;

/// Version of the JSON.
const SCHEMA: u32 = 1;

/// What was seen so far.
pub(super) struct Sighting {
    inode: InodeId,
    probes_failed: Vec<&'static str>,
    seen: Seen,
    life: Option<Life>,
    fsync: Option<Nanos>,
}

/// Events of the canary's io_ends.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Seen {
    births: u64,
    bios_attached: u64,
    bios_ended: u64,
    puts: u64,
    releases: u64,
    releases_with_gaps: u64,
    fsyncs: u64,
}

/// A whole life.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Life {
    bios: u32,
    puts: u32,
    /// First bio attached to last bio ended.
    device_ns: Option<u64>,
    /// Claim to release; none where nothing had to be converted.
    convert_ns: Option<u64>,
    /// Birth to release.
    total_ns: Option<u64>,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    schema: u32,
    /// Whether one whole life and its fsync were seen.
    pub(super) seen: bool,
    directory: String,
    /// `major:minor`.
    device: String,
    inode: u64,
    rounds: u32,
    life: Option<Life>,
    fsync_ns: Option<u64>,
    events: Seen,
    /// What was not seen.
    missing: Vec<String>,
}

impl Sighting {
    pub(super) fn new(inode: InodeId, probes_failed: Vec<&'static str>) -> Self {
        Sighting { inode, probes_failed, seen: Seen::default(), life: None, fsync: None }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.life.is_some() && self.fsync.is_some()
    }

    pub(super) fn step(&mut self, step: &Step<'_>) {
        match step {
            // Where a birth cannot tell its inode, the first bio does.
            Step::IoEndBorn(object) | Step::IoEndIdentified(object) if self.is_ours(object) => {
                self.seen.births += 1;
            }
            Step::IoEndMoved(moved) if self.is_ours(moved.object) => match moved.act {
                Act::Attach => self.seen.bios_attached += 1,
                Act::BioEnd => self.seen.bios_ended += 1,
                _ if moved.action == Move::BioDone => self.seen.bios_ended += 1,
                Act::Put | Act::PutDefer => self.seen.puts += 1,
                _ => {}
            },
            Step::IoEndReleased(object) if self.is_ours(object) => self.released(object),
            Step::FsyncDone(done) => self.fsynced(done),
            _ => {}
        }
    }

    pub(super) fn outcome(&self, canary: &Canary, rounds: u32) -> Outcome {
        Outcome {
            schema: SCHEMA,
            seen: self.is_whole(),
            directory: canary.dir().display().to_string(),
            device: self.inode.dev.to_string(),
            inode: self.inode.ino.0,
            rounds,
            life: self.life,
            fsync_ns: self.fsync.map(|nanos| nanos.0),
            events: self.seen,
            missing: self.missing(),
        }
    }

    fn is_ours(&self, object: &IoEnd) -> bool {
        object.inode() == Some(self.inode)
    }

    fn released(&mut self, object: &IoEnd) {
        self.seen.releases += 1;
        if !object.complete() {
            self.seen.releases_with_gaps += 1;
            return;
        }
        let (bios, _) = object.bios();
        // A round of writeback also makes an io_end that carries nothing (5.10 to 7.3).
        if bios == 0 {
            return;
        }
        let phases = object.phases();
        let nanos = |phase: Option<Nanos>| phase.map(|nanos| nanos.0);
        self.life = Some(Life {
            bios,
            puts: object.puts(),
            device_ns: nanos(phases.device),
            convert_ns: nanos(phases.convert),
            total_ns: nanos(phases.total),
        });
    }

    fn fsynced(&mut self, done: &FsyncDone) {
        if done.inode == Some(self.inode) {
            self.seen.fsyncs += 1;
            self.fsync = Some(done.duration);
        }
    }

    fn missing(&self) -> Vec<String> {
        if self.is_whole() {
            return Vec::new();
        }
        let seen = &self.seen;
        let never = [
            (seen.births, "no birth of an io_end of the canary (ext4_init_io_end)"),
            (seen.bios_attached, "no bio of the canary was submitted (submit_bio)"),
            (seen.bios_ended, "no bio of the canary ended (ext4_end_bio)"),
            (seen.puts, "no reference was put (ext4_put_io_end, ext4_put_io_end_defer)"),
            (seen.releases, "no release (ext4_release_io_end)"),
            (seen.fsyncs, "no fsync of the canary (ext4_sync_file)"),
        ];
        let mut missing: Vec<_> = never
            .into_iter()
            .filter(|(count, _)| *count == 0)
            .map(|(_, what)| what.to_owned())
            .collect();
        if seen.releases_with_gaps > 0 {
            missing.push(format!("{} lives had gaps", seen.releases_with_gaps));
        }
        if missing.is_empty() {
            missing.push("every event was seen, no life from its birth to its release".to_owned());
        }
        missing.extend(self.probes_failed.iter().map(|program| format!("probe {program} failed")));
        missing
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { directory, device, inode, rounds, events, .. } = self;
        let micros = |nanos: Option<u64>| {
            nanos.map_or("unknown".to_owned(), |nanos| format!("{} us", nanos / 1000))
        };
        writeln!(f, "canary     inode {inode} on {device}, in {directory}; {rounds} rounds")?;
        match &self.life {
            Some(life) => {
                let convert =
                    life.convert_ns.map_or("none".to_owned(), |_| micros(life.convert_ns));
                writeln!(
                    f,
                    "life       birth, {} bios, {} puts, release; total {}, device {}, conversion {convert}",
                    life.bios,
                    life.puts,
                    micros(life.total_ns),
                    micros(life.device_ns),
                )?;
            }
            None => writeln!(
                f,
                "events     {} births, {} bios attached, {} ended, {} puts, {} releases, {} fsyncs",
                events.births,
                events.bios_attached,
                events.bios_ended,
                events.puts,
                events.releases,
                events.fsyncs
            )?,
        }
        if self.fsync_ns.is_some() {
            writeln!(f, "fsync      {}", micros(self.fsync_ns))?;
        }
        for missing in &self.missing {
            writeln!(f, "missing    {missing}")?;
        }
        writeln!(
            f,
            "{}",
            if self.seen { "a whole life was seen" } else { "no whole life was seen" }
        )
    }
}
