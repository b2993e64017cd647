//! One line in the daemon's log when the programs are loaded, written by a program.
//!
//! The agent runs it once by BPF_PROG_TEST_RUN: it proves that programs of this object run on this
//! kernel and that their log reaches the daemon.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use aya_log_ebpf::info;
use endiod_wire::wire::VERSION;

/// Never attached.
#[raw_tracepoint(tracepoint = "sys_enter")]
fn hello(ctx: RawTracePointContext) -> i32 {
    let numbering = if cfg!(feature = "lanes") { "lanes" } else { "fetch-and-add" };
    info!(&ctx, "programs loaded: wire version {}, sequence numbers by {}", VERSION, numbering);
    0
}
