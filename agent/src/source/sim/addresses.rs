//! The addresses that io_ends of a world share: the slab, as far as a stream shows it.

use std::collections::VecDeque;

use super::{Derived, Random};

pub(super) struct Addresses {
    /// The next one to be given out first.
    free: VecDeque<u64>,
    reused: u32,
}

impl Addresses {
    pub(super) fn new(from: u64, derived: &Derived) -> Self {
        let free = (1..=u64::from(derived.addresses)).map(|n| from + 0x40 * n).collect();
        Addresses { free, reused: derived.reused }
    }

    pub(super) fn are_free(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn take(&mut self) -> u64 {
        self.free.pop_front().expect("an address is free")
    }

    /// Reused at once, or after the others.
    pub(super) fn give_back(&mut self, addr: u64, random: &mut Random) {
        if random.per_mille(self.reused) {
            self.free.push_front(addr);
        } else {
            self.free.push_back(addr);
        }
    }
}
