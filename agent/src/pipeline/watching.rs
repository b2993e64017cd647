//! What the watchpoints of a stream saw, and of how much: a store that none saw may have happened, so that
//! nothing was found needs a denominator.
//!
//! ```text
//!   coverage = Σ time that an io_end had a watchpoint / Σ life of all io_ends
//! ```
//!
//! It is the chance that a store at a random moment of a random io_end's life is seen. Time alone counts: one that
//! is over before a watchpoint is on it adds to the denominator. Both count what is over: a watchpoint that was
//! taken off for another reason than a release adds nothing. This module must never judge.

use std::collections::BTreeMap;

use crate::{
    event::{Body, Nanos, WatchTotals},
    lifecycle::{Act, Step},
    report::Watched,
};

/// Counts of the stores that watchpoints saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hits {
    /// Of live io_ends, by somebody who has a name.
    pub(super) named: u64,
    /// Of live io_ends, by an instruction without a name.
    pub(super) unnamed: u64,
    /// Of what was not an io_end yet, or not any more.
    pub(super) between: u64,
    /// That are not in the stream.
    pub(super) lost: u64,
}

/// The watchpoints of all streams.
#[derive(Debug, Default)]
pub(super) struct Watching {
    /// Of this stream; `None` before it tells.
    totals: Option<WatchTotals>,
    /// Of the streams that are over.
    past: Option<WatchTotals>,
    /// Slots that are on an io_end now, and since when: one that is reborn may have two for a moment.
    open: BTreeMap<u32, Nanos>,
    begun: u64,
    armed: Nanos,
    lived: Nanos,
    seen: u64,
    named: u64,
    unnamed: u64,
}

impl Watching {
    pub(super) fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndReleased(object) => {
                self.lived.0 += object.phases().total.map_or(0, |took| took.0);
            }
            Step::IoEndMoved(moved) if moved.act == Act::FlagWrite => {
                let named = moved.writer.is_some_and(|writer| writer.name.is_some());
                self.named += u64::from(named);
                self.unnamed += u64::from(!named);
            }
            _ => {}
        }
    }

    pub(super) fn event(&mut self, body: &Body) {
        match *body {
            Body::Host { .. } => {
                self.past = self.totals();
                self.totals = None;
                self.open.clear();
            }
            Body::FlagWrite { .. } => self.seen += 1,
            Body::WatchBegin { slot, at, .. } => {
                self.begun += 1;
                self.open.insert(slot, at);
            }
            Body::WatchEnd { slot, at, released, .. } => {
                let since = self.open.remove(&slot).filter(|_| released);
                self.armed.0 += since.map_or(0, |since| at.since(since).0);
            }
            Body::WatchTotals(totals) => self.totals = Some(totals),
            _ => {}
        }
    }

    /// The totals of all streams; what there is now of the latest. `None` where nothing is watched.
    pub(super) fn totals(&self) -> Option<WatchTotals> {
        match (self.past, self.totals) {
            (Some(past), Some(now)) => Some(WatchTotals {
                hits: past.hits + now.hits,
                lost: past.lost + now.lost,
                interrupts: past.interrupts + now.interrupts,
                late: past.late + now.late,
                ..now
            }),
            (past, now) => past.or(now),
        }
    }

    pub(super) fn hits(&self) -> Hits {
        let Watching { seen, named, unnamed, .. } = *self;
        let between = seen.saturating_sub(named + unnamed);
        Hits { named, unnamed, between, lost: self.totals().map_or(0, |it| it.lost) }
    }

    /// How long io_ends had a watchpoint, all slots together.
    pub(super) fn armed(&self) -> Nanos {
        self.armed
    }

    /// What share of all lives was watched; `None` before one is over, or where nothing is watched.
    pub(super) fn coverage(&self) -> Option<f64> {
        self.totals()?;
        let lived = self.lived.as_secs_f64();
        (lived > 0.0).then(|| (self.armed.as_secs_f64() / lived).min(1.0))
    }

    /// For the summary.
    pub(super) fn report(&self) -> Option<Watched> {
        let WatchTotals { hits, lost, interrupts, late, slots, cpus } = self.totals()?;
        let (io_ends, armed_seconds) = (self.begun, self.armed.as_secs_f64());
        let coverage = self.coverage();
        Some(Watched {
            slots,
            cpus,
            io_ends,
            late,
            armed_seconds,
            coverage,
            hits,
            lost,
            interrupts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::IoEndAddr;

    fn totals(hits: u64, slots: u32) -> Body {
        Body::WatchTotals(WatchTotals { hits, slots, ..WatchTotals::default() })
    }

    #[test]
    fn time_counts_from_begin_to_end_and_what_is_open_with_the_stream_is_not_counted() {
        let io_end = IoEndAddr(1);
        let begin = |slot, at| Body::WatchBegin { io_end, slot, at: Nanos(at), cpus: 2 };
        let end = |slot, at, released| Body::WatchEnd { io_end, slot, at: Nanos(at), released };
        let mut watching = Watching::default();
        watching.event(&begin(0, 10));
        // Its address is another's already, whose watchpoint is on before this one is off.
        watching.event(&begin(1, 25));
        watching.event(&end(0, 30, true));
        assert_eq!(watching.armed(), Nanos(20));
        watching.event(&begin(0, 40));
        watching.event(&end(0, 50, false));
        let release = crate::event::Name::new("6.1.0");
        watching.event(&Body::Host { version: 1, cpus: 2, release, hash_key: 0 });
        watching.event(&end(1, 90, true));
        assert_eq!(watching.armed(), Nanos(20));
    }

    #[test]
    fn totals_begin_anew_with_a_stream_and_slots_are_those_there_are_now() {
        let mut watching = Watching::default();
        assert_eq!(watching.report(), None);
        watching.event(&totals(7, 3));
        let release = crate::event::Name::new("6.1.0");
        watching.event(&Body::Host { version: 1, cpus: 2, release, hash_key: 0 });
        watching.event(&totals(2, 1));
        let report = watching.report().unwrap();
        assert_eq!((report.hits, report.slots, report.coverage), (9, 1, None));
    }
}
