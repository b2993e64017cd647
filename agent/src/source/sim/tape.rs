//! The records of a simulated host, in the order of their places in the ring.
//!
//! ```text
//!   place: header, number, time ──► … other CPUs go on … ──► read: the io_end's bytes
//! ```
//!
//! As on a host, a record's place comes before its bytes are read, and numbers are dense per CPU.

use std::{collections::BTreeMap, mem::size_of};

use endiod_wire::wire::{self, Header, IoEndImage, Record, bytes_of, context, valid};

use super::Release;
use crate::event::Backend;
use crate::probes::PROBES;

/// Key of the hashes that stand for addresses.
pub const HASH_KEY: u64 = 7;

const DEV: u32 = 254 << 20 | 1;
const INO: u64 = 12;
pub(super) const INODE: u64 = 0xffff_8880_0000_7000;
/// Time that a step takes.
pub(super) const NS_PER_STEP: u64 = 1_000;
/// Steps between two TICKs.
const STEPS_PER_TICK: u64 = 400;

/// Steps after which what is in one state is stuck: more than a world takes.
const STEPS_STUCK: u64 = 1_000_000_000;

/// An io_end: its address and its birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LifeId {
    /// Address.
    pub addr: u64,
    /// Time of its birth's record, nanoseconds.
    pub born_ns: u64,
}

/// Who acts: CPU, task, context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) cpu: u16,
    pub(super) tid: u32,
    pub(super) irq: bool,
}

/// Where an fsync is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// From the first byte on to that one.
    Begin { end: i64 },
    /// It waits for writeback.
    DataWait,
    /// It returns 0.
    Return,
}

/// What a probe saw of an io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Saw {
    Birth,
    Range,
    Attach,
    BioEnd {
        status: u32,
    },
    Put,
    PutDefer,
    Claim,
    ConvertBegin,
    ConvertEnd {
        ret: i64,
    },
    /// Its work puts it back; the word of the lock.
    Requeue {
        lock: u32,
    },
    Release,
}

/// A record and when it was placed and read.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub(super) bytes: Vec<u8>,
    /// `None` for the agent's own.
    pub(super) cpu: Option<u16>,
    /// The io_end it is of.
    pub(super) life: Option<LifeId>,
    pub(super) placed_at: u64,
    pub(super) read_at: u64,
    /// It may overlap with others of its io_end: attach, bio end, put.
    pub(super) loose: bool,
    pub(super) tick: bool,
}

/// What was recorded so far.
#[derive(Debug, Default)]
pub(super) struct Tape {
    pub(super) records: Vec<Placed>,
    seq: Vec<u64>,
    own_seq: u64,
    pub(super) now: u64,
    ticks: u64,
    /// The last io_end at each address.
    lives: BTreeMap<u64, LifeId>,
}

impl Tape {
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// One step of the world passed; did a TICK come with it?
    pub(super) fn pass(&mut self) -> bool {
        self.now += 1;
        let ticks = self.now.is_multiple_of(STEPS_PER_TICK);
        if ticks {
            self.tick();
        }
        ticks
    }

    pub(super) fn announce(&mut self, release: Release, cpus: u16) {
        let (name, claims) = (release.uname(), release.claims());
        self.seq = vec![0; usize::from(cpus)];
        let mut uname = [0; 64];
        uname[..name.len()].copy_from_slice(name.as_bytes());
        let header = self.own::<wire::Host>();
        let (version, cpus) = (wire::VERSION, u32::from(cpus));
        self.agent(
            &wire::Host { header, version, pad: 0, cpus, release: uname, hash_key: HASH_KEY },
            false,
        );
        let mut device = [0; 32];
        device[..4].copy_from_slice(b"vda1");
        let header = self.own::<wire::Device>();
        self.agent(&wire::Device { header, dev: DEV, pad: 0, name: device }, false);
        for (probe, row) in (0..).zip(PROBES) {
            // Of the fixture's probes the core of 2012 has the one of what today's has not.
            let of_2012 = row.program == "replica_requeue" && release == Release::V3_2;
            let absent = row.hook.backend() != Backend::Fentry
                || row.is_of_fixture() && !of_2012
                || row.program == "ext4_end_io_end" && !claims;
            let backend = if absent { wire::backend::NONE } else { wire::backend::FENTRY };
            let header = self.own::<wire::Attach>();
            self.agent(&wire::Attach { header, probe, backend, failed: 0, pad: [0; 2] }, false);
        }
        self.now += 1;
    }

    /// Says from which age on an io_end is stuck.
    pub(super) fn watch_age(&mut self) {
        let (key, value) = (wire::config_key::STUCK_AFTER_NS, NS_PER_STEP * STEPS_STUCK);
        let header = self.own::<wire::Config>();
        self.agent(&wire::Config { header, key, pad: 0, value }, false);
    }

    /// Nothing happens until all that is left is stuck.
    pub(super) fn pause(&mut self) {
        self.now += 2 * STEPS_STUCK;
        self.tick();
    }

    pub(super) fn tick(&mut self) {
        self.now += 1;
        self.ticks += 1;
        let (header, ordinal) = (self.own::<wire::Tick>(), self.ticks);
        self.agent(&wire::Tick { header, ordinal }, true);
        self.now += 1;
    }

    /// Takes a place; the bytes of the io_end are read later. Gives back the record's number.
    pub(super) fn place(&mut self, who: Who, saw: Saw, addr: u64) -> usize {
        let bytes = match saw {
            Saw::Birth => self.kernel(who, |header| wire::IoEndBirth {
                header,
                io_end: addr,
                inode: INODE,
                ino: INO,
                dev: DEV,
                valid: valid::INODE,
            }),
            Saw::Range => {
                self.kernel(who, |header| wire::RangeAdded { header, io_end: addr, vec: addr + 1 })
            }
            Saw::Attach => self.kernel(who, |header| wire::BioAttach {
                header,
                io_end: addr,
                bio: addr + 2,
                sector: 8,
                bytes: 4096,
                opf: 1,
            }),
            Saw::BioEnd { status } => self.kernel(who, |header| wire::BioEnd {
                header,
                io_end: addr,
                bio: addr + 2,
                status,
                valid: 0,
                image: IoEndImage::default(),
            }),
            Saw::ConvertEnd { ret } => {
                self.kernel(who, |header| wire::ConvertEnd { header, io_end: addr, ret })
            }
            Saw::Requeue { lock } => self.kernel(who, |header| wire::Requeue {
                header,
                io_end: addr,
                valid: valid::LOCK,
                lock,
                image: IoEndImage::default(),
            }),
            Saw::Put => self.imaged::<wire::Put>(who, addr),
            Saw::PutDefer => self.imaged::<wire::PutDefer>(who, addr),
            Saw::Claim => self.imaged::<wire::Claim>(who, addr),
            Saw::ConvertBegin => self.imaged::<wire::ConvertBegin>(who, addr),
            Saw::Release => self.imaged::<wire::Release>(who, addr),
        };
        if saw == Saw::Birth {
            self.lives.insert(addr, LifeId { addr, born_ns: NS_PER_STEP * self.now });
        }
        let loose = matches!(saw, Saw::Attach | Saw::BioEnd { .. } | Saw::Put | Saw::PutDefer);
        self.push(bytes, Some(who.cpu), loose, false);
        let record = self.records.len() - 1;
        self.records[record].life = Some(self.life(addr));
        record
    }

    /// The io_end that was last born at that address.
    pub(super) fn life(&self, addr: u64) -> LifeId {
        *self.lives.get(&addr).expect("its birth comes first")
    }

    /// A worker enters or leaves.
    pub(super) fn worker(&mut self, who: Who, begins: bool) {
        let bytes = if begins {
            self.kernel(who, |header| wire::WorkerBegin { header, inode: INODE })
        } else {
            self.kernel(who, |header| wire::WorkerEnd { header, inode: INODE })
        };
        self.push(bytes, Some(who.cpu), false, false);
    }

    /// An fsync goes on.
    pub(super) fn fsync(&mut self, who: Who, call: Call) {
        let phase = wire::fsync_phase::DATA_WAIT;
        let bytes = match call {
            Call::Begin { end } => self.kernel(who, |header| wire::FsyncBegin {
                header,
                inode: INODE,
                ino: INO,
                start: 0,
                end,
                dev: DEV,
                datasync: 0,
                valid: valid::INODE | valid::RANGE,
                phases_followed: 1,
            }),
            Call::DataWait => {
                self.kernel(who, |header| wire::FsyncPhaseBegin { header, phase, pad: 0 })
            }
            Call::Return => self.kernel(who, |header| wire::FsyncEnd { header, ret: 0 }),
        };
        self.push(bytes, Some(who.cpu), false, false);
    }

    /// Reads the bytes of an io_end into a record that was placed.
    pub(super) fn read(&mut self, record: usize, image: &IoEndImage) {
        let placed = &mut self.records[record];
        placed.read_at = self.now;
        let len = placed.bytes.len();
        let image_at = len - size_of::<IoEndImage>();
        // `valid` is 8 bytes before the image where padding follows it, else 4.
        let is_bio_end = len == size_of::<wire::BioEnd>();
        let valid_at = image_at - if is_bio_end { 4 } else { 8 };
        let known = &mut placed.bytes[valid_at..valid_at + 4];
        known.iter_mut().zip(valid::IMAGE.to_ne_bytes()).for_each(|(byte, bits)| *byte |= bits);
        let words = [image.list_next, image.list_prev, image.handle, image.inode, image.bio];
        let counts = u64::from(image.count) << 32 | u64::from(image.flag);
        let words = words.into_iter().chain([counts, image.vec_next, image.vec_prev]);
        for (word, place) in words.zip(placed.bytes[image_at..].chunks_exact_mut(8)) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// CPUs of the host.
    pub(super) fn cpus(&self) -> usize {
        self.seq.len()
    }

    /// A LOSS record for the time of a TICK.
    pub(super) fn loss(cpu: u16, emitted: u64, dropped: u64, at: u64) -> Vec<u8> {
        let header = header::<wire::Loss>(wire::AGENT_CPU, 0, at, 0, context::TASK);
        let loss = wire::Loss { header, of_cpu: u32::from(cpu), pad: 0, emitted, dropped };
        bytes_of(&loss).to_vec()
    }

    fn imaged<R: Record>(&mut self, who: Who, addr: u64) -> Vec<u8> {
        // The records with an image alone have one shape.
        let mut bytes = self.kernel(who, |header| wire::Put {
            header,
            io_end: addr,
            valid: 0,
            pad: 0,
            image: IoEndImage::default(),
        });
        bytes[..2].copy_from_slice(&R::KIND.to_ne_bytes());
        bytes
    }

    fn kernel<R: Record>(&mut self, who: Who, record: impl FnOnce(Header) -> R) -> Vec<u8> {
        let seq = &mut self.seq[usize::from(who.cpu)];
        *seq += 1;
        let context = if who.irq { context::SOFTIRQ } else { context::TASK };
        let header = header::<R>(who.cpu, *seq, self.now, who.tid, context);
        bytes_of(&record(header)).to_vec()
    }

    fn own<R: Record>(&mut self) -> Header {
        self.own_seq += 1;
        header::<R>(wire::AGENT_CPU, self.own_seq, self.now, 0, context::TASK)
    }

    fn agent<R: Record>(&mut self, record: &R, tick: bool) {
        self.push(bytes_of(record).to_vec(), None, false, tick);
    }

    fn push(&mut self, bytes: Vec<u8>, cpu: Option<u16>, loose: bool, tick: bool) {
        let (placed_at, read_at) = (self.now, self.now);
        let life = None;
        self.records.push(Placed { bytes, cpu, life, placed_at, read_at, loose, tick });
    }
}

fn header<R: Record>(cpu: u16, seq: u64, at: u64, tid: u32, context: u8) -> Header {
    Header {
        kind: R::KIND,
        len: u16::try_from(size_of::<R>()).expect("records are at most 256 bytes"),
        cpu,
        lane: 0,
        context,
        seq,
        time_ns: NS_PER_STEP * at,
        tid,
        tgid: tid,
    }
}
