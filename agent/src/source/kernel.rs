//! The kernel as a source: has the programs loaded and attached (`holder`), and drains the ring.
//!
//! Only this module and those below it import aya. It must never look into a record: it moves bytes
//! and adds the agent's own records (`own`) for what only the attaching side knows.
//!
//! ```text
//! open ──► announce (HOST, CONFIG, SYMBOL, ATTACH) ──► drain … tick (totals, TICK) … ──► close
//!                                                      totals: LOSS, PROGRAM_LOSS, MISSES
//! ```
//!
//! What takes privileges may be in a process of its own: then this one needs none.

mod attach;
pub mod btf;
mod choice;
mod code;
mod counters;
mod dry_run;
mod error;
mod helper;
mod holder;
mod kprobes;
mod module;
mod object;
mod offsets;
mod subject;
mod sweeper;
mod syscall;
mod tracepoints;
mod types;
mod watch;

use std::{collections::BTreeMap, io, os::fd::AsRawFd, thread, time::Duration};

use aya::maps::{Map, MapData, RingBuf};
use endiod_wire::wire::{backend, config_key};
use serde::{Deserialize, Serialize};
use tokio::io::{Interest, unix::AsyncFd};

pub use attach::{GUARDED_FROM, KPROBE_MISSES_FROM, any_sees, refusal_hint};
pub use choice::{Absence, Choice, Verdict, brief, lost, serving};
pub use counters::{Swept, raise_limits};
pub use dry_run::{DryRun, dry_run};
use error::io_error;
pub use error::{KernelError, TotalsError};
pub use helper::{Helper, HelperError, Wanted, serve};
use holder::{Holder, Opened, Told, Totals};
pub use module::ModuleError;
pub use object::{FETCH_AND_ADD_FROM, for_kernel as object};
pub use offsets::{OffsetsError, Symbols};
pub use subject::Subject;
use types::Types;
pub use types::{IO_END_CACHE, LAYOUT_KNOWN_TO};

use crate::{
    event::{Backend, Nanos, ProbeId},
    host::{Cgroup, Host},
    probes::PROBES,
    source::own::{Opening, OwnRecords},
};

/// The oldest kernel that has what the programs need.
pub const OLDEST: (u32, u32) = (5, 10);

/// What the ring puts before a record (`BPF_RINGBUF_HDR_SZ`), bytes.
const RING_HEADER_LEN: usize = 8;

/// How long records may wait in the ring while programs are detached.
const CLOSING_DRAIN_DELAY: Duration = Duration::from_millis(5);

/// Sizes of what the programs hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizes {
    /// Of the ring, bytes.
    pub ring_bytes: u32,
    /// Most entries of each table, beside the table's own bound.
    pub entries_max: u32,
}

/// Who holds what takes privileges.
enum Held {
    /// This process.
    Here(Box<Holder>),
    /// Another one, which lets go when this is dropped.
    Apart(helper::Attachment),
}

impl Held {
    fn totals(&mut self) -> Result<Totals, TotalsError> {
        match self {
            Held::Here(holder) => holder.totals(),
            Held::Apart(attachment) => attachment.totals(),
        }
    }

    fn detach(&mut self) -> Vec<ProbeId> {
        match self {
            Held::Here(holder) => holder.detach(),
            Held::Apart(attachment) => attachment.detach(),
        }
    }
}

/// The kernel, being watched.
pub struct KernelSource {
    held: Held,
    told: Told,
    code: code::Code,
    ring: AsyncFd<RingBuf<MapData>>,
    own: OwnRecords,
    release: String,
    cpus: u32,
    subject: Subject,
    ring_bytes: u32,
    /// Most bytes that one drain found since the last tick.
    used_bytes_max: usize,
    /// The total, and how much of it was asked for.
    swept: [Swept; 2],
    /// Runs of the programs: the totals, and what was taken of them.
    runs: BTreeMap<ProbeId, [attach::Runs; 2]>,
}

impl KernelSource {
    /// Loads and attaches everything that this kernel takes; needs a tokio runtime, and privileges.
    ///
    /// # Errors
    /// Why nothing can be watched here, with the fix where we know it.
    pub fn open(host: &Host, sizes: Sizes, choice: Choice) -> Result<Self, KernelError> {
        let (holder, opened) = Holder::open(host, sizes, choice)?;
        KernelSource::new(host, Wanted { sizes, choice }, Held::Here(Box::new(holder)), opened)
    }

    /// The same by a process apart; this one needs no privileges.
    ///
    /// # Errors
    /// Likewise, or that process is gone.
    pub fn open_apart(host: &Host, helper: &Helper) -> Result<Self, KernelError> {
        let (attachment, opened) = helper.attach()?;
        KernelSource::new(host, helper.wanted(), Held::Apart(attachment), opened)
    }

    fn new(host: &Host, wanted: Wanted, held: Held, opened: Opened) -> Result<Self, KernelError> {
        let Opened { mut told, ring, kallsyms } = opened;
        let load = |error| KernelError::Load(format!("the ring: {}", attach::reason(&error)));
        let ring = RingBuf::try_from(Map::RingBuf(MapData::from_fd(ring).map_err(load)?));
        let writers = std::mem::take(&mut told.writers);
        Ok(KernelSource {
            held,
            told,
            code: code::Code::new(kallsyms, writers),
            ring: readable(ring.map_err(load)?).map_err(|source| io_error("the ring", source))?,
            own: OwnRecords::default(),
            release: host.release().map_err(|source| io_error("the kernel release", source))?,
            cpus: host.possible_cpus().map_err(|source| io_error("possible CPUs", source))?,
            subject: wanted.choice.subject,
            ring_bytes: wanted.sizes.ring_bytes,
            used_bytes_max: 0,
            swept: Default::default(),
            runs: BTreeMap::new(),
        })
    }

    /// Writes what the stream begins with: host, bounds, symbols, probes.
    pub fn announce(&mut self, opening: Opening, deliver: &mut dyn FnMut(&[u8])) {
        self.own.begin(self.cpus, &self.release, opening, deliver);
        if self.layout_is_assumed() {
            self.own.config(config_key::LAYOUT_ASSUMED, 1, deliver);
        }
        if self.subject != Subject::Ext4 {
            self.own.config(config_key::SUBJECT, self.subject.number(), deliver);
        }
        self.own.symbol(self.told.end_bio, self.subject.end_bio(), deliver);
        for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(&self.told.verdicts) {
            if probe.is_of_fixture() && self.subject == Subject::Ext4 {
                continue;
            }
            let backend = match (verdict, probe.hook.backend()) {
                (Verdict::Attached, Backend::Fentry) => backend::FENTRY,
                (Verdict::Attached, Backend::RawTracepoint) => backend::RAW_TRACEPOINT,
                (Verdict::Attached, Backend::Kprobe) => backend::KPROBE,
                (Verdict::Attached, Backend::Watchpoint) => backend::WATCHPOINT,
                (Verdict::Absent(_) | Verdict::Failed(_), _) => backend::NONE,
            };
            let failed = matches!(verdict, Verdict::Failed(_));
            self.own.attach(id, backend, failed, deliver);
        }
    }

    /// Waits until the ring holds something.
    ///
    /// # Errors
    /// The ring's file descriptor broke.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.ring.readable_mut().await?.clear_ready();
        Ok(())
    }

    /// Delivers what the ring holds, at most as much as fits into it. Whether there may be more, of which
    /// nobody will wake us.
    pub fn drain(&mut self, deliver: &mut dyn FnMut(&[u8])) -> bool {
        let size_bytes = self.ring_bytes as usize;
        let KernelSource { ring, code, own, .. } = self;
        let mut deliver = |record: &[u8]| code.named(record, own, deliver);
        let used_bytes = drain(ring.get_mut(), size_bytes, &mut deliver);
        self.used_bytes_max = self.used_bytes_max.max(used_bytes.min(size_bytes));
        used_bytes >= size_bytes
    }

    /// Drains, then writes what was lost and missed so far, and closes the epoch.
    ///
    /// # Errors
    /// What was lost cannot be told: the epoch stays open, so nothing in it is confirmed.
    pub fn tick(&mut self, deliver: &mut dyn FnMut(&[u8])) -> Result<(), TotalsError> {
        self.drain(deliver);
        self.totals(deliver)?;
        self.own.tick(deliver);
        Ok(())
    }

    /// Writes what the programs lost and the kernel skipped; each record is stamped after its total
    /// was read, which is what dates a loss.
    fn totals(&mut self, deliver: &mut dyn FnMut(&[u8])) -> Result<(), TotalsError> {
        let Totals { counters, probes, watched } = self.held.totals()?;
        let counters::Read { cpus, left_out, swept } = counters;
        self.swept[0] = swept;
        for counters::CpuTotals { cpu, emitted, dropped } in cpus {
            self.own.loss(cpu, emitted, dropped, deliver);
        }
        self.own.program_loss(left_out, deliver);
        for attach::ProbeTotals { probe, missed, runs } in probes {
            if let Some(missed) = missed {
                self.own.misses(probe, missed, deliver);
            }
            self.runs.entry(probe).or_default()[0] = runs;
        }
        if let Some(watched) = watched {
            watched.write(&mut self.own, deliver);
        }
        Ok(())
    }

    /// Announces a device before its first use.
    pub fn announce_device(
        &mut self,
        dev: crate::event::DevId,
        name: &str,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        self.own.device(dev, name, deliver);
    }

    /// Writes from which age on an object is stuck, from now on.
    pub fn announce_stuck_after(&mut self, age: Nanos, deliver: &mut dyn FnMut(&[u8])) {
        self.own.stuck_after(age, deliver);
    }

    /// Writes what a task is called.
    pub fn announce_task(&mut self, tid: u32, comm: [u8; 16], deliver: &mut dyn FnMut(&[u8])) {
        self.own.task_name(tid, comm, deliver);
    }

    /// Writes the cgroup of a process.
    pub fn announce_cgroup(&mut self, tgid: u32, cgroup: &Cgroup, deliver: &mut dyn FnMut(&[u8])) {
        self.own.task_cgroup(tgid, cgroup, deliver);
    }

    /// Closes the last epoch, detaches every program, delivers what they still wrote. Programs go one
    /// by one, so no TICK follows: what the last ones saw alone must not be taken for the whole.
    ///
    /// Each waits for the kernel to be through with its program, for a second or more in all, and the
    /// others write meanwhile: the ring is drained beside it.
    pub fn close(mut self, deliver: &mut dyn FnMut(&[u8])) {
        if let Err(error) = self.tick(deliver) {
            log::error!("{error}: the last second's verdicts are not confirmed");
        }
        let KernelSource { held, ring, ring_bytes, .. } = &mut self;
        let size_bytes = *ring_bytes as usize;
        let detached = thread::scope(|scope| {
            let detaching = scope.spawn(|| held.detach());
            while !detaching.is_finished() {
                drain(ring.get_mut(), size_bytes, deliver);
                thread::sleep(CLOSING_DRAIN_DELAY);
            }
            detaching.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        while self.drain(deliver) {}
        if let Err(error) = self.totals(deliver) {
            log::error!("{error}: the summary's last losses are missing");
        }
        for id in detached {
            self.own.detach(id, deliver);
        }
    }

    /// What became of each probe, by its index in `PROBES`.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.told.verdicts
    }

    /// Whether ext4 is a module without BTF, so that the layout of its io_ends is assumed.
    pub fn layout_is_assumed(&self) -> bool {
        self.told.layout_is_assumed
    }

    /// Entries that ended tasks had left in the programs' tables, up to the last tick and since this was
    /// last asked; `None` where nothing strikes them off.
    pub fn take_swept(&mut self) -> Option<Swept> {
        if !self.told.sweeps {
            return None;
        }
        let [total, taken] = &mut self.swept;
        let before = std::mem::replace(taken, *total);
        Some(std::array::from_fn(|table| total[table] - before[table]))
    }

    /// Runs of the programs up to the last tick and since this was last asked, with their time; nothing where
    /// the kernel does not count them (`kernel.bpf_stats_enabled`).
    pub fn take_runs(&mut self) -> Vec<(ProbeId, u64, Nanos)> {
        let mut rose = Vec::new();
        for (probe, [now, taken]) in &mut self.runs {
            let before = std::mem::replace(taken, *now);
            let count = now.count.saturating_sub(before.count);
            let nanos = now.nanos.saturating_sub(before.nanos);
            if count > 0 {
                rose.push((*probe, count, Nanos(nanos)));
            }
        }
        rose
    }

    /// Size of the ring, bytes.
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Most bytes that one drain found since this was last asked.
    pub fn take_used_bytes_max(&mut self) -> usize {
        std::mem::take(&mut self.used_bytes_max)
    }
}

/// Delivers what the ring holds, at most as much as fits into it: producers that keep up must not keep us
/// here for ever. How much that was.
fn drain(ring: &mut RingBuf<MapData>, size_bytes: usize, deliver: &mut dyn FnMut(&[u8])) -> usize {
    let mut used_bytes = 0;
    while used_bytes < size_bytes {
        let Some(record) = ring.next() else { break };
        // As the ring accounts for it: a header, and whole words.
        used_bytes += RING_HEADER_LEN + record.len().next_multiple_of(8);
        deliver(&record);
    }
    used_bytes
}

/// What keeps this kernel from ever being watched by this process; to be asked before waiting for
/// something to watch.
///
/// # Errors
/// The reason, with the fix where we know it.
pub fn check(host: &Host) -> Result<(), KernelError> {
    permitted_object(host)?;
    host.btf_path().map(drop).ok_or(KernelError::NoBtf)
}

/// The programs for this kernel, if it is new enough and this process may load them.
fn permitted_object(host: &Host) -> Result<&'static [u8], KernelError> {
    let version = host.version().map_err(|source| io_error("the kernel release", source))?;
    if version < OLDEST {
        let release = host.release().map_err(|source| io_error("the kernel release", source))?;
        return Err(KernelError::TooOld { release });
    }
    let object = object(version).ok_or(KernelError::NoPrograms)?;
    match host.missing_capability() {
        Some(missing) => Err(KernelError::Privileges { missing }),
        None => Ok(object),
    }
}

/// The kernel's own type information.
///
/// # Errors
/// The kernel shows none, or it cannot be read.
pub fn read_btf(host: &Host) -> Result<Vec<u8>, KernelError> {
    let path = host.btf_path().ok_or(KernelError::NoBtf)?;
    std::fs::read(path).map_err(|source| io_error("/sys/kernel/btf/vmlinux", source))
}

/// Registers a descriptor with the runtime, for reading.
fn readable<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the caller hands over the owner of an open descriptor (a map's), which stays the same
    // until the AsyncFd gives it back or drops it.
    let registered = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    registered.map_err(io::Error::from)
}
