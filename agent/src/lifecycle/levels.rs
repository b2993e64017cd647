//! What is in flight: questions that are asked once a second.
//!
//! This module must never change anything.

use super::io_end::IoEnd;
use super::state::State;
use super::summary::InFlight;
use super::{Lifecycle, sight};
use crate::event::Nanos;

impl Lifecycle {
    /// Can an io_end be seen in `state` on this stream?
    pub fn tells(&self, state: State) -> bool {
        sight::tells(&self.witnesses, state)
    }

    /// Live io_ends, in an order that replays.
    pub fn io_ends(&self) -> impl Iterator<Item = &IoEnd> {
        self.io_ends.iter()
    }

    /// Live io_ends, direct writes, fsyncs and evictions.
    pub fn live(&self) -> [u64; 4] {
        let [direct_ios, fsyncs, evictions] = self.calls.live();
        [self.io_ends.live(), direct_ios, fsyncs, evictions]
    }

    /// Most io_ends that are followed at once.
    pub fn io_ends_max(&self) -> usize {
        self.io_ends.capacity()
    }

    /// Bios that the device has not done, where that is followed.
    pub fn open_bios(&self) -> u64 {
        self.bios.len()
    }

    /// What is in flight at `now`; walks the live objects.
    pub fn in_flight(&self, now: Nanos) -> InFlight {
        let [direct_ios, fsyncs, evictions] = self.calls.levels(now);
        let mut levels = InFlight { direct_ios, fsyncs, evictions, ..InFlight::default() };
        for object in self.io_ends() {
            let level = &mut levels.io_ends[object.state() as usize];
            level.count += 1;
            level.oldest_age = level.oldest_age.max(Some(now.since(object.state_since())));
        }
        levels
    }
}
