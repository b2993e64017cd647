//! The kernel's kprobes, and what it counts of the hits that never reach a program.
//!
//! ```text
//!  hit ─► kprobe ───► program ───► record
//!           │            └ another program of this kind runs on the CPU: `recursion_misses` (fdinfo)
//!           └ another kprobe is at work on the CPU: `missed` of the link (`kprobes_inc_nmissed_count`)
//! ```
//!
//! A program that a kprobe runs is interrupted with that kprobe at work, so most hits of one kprobe in
//! another's program are skipped before any program is asked: either count alone is far too small. Both
//! are there from 6.7 on (3acf8ace6823, "bpf: Add missed value to kprobe perf link info"); aya does not
//! show the second. This module must never guess: where one is missing there is no count.

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::programs::{KProbe, links::FdLink};

use super::{attach::KPROBE_MISSES_FROM, syscall};

/// An attached kprobe.
struct Link {
    /// Holds it.
    _link: FdLink,
    /// A descriptor of the same, to ask for its count.
    counter: io::Result<OwnedFd>,
}

/// The attached kprobes whose skipped hits are counted.
pub(super) struct Kprobes {
    /// Whether this kernel counts at all.
    counted: bool,
    /// By program.
    links: BTreeMap<&'static str, Link>,
}

impl Kprobes {
    pub(super) fn new(version: (u32, u32)) -> Self {
        Kprobes { counted: version >= KPROBE_MISSES_FROM, links: BTreeMap::new() }
    }

    /// Puts a loaded program on the entry of a function.
    pub(super) fn attach(
        &mut self,
        name: &'static str,
        program: &mut KProbe,
        function: &str,
    ) -> Result<(), Box<dyn Error>> {
        let id = program.attach(function, 0)?;
        if !self.counted {
            return Ok(());
        }
        // A link with a descriptor, as kprobes have from 5.15 on.
        let link = FdLink::try_from(program.take_link(id)?)?;
        let id = link.info().map(|info| info.id()).map_err(io::Error::other);
        let counter = id.and_then(syscall::link);
        if let Err(error) = &counter {
            log::debug!(
                "{name}: the hits it misses are not counted, it takes CAP_SYS_ADMIN: {error}"
            );
        }
        self.links.insert(name, Link { _link: link, counter });
        Ok(())
    }

    /// Takes a program off its function, unless that is left to the program.
    pub(super) fn detach(&mut self, name: &str) {
        self.links.remove(name);
    }

    /// Hits that did not get past the kprobe of a program; `None` if they are not counted.
    pub(super) fn missed(&self, name: &str) -> Option<io::Result<u64>> {
        let counter = self.links.get(name)?.counter.as_ref().ok()?;
        Some(syscall::kprobe_missed(counter.as_fd()))
    }
}
