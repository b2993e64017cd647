//! What this process, or a thread of it, may still do: capabilities given up, system calls shut off.
//!
//! ```text
//!              daemon (network, parsing)         helper (programs, debug registers)
//!  holds       nothing (CAP_BPF before 5.19)     what it still needs
//!  cannot      run a program, trace another process, open a perf event, load a module, enter a name space
//!              load a program or a map           reach a network
//! ```
//!
//! Nothing here can be taken back, and everything is inherited by what is started later. It must be asked for before
//! the first thread begins: capabilities and filters are those of the calling thread.

use std::{collections::BTreeMap, fmt, io};

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, apply_filter_all_threads,
};

/// The first kernel that lets who holds a descriptor of a map ask for it without CAP_BPF, where
/// `kernel.unprivileged_bpf_disabled` is set (commit c8644cd0efe7).
pub const MAPS_WITHOUT_CAPABILITY_FROM: (u32, u32) = (5, 19);

/// Capabilities, by their bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(CapabilitySet);

impl Capabilities {
    /// None.
    pub const NONE: Self = Capabilities(CapabilitySet::empty());
    /// CAP_BPF: to load programs and maps.
    pub const BPF: Self = Capabilities(CapabilitySet::BPF);
    /// CAP_SYS_ADMIN: watchpoints on kernel memory, types of modules, tracing programs of the slab.
    pub const SYS_ADMIN: Self = Capabilities(CapabilitySet::SYS_ADMIN);
    /// What attaching takes: these, CAP_PERFMON for tracing programs, CAP_SYSLOG for addresses of symbols.
    pub const ATTACHING: Self = Capabilities(
        CapabilitySet::BPF
            .union(CapabilitySet::PERFMON)
            .union(CapabilitySet::SYSLOG)
            .union(CapabilitySet::SYS_ADMIN),
    );

    /// Both.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Capabilities(self.0.union(others.0))
    }

    /// Gives up what is not among these, in this thread and in those that it begins from now on.
    ///
    /// # Errors
    /// The kernel refuses, which it does to nobody who gives something up.
    pub fn keep(self) -> io::Result<()> {
        let CapabilitySets { permitted, .. } = capabilities(None)?;
        let kept = permitted.intersection(self.0);
        // To take one out of the bounding set needs CAP_SETPCAP, and with no_new_privs changes nothing.
        for lost in CapabilitySet::all().difference(kept).iter() {
            let _ = remove_capability_from_bounding_set(lost);
        }
        clear_ambient_capability_set()?;
        set_capabilities(
            None,
            CapabilitySets {
                effective: kept,
                permitted: kept,
                inheritable: CapabilitySet::empty(),
            },
        )?;
        Ok(())
    }
}

impl fmt::Display for Capabilities {
    /// `CAP_BPF, CAP_PERFMON`; `none`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// Why what may be done could not be bounded.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// `no_new_privs`.
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(io::Error),
    /// Capabilities.
    #[error("cannot give up capabilities: {0}")]
    Capabilities(io::Error),
    /// The filter.
    #[error("cannot shut off system calls: {0}")]
    Filter(seccompiler::Error),
}

/// The one that serves and parses: keeps `kept`, and whatever is run by whoever takes it over can start nothing.
///
/// # Errors
/// It is not bounded, and must not go on.
pub fn confine_daemon(kept: Capabilities) -> Result<(), ConfineError> {
    let bpf = bpf_but_for(&[BPF_OBJ_GET_INFO_BY_FD])?;
    confine(kept, EVERYBODY.iter().map(|call| (*call, vec![])).chain([bpf]))
}

/// The one that holds the programs: no network, and it starts nothing either.
///
/// # Errors
/// It is not bounded, and must not go on.
pub fn confine_helper(kept: Capabilities) -> Result<(), ConfineError> {
    let tracing = libc::SYS_perf_event_open;
    let everybody = EVERYBODY.iter().filter(|call| **call != tracing);
    confine(kept, NETWORK.iter().chain(everybody).map(|call| (*call, vec![])))
}

/// The same one, once it holds what it will ever hold: `kept` is all that its threads keep, and none of them loads
/// another program.
///
/// # Errors
/// It is bounded as it was before, and no more.
pub fn load_no_more(kept: Capabilities) -> Result<(), ConfineError> {
    let counted = [BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_OBJ_GET_INFO_BY_FD];
    let (call, rules) = bpf_but_for(&counted)?;
    let program =
        filter([(call, rules)].into()).map_err(|error| ConfineError::Filter(error.into()))?;
    kept.keep().map_err(ConfineError::Capabilities)?;
    apply_filter_all_threads(&program).map_err(ConfineError::Filter)
}

/// Commands of bpf(2), to who has a descriptor of a map or a program: read it, write it, ask how long it is.
const BPF_MAP_LOOKUP_ELEM: u32 = 1;
const BPF_MAP_UPDATE_ELEM: u32 = 2;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;

/// A rule that refuses every command of bpf(2) but these.
fn bpf_but_for(commands: &[u32]) -> Result<(i64, Vec<SeccompRule>), ConfineError> {
    let is_not = |command: &u32| {
        let word = SeccompCmpArgLen::Dword;
        SeccompCondition::new(0, word, SeccompCmpOp::Ne, u64::from(*command))
    };
    let none_of: Result<Vec<_>, _> = commands.iter().map(is_not).collect();
    let rule = none_of.and_then(SeccompRule::new);
    let rule = rule.map_err(|error| ConfineError::Filter(error.into()))?;
    Ok((libc::SYS_bpf, vec![rule]))
}

/// What neither process does once it runs, and whoever takes it over would like to.
const EVERYBODY: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_perf_event_open,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_io_uring_setup,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
];

/// Who has no socket but the one that it began with reaches nobody else.
const NETWORK: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

fn confine(
    kept: Capabilities,
    refused: impl Iterator<Item = (i64, Vec<SeccompRule>)>,
) -> Result<(), ConfineError> {
    set_no_new_privs(true).map_err(|error| ConfineError::NoNewPrivileges(error.into()))?;
    kept.keep().map_err(ConfineError::Capabilities)?;
    let program = filter(refused.collect()).map_err(|error| ConfineError::Filter(error.into()))?;
    apply_filter(&program).map_err(ConfineError::Filter)
}

/// Everything but what is listed, which gives EPERM: a list of all that a runtime and a C library may ever call
/// would end the daemon at their next version.
fn filter(refused: BTreeMap<i64, Vec<SeccompRule>>) -> Result<BpfProgram, BackendError> {
    let refusal = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let here = std::env::consts::ARCH.try_into()?;
    SeccompFilter::new(refused, SeccompAction::Allow, refusal, here)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_as_man_pages_do() {
        assert_eq!(Capabilities::NONE.to_string(), "none");
        let both = Capabilities::SYS_ADMIN.and(Capabilities::BPF);
        assert_eq!(both.to_string(), "CAP_SYS_ADMIN, CAP_BPF");
    }

    /// In a thread of its own: nothing of it can be taken back. The other machine's tests are run by an emulator of
    /// programs, which has no filters.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn who_is_confined_starts_nothing_and_holds_nothing() {
        let told = std::thread::spawn(|| {
            confine_daemon(Capabilities::NONE).unwrap();
            let held = capabilities(None).unwrap();
            let begun = std::process::Command::new("/bin/true").status();
            let socket = std::net::TcpListener::bind("127.0.0.1:0").map(drop);
            (held, begun.map_err(|error| error.kind()), socket.is_ok())
        });
        let (held, begun, socket) = told.join().unwrap();
        let CapabilitySets { effective, permitted, inheritable } = held;
        assert!(effective.union(permitted).union(inheritable).is_empty(), "{held:?}");
        assert_eq!(begun.unwrap_err(), io::ErrorKind::PermissionDenied);
        assert!(socket, "it has a network");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_helper_has_no_network() {
        let told = std::thread::spawn(|| {
            confine_helper(Capabilities::NONE).unwrap();
            let begun = std::process::Command::new("/bin/true").status();
            let listener = std::net::TcpListener::bind("127.0.0.1:0").map(drop);
            let pair = std::os::unix::net::UnixStream::pair().map(drop);
            [begun.map(drop), listener, pair].map(|it| it.map_err(|error| error.kind()))
        });
        assert_eq!(told.join().unwrap(), [Err(io::ErrorKind::PermissionDenied); 3]);
    }
}
