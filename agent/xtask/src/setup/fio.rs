//! fio for guests: the program and the libraries it loads, in one directory, with the loader that runs
//! them whatever the guest has.

use std::{
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

const RECIPE: &str = "fio 1";
/// Where the package keeps a library that only its own programs are to find.
const CEPH: &str = "usr/lib/x86_64-linux-gnu/ceph";

/// The directory, fetched if it is missing; in a guest it is /in/fio.
pub(crate) fn fio(workspace: &Workspace) -> Result<PathBuf> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join("fio");
    install(&root, RECIPE, "fio of the guests", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let tree = into.join("packages");
        let packages = archive.closure(&["fio"], false)?;
        let versions = archive.unpack(&packages, &tree)?;
        gather(&tree, &into.join("fio"))?;
        remove_dir_all(&tree)?;
        Ok(versions)
    })?;
    Ok(root.join("fio"))
}

/// Copies the program, its loader, and what that loader finds for it.
fn gather(tree: &Path, into: &Path) -> Result<()> {
    let program = tree.join("usr/bin/fio");
    let mut list = Command::new(tree.join(loader_path(tree)));
    list.arg("--library-path").arg(format!("{}:{}", library_path(tree), tree.join(CEPH).display()));
    let listed = output(list.arg("--list").arg(&program))?;
    let mut files = vec![program, tree.join(loader_path(tree))];
    files.extend(libraries(&listed, tree)?);
    fs::create_dir(into).with_context(|| format!("cannot create {}", into.display()))?;
    for file in files {
        let name = file.file_name().context("a library has a name")?;
        fs::copy(&file, into.join(name))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
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
            bail!("fio needs {}, which is in none of its packages", name.trim());
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
