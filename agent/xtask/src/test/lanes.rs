//! Work side by side: so many items at once, results in the order of the items.
//!
//! A guest waits much of its time, for a throttled device or for an agent to let go: one of 6.12 with
//! its core suite took 69 s of processor time in 100 s. So there is one more than there are CPUs.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

/// The most guests at once, each of which takes 2 GiB of memory.
const LANES_MAX: usize = 4;

/// Guests at once on this machine.
pub(super) fn count() -> usize {
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    (cpus + 1).min(LANES_MAX)
}

/// Works on each item, `lanes` at once; a lane takes the next item when it is through with one.
pub(super) fn each<T: Sync, R: Send>(
    items: &[T],
    lanes: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let lane = || {
        while let Some((at, item)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            items.get(at).map(|item| (at, item))
        } {
            let result = work(item);
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..lanes.min(items.len()) {
            scope.spawn(lane);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(each(&items, 3, |item| item * 2), (0..100).step_by(2).collect::<Vec<_>>());
        assert!(each(&[] as &[u32], 3, |item| *item).is_empty());
    }

    #[test]
    fn two_lanes_work_at_once() {
        // Each item waits for the other: one lane would never end.
        let both = Barrier::new(2);
        assert_eq!(each(&[1, 2], 2, |item| (both.wait(), *item).1), [1, 2]);
    }
}
