//! The OpenMetrics parser of Prometheus's own Python client, with a Python that runs it, whatever this
//! machine has.

use std::{path::PathBuf, process::Command};

use anyhow::Result;

use super::{install, loader, lock};
use crate::{
    archive::{Archive, Release},
    workspace::Workspace,
};

const RECIPE: &str = "openmetrics 1";

/// The packages, unpacked.
#[derive(Clone, Debug)]
pub(crate) struct Python {
    root: PathBuf,
}

/// Fetched if it is missing.
pub(crate) fn python(workspace: &Workspace) -> Result<Python> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join("openmetrics");
    install(&root, RECIPE, "parser of OpenMetrics", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let packages = archive.closure(&["python3", "python3-prometheus-client"], false)?;
        archive.unpack(&packages, into)
    })?;
    Ok(Python { root })
}

impl Python {
    /// Runs a script that finds the client's modules, and none of this machine's.
    pub(crate) fn script(&self, script: &str) -> Command {
        let usr = self.root.join("usr");
        let mut command = loader(&self.root);
        command.arg(usr.join("bin/python3")).args(["-c", script]);
        command.env("PYTHONHOME", &usr).env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }
}
