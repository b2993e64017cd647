//! One debug register of one CPU, as perf_event_open(2) gives it: opened once, aimed again and again.
//!
//! ```text
//!  open (disabled, a slot is reserved) ─► run the program on overflow ─► aim(address) ⇄ off ─► close
//! ```
//!
//! aya's own attach sets `precise_ip` and hides the descriptor, so this is by hand. Aiming an event anew
//! (`PERF_EVENT_IOC_MODIFY_ATTRIBUTES`, 4.17 on) interrupts its CPU once, opening one takes milliseconds. A kernel
//! address takes CAP_SYS_ADMIN (`hw_breakpoint_parse`, 5.10 to 7.3). This module must never choose what to watch.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `PERF_TYPE_BREAKPOINT`.
const TYPE_BREAKPOINT: u32 = 5;
/// `HW_BREAKPOINT_W`.
const WRITE: u32 = 2;
/// `HW_BREAKPOINT_LEN_4`: the flag is an `unsigned int`.
const LEN: u64 = 4;
/// Bits of `struct perf_event_attr`: `disabled`, `exclude_user`.
const DISABLED: u64 = 1;
const EXCLUDE_USER: u64 = 1 << 4;
/// `PERF_FLAG_FD_CLOEXEC`.
const CLOEXEC: libc::c_ulong = 8;
/// `PERF_EVENT_IOC_SET_BPF` and `PERF_EVENT_IOC_MODIFY_ATTRIBUTES` (include/uapi/linux/perf_event.h).
const SET_BPF: libc::c_ulong = 0x4004_2408;
const MODIFY_ATTRIBUTES: libc::c_ulong = 0x4008_240b;

/// `struct perf_event_attr` as of 2.6.33 (`PERF_ATTR_SIZE_VER1`); the kernel takes what follows as zero.
#[repr(C)]
#[derive(Clone, Copy)]
struct Attr {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    bp_addr: u64,
    bp_len: u64,
}

const _: () = assert!(size_of::<Attr>() == 72);

impl Attr {
    /// Each store overflows the period, so the program runs for each.
    fn new(address: u64, disabled: bool) -> Self {
        Attr {
            kind: TYPE_BREAKPOINT,
            size: 72,
            config: 0,
            sample_period: 1,
            sample_type: 0,
            read_format: 0,
            flags: EXCLUDE_USER | if disabled { DISABLED } else { 0 },
            wakeup_events: 0,
            bp_type: WRITE,
            bp_addr: address,
            bp_len: LEN,
        }
    }
}

/// A debug register of a CPU; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Breakpoint {
    event: OwnedFd,
    /// Where it points, on or off: the kernel checks an address even of one that is off.
    address: u64,
}

impl Breakpoint {
    /// Takes one of a CPU, pointing at `idle_at` and off; `program` is run at each store.
    pub(super) fn open(cpu: u32, idle_at: u64, program: BorrowedFd<'_>) -> io::Result<Self> {
        let attr = Attr::new(idle_at, true);
        let cpu = libc::c_int::try_from(cpu).map_err(io::Error::other)?;
        let anybody: libc::pid_t = -1;
        let no_group: libc::c_int = -1;
        // SAFETY: `attr` says how long it is and outlives the call, which only reads it.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                anybody,
                cpu,
                no_group,
                CLOEXEC,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::c_int::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call returned a new descriptor, which nobody else owns.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: this request takes a descriptor, which is open.
        let status = unsafe { libc::ioctl(event.as_raw_fd(), SET_BPF, program.as_raw_fd()) };
        if status < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Breakpoint { event, address: idle_at })
        }
    }

    /// Watches the four bytes at `address` from now on.
    pub(super) fn aim(&mut self, address: u64) -> io::Result<()> {
        self.address = address;
        self.modify(&Attr::new(address, false))
    }

    /// Watches nothing, and keeps the register.
    pub(super) fn off(&mut self) -> io::Result<()> {
        self.modify(&Attr::new(self.address, true))
    }

    fn modify(&self, attr: &Attr) -> io::Result<()> {
        // SAFETY: this request takes the address of an attribute that says how long it is; it is only read.
        let status = unsafe {
            libc::ioctl(self.event.as_raw_fd(), MODIFY_ATTRIBUTES, std::ptr::from_ref(attr))
        };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
