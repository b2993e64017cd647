//! Debug registers in somebody else's hands, as a debugger has them.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};

/// `struct perf_event_attr` of a breakpoint (`PERF_ATTR_SIZE_VER1`), in words of 32 bits.
const ATTR_WORDS: usize = 18;
/// `PERF_TYPE_BREAKPOINT`, `HW_BREAKPOINT_W`, four bytes.
const BREAKPOINT: u32 = 5;
const WRITE: u32 = 2;
const LEN: u32 = 4;

/// What nobody writes: a register points at it.
static QUIET: u32 = 0;

/// Takes that many registers of each of the first `cpus` CPUs; dropping them gives them back.
pub(crate) fn take(registers: u32, cpus: u32) -> Result<Vec<OwnedFd>> {
    let each = (0..cpus).flat_map(|cpu| (0..registers).map(move |_| cpu));
    each.map(|cpu| open(cpu).with_context(|| format!("no register of CPU {cpu}"))).collect()
}

fn open(cpu: u32) -> io::Result<OwnedFd> {
    let address = (&raw const QUIET) as u64;
    let mut attr = [0u32; ATTR_WORDS];
    (attr[0], attr[1], attr[4]) = (BREAKPOINT, (ATTR_WORDS * 4) as u32, 1);
    attr[13] = WRITE;
    (attr[14], attr[15]) = (address as u32, (address >> 32) as u32);
    attr[16] = LEN;
    let (anybody, no_group): (libc::pid_t, libc::c_int) = (-1, -1);
    let cpu = libc::c_int::try_from(cpu).map_err(io::Error::other)?;
    // SAFETY: the attribute says how long it is and outlives the call, which only reads it.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            attr.as_ptr(),
            anybody,
            cpu,
            no_group,
            0 as libc::c_ulong,
        )
    };
    let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
