//! What is witnessed on a stream, and by which back end: the probes that are attached, seen from
//! what they tell.
//!
//! Everything that depends on a probe asks here, per witness: back ends are mixed, so there is no
//! mode. Two records have no witness of their own: LISTED comes with a raw tracepoint's worker runs,
//! IO_END_INODE with its attached bios. This module must never know a rule.

use crate::event::Backend;
use crate::probes::{PROBES, Probe, Witness};

/// Witnesses, one place each; every witness has a row in the probe table.
pub(crate) const WITNESSES: usize = {
    let (mut row, mut most) = (0, 0);
    while row < PROBES.len() {
        let at = PROBES[row].witness as usize;
        most = if at > most { at } else { most };
        row += 1;
    }
    most + 1
};

/// By which back end each [`Witness`] is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnesses([Option<Backend>; WITNESSES]);

impl Witnesses {
    /// Nothing is witnessed.
    pub const NONE: Witnesses = Witnesses([None; WITNESSES]);

    /// Of attached probes. Where two back ends stand for one witness the less sure one counts.
    pub fn of(attached: impl IntoIterator<Item = &'static Probe>) -> Self {
        let mut witnesses = Self::NONE;
        for probe in attached {
            let backend = probe.hook.backend();
            let weaker =
                witnesses.get(probe.witness).is_none_or(|it| sureness(it) > sureness(backend));
            if weaker {
                witnesses.set(probe.witness, Some(backend));
            }
        }
        witnesses
    }

    /// All that a back end can witness.
    pub fn all_by(backend: Backend) -> Self {
        Self::of(PROBES.iter().filter(|probe| probe.hook.backend() == backend))
    }

    /// By which back end it is witnessed.
    pub fn get(&self, witness: Witness) -> Option<Backend> {
        self.0[witness as usize]
    }

    /// Is it witnessed?
    pub fn sees(&self, witness: Witness) -> bool {
        self.get(witness).is_some()
    }

    /// Is anything witnessed by that back end?
    pub fn uses(&self, backend: Backend) -> bool {
        self.0.contains(&Some(backend))
    }

    /// From now on it is witnessed so.
    pub fn set(&mut self, witness: Witness, by: Option<Backend>) {
        self.0[witness as usize] = by;
    }
}

/// Kprobes skip hits without counting them; a raw tracepoint may come after what it tells.
fn sureness(backend: Backend) -> u8 {
    match backend {
        Backend::Kprobe => 0,
        Backend::RawTracepoint => 1,
        Backend::Fentry => 2,
        Backend::Watchpoint => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::Witnesses;
    use crate::event::Backend;
    use crate::probes::{PROBES, Witness};

    #[test]
    fn a_back_end_witnesses_what_its_rows_say_and_nothing_else() {
        let raw = Witnesses::all_by(Backend::RawTracepoint);
        assert!(raw.sees(Witness::Birth) && raw.sees(Witness::BioDone));
        assert!(!raw.sees(Witness::Put) && !raw.sees(Witness::BioEnd));
        assert!(raw.uses(Backend::RawTracepoint) && !raw.uses(Backend::Fentry));
        assert!(!Witnesses::all_by(Backend::Kprobe).sees(Witness::Birth));
    }

    #[test]
    fn of_two_back_ends_the_less_sure_one_counts_in_any_order() {
        let releases = || PROBES.iter().filter(|probe| probe.witness == Witness::Release);
        assert_eq!(Witnesses::of(releases()).get(Witness::Release), Some(Backend::Kprobe));
        let reversed: Vec<_> = releases().rev().collect();
        assert_eq!(Witnesses::of(reversed).get(Witness::Release), Some(Backend::Kprobe));
    }
}
