//! What attaching would do, for the doctor: each program is loaded, attached and taken away again, so
//! at most one sits in the kernel at any moment and nothing stays.

use std::collections::HashMap;

use aya::Btf as KernelBtf;

use super::{
    KernelError, attach, btf::Btf, check_described, counters, load, module::ModuleProbes, offsets,
    permitted_object,
};
use crate::{host::Host, source::kernel::Verdict};

/// The smallest ring: what the programs write meanwhile is read by nobody.
const RING_BYTES: u32 = 4096;

/// What became of the programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// By their index in `PROBES`.
    pub verdicts: Vec<Verdict>,
    /// Whether the kernel counts skipped hits; `None` if nothing attached.
    pub misses_counted: Option<bool>,
}

/// Tries every program.
///
/// # Errors
/// What keeps all of them from being tried.
pub fn dry_run(
    host: &Host,
    facts: &Btf<'_>,
    symbols: &HashMap<String, u64>,
) -> Result<DryRun, KernelError> {
    let object = permitted_object(host)?;
    check_described(host, facts)?;
    let version = host.version().map_err(|source| super::io_error("the kernel release", source))?;
    let constants = offsets::find(facts, symbols, version)?;
    counters::raise_memlock_limit();
    let btf =
        KernelBtf::from_sys_fs().map_err(|error| KernelError::Load(attach::reason(&error)))?;
    let mut ebpf = load(object, &constants, RING_BYTES)?;
    let mut modules = ModuleProbes::new(object, &ebpf, facts)?;
    let (verdicts, misses_counted) =
        attach::try_each(&mut ebpf, &mut modules, (&constants, &btf, facts));
    Ok(DryRun { verdicts, misses_counted })
}
