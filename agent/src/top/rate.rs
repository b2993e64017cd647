//! Durations as they come now: how many a second, and how they were spread of late.
//!
//! ```text
//!   …──┬─── older, 10 s ───┬── newer, up to 10 s ──►     the window is both: 10 to 20 s
//! ```

use super::snapshot::Row;
use crate::{event::Nanos, octaves::Octaves};

/// TICKs of half a window.
pub(super) const HALF_TICKS: u64 = 10;

#[derive(Clone, Debug, Default)]
pub(super) struct Rate {
    older: Octaves,
    newer: Octaves,
    count: u64,
    /// Since the last TICK.
    second: u64,
    rate: f64,
}

impl Rate {
    pub(super) fn observe(&mut self, took: Nanos) {
        self.newer.observe(took);
        self.count += 1;
        self.second += 1;
    }

    /// A TICK, that long after the one before; with every tenth the window moves on.
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
    pub(super) fn tick(&mut self, elapsed: Nanos, window_moves: bool) {
        let events = std::mem::take(&mut self.second) as f64;
        self.rate = if elapsed.0 == 0 { 0.0 } else { events / elapsed.as_secs_f64() };
        if window_moves {
            self.older = std::mem::take(&mut self.newer);
        }
    }

    /// Nothing came within the window.
    pub(super) fn is_idle(&self) -> bool {
        self.older.count() == 0 && self.newer.count() == 0
    }

    /// Takes what another counted for its own.
    pub(super) fn add(&mut self, other: &Rate) {
        self.older.add(&other.older);
        self.newer.add(&other.newer);
        self.count += other.count;
        self.second += other.second;
        self.rate += other.rate;
    }

    pub(super) fn row(&self) -> Row {
        let mut window = self.older.clone();
        window.add(&self.newer);
        Row {
            count: self.count,
            rate: self.rate,
            p50: window.quantile_secs(0.5),
            p99: window.quantile_secs(0.99),
            max: (window.count() > 0).then(|| window.max().as_secs_f64()),
            octaves: window.counts().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_forgets_and_a_count_does_not() {
        let mut rate = Rate::default();
        rate.observe(Nanos(1_000_000_000));
        rate.observe(Nanos(2_000_000_000));
        rate.tick(Nanos(500_000_000), false);
        let row = rate.row();
        assert_eq!((row.count, row.rate, row.max), (2, 4.0, Some(2.0)));
        rate.tick(Nanos(1_000_000_000), true);
        assert_eq!((rate.row().rate, rate.row().max), (0.0, Some(2.0)), "it is the older half");
        rate.tick(Nanos(1_000_000_000), true);
        assert_eq!((rate.row().count, rate.row().max), (2, None));
        assert!(rate.is_idle());
    }

    #[test]
    fn no_time_gives_no_rate() {
        let mut rate = Rate::default();
        rate.observe(Nanos(1));
        rate.tick(Nanos(0), false);
        assert_eq!(rate.row().rate, 0.0);
    }
}
