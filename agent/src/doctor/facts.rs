//! What there is to know about a host before anything is decided.
//!
//! `gather` asks `host`, `devices` and `source::kernel`; it opens no file itself and judges nothing.
//! What could not be told is an `Option` or carries the reason.

use std::collections::BTreeSet;

use crate::{
    devices::{DeviceReader, Found},
    generation::{self, Upstream},
    host::{Host, Preemption},
    probes::PROBES,
    source::kernel::{self, Choice, DryRun, KernelError, Symbols, btf::Btf},
};

/// A function that every ext4 has: where its BTF is, ext4's code is described.
const EXT4_FUNCTION: &str = "ext4_sync_file";

/// Facts about a host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// What it tells of the upstream version.
    pub upstream: Upstream,
    /// How the kernel preempts its own code.
    pub preemption: Preemption,
    /// The kernel's type information, or why it cannot be had.
    pub btf: Result<BtfFacts, String>,
    /// Where ext4's code is.
    pub ext4: Ext4Code,
    /// How long its io_ends are by the slab allocator, bytes, if the kernel shows it.
    pub io_end_bytes: Option<u64>,
    /// Lockdown mode.
    pub lockdown: Option<String>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<u64>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u64>,
    /// Security modules in force.
    pub security_modules: Option<Vec<String>>,
    /// What this process lacks to load tracing programs.
    pub missing_capability: Option<&'static str>,
    /// Whether kallsyms shows this process the address of `ext4_end_bio`.
    pub addresses_shown: bool,
    /// What came of attaching.
    pub attempt: Attempt,
    /// Mounted ext4 file systems, or why they cannot be listed.
    pub devices: Result<Found, String>,
}

/// What the kernel's BTF shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfFacts {
    /// Size of vmlinux's.
    pub size_bytes: u64,
    /// Size of ext4's own, if it is a module's.
    pub module_size_bytes: Option<u64>,
    /// Whether ext4's functions are described, in its own or inside vmlinux's.
    pub describes_ext4: bool,
    /// Of the functions that matter here, those that are described: vmlinux's and ext4's own; of an ext4
    /// that is not described, those that kallsyms shows.
    pub functions: BTreeSet<&'static str>,
}

/// Where ext4's code is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ext4Code {
    /// In the kernel's image.
    BuiltIn,
    /// A loaded module.
    Module {
        /// How many hold it.
        references: Option<u64>,
        /// Modules that use it.
        holders: Vec<String>,
    },
    /// Neither is shown.
    NotSeen,
}

/// What came of attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It was not asked for.
    Skipped,
    /// This process may not: the host may still allow it to others.
    NotPermitted(String),
    /// Nothing could be tried, for a reason that lies in the host or in this build.
    Impossible(String),
    /// Each program was tried.
    Tried(DryRun),
}

/// Why there is nothing to examine.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// The kernel cannot be asked, or is too old.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The release says nothing.
    #[error("kernel release {release:?} does not begin with N.N: no table fits it")]
    Release {
        /// `uname -r`.
        release: String,
    },
}

/// Gathers them; with a choice of back ends, programs are loaded, attached and taken away at once.
///
/// # Errors
/// The kernel is older than every one that endiod runs on, or its release cannot be read.
pub fn gather(host: &Host, attach: Option<Choice>) -> Result<Facts, DoctorError> {
    let release =
        host.release().map_err(|source| KernelError::Io { what: "the kernel release", source })?;
    let Some(upstream) = Upstream::parse(&release) else {
        return Err(DoctorError::Release { release });
    };
    if upstream.series < kernel::OLDEST {
        return Err(KernelError::TooOld { release }.into());
    }
    let upstream =
        upstream.refined(host.version_text().as_deref(), host.version_signature().as_deref());
    let symbols = host.kallsyms().and_then(|list| Symbols::read(&list)).unwrap_or_default();
    let types = types(host, attach, &symbols);
    Ok(Facts {
        release,
        upstream,
        preemption: host.preemption(),
        ext4: ext4_code(host, types.described_in_vmlinux),
        io_end_bytes: host.slab_object_bytes(kernel::IO_END_CACHE),
        btf: types.btf,
        lockdown: host.lockdown(),
        kptr_restrict: host.kptr_restrict(),
        unprivileged_bpf_disabled: host.unprivileged_bpf_disabled(),
        security_modules: host.security_modules(),
        missing_capability: host.missing_capability(),
        addresses_shown: symbols.address("ext4_end_bio").is_some(),
        attempt: types.attempt,
        devices: DeviceReader::under(host.root()).read().map_err(|error| error.to_string()),
    })
}

/// What needs the parsed BTF, which borrows its bytes.
struct Types {
    btf: Result<BtfFacts, String>,
    described_in_vmlinux: bool,
    attempt: Attempt,
}

fn types(host: &Host, attach: Option<Choice>, symbols: &Symbols) -> Types {
    let without = |error: KernelError| Types {
        btf: Err(error.to_string()),
        described_in_vmlinux: false,
        attempt: if attach.is_some() { failed(&error) } else { Attempt::Skipped },
    };
    let bytes = match kernel::read_btf(host) {
        Ok(bytes) => bytes,
        Err(error) => return without(error),
    };
    let vmlinux = match Btf::parse(&bytes) {
        Ok(vmlinux) => vmlinux,
        Err(error) => return without(error.into()),
    };
    let module_bytes = host.module_btf("ext4");
    let module = module_bytes.as_deref().and_then(|bytes| Btf::parse_split(&vmlinux, bytes).ok());
    let top = module.as_ref().unwrap_or(&vmlinux);
    let wanted = PROBES.iter().map(|probe| probe.function).chain(generation::FUNCTIONS);
    let describes_ext4 = top.has_function(EXT4_FUNCTION);
    let exists = |function: &&str| {
        top.has_function(function) || (!describes_ext4 && symbols.address(function).is_some())
    };
    let facts = BtfFacts {
        size_bytes: bytes.len() as u64,
        module_size_bytes: module_bytes.as_ref().map(|bytes| bytes.len() as u64),
        describes_ext4,
        functions: wanted.filter(exists).collect(),
    };
    let attempt = match attach
        .map(|choice| kernel::dry_run(host, &vmlinux, module_bytes.as_deref(), symbols, choice))
    {
        None => Attempt::Skipped,
        Some(Ok(tried)) => Attempt::Tried(tried),
        Some(Err(error)) => failed(&error),
    };
    let described_in_vmlinux = vmlinux.has_function(EXT4_FUNCTION);
    Types { btf: Ok(facts), described_in_vmlinux, attempt }
}

/// Whether the BTF that was read describes ext4's functions, its own or vmlinux's.
pub(super) fn ext4_is_described(facts: &Facts) -> bool {
    facts.btf.as_ref().is_ok_and(|btf| btf.describes_ext4)
}

/// Whether ext4 is a module whose io_ends are taken for what they are from 5.5 to 7.3, for want of BTF.
pub(super) fn layout_is_assumed(facts: &Facts) -> bool {
    let is_module = matches!(facts.ext4, Ext4Code::Module { .. });
    let is_refused = matches!(facts.attempt, Attempt::Impossible(_));
    is_module && facts.btf.is_ok() && !ext4_is_described(facts) && !is_refused
}

fn failed(error: &KernelError) -> Attempt {
    let text = error.to_string();
    match error {
        KernelError::Privileges { .. } => Attempt::NotPermitted(text),
        _ => Attempt::Impossible(text),
    }
}

fn ext4_code(host: &Host, described_in_vmlinux: bool) -> Ext4Code {
    if host.module_loaded("ext4") {
        let references = host.module_references("ext4");
        Ext4Code::Module { references, holders: host.module_holders("ext4") }
    } else if described_in_vmlinux {
        Ext4Code::BuiltIn
    } else {
        Ext4Code::NotSeen
    }
}
