//! The compiler of the BPF programs. They need `core` built for `bpfel-unknown-none`, so a
//! compiler with the standard library's source: a rustup nightly that has it, else Debian's
//! newest, unpacked. (Installing it would conflict with the user's own rustc.)

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::install;
use crate::{
    archive::{Archive, Release},
    workspace::Workspace,
};

const RECIPE: &str = "toolchain 1";

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    if nightly_with_source().is_some() {
        return Ok(());
    }
    debian(workspace).map(drop)
}

/// Debian's compiler, and where it lies.
pub(super) fn debian(workspace: &Workspace) -> Result<PathBuf> {
    let dest = workspace.store().join("toolchain");
    install(&dest, RECIPE, "compiler of the BPF programs (rustc-web)", |into| {
        let archive = Archive::open(workspace, Release::of_this_machine())?;
        let packages = packages(&archive)?;
        let versions = archive.unpack(&packages, into)?;
        let source = into.join("usr/lib/rustlib/src/rust/library/Cargo.lock");
        fs::metadata(&source)
            .with_context(|| format!("rust-web-src has no {}", source.display()))?;
        Ok(versions)
    })?;
    Ok(dest)
}

/// The compiler, its standard library in the very version it was built with, and the libraries
/// that its LLVM needs; the C library is the machine's.
fn packages(archive: &Archive) -> Result<Vec<String>> {
    let mut packages = vec!["rustc-web".to_owned(), "rust-web-src".to_owned()];
    let std_dev = archive.depends("rustc-web")?;
    let std_dev = std_dev.into_iter().find(|name| name.starts_with("libstd-rust-web"));
    let std_dev = std_dev.context("rustc-web depends on no libstd-rust-web-dev")?;
    let std = archive.depends(&std_dev)?;
    let std = std.into_iter().find(|name| name.starts_with("libstd-rust-web"));
    let std = std.context("libstd-rust-web-dev depends on no libstd-rust-web")?;
    let llvm = archive.depends(&std)?;
    let llvm = llvm.into_iter().find(|name| name.starts_with("libllvm"));
    let llvm = llvm.context("libstd-rust-web depends on no libllvm")?;
    packages.extend([std_dev, std]);
    let libraries = archive.closure(&[&llvm], false)?;
    let is_ours = |package: &String| !package.starts_with("libc6=");
    packages.extend(libraries.into_iter().filter(is_ours));
    Ok(packages)
}

/// The sysroot of a rustup nightly that has the standard library's source.
fn nightly_with_source() -> Option<PathBuf> {
    let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(|| {
        let user_home = std::env::var_os("HOME")?;
        Some(Path::new(&user_home).join(".rustup"))
    })?;
    let toolchains = fs::read_dir(home.join("toolchains")).ok()?;
    toolchains.flatten().map(|entry| entry.path()).find(|path| {
        let is_nightly =
            path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("nightly"));
        is_nightly && path.join("lib/rustlib/src/rust/library/Cargo.lock").exists()
    })
}
