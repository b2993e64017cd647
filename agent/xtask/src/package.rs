//! `cargo xtask package`: the program that is shipped, static, so that it runs on any distribution; what
//! goes beside it, made by the program itself; and a .deb of all that.
//!
//! ```text
//! target/endiod/package/   endiod  endiod.toml  man/  completions/     what the .deb and the Containerfile take
//! target/endiod/deb/       endiod_VERSION_amd64.deb
//! ```

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};

use crate::{
    binaries,
    command::{output, remove_dir_all},
    setup,
    workspace::Workspace,
};

/// What is made for one program.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) deb: PathBuf,
    /// What the recipe of the container copies from.
    pub(crate) context: PathBuf,
}

pub(crate) fn main(workspace: &Workspace) -> Result<ExitCode> {
    setup::programs(workspace)?;
    let Package { deb, context } = of(workspace, &binaries::build_dist(workspace)?)?;
    println!("{}\n{}", context.join("endiod").display(), deb.display());
    Ok(ExitCode::SUCCESS)
}

/// The package of an agent that is built.
pub(crate) fn of(workspace: &Workspace, agent: &Path) -> Result<Package> {
    let cargo_deb = setup::cargo_deb(workspace)?;
    let context = workspace.store().join("package");
    remove_dir_all(&context)?;
    output(Command::new(agent).arg("extras").arg(&context))?;
    fs::copy(agent, context.join("endiod")).context("cannot copy the program")?;
    let out = workspace.store().join("deb");
    remove_dir_all(&out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    // Neither its build nor its idea of stripping: the program is as it is to be.
    let mut deb = Command::new(cargo_deb);
    deb.args(["--package", "endiod", "--no-build", "--no-strip", "--quiet", "--output"]).arg(&out);
    let told = output(deb.current_dir(workspace.root()))?;
    let deb = fs::read_dir(&out)?.flatten().map(|entry| entry.path()).next();
    Ok(Package { deb: deb.with_context(|| format!("cargo-deb made nothing: {told}"))?, context })
}
