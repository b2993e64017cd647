//! What was lost, and which lives it could have touched.
//!
//! ```text
//!   events …  Loss Misses │TICK│  events …  Loss Misses │TICK│
//!             totals read ▲    ▲ closes the epoch
//!                         └ a total that rose dates its loss to here: it touches
//!                           every object born before, and none born after
//! ```
//!
//! A loss happened before its total was read, and the record that tells it is stamped after that. So
//! an object whose birth is later than that stamp cannot have lost an event to it; any other can.
//! That is stricter than "same epoch" where an object is born between the reading of a total and its
//! TICK. Totals are cumulative; the first one seen counts as risen unless it is 0. This module must
//! never forget a loss that may still touch a live object: it keeps the latest, which covers all.

use crate::event::{Body, Cpu, Event, Nanos};
use crate::limits;

/// Why something may be missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cause {
    /// Records found no room, never arrived, or were malformed.
    Loss,
    /// The kernel skipped hits of a probe.
    Misses,
    /// A probe was attached or detached.
    ProbesChanged,
}

/// The latest loss of each cause.
pub(super) struct Losses {
    /// Dropped records by CPU.
    dropped: Vec<u64>,
    /// Skipped hits by probe.
    missed: Vec<u64>,
    /// A gap or a malformed record since the last TICK.
    noted: bool,
    /// By [`Cause`].
    latest: [Option<Nanos>; 3],
}

impl Losses {
    pub(super) fn new() -> Self {
        Losses {
            dropped: vec![0; limits::CPUS_MAX],
            missed: vec![0; limits::PROBES_MAX],
            noted: false,
            latest: [None; 3],
        }
    }

    pub(super) fn note(&mut self) {
        self.noted = true;
    }

    /// The programs were loaded anew: totals begin at 0 again.
    fn restart(&mut self) {
        self.dropped.fill(0);
        self.missed.fill(0);
        self.noted = false;
    }

    pub(super) fn observe(&mut self, event: &Event) {
        let cause = match event.body {
            Body::Loss { of_cpu: Cpu(cpu), dropped, .. } => {
                rose(&mut self.dropped, usize::from(cpu), dropped).then_some(Cause::Loss)
            }
            Body::Misses { probe, total } => {
                rose(&mut self.missed, probe.0 as usize, total).then_some(Cause::Misses)
            }
            Body::Attach { backend: Some(_), .. } | Body::Detach { .. } => {
                Some(Cause::ProbesChanged)
            }
            Body::Host { .. } => {
                self.restart();
                None
            }
            Body::Tick { .. } => std::mem::take(&mut self.noted).then_some(Cause::Loss),
            _ => None,
        };
        if let Some(cause) = cause {
            let latest = &mut self.latest[cause as usize];
            *latest = (*latest).max(Some(event.stamp.at));
        }
    }

    /// What may have taken an event from a life that began at `born`.
    pub(super) fn touching(&self, born: Nanos) -> Option<Cause> {
        let causes = [Cause::Loss, Cause::Misses, Cause::ProbesChanged];
        causes.into_iter().find(|cause| self.latest[*cause as usize].is_some_and(|at| born <= at))
    }

    /// The latest loss of records or hits.
    pub(super) fn last(&self) -> Option<Nanos> {
        self.latest[Cause::Loss as usize].max(self.latest[Cause::Misses as usize])
    }

    /// The latest of any cause.
    pub(super) fn latest(&self) -> Option<Nanos> {
        self.latest.into_iter().flatten().max()
    }
}

/// Takes a cumulative total; beyond the table every total above 0 counts as risen.
fn rose(totals: &mut [u64], at: usize, total: u64) -> bool {
    match totals.get_mut(at) {
        Some(last) => std::mem::replace(last, total) != total,
        None => total > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Losses};
    use crate::event::{Body, Context, Cpu, Event, Nanos, ProbeId, Stamp, Task};

    fn event(at: u64, body: Body) -> Event {
        let task = Task { tid: 1, tgid: 1 };
        let context = Context::Task;
        Event { stamp: Stamp { at: Nanos(at), cpu: None, lane: 0, seq: at, task, context }, body }
    }

    fn loss(at: u64, dropped: u64) -> Event {
        event(at, Body::Loss { of_cpu: Cpu(3), emitted: 100, dropped })
    }

    #[test]
    fn a_rise_touches_what_was_born_before_it_and_nothing_after() {
        let mut losses = Losses::new();
        losses.observe(&loss(10, 0));
        assert_eq!(losses.touching(Nanos(5)), None);
        losses.observe(&loss(20, 2));
        assert_eq!(losses.touching(Nanos(20)), Some(Cause::Loss));
        assert_eq!(losses.touching(Nanos(21)), None);
        losses.observe(&loss(30, 2));
        assert_eq!(losses.touching(Nanos(21)), None);
        assert_eq!(losses.last(), Some(Nanos(20)));
    }

    #[test]
    fn a_note_is_dated_by_the_next_tick() {
        let mut losses = Losses::new();
        losses.note();
        assert_eq!(losses.touching(Nanos(1)), None);
        losses.observe(&event(50, Body::Tick { ordinal: 1 }));
        assert_eq!(losses.touching(Nanos(50)), Some(Cause::Loss));
        losses.observe(&event(60, Body::Tick { ordinal: 2 }));
        assert_eq!(losses.touching(Nanos(55)), None);
    }

    #[test]
    fn after_a_host_totals_begin_anew_and_what_is_known_of_losses_stays() {
        let mut losses = Losses::new();
        losses.observe(&loss(10, 7));
        let body = Body::Host {
            version: 1,
            cpus: 4,
            release: crate::event::Name::<64>::new("6.1.0"),
            hash_key: 0,
        };
        losses.observe(&event(20, body));
        losses.observe(&loss(30, 0));
        assert_eq!(losses.last(), Some(Nanos(10)));
        losses.observe(&loss(40, 7));
        assert_eq!(losses.last(), Some(Nanos(40)));
    }

    #[test]
    fn misses_and_probes_are_causes_of_their_own_and_unknown_probes_always_count() {
        let mut losses = Losses::new();
        losses.observe(&event(5, Body::Misses { probe: ProbeId(1), total: 1 }));
        assert_eq!(losses.touching(Nanos(5)), Some(Cause::Misses));
        losses.observe(&event(7, Body::Misses { probe: ProbeId(u32::MAX), total: 1 }));
        losses.observe(&event(9, Body::Misses { probe: ProbeId(u32::MAX), total: 1 }));
        assert_eq!(losses.touching(Nanos(9)), Some(Cause::Misses));
        losses.observe(&event(11, Body::Detach { probe: ProbeId(1) }));
        assert_eq!(losses.touching(Nanos(11)), Some(Cause::ProbesChanged));
    }
}
