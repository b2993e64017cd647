//! Tracing programs on functions of a module: what aya, which knows vmlinux's functions only, cannot
//! attach.
//!
//! ```text
//!  object ─ parse ─► relocate ──► instructions ─┐
//!  aya's maps ─ descriptors ──┘                 ├─► BPF_PROG_LOAD ─► BPF_RAW_TRACEPOINT_OPEN
//!  the kernel's list of BTF ─ named "ext4" ─► fd ┤                          │
//!  /sys/kernel/btf/ext4 ─ split BTF ─► type id ─┘                    ModuleLink (drop: detached)
//! ```
//!
//! Or "replica" in the place of "ext4" (`subject`).
//!
//! The maps, with the patched constants among them, stay aya's: both kinds of programs share them.
//! Everything here is looked up when the agent attaches and forgotten when it detaches: another load
//! of the module has other addresses and ids. A hooked program holds the module (`rmmod`: EAGAIN).
//! Kernels show the types of modules from 5.11 on; getting the descriptor needs CAP_SYS_ADMIN.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use aya_obj::Object;

use super::{
    btf::{BtfError, TypeId},
    syscall::{self, AttachType, Tracing},
    types::Types,
};
use crate::{
    limits,
    probes::{Hook, PROBES, Probe},
};

/// Why a program is not on a module's function.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The object could not be prepared a second time.
    #[error("cannot prepare the programs for {module}: {reason}")]
    Object {
        /// The module.
        module: &'static str,
        /// Why not.
        reason: String,
    },
    /// The module's type information cannot be opened.
    #[error("cannot open the BTF of {module}, which needs CAP_SYS_ADMIN: {source}")]
    Btf {
        /// The module.
        module: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel does not list it.
    #[error("the kernel lists no BTF of a module {module}")]
    NotListed {
        /// The module.
        module: &'static str,
    },
    /// The function has no type of its own to attach to.
    #[error(transparent)]
    Function(#[from] BtfError),
    /// The object lacks the program.
    #[error("the object has no such program")]
    NoProgram,
    /// The kernel did not take the program.
    #[error("the kernel refused the program: {error}. Verifier output: {log}")]
    Refused {
        /// Its answer.
        error: io::Error,
        /// The verifier's words.
        log: String,
    },
    /// The kernel did not hook the program.
    #[error("the kernel did not attach the program: {0}")]
    Attach(io::Error),
}

/// A program on a module's function; dropping it detaches and unloads.
#[derive(Debug)]
struct ModuleLink {
    program: OwnedFd,
    _link: OwnedFd,
}

/// The object's programs with every map in place, and the module they go to.
struct Loader {
    object: Object,
    /// The instructions name these descriptors.
    _maps: Vec<OwnedFd>,
    btf: OwnedFd,
}

impl Loader {
    /// Prepares the programs of `object`, which `ebpf` has loaded and still has all maps of.
    fn new(object: &[u8], ebpf: &Ebpf, module: &'static str) -> Result<Self, ModuleError> {
        let failed = |reason: String| ModuleError::Object { module, reason };
        let maps = map_descriptors(ebpf).map_err(|error| failed(error.to_string()))?;
        let mut object = Object::parse(object).map_err(|error| failed(error.to_string()))?;
        relocate(&mut object, &maps).map_err(failed)?;
        let maps = maps.into_values().collect();
        Ok(Loader { object, _maps: maps, btf: module_btf(module)? })
    }

    /// Puts a program on a function of the module.
    fn load_and_attach(
        &self,
        program: &str,
        function: TypeId,
        attach_type: AttachType,
    ) -> Result<ModuleLink, ModuleError> {
        let row = self.object.programs.get(program).ok_or(ModuleError::NoProgram)?;
        let code = self.object.functions.get(&row.function_key()).ok_or(ModuleError::NoProgram)?;
        let program = syscall::load(&Tracing {
            name: program,
            license: &row.license,
            instructions: &code.instructions,
            attach_type,
            function: function.0,
            btf: self.btf.as_fd(),
        })
        .map_err(|refusal| ModuleError::Refused { error: refusal.error, log: refusal.log })?;
        let link = syscall::attach(program.as_fd()).map_err(ModuleError::Attach)?;
        Ok(ModuleLink { program, _link: link })
    }
}

/// The probes whose functions lie in a module, and those of them that are attached.
pub(super) struct ModuleProbes {
    /// Functions of the table that lie in the module, or whose namesakes do.
    functions: BTreeMap<&'static str, Result<TypeId, BtfError>>,
    loader: Option<Loader>,
    /// By program.
    links: BTreeMap<&'static str, ModuleLink>,
}

impl ModuleProbes {
    /// With built-in ext4 there are none, and nothing is looked up.
    pub(super) fn new(object: &[u8], ebpf: &Ebpf, types: &Types<'_>) -> Result<Self, ModuleError> {
        let (facts, subject) = (types.all(), types.subject());
        let traced = PROBES.iter().filter(|probe| attach_type(probe.hook).is_some());
        let named = traced.filter_map(|probe| Some((probe.function, subject.function(probe)?)));
        let own = named.filter(|(_, name)| facts.has_own_function(name));
        let functions: BTreeMap<_, _> =
            own.map(|(function, name)| (function, facts.function_id(name))).collect();
        let loader = (!functions.is_empty())
            .then(|| Loader::new(object, ebpf, subject.module()))
            .transpose()?;
        Ok(ModuleProbes { functions, loader, links: BTreeMap::new() })
    }

    /// Attaches a probe whose function lies in the module; `None`: it lies in vmlinux.
    pub(super) fn attach(&mut self, probe: &Probe) -> Option<Result<(), ModuleError>> {
        let loader = self.loader.as_ref()?;
        let function = self.functions.get(probe.function)?.clone();
        let attach_type = attach_type(probe.hook)?;
        let attached = function
            .map_err(ModuleError::from)
            .and_then(|function| loader.load_and_attach(probe.program, function, attach_type));
        Some(attached.map(|link| {
            self.links.insert(probe.program, link);
        }))
    }

    /// Detaches a probe; `false` if it is none of these.
    pub(super) fn detach(&mut self, probe: &Probe) -> bool {
        self.links.remove(probe.program).is_some()
    }

    /// The descriptor of an attached program.
    pub(super) fn program(&self, program: &str) -> Option<BorrowedFd<'_>> {
        self.links.get(program).map(|link| link.program.as_fd())
    }
}

fn attach_type(hook: Hook) -> Option<AttachType> {
    match hook {
        Hook::Entry => Some(AttachType::Entry),
        Hook::Exit => Some(AttachType::Exit),
        Hook::Tracepoint | Hook::Kprobe | Hook::Watchpoint => None,
    }
}

/// Descriptors of all maps, by name.
fn map_descriptors(ebpf: &Ebpf) -> io::Result<BTreeMap<String, OwnedFd>> {
    let data = ebpf.maps().filter_map(|(name, map)| Some((name, map_data(map)?)));
    data.map(|(name, data)| Ok((name.to_owned(), data.fd().as_fd().try_clone_to_owned()?)))
        .collect()
}

/// What a map of a kind that the programs use is made of; another kind is missed by `relocate`.
pub(super) fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) | Map::RingBuf(data) => {
            Some(data)
        }
        _ => None,
    }
}

/// Puts the maps' descriptors and the called functions into the instructions.
fn relocate(object: &mut Object, maps: &BTreeMap<String, OwnedFd>) -> Result<(), String> {
    let text = object.functions.keys().map(|(section, _)| *section).collect();
    let definitions = object.maps.clone();
    let in_kernel = definitions.iter().filter_map(|(name, definition)| {
        Some((name.as_str(), maps.get(name)?.as_raw_fd(), definition))
    });
    let relocated = object.relocate_maps(in_kernel, &text);
    relocated
        .and_then(|()| object.relocate_calls(&text))
        .map_err(|error| super::attach::reason(&error))
}

/// The descriptor of a module's type information.
fn module_btf(module: &'static str) -> Result<OwnedFd, ModuleError> {
    let failed = |source| ModuleError::Btf { module, source };
    let mut last = 0;
    for _ in 0..limits::KERNEL_BTFS_MAX {
        let Some(id) = syscall::next_btf(last).map_err(failed)? else { break };
        last = id;
        let btf = match syscall::btf(id) {
            Ok(btf) => btf,
            // It went away since.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            Err(error) => return Err(failed(error)),
        };
        if syscall::kernel_btf_name(btf.as_fd()).map_err(failed)?.as_deref() == Some(module) {
            return Ok(btf);
        }
    }
    Err(ModuleError::NotListed { module })
}
