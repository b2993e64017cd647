//! The kernel as a source: loads the programs, attaches them by the `PROBES` table, drains the ring.
//!
//! Only this module and those below it import aya. It must never look into a record: it moves bytes
//! and adds the agent's own records (`own`) for what only the attaching side knows.
//!
//! ```text
//! open ──► announce (HOST, CONFIG, SYMBOL, ATTACH) ──► drain … tick (LOSS, MISSES, TICK) … ──► close
//! ```

mod attach;
pub mod btf;
mod choice;
mod counters;
mod dry_run;
mod module;
mod object;
mod offsets;
mod tracepoints;
mod types;

use std::{io, os::fd::AsRawFd};

use aya::{Ebpf, EbpfLoader, maps::RingBuf};
use endiod_wire::wire::{backend, config_key};
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

pub use attach::{GUARDED_FROM, KPROBE_MISSES_FROM, refusal_hint};
pub use choice::{Absence, Choice, Verdict, brief, lost, serving};
pub use dry_run::{DryRun, dry_run};
pub use module::ModuleError;
pub use object::{FETCH_AND_ADD_FROM, for_kernel as object};
pub use offsets::{OffsetsError, Symbols};
use types::{Ext4Types, Types};
pub use types::{IO_END_CACHE, LAYOUT_KNOWN_TO};

use crate::{
    event::{Backend, Cpu, ProbeId},
    host::Host,
    limits,
    probes::PROBES,
    source::own::{Opening, OwnRecords},
};

/// The oldest kernel that has what the programs need.
pub const OLDEST: (u32, u32) = (5, 10);

/// Why the kernel cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The agent was built without the programs.
    #[error(
        "this endiod was built without probes: run `cargo xtask setup`, which gets bpf-linker and a \
         compiler with the standard library's source, and build again"
    )]
    NoPrograms,
    /// Privileges are missing.
    #[error("cannot load tracing programs without {missing}: run as root (sudo endiod run)")]
    Privileges {
        /// The capabilities.
        missing: &'static str,
    },
    /// The kernel is too old.
    #[error(
        "kernel {release} is too old: endiod needs the BPF ring buffer and fentry, 5.10 or newer"
    )]
    TooOld {
        /// `uname -r`.
        release: String,
    },
    /// No type information.
    #[error(
        "this kernel shows no BTF at /sys/kernel/btf/vmlinux: it was built without \
         CONFIG_DEBUG_INFO_BTF, which fentry programs need; use a distribution kernel that has it"
    )]
    NoBtf,
    /// ext4 is neither built in nor loaded.
    #[error(
        "ext4 is neither part of this kernel nor a loaded module: mount an ext4 or modprobe ext4"
    )]
    Ext4NotLoaded,
    /// ext4 is a module whose types the kernel does not show, of a kernel that may have others.
    #[error(
        "ext4 is a module and this kernel shows no BTF of it at /sys/kernel/btf/ext4: its io_ends are \
         known without up to {}.{}, and this is {release}; build the module with BTF \
         (CONFIG_DEBUG_INFO_BTF_MODULES)",
        LAYOUT_KNOWN_TO.0,
        LAYOUT_KNOWN_TO.1
    )]
    NoModuleBtf {
        /// `uname -r`.
        release: String,
    },
    /// ext4 is a module whose types the kernel does not show, and its io_ends are not those we know.
    #[error(
        "ext4 is a module without BTF, and its io_ends are {found} bytes long, and not 64 as from 5.5 \
         to 7.3 (/sys/kernel/slab/{IO_END_CACHE}/object_size): its fields cannot be found; build the \
         module with BTF (CONFIG_DEBUG_INFO_BTF_MODULES, a kernel from 5.11 on)"
    )]
    OtherIoEnd {
        /// How long they are, bytes.
        found: u64,
    },
    /// The programs for a module cannot be prepared.
    #[error(transparent)]
    Module(#[from] ModuleError),
    /// A constant is missing.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// BTF could not be read.
    #[error("cannot read the kernel's BTF: {0}")]
    Btf(#[from] btf::BtfError),
    /// No program could be attached.
    #[error("the kernel refused every tracing program; the first, {probe}: {reason}{hint}")]
    Refused {
        /// The first probe.
        probe: &'static str,
        /// What the kernel said.
        reason: String,
        /// The fix, where we know it.
        hint: String,
    },
    /// aya could not load the object.
    #[error("cannot load the programs' maps: {0}")]
    Load(String),
    /// A file of the host could not be read.
    #[error("cannot read {what}: {source}")]
    Io {
        /// What was read.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// What the ring puts before a record (`BPF_RINGBUF_HDR_SZ`), bytes.
const RING_HEADER_LEN: usize = 8;

/// Why it cannot be told what was lost.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The programs' counters cannot be read.
    #[error("cannot read the programs' counters: {0}")]
    Counters(#[source] aya::maps::MapError),
    /// The kernel's counter of skipped hits cannot be read.
    #[error("cannot read the skipped hits of {program} from /proc/self/fdinfo")]
    Misses {
        /// The program.
        program: &'static str,
    },
}

/// The kernel, being watched.
pub struct KernelSource {
    ebpf: Ebpf,
    modules: module::ModuleProbes,
    _log: Option<LogReader>,
    ring: AsyncFd<RingBuf<aya::maps::MapData>>,
    counters: counters::Counters,
    own: OwnRecords,
    verdicts: Vec<Verdict>,
    release: String,
    cpus: u32,
    ext4_types: Ext4Types,
    end_bio: u64,
    version: (u32, u32),
    ring_bytes: u32,
    /// Most bytes that one drain found since the last tick.
    used_bytes_max: usize,
}

impl KernelSource {
    /// Loads and attaches everything that this kernel takes; needs a tokio runtime.
    ///
    /// # Errors
    /// Why nothing can be watched here, with the fix where we know it.
    pub fn open(host: &Host, ring_bytes: u32, choice: Choice) -> Result<Self, KernelError> {
        let release = host.release().map_err(|source| io_error("the kernel release", source))?;
        let object = permitted_object(host)?;
        let (btf_bytes, module_bytes) = (read_btf(host)?, host.module_btf(module::MODULE));
        let vmlinux = btf::Btf::parse(&btf_bytes)?;
        let types = Types::new(&vmlinux, module_bytes.as_deref())?;
        let ext4_types = types.of_ext4(host)?;
        let symbols = Symbols::read(host).map_err(|source| io_error("/proc/kallsyms", source))?;
        let version = host.version().map_err(|source| io_error("the kernel release", source))?;
        let constants = offsets::find(types.all(), ext4_types, &symbols, version)?;
        counters::raise_memlock_limit();
        let mut ebpf = load(object, &constants, ring_bytes)?;
        let mut modules = module::ModuleProbes::new(object, &ebpf, types.all())?;
        let log = start_log(&mut ebpf);
        let mut attacher = attach::Attacher::new(&mut ebpf, &mut modules, &types, &constants);
        let verdicts = attacher.attach_all(choice);
        attach::refuse_if_none(&verdicts, host)?;
        let ring = take_map(&mut ebpf, "EVENTS", RingBuf::try_from)?;
        Ok(KernelSource {
            ring: readable(ring).map_err(|source| io_error("the ring", source))?,
            counters: counters::Counters::open(&mut ebpf)?,
            own: OwnRecords::default(),
            verdicts,
            cpus: host.possible_cpus().map_err(|source| io_error("possible CPUs", source))?,
            release,
            ext4_types,
            end_bio: symbols.address("ext4_end_bio").expect("offsets::find found it"),
            version,
            ring_bytes,
            used_bytes_max: 0,
            ebpf,
            modules,
            _log: log,
        })
    }

    /// Writes what the stream begins with: host, bounds, symbols, probes.
    pub fn announce(&mut self, opening: Opening, deliver: &mut dyn FnMut(&[u8])) {
        self.own.begin(self.cpus, &self.release, opening, deliver);
        if self.layout_is_assumed() {
            self.own.config(config_key::LAYOUT_ASSUMED, 1, deliver);
        }
        self.own.symbol(self.end_bio, "ext4_end_bio", deliver);
        for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(&self.verdicts) {
            let backend = match (verdict, probe.hook.backend()) {
                (Verdict::Attached, Backend::Fentry) => backend::FENTRY,
                (Verdict::Attached, Backend::RawTracepoint) => backend::RAW_TRACEPOINT,
                (Verdict::Attached, Backend::Kprobe) => backend::KPROBE,
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

    /// Delivers what the ring holds, at most as much as fits into it: producers that keep up must not
    /// keep us here for ever. Whether there may be more, of which nobody will wake us.
    pub fn drain(&mut self, deliver: &mut dyn FnMut(&[u8])) -> bool {
        let size_bytes = self.ring_bytes as usize;
        let mut used_bytes = 0;
        while used_bytes < size_bytes {
            let Some(record) = self.ring.get_mut().next() else { break };
            // As the ring accounts for it: a header, and whole words.
            used_bytes += RING_HEADER_LEN + record.len().next_multiple_of(8);
            deliver(&record);
        }
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
        for totals in self.counters.read()? {
            self.own.loss(Cpu(totals.cpu), totals.emitted, totals.dropped, deliver);
        }
        for (id, total) in attach::misses(&self.ebpf, &self.modules, &self.verdicts, self.version)?
        {
            self.own.misses(id, total, deliver);
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

    /// Closes the last epoch, detaches every program, delivers what they still wrote. Programs go one
    /// by one, so no TICK follows: what the last ones saw alone must not be taken for the whole.
    pub fn close(mut self, deliver: &mut dyn FnMut(&[u8])) {
        if let Err(error) = self.tick(deliver) {
            log::error!("{error}: the last second's verdicts are not confirmed");
        }
        let detached = attach::detach_all(&mut self.ebpf, &mut self.modules, &self.verdicts);
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

    /// Size of the ring, bytes.
    pub fn ring_bytes(&self) -> u32 {
        self.ring_bytes
    }

    /// Most bytes that one drain found since this was last asked.
    pub fn take_used_bytes_max(&mut self) -> usize {
        std::mem::take(&mut self.used_bytes_max)
    }

    /// Spans that found no room in the programs' tables of open spans, all CPUs; `None` if that
    /// cannot be read.
    pub fn untracked(&self) -> Option<u64> {
        self.counters.untracked().ok()
    }

    /// Walks of a request's bios or of an inode's list that ended at their bound, all CPUs; `None` if
    /// that cannot be read.
    pub fn walks_cut(&self) -> Option<u64> {
        self.counters.walks_cut().ok()
    }
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

fn io_error(what: &'static str, source: io::Error) -> KernelError {
    KernelError::Io { what, source }
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
    ring_bytes: u32,
) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    for (name, value) in &constants.words {
        loader.override_global(name, value, true);
    }
    for (name, value) in &constants.addresses {
        loader.override_global(name, value, true);
    }
    loader.map_max_entries("EVENTS", ring_bytes);
    let lives = u32::try_from(limits::LIVE_IO_ENDS_MAX).expect("a bound of the table of limits");
    loader.map_max_entries("LIVE_IO_ENDS", lives);
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
