//! Our own kernel modules under `agent/tests/fixtures/`, built for one kernel: again when the kernel's
//! release or a source changed, else never.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{headers::Headers, install, layout};
use crate::{command::remove_dir_all, kernels::Kernel, workspace::Workspace};

/// The modules, each a directory of sources.
pub(crate) const FIXTURES: &[&str] = &["saboteur", "replica"];

/// Fixtures that are ready to be loaded into one kernel.
#[derive(Clone, Debug)]
pub(crate) struct FixtureFiles {
    root: PathBuf,
}

impl FixtureFiles {
    pub(crate) fn module(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.ko"))
    }
}

pub(super) fn ensure(
    workspace: &Workspace,
    kernel: &Kernel,
    headers: &Headers,
) -> Result<FixtureFiles> {
    let root = workspace.store().join("fixtures").join(kernel.name);
    let sources = FIXTURES.iter().map(|name| Ok((*name, sources(workspace, name)?)));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let recipe = format!("fixtures 1 for {} from {:016x}", headers.release(), hash(&sources));
    install(&root, &recipe, &format!("fixtures for kernel {}", kernel.name), |into| {
        let layout = layout::header(headers)?;
        for (name, files) in &sources {
            let module = build(headers, &into.join("build"), name, files, &layout)?;
            fs::rename(&module, into.join(format!("{name}.ko"))).context("cannot move a module")?;
            remove_dir_all(&into.join("build"))?;
        }
        Ok(Vec::new())
    })?;
    Ok(FixtureFiles { root })
}

type Sources = Vec<(String, Vec<u8>)>;

fn sources(workspace: &Workspace, name: &str) -> Result<Sources> {
    let dir = workspace.root().join("agent/tests/fixtures").join(name);
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut files = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        files.push((file, content));
    }
    files.sort();
    Ok(files)
}

fn build(
    headers: &Headers,
    dir: &Path,
    name: &str,
    files: &Sources,
    layout: &str,
) -> Result<PathBuf> {
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for (file, content) in files {
        fs::write(dir.join(file), content).with_context(|| format!("cannot copy {file}"))?;
    }
    fs::write(dir.join("layout.h"), layout).context("cannot write layout.h")?;
    let module = headers.build(dir, name)?;
    let content = fs::read(&module).context("cannot read the built module")?;
    // kbuild leaves it out with a mere remark where it lacks something.
    if !content.windows(6).any(|window| window == b"\0.BTF\0") {
        bail!("{name} for {} was built without BTF", headers.release());
    }
    Ok(module)
}

/// FNV-1a over names and contents.
fn hash(sources: &[(&str, Sources)]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes.iter().chain(&[0xff]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    };
    for (name, files) in sources {
        add(name.as_bytes());
        for (file, content) in files {
            add(file.as_bytes());
            add(content);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(file: &str, content: &str) -> Vec<(&'static str, Sources)> {
        vec![("replica", vec![(file.to_owned(), content.as_bytes().to_vec())])]
    }

    #[test]
    fn a_change_of_name_or_content_is_another_hash() {
        let first = hash(&one("core.c", "int a;"));
        assert_eq!(first, hash(&one("core.c", "int a;")));
        assert_ne!(first, hash(&one("core.c", "int b;")));
        assert_ne!(first, hash(&one("core.", "cint a;")));
    }

    #[test]
    fn every_fixture_has_sources_and_a_kbuild_file_of_its_name() {
        let workspace = Workspace::find();
        for name in FIXTURES {
            let files = sources(&workspace, name).unwrap();
            let (_, kbuild) = files.iter().find(|(file, _)| file == "Kbuild").unwrap();
            let first = format!("obj-m := {name}.o\n");
            assert!(kbuild.starts_with(first.as_bytes()), "{name}");
        }
    }
}
