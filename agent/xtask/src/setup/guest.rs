//! The user land of guests: a static busybox and e2fsprogs with their libraries, unpacked. The
//! host uses both too (to decompress modules and to make /dev/vda), so that neither depends on
//! what this machine has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, loader};
use crate::{
    archive::{Archive, Release},
    command::output,
    vm::cpio::Cpio,
    workspace::Workspace,
};

const RECIPE: &str = "guest 1";

/// Programs of e2fsprogs that guests get.
const E2FSPROGS: &[&str] = &["mke2fs", "e2fsck", "tune2fs", "dumpe2fs", "resize2fs", "debugfs"];
/// Other names of mke2fs and e2fsck.
const LINKS: &[(&str, &str)] = &[
    ("mkfs.ext2", "mke2fs"),
    ("mkfs.ext3", "mke2fs"),
    ("mkfs.ext4", "mke2fs"),
    ("fsck.ext4", "e2fsck"),
];

#[derive(Clone, Debug)]
pub(crate) struct GuestFiles {
    root: PathBuf,
}

pub(super) fn ensure(workspace: &Workspace) -> Result<GuestFiles> {
    let files = GuestFiles { root: workspace.store().join("guest") };
    install(&files.root, RECIPE, "user land of the guests", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let packages = archive.closure(&["busybox-static", "e2fsprogs"], false)?;
        let versions = archive.unpack(&packages, into)?;
        let base = base_archive(&GuestFiles { root: into.to_owned() })?;
        fs::write(into.join("base.cpio"), base).context("cannot write the guests' base")?;
        Ok(versions)
    })?;
    Ok(files)
}

impl GuestFiles {
    /// The part of the initramfs that is the same for all guests.
    pub(crate) fn base_cpio(&self) -> PathBuf {
        self.root.join("base.cpio")
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.root.join("bin/busybox")
    }

    /// mke2fs on the host, under the loader unpacked with it.
    pub(crate) fn mke2fs(&self) -> Command {
        let mut command = loader(&self.root);
        command.arg(self.root.join("sbin/mke2fs"));
        command.env("MKE2FS_CONFIG", self.root.join("etc/mke2fs.conf"));
        command
    }
}

fn base_archive(files: &GuestFiles) -> Result<Vec<u8>> {
    let mut cpio = Cpio::default();
    for dir in ["dev", "proc", "sys", "tmp", "run", "root", "mnt", "in", "out", "vm", "etc"] {
        cpio.dir(dir);
    }
    for dir in ["bin", "sbin", "lib", "lib64", "lib/x86_64-linux-gnu"] {
        cpio.dir(dir);
    }
    cpio.file("bin/busybox", 0o755, &read(&files.busybox())?);
    for applet in output(Command::new(files.busybox()).arg("--list"))?.lines() {
        if applet != "busybox" {
            cpio.link(&format!("bin/{applet}"), "busybox");
        }
    }
    for program in E2FSPROGS {
        cpio.file(
            &format!("sbin/{program}"),
            0o755,
            &read(&files.root.join("sbin").join(program))?,
        );
    }
    for (link, target) in LINKS {
        cpio.link(&format!("sbin/{link}"), target);
    }
    for (name, path) in libraries(&files.root)? {
        cpio.file(&format!("lib/x86_64-linux-gnu/{name}"), 0o755, &read(&path)?);
    }
    cpio.link("lib64/ld-linux-x86-64.so.2", "../lib/x86_64-linux-gnu/ld-linux-x86-64.so.2");
    cpio.file("etc/mke2fs.conf", 0o644, &read(&files.root.join("etc/mke2fs.conf"))?);
    cpio.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
    cpio.file("etc/group", 0o644, b"root:x:0:\n");
    cpio.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n");
    Ok(cpio.finish())
}

/// Every shared library under the names that programs ask for.
fn libraries(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut libraries = Vec::new();
    for dir in ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"] {
        let entries = fs::read_dir(root.join(dir)).with_context(|| format!("cannot list {dir}"))?;
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.contains(".so.") && path.is_file() {
                libraries.push((name, path));
            }
        }
    }
    libraries.sort();
    Ok(libraries)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
