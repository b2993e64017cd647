//! A Python of Debian's that lies under `target/`, with pip and Prometheus's own client: what runs checkers from
//! Python's package index, whatever this machine has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, loader, lock};
use crate::{
    archive::{Archive, Release},
    command::output,
    workspace::Workspace,
};

const RECIPE: &str = "python 1";
/// pip is one file that can be run as it is.
const PACKAGES: [&str; 3] = ["python3", "python3-pip-whl", "python3-prometheus-client"];

/// The packages, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    root: PathBuf,
}

/// Fetched if it is missing.
pub(crate) fn python(workspace: &Workspace) -> Result<Python> {
    let _lock = lock(workspace)?;
    ensure(workspace)
}

/// The same for who has the lock.
pub(super) fn ensure(workspace: &Workspace) -> Result<Python> {
    let root = workspace.store().join("python");
    install(&root, RECIPE, "Python for checkers", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        archive.unpack(&archive.closure(&PACKAGES, false)?, into)
    })?;
    Ok(Python { root })
}

impl Python {
    /// It, finding modules there and its own, and none of this machine's.
    pub(crate) fn with(&self, modules: &Path) -> Command {
        let usr = self.root.join("usr");
        let mut command = loader(&self.root);
        command.arg(usr.join("bin/python3"));
        command.env("PYTHONHOME", &usr).env("PYTHONPATH", modules);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Runs a script that finds the client's modules.
    pub(crate) fn script(&self, script: &str) -> Command {
        let mut command = self.with(&self.root.join("usr/lib/python3/dist-packages"));
        command.args(["-c", script]);
        command
    }

    /// Fetches packages of the index, and what they need.
    pub(super) fn fetch(&self, packages: &[&str], into: &Path) -> Result<()> {
        let mut pip = self.with(Path::new(""));
        pip.arg(self.pip()?).args(["install", "--quiet", "--disable-pip-version-check"]);
        pip.args(["--no-compile", "--root-user-action", "ignore", "--only-binary", ":all:"]);
        output(pip.arg("--target").arg(into).args(packages))?;
        Ok(())
    }

    fn pip(&self) -> Result<PathBuf> {
        let wheels = self.root.join("usr/share/python-wheels");
        let entries =
            fs::read_dir(&wheels).with_context(|| format!("cannot list {}", wheels.display()))?;
        let mut names = entries.flatten().map(|entry| entry.path());
        let is_pip = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pip-"))
        };
        let pip = names.find(is_pip).context("the package python3-pip-whl has no pip")?;
        Ok(pip.join("pip"))
    }
}
