//! The static binaries that guests run, built apart from the user's own builds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{
    command::{cargo, run},
    workspace::Workspace,
};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds binaries of a package without any shared library and returns the directory they are in.
pub(crate) fn build_static(workspace: &Workspace, packages: &[&str]) -> Result<PathBuf> {
    let mut command = cargo_static(workspace, "release");
    // Link-time optimisation takes longer than what it could save in any guest.
    command.envs([
        ("CARGO_PROFILE_RELEASE_LTO", "off"),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    ]);
    for package in packages {
        command.args(["--package", package]);
    }
    run(&mut command)?;
    Ok(release_dir(&workspace.static_target()))
}

/// Builds the agent as it is shipped and returns its path.
pub(crate) fn build_dist(workspace: &Workspace) -> Result<PathBuf> {
    run(cargo_static(workspace, "dist").args(["--package", "endiod"]))?;
    Ok(workspace.static_target().join(TARGET).join("dist/endiod"))
}

/// A build without any shared library.
fn cargo_static(workspace: &Workspace, profile: &str) -> Command {
    let mut command = cargo();
    // With an explicit target the flags stay away from build scripts and procedural macros, which
    // cannot be static.
    command.args(["build", "--profile", profile, "--target", TARGET]);
    command.arg("--target-dir").arg(workspace.static_target());
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    command.env_remove("CARGO_ENCODED_RUSTFLAGS").current_dir(workspace.root());
    command
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
