//! A limit on the CPU time that the agent takes of its host, past which it lets go of the kernel.
//!
//! ```text
//!   each second: CPU time of watching ───────► mean of the last 30 s ─► above the limit: over
//! ```
//!
//! Watching is the first thread, which drains and judges, and the helper; what is served is not in it, lest a client
//! end the watch. What the programs take is not in it either: it is spent by whoever meets them, and told by
//! `endiod_probe_run_seconds_total` where the kernel counts it. Facts in, a decision out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A burst shall not cost the watch, nor a host in need wait for long.
const WINDOW: Duration = Duration::from_secs(30);

/// The limit, and what was taken lately.
#[derive(Debug)]
pub(super) struct CpuLimit {
    /// Of one CPU; none: there is no limit.
    share_max: Option<f64>,
    /// When, and CPU seconds until then; the first is as old as the window, or the first of all.
    taken: VecDeque<(Instant, f64)>,
}

impl CpuLimit {
    /// In percent of one CPU; 0: none.
    pub(super) fn new(percent_max: f64) -> Self {
        let share_max = (percent_max > 0.0).then_some(percent_max / 100.0);
        CpuLimit { share_max, taken: VecDeque::new() }
    }

    pub(super) fn is_set(&self) -> bool {
        self.share_max.is_some()
    }

    /// The share of a CPU over the window, if that is more than may be; `cpu_seconds` were taken until `now`.
    pub(super) fn exceeded(&mut self, now: Instant, cpu_seconds: f64) -> Option<f64> {
        let share_max = self.share_max?;
        self.taken.push_back((now, cpu_seconds));
        while self.taken.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.taken.pop_front();
        }
        let (since, before) = *self.taken.front()?;
        let elapsed = now.duration_since(since);
        let share = (cpu_seconds - before) / elapsed.as_secs_f64();
        (elapsed >= WINDOW && share > share_max).then_some(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CPU seconds taken in each second; the second in which it is over, and the share.
    #[track_caller]
    fn check(percent_max: f64, each_second: impl Iterator<Item = f64>, over: Option<(u64, f64)>) {
        let mut limit = CpuLimit::new(percent_max);
        let (begin, mut sum) = (Instant::now(), 0.0);
        let found = (0..).zip(each_second).find_map(|(second, taken)| {
            sum += taken;
            let share = limit.exceeded(begin + Duration::from_secs(second), sum)?;
            Some((second, (share * 1000.0).round() / 1000.0))
        });
        assert_eq!(found, over);
        assert!(limit.taken.len() <= 32, "{} samples", limit.taken.len());
    }

    #[test]
    fn what_stays_above_the_limit_is_over_after_the_window() {
        check(50.0, std::iter::repeat_n(0.6, 100), Some((30, 0.6)));
        check(50.0, std::iter::repeat_n(0.5, 1000), None);
        check(0.0, std::iter::repeat_n(8.0, 100), None);
    }

    #[test]
    fn a_burst_is_not_over_but_by_its_mean() {
        let bursts = |length| (0..300).map(move |at| if at % 60 < length { 1.0 } else { 0.0 });
        check(50.0, bursts(15), None);
        check(50.0, bursts(16), Some((75, 0.533)));
    }
}
