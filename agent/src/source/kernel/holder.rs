//! What takes privileges: loads the programs, attaches them by the `PROBES` table, holds them, reads what they and
//! the kernel count, and re-arms watchpoints. It is in the process that drains the ring, or apart from it (`helper`).
//!
//! ```text
//! open ─► Opened: the ring, the symbols, what became of each probe ─► totals … ─► detach ─► totals ─► drop
//! ```
//!
//! It must never look into a record, and nothing that it is asked for has an argument: what it watches was said
//! once, before anything was attached, and addresses to watch come from the kernel alone.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use endiod_wire::wire;
use serde::{Deserialize, Serialize};

use super::{
    Choice, KernelError, Sizes, Symbols, TotalsError, Types, Verdict, attach, btf, counters,
    error::io_error,
    kprobes::Kprobes,
    module::{ModuleProbes, map_data},
    offsets, permitted_object, read_btf, sweeper,
    types::Ext4Types,
    watch::{Watched, Watchpoints},
};
use crate::{
    event::ProbeId,
    host::{CodeSymbol, Host, Kallsyms},
};

/// The programs, attached.
pub(super) struct Holder {
    ebpf: Ebpf,
    modules: ModuleProbes,
    kprobes: Kprobes,
    watchpoints: Watchpoints,
    counters: counters::Counters,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    verdicts: Vec<Verdict>,
    version: (u32, u32),
}

/// What the side that drains is told of what was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Told {
    /// By their index in `PROBES`.
    pub(super) verdicts: Vec<Verdict>,
    pub(super) layout_is_assumed: bool,
    /// Address of the function that ends bios of io_ends.
    pub(super) end_bio: u64,
    /// Whether what ended tasks leave behind is struck off.
    pub(super) sweeps: bool,
    /// The functions that write flags, with their ends.
    pub(super) writers: Vec<(CodeSymbol, u64)>,
}

/// What the side that drains is given.
pub(super) struct Opened {
    pub(super) told: Told,
    pub(super) ring: OwnedFd,
    pub(super) kallsyms: Kallsyms,
}

/// What was counted since everything was attached, and what became of watchpoints since the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) counters: counters::Read,
    pub(super) probes: Vec<attach::ProbeTotals>,
    pub(super) watched: Option<Watched>,
}

impl Holder {
    /// Loads and attaches everything that this kernel takes.
    ///
    /// # Errors
    /// Why nothing can be watched here, with the fix where we know it.
    pub(super) fn open(
        host: &Host,
        sizes: Sizes,
        choice: Choice,
    ) -> Result<(Self, Opened), KernelError> {
        let object = permitted_object(host)?;
        let Choice { subject, .. } = choice;
        let (btf_bytes, module_bytes) = (read_btf(host)?, host.module_btf(subject.module()));
        let vmlinux = btf::Btf::parse(&btf_bytes)?;
        let types = Types::new(&vmlinux, module_bytes.as_deref(), subject)?;
        let ext4_types = types.of_ext4(host)?;
        let kallsyms = host.kallsyms().map_err(|source| io_error("/proc/kallsyms", source))?;
        let symbols =
            Symbols::read(&kallsyms).map_err(|source| io_error("/proc/kallsyms", source))?;
        let version = host.version().map_err(|source| io_error("the kernel release", source))?;
        let constants = offsets::find(types.all(), subject, ext4_types, &symbols, version)?;
        counters::raise_limits();
        let mut ebpf = load(object, &constants, sizes, choice.watchpoints)?;
        let mut modules = ModuleProbes::new(object, &ebpf, &types)?;
        let mut kprobes = Kprobes::new(version);
        let log = start_log(&mut ebpf);
        let mut watchpoints = Watchpoints::new(host, choice.watchpoints, constants.end_bio());
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
        let told = Told {
            verdicts: verdicts.clone(),
            layout_is_assumed: ext4_types == Ext4Types::Assumed,
            end_bio: constants.end_bio(),
            sweeps: sweeper::attach(&mut ebpf),
            writers: symbols.writers().to_owned(),
        };
        let opened = Opened { told, ring: ring(&ebpf)?, kallsyms };
        let counters = counters::Counters::open(&mut ebpf)?;
        let holder =
            Holder { ebpf, modules, kprobes, watchpoints, counters, log, verdicts, version };
        Ok((holder, opened))
    }

    /// Reads what was counted, and brings the programs' log lines into ours.
    pub(super) fn totals(&mut self) -> Result<Totals, TotalsError> {
        let Holder { ebpf, modules, kprobes, watchpoints, counters, log, verdicts, version } = self;
        if let Some(log) = log {
            log.flush();
        }
        Ok(Totals {
            counters: counters.read()?,
            probes: attach::totals(ebpf, modules, kprobes, verdicts, *version)?,
            watched: watchpoints.take(),
        })
    }

    /// Detaches every program, one by one; which they were. What they counted can be read afterwards.
    pub(super) fn detach(&mut self) -> Vec<ProbeId> {
        let Holder { ebpf, modules, kprobes, watchpoints, verdicts, .. } = self;
        attach::detach_all(ebpf, modules, kprobes, watchpoints, verdicts)
    }
}

/// A descriptor of the ring.
fn ring(ebpf: &Ebpf) -> Result<OwnedFd, KernelError> {
    let data = ebpf.map("EVENTS").and_then(map_data);
    let data = data.ok_or_else(|| KernelError::Load("the object has no map EVENTS".to_owned()))?;
    data.fd().as_fd().try_clone_to_owned().map_err(|source| io_error("the ring", source))
}

/// Has one program write the first line of the programs' log, which comes with the next totals.
fn start_log(ebpf: &mut Ebpf) -> Option<EbpfLogger<&'static dyn log::Log>> {
    let logger = match EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(reason) => {
            log::warn!("the programs' log cannot be read: {reason}");
            return None;
        }
    };
    if let Err(reason) = attach::run_hello(ebpf) {
        log::warn!("the programs' first log line did not come: {reason}");
    }
    Some(logger)
}

pub(super) fn load(
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
pub(super) fn take_map<T, E: std::error::Error + 'static>(
    ebpf: &mut Ebpf,
    name: &'static str,
    into: impl FnOnce(aya::maps::Map) -> Result<T, E>,
) -> Result<T, KernelError> {
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| KernelError::Load(format!("the object has no map {name}")))?;
    into(map).map_err(|error| KernelError::Load(format!("map {name}: {}", attach::reason(&error))))
}
