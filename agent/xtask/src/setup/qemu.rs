//! QEMU 10 with every library it needs, unpacked: bookworm's own 7.2 kills 6.12 guests at random.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::{install, library_path};
use crate::{
    archive::{Archive, Release},
    command::output,
    workspace::Workspace,
};

const RECIPE: &str = "qemu 1";

#[derive(Clone, Debug)]
pub(crate) struct QemuFiles {
    root: PathBuf,
}

pub(super) fn ensure(workspace: &Workspace) -> Result<QemuFiles> {
    let files = QemuFiles { root: workspace.store().join("qemu") };
    install(&files.root, RECIPE, "QEMU", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let packages = archive.closure(&["qemu-system-x86", "seabios"], true)?;
        let versions = archive.unpack(&packages, into)?;
        let unpacked = QemuFiles { root: into.to_owned() };
        // A missing library shows here and not at the first boot.
        output(Command::new(unpacked.program()).args(unpacked.arguments()).arg("--version"))?;
        Ok(versions)
    })?;
    Ok(files)
}

impl QemuFiles {
    /// QEMU runs under the loader that was unpacked with it.
    pub(crate) fn program(&self) -> PathBuf {
        self.root.join("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")
    }

    /// What comes before QEMU's own arguments, and where its firmware is.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let under = |path: &str| self.root.join(path).display().to_string();
        vec![
            "--library-path".to_owned(),
            library_path(&self.root),
            under("usr/bin/qemu-system-x86_64"),
            "-L".to_owned(),
            under("usr/share/qemu"),
            "-L".to_owned(),
            under("usr/share/seabios"),
        ]
    }

    /// Where `QEMU_MODULE_DIR` must point, lest it load another version's.
    pub(crate) fn module_dir(&self) -> PathBuf {
        Path::new(&self.root).join("usr/lib/x86_64-linux-gnu/qemu")
    }
}
