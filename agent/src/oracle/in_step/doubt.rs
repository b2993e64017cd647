//! Until when something may have been lost.
//!
//! LOSS and MISSES carry totals and are written after the stream before them was read, so a rise
//! dates a loss by the record that tells it: every io_end born until then may lack an event. What the
//! stream cannot tell (malformed records, gaps in the numbers) is noted and dated by the next TICK.
//!
//! Of what the programs leave out at their own bounds only releases matter here: no core takes phases
//! of fsync, direct writes, bios done or lists.

use crate::event::{Body, Event, Nanos, ProgramBound};
use crate::limits;

/// The latest loss.
pub(super) struct Doubt {
    until: Option<Nanos>,
    noted: bool,
    dropped: Vec<u64>,
    missed: Vec<u64>,
    /// Releases left out.
    unseen_releases: u64,
    /// Records or hits were lost at some time; attaching a probe is none, nor is a release left out.
    any: bool,
}

impl Default for Doubt {
    fn default() -> Self {
        Doubt {
            until: None,
            noted: false,
            dropped: vec![0; limits::CPUS_MAX],
            missed: vec![0; limits::PROBES_MAX],
            unseen_releases: 0,
            any: false,
        }
    }
}

impl Doubt {
    /// A new stream: nothing of it is lost yet, its totals begin at 0.
    pub(super) fn clear(&mut self) {
        let Doubt { until, noted, dropped, missed, unseen_releases, any } = self;
        (*until, *noted, *unseen_releases, *any) = (None, false, 0, false);
        dropped.fill(0);
        missed.fill(0);
    }

    pub(super) fn note(&mut self) {
        self.noted = true;
    }

    pub(super) fn observe(&mut self, event: &Event) {
        let lost = match event.body {
            Body::Loss { of_cpu, dropped, .. } => {
                rose(&mut self.dropped, usize::from(of_cpu.0), dropped)
            }
            Body::Misses { probe, total } => rose(&mut self.missed, probe.0 as usize, total),
            Body::Tick { .. } => std::mem::take(&mut self.noted),
            _ => false,
        };
        let changed = match event.body {
            Body::Attach { backend: Some(_), .. } | Body::Detach { .. } | Body::Slice { .. } => {
                true
            }
            Body::ProgramLoss { left_out } => {
                let total = left_out.at(ProgramBound::LiveIoEnds);
                std::mem::replace(&mut self.unseen_releases, total) != total
            }
            _ => false,
        };
        self.any |= lost;
        if lost || changed {
            self.until = self.until.max(Some(event.stamp.at));
        }
    }

    /// May an event of an io_end with that birth be missing?
    pub(super) fn touches(&self, born: Nanos) -> bool {
        self.until.is_some_and(|until| born <= until)
    }

    /// Was anything lost so far?
    pub(super) fn is_any(&self) -> bool {
        self.any || self.noted
    }
}

/// Takes a total; beyond the table every total above 0 counts as risen.
fn rose(totals: &mut [u64], at: usize, total: u64) -> bool {
    match totals.get_mut(at) {
        Some(last) => std::mem::replace(last, total) != total,
        None => total > 0,
    }
}
