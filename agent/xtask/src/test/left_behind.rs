//! What guests leave behind, looked at from outside: scrapes by Prometheus's own tool, recordings by the
//! host's build of the agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::openmetrics;
use crate::{
    command::{cargo, tail},
    verdict::Case,
    workspace::Workspace,
};

/// A case for each scrape and each recording in a directory that came back.
pub(super) fn check(workspace: &Workspace, promtool: &Path, out: &Path) -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for scrape in files_ending(out, "prom")? {
        cases.push(check_metrics(promtool, out, &scrape));
    }
    for scrape in files_ending(out, "openmetrics")? {
        let shown = scrape.strip_prefix(out).unwrap_or(&scrape).display();
        let name = format!("openmetrics {shown}");
        cases.push(match openmetrics::read(workspace, &scrape) {
            Ok(_) => Case::passed(&name),
            Err(error) => Case::failed(&name, &format!("{error:#}")),
        });
    }
    for recording in files_ending(out, "endiod")? {
        cases.push(check_replay(workspace, out, &recording));
    }
    Ok(cases)
}

fn check_metrics(promtool: &Path, out: &Path, scrape: &Path) -> Case {
    let shown = scrape.strip_prefix(out).unwrap_or(scrape).display();
    let name = format!("promtool {shown}");
    let checked = fs::File::open(scrape).and_then(|file| {
        Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::from(file)).output()
    });
    match checked {
        Ok(output) if output.status.success() => Case::passed(&name),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Case::failed(&name, &tail(&String::from_utf8_lossy(&said)))
        }
        Err(error) => Case::failed(&name, &format!("cannot run promtool: {error}")),
    }
}

/// A recording that came back tells the host's build what the live run told in the guest, to the
/// byte, and exits as `replay` does: 1 where something was found. The live summary lies beside it.
fn check_replay(workspace: &Workspace, out: &Path, recording: &Path) -> Case {
    let shown = recording.strip_prefix(out).unwrap_or(recording).display();
    let name = format!("replay {shown}");
    let replayed = fs::read(recording.with_extension("live.json"))
        .context("no live summary")
        .and_then(|live| replay(workspace, recording, &live));
    replayed
        .map_or_else(|error| Case::failed(&name, &format!("{error:#}")), |()| Case::passed(&name))
}

fn replay(workspace: &Workspace, recording: &Path, live: &[u8]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "endiod", "--"]);
    command.args(["replay", "--format", "json"]).arg(recording).current_dir(workspace.root());
    let output = command.output().context("cannot run the agent")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if let Some(at) = difference(live, &output.stdout) {
        let [live, told] = [live, &output.stdout].map(|text| around(text, at));
        bail!("from byte {at} on, live …{live}…\nreplay …{told}…\n{}, {said}", output.status);
    }
    let summary: serde_json::Value = serde_json::from_slice(live).context("no summary")?;
    let found = summary["findings"].as_array().context("a summary without findings")?.len();
    let expected = i32::from(found > 0);
    ensure!(
        output.status.code() == Some(expected),
        "with {found} findings replay ended with {}: {said}",
        output.status
    );
    Ok(())
}

/// Where two texts begin to differ.
fn difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (same < one.len().max(other.len())).then_some(same)
}

/// What is readable there.
fn around(text: &[u8], at: usize) -> String {
    const BYTES: usize = 200;
    let from = at.saturating_sub(BYTES).min(text.len());
    String::from_utf8_lossy(&text[from..(at + BYTES).min(text.len())]).into_owned()
}

fn files_ending(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(files_ending(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_ends_early_differs_where_it_ends() {
        assert_eq!(difference(b"same", b"same"), None);
        assert_eq!(difference(b"same", b"some"), Some(1));
        assert_eq!(difference(b"same", b"sam"), Some(3));
        assert_eq!(around(b"sam", 3), "sam");
    }
}
