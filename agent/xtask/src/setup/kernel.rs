//! One kernel of the table: its image and those of its modules that a guest may ask for, kept as
//! the package has them. Which modules are needed, and in which order, `vm::modules` decides.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{guest, install};
use crate::{
    archive::{Archive, Gone},
    command::{output, remove_dir_all},
    kernels::Kernel,
    vm::modules::ModuleTree,
    workspace::Workspace,
};

const RECIPE: &str = "kernel 1";

/// Parts of a module tree that no guest of ours has a use for; the rest is a quarter of it.
const UNUSED: &[&str] = &["sound", "drivers/gpu", "drivers/media", "drivers/infiniband"];

#[derive(Clone, Debug)]
pub(crate) struct KernelFiles {
    root: PathBuf,
    busybox: PathBuf,
}

pub(super) fn ensure(workspace: &Workspace, kernel: &Kernel) -> Result<KernelFiles> {
    let root = workspace.store().join("kernels").join(kernel.name);
    let busybox = guest::ensure(workspace)?.busybox();
    install(&root, RECIPE, &format!("kernel {}", kernel.name), |into| {
        let archive = Archive::open(workspace, kernel.release)?;
        let packages = packages(&archive, kernel)?;
        let unpacked = into.join("package");
        let versions = archive.unpack(&packages, &unpacked)?;
        arrange(&unpacked, into)?;
        remove_dir_all(&unpacked)?;
        Ok(versions)
    })?;
    Ok(KernelFiles { root, busybox })
}

impl KernelFiles {
    pub(crate) fn image(&self) -> PathBuf {
        self.root.join("vmlinuz")
    }

    /// What `uname -r` says in the guest.
    pub(crate) fn release(&self) -> Result<String> {
        let path = self.root.join("release");
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    pub(crate) fn modules(&self) -> Result<ModuleTree> {
        ModuleTree::open(self.root.join("modules"), self.busybox.clone())
    }
}

/// The newest package of the series and, from 6.19 on, those that it was split into. (There is a
/// `linux-base-<release>` too: it has nothing for a guest, and old ones are gone earlier.)
fn packages(archive: &Archive, kernel: &Kernel) -> Result<Vec<String>> {
    let names = archive.names(&kernel.package_prefix())?;
    let Some(image) = kernel.newest(names.iter().map(String::as_str)) else {
        bail!(Gone(format!("no {}* for kernel {}", kernel.package_prefix(), kernel.name)));
    };
    let release = image.trim_start_matches("linux-image-");
    let depends = archive.depends(image)?;
    let is_part = |name: &String| {
        let part = name.strip_suffix(release).unwrap_or_default();
        part == "linux-binary-" || part == "linux-modules-"
    };
    let parts = depends.into_iter().filter(is_part);
    Ok(std::iter::once(image.to_owned()).chain(parts).collect())
}

/// From `boot/vmlinuz-<release>` and `[usr/]lib/modules/<release>/` to one layout.
fn arrange(package: &Path, into: &Path) -> Result<()> {
    let trees = ["lib/modules", "usr/lib/modules"].map(|dir| package.join(dir));
    let tree = trees.iter().filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten().next();
    let tree = tree.context("the kernel package has no modules directory")?;
    let release = tree.file_name().to_string_lossy().into_owned();
    let images =
        [tree.path().join("vmlinuz"), package.join("boot").join(format!("vmlinuz-{release}"))];
    let image = images.iter().find(|path| path.exists());
    let image = image.with_context(|| format!("the packages of {release} have no vmlinuz"))?;
    fs::rename(image, into.join("vmlinuz")).context("cannot move the kernel image")?;
    for unused in UNUSED {
        remove_dir_all(&tree.path().join("kernel").join(unused))?;
    }
    fs::rename(tree.path(), into.join("modules")).context("cannot move the modules")?;
    fs::write(into.join("release"), &release).context("cannot write the release")?;
    // Read-only directories of a package would stop their removal later.
    output(Command::new("chmod").args(["-R", "u+w"]).arg(into)).map(drop)
}
