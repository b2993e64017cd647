//! OpenMetrics scrapes as the parser of Prometheus's own Python client reads them: it refuses what the
//! specification does.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{command::tail, setup, workspace::Workspace};

/// Prints a line per family and one per exemplar.
const SCRIPT: &str = include_str!("openmetrics.py");

/// What the golden scrape must give: type, name, unit and, last, the samples of a family.
const WANTED: &[&str] = &[
    "info endiod_build - 1",
    "counter endiod_bios_attached - 1",
    "gauge endiod_io_end_oldest_age_seconds seconds 1",
    "histogram endiod_direct_io_duration_seconds seconds 30",
    "gauge endiod_ringbuf_size_bytes bytes 1",
    "exemplar endiod_violations_total 00f1a5c0ffee0042 1700000007.25",
];

/// Reads the golden scrape; without its end it must be refused.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let golden = workspace.root().join("agent/tests/data/metrics/golden.openmetrics");
    let told = read(workspace, &golden)?;
    let missing: Vec<_> =
        WANTED.iter().filter(|wanted| told.lines().all(|line| line != **wanted)).collect();
    ensure!(missing.is_empty(), "{missing:?} are not in what the parser read:\n{told}");
    let text = fs::read_to_string(&golden)?;
    let out = workspace.store().join("out/openmetrics");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let torn = out.join("torn.openmetrics");
    fs::write(&torn, text.trim_end_matches("# EOF\n"))
        .with_context(|| format!("cannot write {}", torn.display()))?;
    ensure!(read(workspace, &torn).is_err(), "a scrape without its end was read");
    Ok(())
}

/// What the parser reads in a file.
pub(super) fn read(workspace: &Workspace, scrape: &Path) -> Result<String> {
    let file = File::open(scrape).with_context(|| format!("no {}", scrape.display()))?;
    let mut python = setup::python(workspace)?.script(SCRIPT);
    let output = python.stdin(Stdio::from(file)).output().context("cannot run Python")?;
    if !output.status.success() {
        bail!("{}: {}", scrape.display(), tail(&String::from_utf8_lossy(&output.stderr)));
    }
    String::from_utf8(output.stdout).context("no text")
}
