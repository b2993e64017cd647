//! `endiod extras DIR`: what a package ships beside the program, made from the program's own command line,
//! so that no page of it can lag behind.
//!
//! ```text
//! DIR/endiod.toml      the settings at their defaults, as `endiod config` prints them
//! DIR/man/*.1          a page for endiod and one for each verb
//! DIR/completions/…    for bash, zsh and fish
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::config;
use crate::cli::Cli;

/// Flags of `extras`.
#[derive(Debug, Args)]
pub(crate) struct ExtrasArgs {
    /// Directory for them, made if it is missing
    dir: PathBuf,
}

pub(crate) fn run(args: &ExtrasArgs) -> Result<ExitCode> {
    let dir = |name: &str| -> Result<PathBuf> {
        let dir = args.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(dir)
    };
    let file = dir("")?.join("endiod.toml");
    fs::write(&file, config::defaults())
        .with_context(|| format!("cannot write {}", file.display()))?;
    man(&dir("man")?)?;
    completions(&dir("completions")?)?;
    Ok(ExitCode::SUCCESS)
}

fn man(dir: &Path) -> Result<()> {
    // `help` is on every page anyway, and the version of a page has no room for a revision.
    let command = Cli::command().disable_help_subcommand(true).version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, dir)
        .with_context(|| format!("cannot write the manual pages to {}", dir.display()))
}

fn completions(dir: &Path) -> Result<()> {
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "endiod", dir)
            .with_context(|| format!("cannot write completions of {shell} to {}", dir.display()))?;
    }
    Ok(())
}
