//! Facts about this host and its kernel, no decisions: release, CPUs, privileges, lockdown, symbols.
//!
//! Everything is read from `/proc` and `/sys` under a root that tests may replace. Absence is an
//! `Option`: "could not tell" differs from "no".

mod cgroup;
mod ext4;
mod kallsyms;
mod preemption;
mod process;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

pub use cgroup::Cgroup;
pub use ext4::Ext4;
pub use kallsyms::{CodeSymbol, Kallsyms};
pub use preemption::Preemption;
pub use process::Process;

/// CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF (include/uapi/linux/capability.h; the last two from 5.8).
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A host's `/proc` and `/sys`.
#[derive(Clone, Debug)]
pub struct Host {
    root: PathBuf,
}

impl Default for Host {
    fn default() -> Self {
        Host::at("/")
    }
}

impl Host {
    /// The host whose file system is at `root`.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into() }
    }

    fn read(&self, path: &str) -> io::Result<String> {
        fs::read_to_string(self.root.join(path))
    }

    /// `uname -r`.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn release(&self) -> io::Result<String> {
        Ok(self.read("proc/sys/kernel/osrelease")?.trim().to_owned())
    }

    /// Major and minor version of the release.
    ///
    /// # Errors
    /// As [`Host::release`], or a release that does not begin with `N.N`.
    pub fn version(&self) -> io::Result<(u32, u32)> {
        let release = self.release()?;
        parse_version(&release).ok_or_else(|| {
            io::Error::other(format!("kernel release {release:?} does not begin with N.N"))
        })
    }

    /// CPUs that may ever come online (`/sys/devices/system/cpu/possible`).
    ///
    /// # Errors
    /// `/sys` is not mounted or holds something else.
    pub fn possible_cpus(&self) -> io::Result<u32> {
        let text = self.read("sys/devices/system/cpu/possible")?;
        let last = text.trim().rsplit(['-', ',']).next().and_then(|cpu| cpu.parse::<u32>().ok());
        last.map(|cpu| cpu + 1)
            .ok_or_else(|| io::Error::other(format!("possible CPUs are listed as {text:?}")))
    }

    /// A list of CPUs as the kernel has it (`/sys/devices/system/cpu`): `online`, `isolated`, `nohz_full`.
    pub fn cpu_list(&self, name: &str) -> Option<String> {
        self.read(&format!("sys/devices/system/cpu/{name}")).ok()
    }

    /// Where the kernel shows its type information, if it does (CONFIG_DEBUG_INFO_BTF).
    pub fn btf_path(&self) -> Option<PathBuf> {
        Some(self.root.join("sys/kernel/btf/vmlinux")).filter(|path| path.is_file())
    }

    /// The type information of a module, if the kernel shows it (from 5.11).
    pub fn module_btf(&self, module: &str) -> Option<Vec<u8>> {
        fs::read(self.root.join("sys/kernel/btf").join(module)).ok()
    }

    /// How long the objects of a slab cache are, bytes, if the kernel shows it (SLUB with sysfs). Of
    /// caches that were merged the longest, which no other of them is shorter than by a word (`mm/slub.c`,
    /// `find_mergeable`, 5.10 to 7.3).
    pub fn slab_object_bytes(&self, cache: &str) -> Option<u64> {
        self.number(&format!("sys/kernel/slab/{cache}/object_size"))
    }

    /// `/proc/version`: who built the kernel, and how.
    pub fn version_text(&self) -> Option<String> {
        Some(self.read("proc/version").ok()?.trim().to_owned())
    }

    /// Ubuntu's `/proc/version_signature`, which ends with the upstream version.
    pub fn version_signature(&self) -> Option<String> {
        Some(self.read("proc/version_signature").ok()?.trim().to_owned())
    }

    /// How the kernel preempts its own code.
    pub fn preemption(&self) -> Preemption {
        let debugfs = self.read("sys/kernel/debug/sched/preempt").ok();
        let cmdline = self.read("proc/cmdline").ok();
        preemption::tell(debugfs.as_deref(), cmdline.as_deref(), self.version_text().as_deref())
    }

    /// Whether a module of that name is loaded; built-in code is no module.
    pub fn module_loaded(&self, name: &str) -> bool {
        self.root.join("sys/module").join(name).join("initstate").is_file()
    }

    /// How many hold a module: mounts, other modules, attached programs.
    pub fn module_references(&self, name: &str) -> Option<u64> {
        self.number(&format!("sys/module/{name}/refcnt"))
    }

    /// Modules that use a module.
    pub fn module_holders(&self, name: &str) -> Vec<String> {
        let holders = self.root.join("sys/module").join(name).join("holders");
        let entries = fs::read_dir(holders).into_iter().flatten().flatten();
        let mut names: Vec<_> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// `comm` of a thread (proc(5)), NUL padded. `/proc` shows a worker's with what it works on behind it
    /// (`wq_worker_comm`, 4.18 and later), which is left out.
    pub fn task_name(&self, tid: u32) -> Option<[u8; 16]> {
        let text = fs::read(self.root.join(format!("proc/{tid}/comm"))).ok()?;
        let text = text.strip_suffix(b"\n").unwrap_or(&text);
        let is_worker = text.starts_with(b"kworker/");
        let end = text.iter().position(|byte| is_worker && matches!(byte, b'-' | b'+'));
        let mut comm = [0; 16];
        let len = end.unwrap_or(text.len()).min(15);
        comm[..len].copy_from_slice(&text[..len]);
        Some(comm)
    }

    /// The control group of a process.
    pub fn cgroup(&self, tgid: u32) -> Option<Cgroup> {
        Cgroup::parse(&self.read(&format!("proc/{tgid}/cgroup")).ok()?)
    }

    /// `kernel.kptr_restrict`: 2 hides addresses from everyone.
    pub fn kptr_restrict(&self) -> Option<u64> {
        self.number("proc/sys/kernel/kptr_restrict")
    }

    /// `kernel.unprivileged_bpf_disabled`: 0 allows BPF to everyone, 1 and 2 do not.
    pub fn unprivileged_bpf_disabled(&self) -> Option<u64> {
        self.number("proc/sys/kernel/unprivileged_bpf_disabled")
    }

    /// Security modules in force, if securityfs is mounted.
    pub fn security_modules(&self) -> Option<Vec<String>> {
        let text = self.read("sys/kernel/security/lsm").ok()?;
        Some(text.trim().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path).ok()?.trim().parse().ok()
    }

    /// Lockdown mode in force (`none`, `integrity`, `confidentiality`), if the kernel tells.
    pub fn lockdown(&self) -> Option<String> {
        let text = self.read("sys/kernel/security/lockdown").ok()?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    }

    /// What this process lacks to load tracing programs: CAP_BPF with CAP_PERFMON, or CAP_SYS_ADMIN.
    pub fn missing_capability(&self) -> Option<&'static str> {
        let status = self.read("proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
        let held = u64::from_str_radix(line.trim(), 16).ok()?;
        let has = |capability: u32| held >> capability & 1 == 1;
        if has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_PERFMON)) {
            None
        } else if has(CAP_BPF) {
            Some("CAP_PERFMON")
        } else {
            Some("CAP_BPF and CAP_PERFMON")
        }
    }

    /// `/proc/kallsyms`, for who will ask it again.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn kallsyms(&self) -> io::Result<Kallsyms> {
        fs::File::open(self.root.join("proc/kallsyms")).map(Kallsyms::from)
    }

    /// The root that all paths are under.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

fn parse_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_vendor_releases_are_read() {
        assert_eq!(parse_version("6.1.0-56-cloud-amd64"), Some((6, 1)));
        assert_eq!(parse_version("5.14.0-503.el9.x86_64"), Some((5, 14)));
        assert_eq!(parse_version("7.3-rc4"), Some((7, 3)));
        assert_eq!(parse_version("linux"), None);
    }

    #[test]
    fn lockdown_is_the_bracketed_mode_and_absence_is_not_none() {
        let dir = std::env::temp_dir().join(format!("endiod-host-{}", std::process::id()));
        let security = dir.join("sys/kernel/security");
        fs::create_dir_all(&security).unwrap();
        assert_eq!(Host::at(&dir).lockdown(), None);
        fs::write(security.join("lockdown"), "none [integrity] confidentiality\n").unwrap();
        assert_eq!(Host::at(&dir).lockdown().as_deref(), Some("integrity"));
        fs::remove_dir_all(&dir).unwrap();
    }
}
