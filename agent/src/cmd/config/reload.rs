//! The file read again while the daemon runs: what changes at once, and what waits for a restart.
//!
//! A file with a mistake changes nothing. It must never change half of what it says.

use std::sync::Arc;

use anyhow::{Result, bail};
use endiod::http::Guard;

use super::{InForce, parse};
use crate::cli::{RunArgs, Verb};

/// Settings that a running daemon can change.
const AT_ONCE: &[&str] = &["stuck_after", "findings_files_max", "findings_bytes_max"];

/// What a run goes by, which its file may change.
pub(crate) struct Reload {
    in_force: InForce,
    web: Option<Arc<Guard>>,
}

/// What the file now says.
pub(crate) struct Reloaded {
    pub(crate) args: RunArgs,
    /// Settings that changed and are in force, as `name = value`.
    pub(crate) changed: Vec<String>,
    /// Those that differ from what is in force until a restart.
    pub(crate) waiting: Vec<String>,
}

impl Reload {
    /// Of the run that is being set up.
    pub(crate) fn of(args: &RunArgs, web: Option<Arc<Guard>>) -> Reload {
        Reload { in_force: args.in_force.clone(), web }
    }

    /// Has the web configuration read again, beside whoever asks; it tells by itself how that went.
    pub(crate) fn web_again(&self) {
        if let Some(guard) = self.web.clone() {
            drop(tokio::task::spawn_blocking(move || guard.reload()));
        }
    }

    /// Reads this process's command line and its file again; with a mistake in it, everything stays.
    pub(crate) fn again(&mut self) -> Result<Reloaded> {
        let Verb::Run(args) = parse(std::env::args_os())?.verb else {
            bail!("only `run` has settings");
        };
        let (changed, waiting) = self.take(&args.in_force);
        Ok(Reloaded { args, changed, waiting })
    }

    /// What is in force from now on, and what is not.
    fn take(&mut self, new: &InForce) -> (Vec<String>, Vec<String>) {
        let (mut changed, mut waiting) = (Vec::new(), Vec::new());
        for (name, (value, from)) in new {
            if self.in_force.get(name).is_some_and(|(before, _)| before == value) {
                continue;
            }
            let told = format!("{name} = {value}");
            if AT_ONCE.contains(&name.as_str()) {
                self.in_force.insert(name.clone(), (value.clone(), from));
                changed.push(told);
            } else {
                waiting.push(told);
            }
        }
        (changed, waiting)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::of_run;
    use super::*;
    use crate::cli::Cli;

    fn values(pairs: &[(&str, &str)]) -> InForce {
        let of = |(name, value): &(&str, &str)| ((*name).to_owned(), ((*value).to_owned(), ""));
        pairs.iter().map(of).collect()
    }

    #[test]
    fn what_waits_is_told_until_it_is_taken_back() {
        let begun = values(&[("listen", "a"), ("stuck_after", "30"), ("backend", "auto")]);
        let mut reload = Reload { in_force: begun.clone(), web: None };
        let other = values(&[("listen", "b"), ("stuck_after", "5"), ("backend", "auto")]);
        let waiting = vec!["listen = b".to_owned()];
        assert_eq!(reload.take(&other), (vec!["stuck_after = 5".to_owned()], waiting.clone()));
        assert_eq!(reload.take(&other), (Vec::new(), waiting));
        assert_eq!(reload.take(&begun), (vec!["stuck_after = 30".to_owned()], Vec::new()));
    }

    #[test]
    fn what_changes_at_once_are_settings() {
        let command = Cli::command();
        for name in AT_ONCE {
            assert!(of_run(&command).any(|arg| arg.get_id() == *name), "{name} is no setting");
        }
    }
}
