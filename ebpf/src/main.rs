//! endiod's programs: the entry of the BPF object.
//!
//! Each file under `probes/` watches one area of the kernel; a program is named after the function
//! it hooks (`_exit` for fexit, `tp_` before
//! a tracepoint's name, `kprobe_` for a kprobe, `watch_` for a watchpoint). All of them write through `emit`.
#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod probes {
    mod block;
    mod completed_list;
    mod direct_io;
    mod fsync;
    mod hello;
    mod hindrance;
    mod identity;
    mod inode;
    mod io_end;
    mod nesting;
    mod seen;
    mod slab;
    mod task;
    mod watch;
    mod worker;
}

/// The kernel gives GPL-only helpers (`bpf_probe_read_kernel`) to compatible licences only.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// The programs exist for the BPF target only; elsewhere the binary says so.
#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("the programs are built for the BPF target by agent/build.rs");
}
