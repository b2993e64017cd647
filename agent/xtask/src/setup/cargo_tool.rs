//! Programs that cargo builds from their published source, in the versions that are known to work: the
//! linker of the BPF programs, which uses the LLVM of the compiler it is run by, so no LLVM packages; and
//! what makes packages for Debian.

use std::path::PathBuf;

use anyhow::Result;

use crate::{
    command::{cargo, output},
    progress::step,
    workspace::Workspace,
};

/// What cargo is asked for.
pub(super) struct Tool {
    name: &'static str,
    version: &'static str,
    /// More for `cargo install`.
    flags: &'static [&'static str],
}

pub(super) const LINKER: Tool = Tool { name: "bpf-linker", version: "0.10.3", flags: &[] };
/// Unoptimised: it is built longer than it works.
pub(super) const CARGO_DEB: Tool =
    Tool { name: "cargo-deb", version: "3.8.0", flags: &["--debug"] };

/// The program's path, built if it is missing.
pub(super) fn ensure(workspace: &Workspace, tool: &Tool) -> Result<PathBuf> {
    let Tool { name, version, flags } = tool;
    let root = workspace.store().join("tools");
    let program = root.join("bin").join(name);
    // cargo installs by renaming and records the version, so both are whole or absent.
    let recorded = std::fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    let wanted = format!("\"{name} {version} ");
    if recorded.contains(&wanted) && program.exists() {
        return Ok(program);
    }
    step(&format!("{name} {version}"), || {
        let mut command = cargo();
        command.args(["install", name, "--version", version, "--locked", "--quiet"]);
        command.args(*flags).arg("--root").arg(&root);
        // Flags of the caller's build are not meant for a tool.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR");
        output(&mut command).map(drop)
    })?;
    Ok(program)
}
