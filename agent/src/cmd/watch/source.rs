//! Where records come from now: the kernel, or nowhere while there is nothing to attach to.

use std::io;

use endiod::{
    event::{DevId, Nanos},
    host::Cgroup,
    source::{
        kernel::{KernelSource, TotalsError},
        own::Opening,
        waiting::Waiting,
    },
};

pub(super) enum Source {
    Kernel(Box<KernelSource>),
    Waiting(Waiting),
}

impl Source {
    /// Writes what the stream begins with.
    pub(super) fn announce(&mut self, opening: Opening, deliver: &mut dyn FnMut(&[u8])) {
        match self {
            Source::Kernel(kernel) => kernel.announce(opening, deliver),
            Source::Waiting(waiting) => waiting.announce(opening, deliver),
        }
    }

    pub(super) fn announce_device(
        &mut self,
        dev: DevId,
        name: &str,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        match self {
            Source::Kernel(kernel) => kernel.announce_device(dev, name, deliver),
            Source::Waiting(waiting) => waiting.announce_device(dev, name, deliver),
        }
    }

    /// Writes from which age on an object is stuck, from now on.
    pub(super) fn announce_stuck_after(&mut self, age: Nanos, deliver: &mut dyn FnMut(&[u8])) {
        match self {
            Source::Kernel(kernel) => kernel.announce_stuck_after(age, deliver),
            Source::Waiting(waiting) => waiting.announce_stuck_after(age, deliver),
        }
    }

    /// Writes what a task is called; nobody is named while nothing is attached.
    pub(super) fn announce_task(
        &mut self,
        tid: u32,
        comm: [u8; 16],
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        match self {
            Source::Kernel(kernel) => kernel.announce_task(tid, comm, deliver),
            Source::Waiting(_) => {}
        }
    }

    /// Writes the cgroup of a process; nobody is seen while nothing is attached.
    pub(super) fn announce_cgroup(
        &mut self,
        tgid: u32,
        cgroup: &Cgroup,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        match self {
            Source::Kernel(kernel) => kernel.announce_cgroup(tgid, cgroup, deliver),
            Source::Waiting(_) => {}
        }
    }

    /// Waits until there is something to drain; for ever while nothing is attached.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        match self {
            Source::Kernel(kernel) => kernel.readable().await,
            Source::Waiting(_) => std::future::pending().await,
        }
    }

    /// Delivers what there is; whether there may be more.
    pub(super) fn drain(&mut self, deliver: &mut dyn FnMut(&[u8])) -> bool {
        match self {
            Source::Kernel(kernel) => kernel.drain(deliver),
            Source::Waiting(_) => false,
        }
    }

    /// A second has passed.
    pub(super) fn tick(&mut self, deliver: &mut dyn FnMut(&[u8])) -> Result<(), TotalsError> {
        match self {
            Source::Kernel(kernel) => kernel.tick(deliver),
            Source::Waiting(waiting) => {
                waiting.tick(deliver);
                Ok(())
            }
        }
    }

    /// Detaches, if anything is attached, and delivers what is left.
    pub(super) fn close(self, deliver: &mut dyn FnMut(&[u8])) {
        match self {
            Source::Kernel(kernel) => kernel.close(deliver),
            Source::Waiting(_) => {}
        }
    }
}
