//! Commands that pages of the repository tell people: those of cargo must be ones that cargo and this program
//! take, and somebody must run the same; those of Prometheus are run with its own promtool; those of guests
//! go into the guests.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::remove_dir_all,
    pages::{blocks_of, pages},
    workspace::Workspace,
};

/// A directory with all pages, for guests: each where it lies in the repository.
pub(crate) fn copied(workspace: &Workspace) -> Result<PathBuf> {
    let out = workspace.store().join("out/pages");
    remove_dir_all(&out)?;
    for page in pages(workspace.root()) {
        let path = out.join(&page.name);
        fs::create_dir_all(path.parent().context("a page lies in a directory")?)?;
        fs::write(&path, page.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(out)
}

/// Runs the blocks for promtool, from the root of the repository.
pub(crate) fn prometheus(workspace: &Workspace, promtool: &Path) -> Result<()> {
    let dir = promtool.parent().context("promtool lies in a directory")?;
    let path = format!("{}:/usr/bin:/bin", dir.display());
    let blocks = blocks_of(workspace.root(), "prometheus");
    ensure!(!blocks.is_empty(), "no page has commands for promtool");
    for block in blocks {
        let mut command = Command::new("sh");
        command.args(["-euc", &format!("exec 2>&1\n{}", block.text)]).env("PATH", &path);
        let output = command.current_dir(workspace.root()).output().context("cannot start sh")?;
        let said = String::from_utf8_lossy(&output.stdout);
        if let Some(why) = block.differs(output.status.code(), &said) {
            bail!(why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    /// Commands of cargo that `.ci/run` does not run as they stand: why, and who runs the same.
    const RUN_BY: &[(&str, &str)] = &[
        ("cargo run --example page", "`cargo xtask test` serves the same to a browser"),
        ("cargo xtask setup --only programs", "`cargo xtask test` begins with it"),
        ("cargo xtask package", "the package's guest installs what the same functions built"),
        (
            "cargo xtask demo",
            "both workloads are run and watched in every guest of `cargo xtask test`",
        ),
        ("cargo build --release", "`cargo xtask test` and `package` build the same, static"),
        ("cargo test", "`cargo xtask test` begins with it"),
        ("cargo deny", "fetches advisories; `cargo xtask test` runs the rest, without the network"),
        ("cargo xtask vm", "every guest of `cargo xtask test` is booted by the same code"),
        ("cargo xtask test --", "a part of `cargo xtask test`"),
        ("cargo xtask fixtures", "the guests with modules of ours build them by the same function"),
        ("cargo xtask pictures", "its answers are a run's own; its parts have tests of their own"),
        ("cargo xtask soak", "takes an hour; `cargo xtask test` runs the same mixes for seconds"),
        ("cargo clippy", "the last part of a line of `.ci/run`"),
    ];

    /// Each command of cargo on a page, with its place.
    fn commands() -> Vec<(String, String)> {
        let blocks = blocks_of(Workspace::find().root(), "cargo");
        let commands = |block: &crate::pages::Block| {
            let place = block.place.clone();
            block
                .commands()
                .into_iter()
                .map(move |command| (place.clone(), command))
                .collect::<Vec<_>>()
        };
        blocks.iter().flat_map(commands).collect()
    }

    /// Words as a shell takes them, as far as pages quote.
    fn words(command: &str) -> Vec<String> {
        let parts = command.split(['\'', '"']).enumerate();
        let quoted = parts.flat_map(|(at, part)| match at % 2 {
            0 => part.split_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        });
        quoted.collect()
    }

    #[test]
    fn what_pages_tell_the_xtask_is_taken_by_it() {
        let mut taken = 0;
        for (place, command) in commands() {
            let Some(rest) = command.strip_prefix("cargo xtask ") else { continue };
            let words = ["xtask".to_owned()].into_iter().chain(words(rest));
            if let Err(error) = Cli::try_parse_from(words) {
                panic!("{place}: {command}: {error}");
            }
            taken += 1;
        }
        assert!(taken > 8, "only {taken} commands were found");
    }

    #[test]
    fn tests_that_pages_name_exist() {
        let root = Workspace::find().root().to_owned();
        for (place, command) in commands() {
            for test in
                command.split("--test ").skip(1).filter_map(|it| it.split_whitespace().next())
            {
                let file = root.join(format!("agent/tests/{test}.rs"));
                assert!(file.exists(), "{place}: {command}: no such test");
            }
        }
    }

    #[test]
    fn what_pages_tell_cargo_is_run_by_somebody() {
        let run = fs::read_to_string(Workspace::find().root().join(".ci/run")).unwrap();
        let commands = commands();
        for (place, command) in &commands {
            let is_run =
                run.lines().flat_map(|line| line.split(" && ")).any(|line| line == command);
            let has_reason = RUN_BY.iter().any(|(begin, _)| command.starts_with(begin));
            assert!(is_run || has_reason, "{place}: who runs `{command}`?");
        }
        for (begin, _) in RUN_BY {
            let is_told = commands.iter().any(|(_, command)| command.starts_with(begin));
            assert!(is_told, "no page says `{begin}`");
        }
    }
}
