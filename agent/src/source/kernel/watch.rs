//! Watchpoints on the flags of some live io_ends: opens them, tells what became of them, closes them.
//!
//! ```text
//!   programs ─ births, releases ─► engine (a thread of its own) ─ debug registers ─► CPUs
//!                                   └ Told, totals ─► the thread that drains ─► WATCH_BEGIN, WATCH_END, WATCH_TOTALS
//! ```
//!
//! It has a thread of its own, because an io_end lives for tens of microseconds to milliseconds and the one that
//! drains the ring may be busy. This module must never look into the stream or judge.

mod breakpoint;
mod budget;
mod cpus;
mod engine;

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    thread::{self, JoinHandle},
};

use aya::{Ebpf, programs::PerfEvent};

use crate::{host::Host, privileges::Capabilities};
pub(super) use engine::Watched;
use engine::{Engine, Reports};

/// The watchpoints, if they are in use.
#[derive(Default)]
pub(super) struct Watchpoints {
    host: Host,
    slots: u32,
    idle_at: u64,
    running: Option<Running>,
}

struct Running {
    /// None once it was stopped: what it told last is still to be read.
    thread: Option<JoinHandle<()>>,
    /// Written to once: it is to stop.
    stop: OwnedFd,
    reports: Reports,
}

impl Watchpoints {
    /// As many as `slots`; `idle_at` is an address that registers which are off point to.
    pub(super) fn new(host: &Host, slots: u32, idle_at: u64) -> Self {
        let idle_at = idle_at & !3; // as long as it is aligned: it is never on there
        Watchpoints { host: host.clone(), slots, idle_at, running: None }
    }

    /// Opens them, and begins to put them on newborns.
    pub(super) fn attach(&mut self, name: &str, ebpf: &mut Ebpf) -> Result<(), Box<dyn Error>> {
        if cfg!(not(target_arch = "x86_64")) {
            return Err("only on x86 does a watchpoint fire after the store".into());
        }
        let program = ebpf.program_mut(name).ok_or("the object has no such program")?;
        let program: &mut PerfEvent = program.try_into()?;
        program.load()?;
        let program = program.fd()?.as_fd().try_clone_to_owned()?;
        let (mut engine, reports) =
            Engine::new(ebpf, program, &self.host, self.idle_at, self.slots)?;
        engine.open().map_err(|error| match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                format!("a watchpoint on kernel memory takes CAP_SYS_ADMIN: {error}")
            }
            _ => format!("perf_event_open: {error}"),
        })?;
        let stop = eventfd()?;
        let stopped = stop.try_clone()?;
        let thread = thread::Builder::new().name("endiod-watch".to_owned());
        let thread = Some(thread.spawn(move || {
            hurry();
            if let Err(error) = Capabilities::SYS_ADMIN.keep() {
                log::debug!("the watchpoints' thread keeps what it does not need: {error}");
            }
            engine.run(&stopped);
        })?);
        self.running = Some(Running { thread, stop, reports });
        Ok(())
    }

    /// Takes all of them off, and gives the registers back.
    pub(super) fn detach(&mut self) {
        let Some(Running { thread, stop, .. }) = &mut self.running else { return };
        let Some(thread) = thread.take() else { return };
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight bytes of ours are read, as an eventfd takes them.
        let written = unsafe { libc::write(stop.as_raw_fd(), one.as_ptr().cast(), one.len()) };
        if written < 0 {
            return log::error!("the watchpoints do not stop: {}", io::Error::last_os_error());
        }
        if thread.join().is_err() {
            log::error!("the thread of the watchpoints failed");
        }
    }

    /// What became of them since the last time, and the totals; nothing where they are not in use.
    pub(super) fn take(&self) -> Option<Watched> {
        self.running.as_ref().map(|running| running.reports.take())
    }
}

impl Drop for Watchpoints {
    fn drop(&mut self) {
        self.detach();
    }
}

fn eventfd() -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd as _;
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has this thread run as soon as it is woken: it works for microseconds, bounded by the interrupts it may send,
/// and an io_end does not wait for it. Best effort.
fn hurry() {
    const NICEST_FOR_US: libc::c_int = -20;
    // SAFETY: no memory is passed; 0 is the calling thread (setpriority(2), "C library/kernel differences").
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICEST_FOR_US) } != 0 {
        log::debug!("the watchpoints' thread has no priority: {}", io::Error::last_os_error());
    }
}
