//! Running other programs, with errors that say what was run and what it said.

use std::{
    io::ErrorKind,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How much of a failed program's stderr an error shows.
const SHOWN_LINES: usize = 12;

/// Runs to the end with both outputs captured; an exit other than 0 is an error that quotes them.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = display(command);
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        let said = [stdout, stderr].concat();
        bail!("`{shown}` ended with {status}:\n{}", tail(&String::from_utf8_lossy(&said)));
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// Runs to the end with the outputs inherited: for what reports its own progress.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = display(command);
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("cannot run `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Whether a program is on PATH or where root's programs are.
pub(crate) fn exists(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).exists())
}

/// One word for a shell, whatever is in it.
pub(crate) fn shell_word(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The program that a bare `cargo` would be, of the toolchain this one was started with.
pub(crate) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Removes a directory tree; one that is not there is fine.
pub(crate) fn remove_dir_all(dir: &Path) -> Result<()> {
    unless_gone(std::fs::remove_dir_all(dir), dir)
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(file: &Path) -> Result<()> {
    unless_gone(std::fs::remove_file(file), file)
}

fn unless_gone(removed: std::io::Result<()>, path: &Path) -> Result<()> {
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

pub(crate) fn tail(text: &str) -> String {
    tail_lines(text, SHOWN_LINES)
}

/// The last lines of a text.
pub(crate) fn tail_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// As one would type it, without the `-o KEY=VALUE` by which apt is kept to our own directory.
fn display(command: &Command) -> String {
    let mut shown = vec![command.get_program().to_string_lossy()];
    let mut words = command.get_args();
    while let Some(word) = words.next() {
        if word == "-o" {
            words.next();
        } else {
            shown.push(word.to_string_lossy());
        }
    }
    shown.join(" ")
}

/// An empty directory for a test.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
    remove_dir_all(&dir).unwrap();
    std::fs::create_dir_all(&dir).unwrap();
    dir
}
