//! What attaching would do, for the doctor: each program is loaded, attached and taken away again, so
//! at most one sits in the kernel at any moment and nothing stays.

use super::{
    Choice, KernelError, Sizes, Symbols, Types, Verdict, attach::Attacher, btf::Btf, counters,
    holder::load, kprobes::Kprobes, module::ModuleProbes, offsets, permitted_object,
    watch::Watchpoints,
};
use crate::host::Host;

/// The smallest: what the programs write meanwhile is read by nobody.
const SIZES: Sizes = Sizes { ring_bytes: 4096, entries_max: 1 };

/// What became of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// By their index in `PROBES`.
    pub verdicts: Vec<Verdict>,
    /// Whether the kernel counts skipped hits; `None` if nothing attached.
    pub misses_counted: Option<bool>,
    /// The same of kprobes; `None` if none attached.
    pub kprobe_misses_counted: Option<bool>,
}

/// Tries every program.
///
/// # Errors
/// What keeps all of them from being tried.
pub fn dry_run(
    host: &Host,
    vmlinux: &Btf<'_>,
    module_bytes: Option<&[u8]>,
    symbols: &Symbols,
    choice: Choice,
) -> Result<DryRun, KernelError> {
    let object = permitted_object(host)?;
    let types = Types::new(vmlinux, module_bytes, choice.subject)?;
    let ext4_types = types.of_ext4(host)?;
    let version = host.version().map_err(|source| super::io_error("the kernel release", source))?;
    let constants = offsets::find(types.all(), choice.subject, ext4_types, symbols, version)?;
    counters::raise_limits();
    let mut ebpf = load(object, &constants, SIZES, choice.watchpoints)?;
    let mut modules = ModuleProbes::new(object, &ebpf, &types)?;
    let mut kprobes = Kprobes::new(version);
    let mut watchpoints = Watchpoints::new(host, choice.watchpoints, constants.end_bio());
    let mut attacher =
        Attacher::new(&mut ebpf, &mut modules, &mut kprobes, &mut watchpoints, &types, &constants);
    Ok(attacher.try_each(choice))
}
