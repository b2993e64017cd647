//! The kernel as a source: loads the programs, attaches them by the `PROBES` table, drains the ring.
//!
//! Only this module and those below it import aya. It must never look into a record: it moves bytes
//! and adds the agent's own records (`own`) for what only the attaching side knows.
//!
//! ```text
//! open ──► announce (HOST, CONFIG, SYMBOL, ATTACH) ──► drain … tick (totals, TICK) … ──► close
//!                                                      totals: LOSS, PROGRAM_LOSS, MISSES
//! ```

mod attach;
pub mod btf;
mod choice;
mod code;
mod counters;
mod dry_run;
mod error;
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

use aya::{Ebpf, EbpfLoader, maps::RingBuf};
use endiod_wire::wire::{self, backend, config_key};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

pub use attach::{GUARDED_FROM, KPROBE_MISSES_FROM, any_sees, refusal_hint};
pub use choice::{Absence, Choice, Verdict, brief, lost, serving};
pub use counters::Swept;
pub use dry_run::{DryRun, dry_run};
use error::io_error;
pub use error::{KernelError, TotalsError};
pub use module::ModuleError;
pub use object::{FETCH_AND_ADD_FROM, for_kernel as object};
pub use offsets::{OffsetsError, Symbols};
pub use subject::Subject;
use types::{Ext4Types, Types};
pub use types::{IO_END_CACHE, LAYOUT_KNOWN_TO};

use crate::{
    event::{Backend, Nanos, ProbeId},
    host::Host,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of the ring, bytes.
    pub ring_bytes: u32,
    /// Most entries of each table, beside the table's own bound.
    pub entries_max: u32,
}

/// The kernel, being watched.
pub struct KernelSource {
    ebpf: Ebpf,
    modules: module::ModuleProbes,
    kprobes: kprobes::Kprobes,
    watchpoints: watch::Watchpoints,
    code: code::Code,
    _log: Option<LogReader>,
    ring: AsyncFd<RingBuf<aya::maps::MapData>>,
    counters: counters::Counters,
    own: OwnRecords,
    verdicts: Vec<Verdict>,
    release: String,
    cpus: u32,
    ext4_types: Ext4Types,
    end_bio: u64,
    subject: Subject,
    version: (u32, u32),
    ring_bytes: u32,
    /// Most bytes that one drain found since the last tick.
    used_bytes_max: usize,
    /// The total, and how much of it was asked for; `None` where nothing sweeps.
    swept: Option<[Swept; 2]>,
    /// Runs of the programs: the totals, and what was taken of them.
    runs: BTreeMap<ProbeId, [attach::Runs; 2]>,
}

impl KernelSource {
    /// Loads and attaches everything that this kernel takes; needs a tokio runtime.
    ///
    /// # Errors
    /// Why nothing can be watched here, with the fix where we know it.
    pub fn open(host: &Host, sizes: Sizes, choice: Choice) -> Result<Self, KernelError> {
        let release = host.release().map_err(|source| io_error("the kernel release", source))?;
        let object = permitted_object(host)?;
        let Choice { subject, .. } = choice;
        let (btf_bytes, module_bytes) = (read_btf(host)?, host.module_btf(subject.module()));
        let vmlinux = btf::Btf::parse(&btf_bytes)?;
        let types = Types::new(&vmlinux, module_bytes.as_deref(), subject)?;
        let ext4_types = types.of_ext4(host)?;
        let symbols = Symbols::read(host).map_err(|source| io_error("/proc/kallsyms", source))?;
        let version = host.version().map_err(|source| io_error("the kernel release", source))?;
        let constants = offsets::find(types.all(), subject, ext4_types, &symbols, version)?;
        let code = code::Code::new(host, symbols.writers());
        counters::raise_memlock_limit();
        let mut ebpf = load(object, &constants, sizes, choice.watchpoints)?;
        let mut modules = module::ModuleProbes::new(object, &ebpf, &types)?;
        let mut kprobes = kprobes::Kprobes::new(version);
        let log = start_log(&mut ebpf);
        let mut watchpoints =
            watch::Watchpoints::new(host, choice.watchpoints, constants.end_bio());
        let mut attacher = attach::Attacher::new(
            &mut ebpf,
            &mut modules,
            &mut kprobes,
            &mut watchpoints,
            &types,
            &constants,
        );
        let verdicts = attacher.attach_all(choice);
        attach::refuse_if_none(&verdicts, host)?;
        let swept = sweeper::attach(&mut ebpf).then(Default::default);
        let ring = take_map(&mut ebpf, "EVENTS", RingBuf::try_from)?;
        Ok(KernelSource {
            ring: readable(ring).map_err(|source| io_error("the ring", source))?,
            counters: counters::Counters::open(&mut ebpf)?,
            own: OwnRecords::default(),
            verdicts,
            cpus: host.possible_cpus().map_err(|source| io_error("possible CPUs", source))?,
            release,
            ext4_types,
            end_bio: constants.end_bio(),
            subject,
            version,
            ring_bytes: sizes.ring_bytes,
            used_bytes_max: 0,
            swept,
            runs: BTreeMap::new(),
            ebpf,
            modules,
            kprobes,
            watchpoints,
            code,
            _log: log,
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
        self.own.symbol(self.end_bio, self.subject.end_bio(), deliver);
        for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(&self.verdicts) {
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
        let counters::Read { cpus, left_out, swept } = self.counters.read()?;
        self.swept = self.swept.map(|[_, taken]| [swept, taken]);
        for counters::CpuTotals { cpu, emitted, dropped } in cpus {
            self.own.loss(cpu, emitted, dropped, deliver);
        }
        self.own.program_loss(left_out, deliver);
        let KernelSource { ebpf, modules, kprobes, verdicts, version, .. } = self;
        let totals = attach::totals(ebpf, modules, kprobes, verdicts, *version)?;
        for attach::ProbeTotals { probe, missed, runs } in totals {
            if let Some(missed) = missed {
                self.own.misses(probe, missed, deliver);
            }
            self.runs.entry(probe).or_default()[0] = runs;
        }
        self.watchpoints.tell(&mut self.own, deliver);
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

    /// Closes the last epoch, detaches every program, delivers what they still wrote. Programs go one
    /// by one, so no TICK follows: what the last ones saw alone must not be taken for the whole.
    ///
    /// Each waits for the kernel to be through with its program, for a second or more in all, and the
    /// others write meanwhile: the ring is drained beside it.
    pub fn close(mut self, deliver: &mut dyn FnMut(&[u8])) {
        if let Err(error) = self.tick(deliver) {
            log::error!("{error}: the last second's verdicts are not confirmed");
        }
        let KernelSource {
            ebpf, modules, kprobes, watchpoints, verdicts, ring, ring_bytes, ..
        } = &mut self;
        let size_bytes = *ring_bytes as usize;
        let detached = thread::scope(|scope| {
            let detaching =
                scope.spawn(|| attach::detach_all(ebpf, modules, kprobes, watchpoints, verdicts));
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
        &self.verdicts
    }

    /// Whether ext4 is a module without BTF, so that the layout of its io_ends is assumed.
    pub fn layout_is_assumed(&self) -> bool {
        self.ext4_types == Ext4Types::Assumed
    }

    /// Entries that ended tasks had left in the programs' tables, up to the last tick and since this was
    /// last asked; `None` where nothing strikes them off.
    pub fn take_swept(&mut self) -> Option<Swept> {
        let [total, taken] = self.swept.as_mut()?;
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
fn drain(
    ring: &mut RingBuf<aya::maps::MapData>,
    size_bytes: usize,
    deliver: &mut dyn FnMut(&[u8]),
) -> usize {
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

fn load(
    object: &[u8],
    constants: &offsets::Constants,
    sizes: Sizes,
    watchpoints: u32,
) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    loader.override_global("WATCH_SLOTS", &watchpoints, true);
    for (name, value) in &constants.words {
        loader.override_global(name, value, true);
    }
    for (name, value) in &constants.addresses {
        loader.override_global(name, value, true);
    }
    let Sizes { ring_bytes, entries_max } = sizes;
    loader.map_max_entries("EVENTS", ring_bytes);
    for (map, most) in [
        ("OPEN_FSYNCS", wire::OPEN_FSYNCS_MAX),
        ("OPEN_DIRECT_IOS", wire::OPEN_DIRECT_IOS_MAX),
        ("LIVE_IO_ENDS", wire::LIVE_IO_ENDS_MAX),
    ] {
        loader.map_max_entries(map, most.min(entries_max));
    }
    loader.load(object).map_err(|error| KernelError::Load(attach::reason(&error)))
}

/// Takes a map out of the object and gives it its type.
fn take_map<T, E: std::error::Error + 'static>(
    ebpf: &mut Ebpf,
    name: &'static str,
    into: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, KernelError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| KernelError::Load(format!("the object has no map {name}")))?;
    into(map).map_err(|error| KernelError::Load(format!("map {name}: {}", attach::reason(&error))))
}

/// Registers a descriptor with the runtime, for reading.
fn readable<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: both callers hand over the owner of an open descriptor (a map's), which stays the same
    // until the AsyncFd gives it back or drops it.
    let registered = unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) };
    registered.map_err(io::Error::from)
}

/// The task that reads the programs' log and holds its map; it ends with this.
struct LogReader(AbortHandle);

impl Drop for LogReader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Brings the programs' log lines into ours and has one program write the first.
fn start_log(ebpf: &mut Ebpf) -> Option<LogReader> {
    let logger = aya_log::EbpfLogger::init(ebpf)
        .map_err(|error| error.to_string())
        .and_then(|logger| readable(logger).map_err(|error| error.to_string()));
    let mut logger = match logger {
        Ok(logger) => logger,
        Err(reason) => {
            log::warn!("the programs' log cannot be read: {reason}");
            return None;
        }
    };
    let reader = tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
    if let Err(reason) = attach::run_hello(ebpf) {
        log::warn!("the programs' first log line did not come: {reason}");
    }
    Some(LogReader(reader.abort_handle()))
}
