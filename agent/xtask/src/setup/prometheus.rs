//! promtool, which judges the agent's metrics as Prometheus would.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{install, lock};
use crate::{
    archive::{Archive, Release},
    command::remove_dir_all,
    workspace::Workspace,
};

const RECIPE: &str = "prometheus 1";

/// The program's path, fetched if it is missing.
pub(crate) fn promtool(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join("prometheus");
    install(&root, RECIPE, "promtool", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let unpacked = into.join("package");
        let versions = archive.unpack(&["prometheus".to_owned()], &unpacked)?;
        fs::rename(unpacked.join("usr/bin/promtool"), into.join("promtool"))
            .context("the package prometheus has no promtool")?;
        remove_dir_all(&unpacked)?;
        Ok(versions)
    })?;
    Ok(root.join("promtool"))
}
