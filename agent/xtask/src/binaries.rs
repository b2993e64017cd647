//! The static binaries that guests run, built apart from the user's own builds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::{
    command::{cargo, run},
    workspace::Workspace,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds binaries of a package without any shared library and returns the directory they are in.
pub(crate) fn build_static(workspace: &Workspace, packages: &[&str]) -> Result<PathBuf> {
    let mut command = cargo();
    // With an explicit target the flags stay away from build scripts and procedural macros, which
    // cannot be static.
    command.args(["build", "--release", "--target", TARGET]);
    command.arg("--target-dir").arg(workspace.static_target());
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // Link-time optimisation takes longer than what it could save in any guest.
    command.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ]);
    command.env_remove("CARGO_ENCODED_RUSTFLAGS");
    for package in packages {
        command.args(["--package", package]);
    }
    run(command.current_dir(workspace.root()))?;
    Ok(release_dir(&workspace.static_target()))
}

/// The newest static agent there is: ours, or one built by hand with the same flags.
pub(crate) fn built_agent(workspace: &Workspace) -> Option<PathBuf> {
    let by_hand = workspace.root().join("target");
    let targets = [workspace.static_target(), by_hand];
    let agents = targets.map(|target| release_dir(&target).join("endiod"));
    let built_at = |path: &PathBuf| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    agents.into_iter().filter(|path| path.exists()).max_by_key(built_at)
}

fn release_dir(target: &Path) -> PathBuf {
    target.join(TARGET).join("release")
}
