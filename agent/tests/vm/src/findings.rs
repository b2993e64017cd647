//! What an agent keeps of its findings, while it runs: `--findings-dir`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::patience::until;

/// How long it may take until something is told.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first finding of that rule since then, once it is there.
pub(crate) fn first(dir: &Path, rule: &str, since_ns: u64) -> Result<Value> {
    until(PATIENCE, &format!("no finding of {rule} in {}", dir.display()), || {
        for path in files(dir, "json")? {
            let finding: Value = serde_json::from_slice(&fs::read(&path)?)
                .with_context(|| format!("{} is not whole", path.display()))?;
            let is_later = finding["at_ns"].as_u64().is_some_and(|at_ns| at_ns >= since_ns);
            if finding["rule"] == rule && is_later {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    })
}

/// A slice of the stream that some finding is in, once it is there.
pub(crate) fn slice(dir: &Path) -> Result<PathBuf> {
    until(PATIENCE, "no finding has a slice", || Ok(files(dir, "endiod")?.pop()))
}

fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let is_such = |path: &PathBuf| path.extension().is_some_and(|it| it == extension);
    Ok(paths.into_iter().filter(is_such).collect())
}
