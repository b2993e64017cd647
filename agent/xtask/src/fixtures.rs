//! `cargo xtask fixtures`: builds our own kernel modules for guests and says where they are.
//!
//! A kernel whose headers come without its types is booted once to be asked for them.

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    cli::FixturesArgs,
    setup::{self, FIXTURES, FixtureFiles, Headers},
    vm::{Vm, VmStatus},
    workspace::Workspace,
};

pub(crate) fn main(workspace: &Workspace, args: &FixturesArgs) -> Result<ExitCode> {
    for kernel in &args.kernel {
        let files = ensure(workspace, kernel)?;
        for name in FIXTURES {
            println!("{}", files.module(name).display());
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The fixtures for a kernel, built if they are not there.
pub(crate) fn ensure(workspace: &Workspace, kernel: &str) -> Result<FixtureFiles> {
    let headers = setup::headers(workspace, kernel)?;
    if !headers.btf().exists() {
        ask_for_types(workspace, kernel, &headers)?;
    }
    setup::fixtures(workspace, kernel, &headers)
}

fn ask_for_types(workspace: &Workspace, kernel: &str, headers: &Headers) -> Result<()> {
    const COPY: &str = "cd /sys/kernel/btf && cp vmlinux /out/vmlinux.btf && \
                        { [ ! -e ext4 ] || cp ext4 /out/ext4.btf; }";
    let mut vm = Vm::new(kernel);
    vm.relay = false;
    let outcome = vm.run(workspace, &["sh", "-c", COPY])?;
    if outcome.status != VmStatus::Exited(0) {
        bail!("cannot read the types of kernel {kernel}: {:?}", outcome.status);
    }
    let ext4 = outcome.out_dir.join("ext4.btf");
    if ext4.exists() {
        fs::copy(&ext4, headers.ext4_btf()).context("cannot keep the types of ext4")?;
    }
    // The last step: its presence says that all of this was done.
    let partial = headers.btf().with_extension("partial");
    fs::copy(outcome.out_dir.join("vmlinux.btf"), &partial).context("cannot keep the types")?;
    fs::rename(&partial, headers.btf()).context("cannot keep the types")
}
