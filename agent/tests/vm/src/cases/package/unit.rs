//! The agent as a unit of systemd: what is told of it, and its words in the journal.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// The unit's name.
pub(super) const UNIT: &str = "endiod.service";

/// What a program wrote to stdout; another exit than 0 is an error with all that it wrote.
pub(super) fn told(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("{program} {}: {}: {stdout}{stderr}", arguments.join(" "), output.status)
}

/// A property of the unit.
pub(super) fn property(name: &str) -> Result<String> {
    let shown = told("systemctl", &["show", "--value", "--property", name, UNIT])?;
    Ok(shown.trim().to_owned())
}

/// The unit's journal, read as it is written.
#[derive(Debug)]
pub(super) struct Journal {
    follow: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// What was read.
    pub(super) said: String,
}

impl Journal {
    pub(super) fn follow() -> Result<Journal> {
        let mut follow = Command::new("journalctl");
        follow.args(["--follow", "--lines", "all", "--output", "cat", "--unit", UNIT]);
        let mut follow =
            follow.stdout(Stdio::piped()).spawn().context("cannot start journalctl")?;
        let stdout = follow.stdout.take().context("stdout is piped")?;
        Ok(Journal { follow, lines: BufReader::new(stdout).lines(), said: String::new() })
    }

    /// Reads on to a line with these words. A unit that failed will not write it.
    pub(super) fn until(&mut self, words: &str) -> Result<String> {
        loop {
            let line = self.lines.next().context("the journal ended")??;
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(words) {
                return Ok(line);
            }
            if line.contains("Failed with result") || line.contains("failed for") {
                bail!("the unit failed before it wrote {words:?}:\n{}", self.said);
            }
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as well.
        let _ = self.follow.kill();
        let _ = self.follow.wait();
    }
}
