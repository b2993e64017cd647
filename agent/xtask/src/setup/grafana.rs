//! What Grafana's own schema of dashboards is read with: its TypeScript declarations, and the compiler
//! that judges by them; and declarations made from the types of the Prometheus operator. All are npm
//! packages. The compiler is one static program; once it is there, node is not needed any more.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::{install, lock, node};
use crate::{command::remove_dir_all, workspace::Workspace};

const RECIPE: &str = "grafana 3";
/// The schema; the data source's queries, which that has no more, and the units; the operator's resources;
/// the compiler.
const PACKAGES: [&str; 4] = [
    "@grafana/schema@13.2.3",
    "@grafana/grafana-foundation-sdk@0.0.21",
    "@kubernetes-models/prometheus-operator@6.0.0",
    "typescript@7.0.2",
];
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
    install(
        &root,
        RECIPE,
        "schemas of Grafana and of the Prometheus operator, and the TypeScript compiler",
        |into| {
            let versions = node::install(workspace, &PACKAGES, into)?;
            fs::metadata(into.join(COMPILER)).context("the package typescript has no compiler")?;
            remove_dir_all(&node::tools(into))?;
            Ok(versions)
        },
    )?;
    Ok(Grafana { root })
}
