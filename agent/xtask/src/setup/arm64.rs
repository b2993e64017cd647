//! What builds the agent for arm64 and runs it here: Debian's compiler of the BPF programs with the
//! standard library that Debian built for arm64 by that very compiler, a C compiler and linker, and
//! QEMU's user mode, which stands in for the machine and leaves the kernel this one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, toolbox, toolbox::Toolbox, toolchain};
use crate::{
    archive::{Archive, Release},
    command::{cargo, output, remove_dir_all},
    workspace::Workspace,
};

pub(crate) const TARGET: &str = "aarch64-unknown-linux-gnu";

const STD: &str = "libstd-rust-web-dev";
const QEMU: &str = "qemu-aarch64-static";

#[derive(Clone, Debug)]
pub(crate) struct Arm64 {
    compiler: PathBuf,
    root: PathBuf,
    toolbox: Toolbox,
}

pub(super) fn ensure(workspace: &Workspace) -> Result<Arm64> {
    let compiler = toolchain::debian(workspace)?;
    let toolbox = toolbox::cross(workspace)?;
    let version = version_of(STD, &compiler)?;
    let root = workspace.store().join("arm64");
    install(&root, &format!("arm64 1 with {STD} {version}"), "Rust for arm64, and QEMU", |into| {
        let release = Release::of_this_machine();
        let std = Archive::open_for(workspace, release, "arm64")?;
        let mut versions = std.unpack(&[format!("{STD}={version}")], into)?;
        versions.extend(qemu(workspace, into)?);
        let built =
            Arm64 { compiler: compiler.clone(), root: into.to_owned(), toolbox: toolbox.clone() };
        fs::metadata(built.std()).with_context(|| format!("{STD} has nothing for {TARGET}"))?;
        output(Command::new(built.qemu()).arg("--version"))?;
        Ok(versions)
    })?;
    Ok(Arm64 { compiler, root, toolbox })
}

/// QEMU's user mode for arm64; its package has one for each machine there is.
fn qemu(workspace: &Workspace, into: &Path) -> Result<Vec<String>> {
    let unpacked = into.join("package");
    let archive = Archive::open(workspace, Release::Bookworm)?;
    let versions = archive.unpack(&["qemu-user-static".to_owned()], &unpacked)?;
    fs::rename(unpacked.join("usr/bin").join(QEMU), into.join(QEMU))
        .with_context(|| format!("the package qemu-user-static has no {QEMU}"))?;
    remove_dir_all(&unpacked)?;
    Ok(versions)
}

/// The version of a package in an unpacked tree, by its stamp: a standard library is of use to the very
/// compiler that it was built with only.
fn version_of(package: &str, tree: &Path) -> Result<String> {
    let stamp = fs::read_to_string(tree.join("stamp")).context("the compiler has no stamp")?;
    let line = stamp.lines().find_map(|line| line.strip_prefix(package)?.strip_prefix(' '));
    line.map(str::to_owned).with_context(|| format!("the compiler came without {package}"))
}

impl Arm64 {
    /// Cargo, to build static programs for arm64 with; the caller says what.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        let variable = |name: &str| format!("{name}_{}", TARGET.replace('-', "_"));
        let gcc = self.toolbox.program("aarch64-linux-gnu-gcc");
        command.env("RUSTC", self.compiler.join("usr/bin/rustc"));
        command.env("LD_LIBRARY_PATH", self.compiler.join("usr/lib/x86_64-linux-gnu"));
        command.env(variable("CC"), &gcc);
        command.env(variable("AR"), self.toolbox.program("aarch64-linux-gnu-ar"));
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", &gcc);
        let std = format!("-L{}", self.std().display());
        command
            .env("CARGO_ENCODED_RUSTFLAGS", [&*std, "-Ctarget-feature=+crt-static"].join("\x1f"));
        for name in ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CARGO_BUILD_TARGET"]
        {
            command.env_remove(name);
        }
        command
    }

    /// QEMU's user mode, which takes a static program and its arguments.
    pub(crate) fn qemu(&self) -> PathBuf {
        self.root.join(QEMU)
    }

    /// Where the standard library is.
    fn std(&self) -> PathBuf {
        self.root.join("usr/lib/rustlib").join(TARGET).join("lib")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_package_is_that_of_its_line() {
        let tree = std::env::temp_dir().join(format!("xtask-arm64-{}", std::process::id()));
        fs::create_dir_all(&tree).unwrap();
        let stamp = "toolchain 1\nlibstd-rust-web-1.96 1.96.0-1\nlibstd-rust-web-dev 1.96.0-2\n";
        fs::write(tree.join("stamp"), stamp).unwrap();
        assert_eq!(version_of(STD, &tree).unwrap(), "1.96.0-2");
        version_of("libstd-rust-web", &tree).unwrap_err();
        fs::remove_dir_all(&tree).unwrap();
    }
}
