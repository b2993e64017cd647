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

/// Above the version of everything here.
const NEXT_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+next-1");

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
    let context = context(workspace, agent)?;
    let out = workspace.store().join("deb");
    remove_dir_all(&out)?;
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let told = pack(workspace, &out, &[])?;
    let deb = fs::read_dir(&out)?.flatten().map(|entry| entry.path()).next();
    Ok(Package { deb: deb.with_context(|| format!("cargo-deb made nothing: {told}"))?, context })
}

/// A directory with the package as `first.deb`, and as `next.deb` the same with a higher version and a line
/// more in its configuration. Loosely packed: an emulated guest is slow to unpack.
pub(crate) fn two_versions(workspace: &Workspace, agent: &Path) -> Result<PathBuf> {
    let out = workspace.store().join("packages");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let config = context(workspace, agent)?.join("endiod.toml");
    let text = fs::read_to_string(&config).context("cannot read the configuration")?;
    pack(workspace, &out.join("first.deb"), &["--fast"])?;
    fs::write(&config, format!("{text}# Of the next version.\n"))?;
    pack(workspace, &out.join("next.deb"), &["--fast", "--deb-version", NEXT_VERSION])?;
    fs::write(&config, text)?;
    Ok(out)
}

/// Puts the program and what goes beside it where cargo-deb and the recipe of the container look.
fn context(workspace: &Workspace, agent: &Path) -> Result<PathBuf> {
    let context = workspace.store().join("package");
    remove_dir_all(&context)?;
    output(Command::new(agent).arg("extras").arg(&context))?;
    fs::copy(agent, context.join("endiod")).context("cannot copy the program")?;
    Ok(context)
}

/// Makes a .deb of that: a file, or named by cargo-deb in a directory.
fn pack(workspace: &Workspace, to: &Path, arguments: &[&str]) -> Result<String> {
    // Neither its build nor its idea of stripping: the program is as it is to be.
    let mut deb = Command::new(setup::cargo_deb(workspace)?);
    deb.args(["--package", "endiod", "--no-build", "--no-strip", "--quiet", "--output"]).arg(to);
    output(deb.args(arguments).current_dir(workspace.root()))
}
