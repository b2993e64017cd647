//! Programs of Debian for guests, and a browser: each set with the libraries that it loads, in one directory,
//! with the loader that runs them whatever the guest or this machine has:
//! `/in/SET/ld-linux-x86-64.so.2 --library-path /in/SET /in/SET/PROGRAM`.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{install, library_path, loader_path, lock};
use crate::{
    archive::{Archive, Release},
    command::{output, remove_dir_all},
    workspace::Workspace,
};

/// Programs that guests are given together.
#[derive(Debug)]
pub(crate) struct Set {
    /// Of the directory, here and in the guest's /in.
    name: &'static str,
    /// Changes where the directory would be another.
    recipe: &'static str,
    packages: &'static [&'static str],
    /// Their paths in the packages.
    programs: &'static [&'static str],
    /// What they read, by name, from where a package would put it.
    files: &'static [&'static str],
    /// A program that this machine runs: it lies beside the directory.
    ours: Option<&'static str>,
}

/// What makes mixes of I/O.
pub(crate) const FIO: Set = Set {
    name: "fio",
    recipe: "fio 1",
    packages: &["fio"],
    programs: &["usr/bin/fio"],
    files: &[],
    ours: None,
};

/// Who asks the agent, where pages say so.
pub(crate) const CURL: Set = Set {
    name: "curl",
    recipe: "curl 1",
    packages: &["curl"],
    programs: &["usr/bin/curl"],
    files: &[],
    ours: None,
};

/// Who scrapes, who is told of alerts, and who exports disks; and promtool, which judges the agent's
/// metrics as Prometheus would.
pub(crate) const PROMETHEUS: Set = Set {
    name: "prometheus",
    recipe: "prometheus 3",
    packages: &["prometheus", "prometheus-alertmanager", "prometheus-node-exporter"],
    programs: &[
        "usr/bin/prometheus",
        "usr/bin/prometheus-alertmanager",
        "usr/bin/prometheus-node-exporter",
    ],
    files: &[
        "usr/share/prometheus/alertmanager/default.tmpl",
        "usr/share/prometheus/alertmanager/email.tmpl",
    ],
    ours: Some("usr/bin/promtool"),
};

/// What shows pages, without a screen. It looks for what it reads beside the program that was started, which is
/// the loader: in the same directory.
pub(super) const CHROMIUM: Set = Set {
    name: "chromium",
    recipe: "chromium 1",
    packages: &["chromium-headless-shell", "fonts-dejavu-core"],
    programs: &["usr/lib/chromium/chromium-headless-shell"],
    files: &[
        "usr/lib/chromium/headless_command_resources.pak",
        "usr/lib/chromium/headless_lib_data.pak",
        "usr/lib/chromium/headless_lib_strings.pak",
        "usr/lib/chromium/icudtl.dat",
        "usr/lib/chromium/v8_context_snapshot.bin",
        "usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
        "usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf",
        "usr/share/fonts/truetype/dejavu/DejaVuSansMono.ttf",
    ],
    ours: None,
};

/// A terminal without a screen, for programs that want one; for this machine.
pub(crate) const TMUX: Set = Set {
    name: "tmux",
    recipe: "tmux 1",
    packages: &["tmux"],
    programs: &["usr/bin/tmux"],
    files: &[],
    ours: None,
};

/// Where packages keep libraries that only their own programs are to find.
const PRIVATE: &[&str] = &["usr/lib/x86_64-linux-gnu/ceph", "usr/lib/x86_64-linux-gnu/pulseaudio"];

/// The directory of a set, fetched if it is missing.
pub(crate) fn programs(workspace: &Workspace, set: &Set) -> Result<PathBuf> {
    Ok(fetched(workspace, set)?.join(set.name))
}

/// A program of a set whose directory is `programs`, with its own loader and libraries.
pub(crate) fn command(programs: &Path, name: &str) -> Command {
    let mut command = Command::new(programs.join("ld-linux-x86-64.so.2"));
    command.arg("--library-path").arg(programs).arg(programs.join(name));
    command
}

/// promtool, fetched if it is missing.
pub(crate) fn promtool(workspace: &Workspace) -> Result<PathBuf> {
    Ok(fetched(workspace, &PROMETHEUS)?.join("promtool"))
}

fn fetched(workspace: &Workspace, set: &Set) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join(set.name);
    install(&root, set.recipe, &format!("{} of Debian", set.name), |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let tree = into.join("packages");
        let packages = archive.closure(set.packages, false)?;
        let versions = archive.unpack(&packages, &tree)?;
        gather(&tree, set.programs, &into.join(set.name))?;
        set.files.iter().try_for_each(|file| copy(&tree.join(file), &into.join(set.name)))?;
        if let Some(program) = set.ours {
            copy(&tree.join(program), into)?;
        }
        remove_dir_all(&tree)?;
        Ok(versions)
    })?;
    Ok(root)
}

/// Copies the programs, their loader, and what that loader finds for them.
fn gather(tree: &Path, programs: &[&str], into: &Path) -> Result<()> {
    let loader = tree.join(loader_path(tree));
    let private = PRIVATE.iter().map(|dir| format!(":{}", tree.join(dir).display()));
    let libraries_in = library_path(tree) + &private.collect::<String>();
    let mut files = BTreeSet::from([loader.clone()]);
    for program in programs {
        let program = tree.join(program);
        let mut list = Command::new(&loader);
        list.args(["--library-path", &libraries_in, "--list"]).arg(&program);
        files.extend(libraries(&output(&mut list)?, tree)?);
        files.insert(program);
    }
    fs::create_dir(into).with_context(|| format!("cannot create {}", into.display()))?;
    files.iter().try_for_each(|file| copy(file, into))
}

fn copy(file: &Path, into: &Path) -> Result<()> {
    let name = file.file_name().context("a program has a name")?;
    fs::copy(file, into.join(name)).with_context(|| format!("cannot copy {}", file.display()))?;
    Ok(())
}

/// `libaio.so.1 => /…/libaio.so.1 (0x…)`: all must come from the packages. The loader itself and the
/// kernel's page are listed without an arrow, or by the loader's own path.
fn libraries(listed: &str, tree: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in listed.lines() {
        let Some((name, path)) = line.split_once(" => ") else { continue };
        let path = Path::new(path.split(" (").next().unwrap_or_default().trim());
        if !path.starts_with(tree) {
            bail!("{} is needed, which is in none of the packages", name.trim());
        }
        found.push(path.to_owned());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\
\tlinux-vdso.so.1 (0x00007ffd)
\tlibaio.so.1 => /tree/lib/libaio.so.1 (0x00007f01)
\t/tree/lib64/ld-linux-x86-64.so.2 (0x00007f02)
";

    #[test]
    fn libraries_are_those_with_an_arrow() {
        let found = libraries(LISTED, Path::new("/tree")).unwrap();
        assert_eq!(found, [Path::new("/tree/lib/libaio.so.1")]);
    }

    #[test]
    fn a_library_from_elsewhere_is_refused() {
        let error = libraries("\tlibz.so.1 => not found\n", Path::new("/tree")).unwrap_err();
        assert!(error.to_string().contains("libz.so.1"), "{error}");
    }
}
