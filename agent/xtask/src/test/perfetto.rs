//! Exports of every recording of the corpus, read by the schema that Perfetto publishes.
//!
//! The reader is a package of its own (`agent/tests/perfetto`): what it is built with is too large for
//! `cargo test`. Perfetto's own trace processor is in no package that a set-up may draw on.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, output, run},
    workspace::Workspace,
};

/// Slices and moments that the corpus must give, so that a reader of nothing does not pass.
const WANTED: [&str; 6] = [
    "io_end convert",
    "io_end device",
    "fsync data_wait",
    "direct_io direct_write",
    "worker worker_run",
    "moment double_process",
];

/// Exports and reads them all.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let out = workspace.store().join("out/perfetto");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut told = String::new();
    for recording in recordings(workspace.root())? {
        let name = recording.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let trace = out.join(format!("{name}.perfetto"));
        let mut export = cargo();
        export.args(["run", "--quiet", "--package", "endiod", "--", "export"]).arg(&recording);
        export.args(["--format", "perfetto", "-o"]).arg(&trace);
        run(export.current_dir(workspace.root()))?;
        let mut read = cargo();
        read.args(["run", "--quiet", "--package", "endiod-perfetto-tests", "--"]).arg(&trace);
        told.push_str(&output(read.current_dir(workspace.root()))?);
    }
    let missing: Vec<_> = WANTED.iter().filter(|wanted| !told.contains(**wanted)).collect();
    if !missing.is_empty() {
        bail!("no export of the corpus has {missing:?}; the traces are in {}", out.display());
    }
    Ok(())
}

fn recordings(root: &Path) -> Result<Vec<PathBuf>> {
    let mut recordings = Vec::new();
    for dir in ["recordings", "explain"] {
        let dir = root.join("agent/tests/data").join(dir);
        let files = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let paths = files.flatten().map(|file| file.path());
        recordings.extend(paths.filter(|path| path.extension().is_some_and(|it| it == "endiod")));
    }
    recordings.sort();
    ensure!(!recordings.is_empty(), "the corpus has no recordings");
    Ok(recordings)
}
