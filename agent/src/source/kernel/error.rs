//! What can go wrong between the agent and the kernel, with the fix where we know it.

use std::io;

use super::{
    btf,
    helper::HelperError,
    module::ModuleError,
    offsets::OffsetsError,
    types::{IO_END_CACHE, LAYOUT_KNOWN_TO},
};

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
    /// The fixture to be watched is not there.
    #[error(
        "this kernel shows no BTF of a module replica at /sys/kernel/btf/replica: `cargo xtask fixtures` \
         builds it for guests; insmod it first"
    )]
    ReplicaNotLoaded,
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
    /// The process that holds privileges says why not, or is gone.
    #[error(transparent)]
    Helper(#[from] HelperError),
    /// A file of the host could not be read.
    #[error("cannot read {what}: {source}")]
    Io {
        /// What was read.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Why it cannot be told what was lost.
#[derive(Debug, thiserror::Error)]
pub enum TotalsError {
    /// The programs' counters cannot be read.
    #[error("cannot read the programs' counters: {0}")]
    Counters(#[source] aya::maps::MapError),
    /// The kernel's counter of skipped hits cannot be read.
    #[error("cannot read the skipped hits of {program}")]
    Misses {
        /// The program.
        program: &'static str,
    },
    /// The process that holds privileges says why not, or is gone.
    #[error(transparent)]
    Helper(HelperError),
}

impl KernelError {
    /// Whether nothing can be watched ever again by this process.
    pub fn is_final(&self) -> bool {
        matches!(self, KernelError::Helper(HelperError::Gone(_)))
    }
}

impl TotalsError {
    /// Whether there never will be any again.
    pub fn is_final(&self) -> bool {
        matches!(self, TotalsError::Helper(HelperError::Gone(_)))
    }
}

pub(super) fn io_error(what: &'static str, source: io::Error) -> KernelError {
    KernelError::Io { what, source }
}
