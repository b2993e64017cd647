//! The file read again while the daemon runs: what changes at once, and what waits for a restart.
//!
//! A file with a mistake changes nothing. It must never change half of what it says.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::FromArgMatches as _;

use super::{of_run, read, with_defaults};
use crate::cli::{Cli, RunArgs, Verb};

/// Settings that a running daemon can change.
const AT_ONCE: &[&str] = &["stuck_after", "findings_files_max", "findings_bytes_max"];

/// A file that can be read again.
pub(crate) struct Reload {
    file: PathBuf,
    /// What the run goes by, or will after a restart, by setting.
    values: BTreeMap<String, String>,
}

/// What the file now says.
pub(crate) struct Reloaded {
    pub(crate) args: RunArgs,
    /// Settings that changed and are in force, as `name = value`.
    pub(crate) changed: Vec<String>,
    /// Those that changed and wait for a restart.
    pub(crate) waiting: Vec<String>,
}

impl Reload {
    /// Of the run that is being set up.
    pub(crate) fn new(file: &Path) -> Result<Reload> {
        let (_, values) = effective(file)?;
        Ok(Reload { file: file.to_owned(), values })
    }

    /// Reads it again; with a mistake in it, everything stays.
    pub(crate) fn again(&mut self) -> Result<Reloaded> {
        let (args, values) = effective(&self.file)?;
        let (changed, waiting) = changes(&self.values, &values);
        self.values = values;
        Ok(Reloaded { args, changed, waiting })
    }
}

/// The run's settings by the command line of this process, its environment and the file.
fn effective(file: &Path) -> Result<(RunArgs, BTreeMap<String, String>)> {
    let command = with_defaults(&read(file)?);
    let mut matches = command.clone().try_get_matches_from(std::env::args_os())?;
    let of_this = matches.subcommand_matches("run").context("only `run` has settings")?;
    let values = of_run(&command).filter_map(|arg| {
        let value = of_this.get_raw(arg.get_id().as_str())?.next()?;
        Some((arg.get_id().to_string(), value.to_string_lossy().into_owned()))
    });
    let values = values.collect();
    match Cli::from_arg_matches_mut(&mut matches)?.verb {
        Verb::Run(args) => Ok((args, values)),
        _ => anyhow::bail!("only `run` has settings"),
    }
}

/// What is in force now, and what is not.
fn changes(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> (Vec<String>, Vec<String>) {
    let new = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    let (at_once, later): (Vec<_>, Vec<_>) =
        new.partition(|(name, _)| AT_ONCE.contains(&name.as_str()));
    let shown = |all: Vec<(&String, &String)>| {
        all.into_iter().map(|(name, value)| format!("{name} = {value}")).collect()
    };
    (shown(at_once), shown(later))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn what_changes_at_once_is_told_from_what_waits() {
        let values = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let before = values(&[("listen", "a"), ("stuck_after", "30"), ("backend", "auto")]);
        let after = values(&[("listen", "b"), ("stuck_after", "5"), ("backend", "auto")]);
        let (changed, waiting) = changes(&before, &after);
        assert_eq!(changed, ["stuck_after = 5"]);
        assert_eq!(waiting, ["listen = b"]);
        assert_eq!(changes(&after, &after), (Vec::new(), Vec::new()));
    }

    #[test]
    fn what_changes_at_once_are_settings() {
        let command = Cli::command();
        for name in AT_ONCE {
            assert!(of_run(&command).any(|arg| arg.get_id() == *name), "{name} is no setting");
        }
    }
}
