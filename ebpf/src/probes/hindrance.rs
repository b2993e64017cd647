//! Programs that the guests' tests put in the agent's way. The agent never loads them.
//!
//! The busy ones keep a CPU inside a kprobe's or a classic tracepoint's program nearly all the time, so
//! that interrupts nest in it and their kprobes are skipped: by the kprobe itself in the one case, by
//! `trace_call_bpf` in the other. The refusing one makes a kernel that takes no programs of some
//! types.

use aya_ebpf::{
    Global,
    helpers::{bpf_probe_read_kernel, generated::bpf_ktime_get_ns},
    macros::{kprobe, lsm, tracepoint},
    programs::{LsmContext, ProbeContext, TracePointContext},
};

/// Rounds of a busy program: some 0.1 ms on hardware, some 1 ms under emulation; the verifier follows
/// each.
const BUSY_ROUNDS: u32 = 4096;

/// `BPF_PROG_LOAD` of `enum bpf_cmd`.
const PROG_LOAD: i32 = 5;
const EPERM: i32 = 1;

/// Types of programs that are refused, a bit for each of `enum bpf_prog_type`.
#[unsafe(no_mangle)]
static REFUSED_TYPES: Global<u32> = Global::new(0);

/// On a function that the test calls all the time.
#[kprobe]
fn busy_kprobe(_ctx: ProbeContext) -> u32 {
    be_busy()
}

/// On the entry of a system call that the test makes all the time.
#[tracepoint]
fn busy_tracepoint(_ctx: TracePointContext) -> u32 {
    be_busy()
}

#[inline(always)]
fn be_busy() -> u32 {
    for _ in 0..BUSY_ROUNDS {
        // SAFETY: the helper takes no argument and cannot fail.
        unsafe { bpf_ktime_get_ns() };
    }
    0
}

/// `int bpf(int cmd, union bpf_attr *attr, unsigned int size)`: `attr` is the kernel's copy, which
/// begins with the type of the program (5.7 to 7.3).
#[lsm(hook = "bpf")]
fn refuse(ctx: LsmContext) -> i32 {
    let (command, attr): (i32, *const u32) = (ctx.arg(0), ctx.arg(1));
    if command != PROG_LOAD {
        return 0;
    }
    // SAFETY: the helper reads any address or fails; the value is an integer.
    let kind = unsafe { bpf_probe_read_kernel(attr) }.unwrap_or(0);
    let is_refused = kind < u32::BITS && REFUSED_TYPES.load() & (1 << kind) != 0;
    if is_refused { -EPERM } else { 0 }
}
