//! `cargo xtask demo`: the agent at work on the reproducer of the defect it was made for, on a
//! real kernel whose disk is slow enough to watch.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use crate::{
    binaries,
    cli::DemoArgs,
    command::tail_lines,
    setup,
    vm::{Vm, VmStatus},
    workspace::Workspace,
};

const SCRIPT: &str = include_str!("demo.sh");
/// Stretches the life of an io_end to tens of milliseconds.
const DISK_IOPS: u32 = 1000;
const TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) fn main(workspace: &Workspace, args: &DemoArgs) -> Result<ExitCode> {
    setup::programs(workspace)?;
    setup::guest(workspace)?;
    binaries::build_static(workspace, &["endiod"])?;
    let vm = Vm::new(&args.kernel).iops(DISK_IOPS).timeout(TIMEOUT);
    let outcome = vm.run(workspace, &["sh", "-c", SCRIPT])?;
    match &outcome.status {
        VmStatus::Exited(0) => return Ok(ExitCode::SUCCESS),
        VmStatus::Exited(status) => eprintln!("demo: the script ended with {status}"),
        other => {
            eprintln!("{}", tail_lines(&outcome.kernel_log, 40));
            eprintln!("demo: the guest ended as {other:?}");
        }
    }
    Ok(ExitCode::FAILURE)
}
