//! The linker of the BPF programs, built from its published source in the version the programs are known to
//! load with. It uses the LLVM of the compiler it is run by, so no LLVM packages.

use anyhow::Result;

use crate::{
    command::{cargo, output},
    progress::step,
    workspace::Workspace,
};

const VERSION: &str = "0.10.3";

pub(super) fn ensure(workspace: &Workspace) -> Result<()> {
    let root = workspace.store().join("tools");
    // cargo installs by renaming and records the version, so both are whole or absent.
    let recorded = std::fs::read_to_string(root.join(".crates.toml")).unwrap_or_default();
    let wanted = format!("\"bpf-linker {VERSION} ");
    if recorded.contains(&wanted) && root.join("bin/bpf-linker").exists() {
        return Ok(());
    }
    step(&format!("bpf-linker {VERSION}"), || {
        let mut command = cargo();
        command.args(["install", "bpf-linker", "--version", VERSION, "--locked", "--quiet"]);
        command.arg("--root").arg(&root);
        // Flags of the caller's build are not meant for a tool.
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command.env_remove("CARGO_BUILD_TARGET").env_remove("CARGO_TARGET_DIR");
        output(&mut command).map(drop)
    })
}
