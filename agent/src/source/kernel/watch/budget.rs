//! How many interrupts may be sent to the CPUs of the host: so many a second, and a tenth of that at once.
//!
//! This module must never read a clock: the caller says what time it is.

use crate::event::Nanos;

/// The share of a second's interrupts that may be sent at once.
const BURST: u64 = 10;
const SECOND_NS: u64 = 1_000_000_000;

/// What is left to be sent.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    per_second: u64,
    /// In interrupts times nanoseconds of a second, so that no fraction is lost.
    left: u128,
    at: Nanos,
}

impl Budget {
    pub(super) fn new(per_second: u64, now: Nanos) -> Self {
        let mut budget = Budget { per_second, left: 0, at: now };
        budget.left = budget.most(0);
        budget
    }

    /// Takes `cost` interrupts, if they may be sent now. One that costs more than is ever given at once
    /// takes all and leaves a debt of nothing: it waits for as long as it costs.
    pub(super) fn take(&mut self, cost: u64, now: Nanos) -> bool {
        self.refill(cost, now);
        let price = price(cost);
        let may = self.left >= price;
        if may {
            self.left -= price;
        }
        may
    }

    /// How long from now on `cost` interrupts have to wait.
    pub(super) fn ready_in(&self, cost: u64) -> Nanos {
        let lacking = price(cost).saturating_sub(self.left);
        let wait = lacking.div_ceil(u128::from(self.per_second));
        Nanos(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    fn refill(&mut self, cost: u64, now: Nanos) {
        let gained = u128::from(now.since(self.at).0) * u128::from(self.per_second);
        self.left = (self.left + gained).min(self.most(cost));
        self.at = now;
    }

    fn most(&self, cost: u64) -> u128 {
        price((self.per_second / BURST).max(cost))
    }
}

fn price(cost: u64) -> u128 {
    u128::from(cost) * u128::from(SECOND_NS)
}

#[cfg(test)]
mod tests {
    use super::Budget;
    use crate::event::Nanos;

    #[test]
    fn a_tenth_of_a_second_is_sent_at_once_and_the_rest_as_time_goes_by() {
        let mut budget = Budget::new(100, Nanos(0));
        assert!((0..10).all(|_| budget.take(1, Nanos(0))));
        assert!(!budget.take(1, Nanos(0)));
        assert_eq!(budget.ready_in(1), Nanos(10_000_000));
        assert!(!budget.take(1, Nanos(9_999_999)));
        assert!(budget.take(1, Nanos(10_000_000)));
        assert!(!budget.take(1, Nanos(10_000_000)));
    }

    #[test]
    fn in_a_second_no_more_is_sent_than_was_given_and_the_first_burst() {
        let mut budget = Budget::new(1_000, Nanos(0));
        let sent = (0..=1_000_000u64).filter(|at| budget.take(4, Nanos(at * 1_000))).count();
        assert_eq!(sent * 4, 1_100);
    }

    #[test]
    fn what_costs_more_than_is_given_at_once_waits_and_is_sent() {
        let mut budget = Budget::new(100, Nanos(0));
        assert!(!budget.take(64, Nanos(0)));
        assert_eq!(budget.ready_in(64), Nanos(540_000_000));
        assert!(budget.take(64, Nanos(540_000_000)));
    }
}
