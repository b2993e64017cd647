//! The program that strikes tasks that end off the programs' tables (`ebpf/src/probes/task.rs`).
//!
//! It witnesses nothing, so it is no row of `PROBES`: without it tables of open calls may fill with what
//! skipped returns leave behind, which is counted as any full table is. It holds no module, writes no
//! record, and leaves the kernel with the object it is of.

use std::error::Error;

use aya::{Ebpf, programs::RawTracePoint};

use super::attach::reason;

const PROGRAM: &str = "tp_sched_process_exit";
const TRACEPOINT: &str = "sched_process_exit";

/// Puts it where tasks end; whether it is there.
pub(super) fn attach(ebpf: &mut Ebpf) -> bool {
    let attached = try_attach(ebpf);
    if let Err(error) = &attached {
        log::warn!("what ended tasks leave in tables is not swept: {}", reason(&**error));
    }
    attached.is_ok()
}

fn try_attach(ebpf: &mut Ebpf) -> Result<(), Box<dyn Error>> {
    let program = ebpf.program_mut(PROGRAM).ok_or("the object has no such program")?;
    let program: &mut RawTracePoint = program.try_into()?;
    program.load()?;
    program.attach(TRACEPOINT)?;
    Ok(())
}
