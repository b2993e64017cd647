//! What builds kernel modules, the compiler of the kernel's own release of Debian, binutils, make and
//! pahole; and what builds for arm64. Unpacked. They run under the C library unpacked beside them, whatever this machine has:
//! kbuild starts them by name, so each program is put aside for a script that starts it by its loader.
//! (Loaders written into the programs were tried: trixie's patchelf breaks trixie's compiler.)
//!
//! Where the toolbox is, is therefore part of its recipe.

use std::{
    fs::{self, File, Permissions},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, library_path, loader_path};
use crate::{
    archive::{Archive, Release},
    command::shell_word,
    workspace::Workspace,
};

/// Where the programs themselves are, below the root of their tree.
const ASIDE: &str = "programs";

#[derive(Clone, Debug)]
pub(crate) struct Toolbox {
    root: PathBuf,
}

pub(super) fn ensure(workspace: &Workspace, release: Release) -> Result<Toolbox> {
    let what = format!("compiler of {}'s kernels", release.codename());
    let packages = [compiler(release), "make", "dwarves"];
    fill(workspace, release, release.codename(), &what, &packages)
}

/// What makes arm64 programs of C and of Rust's objects.
pub(super) fn cross(workspace: &Workspace) -> Result<Toolbox> {
    let packages = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
    fill(workspace, Release::Bookworm, "arm64", "C compiler and linker for arm64", &packages)
}

fn fill(
    workspace: &Workspace,
    release: Release,
    name: &str,
    what: &str,
    packages: &[&str],
) -> Result<Toolbox> {
    let root = workspace.store().join("toolbox").join(name);
    let recipe = format!("toolbox 2 in {}", root.display());
    install(&root, &recipe, what, |into| {
        let archive = Archive::open(workspace, release)?;
        let packages = archive.closure(packages, false)?;
        let versions = archive.unpack(&packages, into)?;
        wrap(into, into, &root, into, &root)?;
        Ok(versions)
    })?;
    Ok(Toolbox { root })
}

impl Toolbox {
    /// Where a program of the toolbox is.
    pub(super) fn program(&self, program: &str) -> PathBuf {
        self.root.join("usr/bin").join(program)
    }

    /// A program of the toolbox, which finds the others there first.
    pub(super) fn command(&self, program: &str) -> Command {
        let bin = self.root.join("usr/bin");
        let mut command = Command::new(bin.join(program));
        command.env_clear().env("LC_ALL", "C");
        command.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        command
    }

    /// Makes the programs below `now`, which will be `then`, run with this toolbox's C library.
    pub(super) fn wrap(&self, now: &Path, then: &Path) -> Result<()> {
        wrap(now, now, then, &self.root, &self.root)
    }
}

/// What the kernels of a release are built with, and want their modules built with.
fn compiler(release: Release) -> &'static str {
    match release {
        Release::Bullseye => "gcc-10",
        Release::Bookworm => "gcc-12",
        Release::Trixie => "gcc-14",
    }
}

/// Puts a script in place of each program below `dir`. `now` and `then` are where the programs' tree
/// is and will be, `loader_now` and `loader_then` the same of the C library.
fn wrap(dir: &Path, now: &Path, then: &Path, loader_now: &Path, loader_then: &Path) -> Result<()> {
    let loader = loader_then.join(loader_path(loader_now));
    for program in executables(dir)? {
        let inside = program.strip_prefix(now).context("a program lies in its tree")?;
        let real = Path::new(ASIDE).join(inside);
        let script = format!(
            "#!/bin/sh\nexec {} --argv0 \"$0\" --library-path {} {} \"$@\"\n",
            shell_word(&loader.to_string_lossy()),
            shell_word(&library_path(loader_then)),
            shell_word(&then.join(&real).to_string_lossy()),
        );
        let aside = now.join(&real);
        let aside_dir = aside.parent().unwrap_or(now);
        fs::create_dir_all(aside_dir)
            .with_context(|| format!("cannot create {}", aside_dir.display()))?;
        fs::rename(&program, &aside)
            .with_context(|| format!("cannot move {}", program.display()))?;
        let written = fs::write(&program, script);
        written.with_context(|| format!("cannot write {}", program.display()))?;
        let runnable = fs::set_permissions(&program, Permissions::from_mode(0o755));
        runnable.with_context(|| format!("cannot write {}", program.display()))?;
    }
    Ok(())
}

/// The programs below a directory that ask for a loader.
fn executables(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let meta = fs::symlink_metadata(&path);
        let meta = meta.with_context(|| format!("cannot read {}", path.display()))?;
        if meta.is_dir() {
            found.extend(executables(&path)?);
        } else if meta.is_file() && meta.permissions().mode() & 0o111 != 0 && !is_library(&path) {
            let mut head = Vec::new();
            let file = File::open(&path);
            let file = file.with_context(|| format!("cannot open {}", path.display()))?;
            file.take(HEAD_LEN).read_to_end(&mut head).context("cannot read a program")?;
            if asks_for_a_loader(&head) {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Some libraries can be started too, and must stay what they are.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".so") || name.contains(".so.")
}

/// More than the headers of any program take.
const HEAD_LEN: u64 = 4096;

/// Whether the head of a file is that of a 64-bit ELF program with a PT_INTERP segment.
fn asks_for_a_loader(head: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, len: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(len)?)?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    if !head.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(table), Some(entry_len), Some(entries)) =
        (number(32, 8), number(54, 2), number(56, 2))
    else {
        return false;
    };
    let kinds = (0..entries).map_while(|entry| {
        let at = table.checked_add(entry * entry_len)?;
        number(usize::try_from(at).ok()?, 4)
    });
    kinds.into_iter().any(|kind| kind == u64::from(PT_INTERP))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit little-endian ELF head with program headers of these kinds.
    fn elf(kinds: &[u32]) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[32] = 64;
        head[54] = 56;
        head[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            head.extend(kind.to_le_bytes());
            head.extend([0; 52]);
        }
        head
    }

    #[test]
    fn a_program_with_an_interpreter_asks_for_a_loader() {
        assert!(asks_for_a_loader(&elf(&[6, 3, 1])));
    }

    #[test]
    fn libraries_scripts_and_torn_heads_ask_for_none() {
        assert!(!asks_for_a_loader(&elf(&[6, 1, 2])));
        assert!(!asks_for_a_loader(b"#!/bin/sh\n"));
        assert!(!asks_for_a_loader(&elf(&[6, 3])[..70]));
        assert!(!asks_for_a_loader(b"\x7fELF\x02\x01"));
    }
}
