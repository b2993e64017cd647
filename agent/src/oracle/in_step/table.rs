//! Lives by address, in a table of fixed capacity.
//!
//! ```text
//!   index: address ─► slot      slots: [ life | life | freed | free | … ]     freed: oldest first
//! ```
//!
//! Slots are reused last-in first-out, so memory in use follows the peak of lives. A freed life stays
//! until its address is born again or enough others were freed since, so that a use after the free is
//! seen. The index is never iterated: its hash is seeded at random.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::life::Life;
use crate::event::{IoEndAddr, Nanos};
use crate::limits;

pub(super) struct Lives {
    index: HashMap<IoEndAddr, u32>,
    slots: Vec<Life>,
    free: Vec<u32>,
    freed: VecDeque<(IoEndAddr, Nanos)>,
    capacity: usize,
}

impl Lives {
    pub(super) fn new(capacity: usize) -> Self {
        Lives {
            // At half of its load it is rehashed in place, without an allocation.
            index: HashMap::with_capacity(2 * capacity),
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            freed: VecDeque::with_capacity(limits::TOMBSTONES_MAX + 1),
            capacity,
        }
    }

    pub(super) fn get(&mut self, addr: IoEndAddr) -> Option<&mut Life> {
        let slot = *self.index.get(&addr)?;
        self.slots.get_mut(slot as usize)
    }

    /// Takes a life, in place of what was at its address; `false` if there is no room.
    pub(super) fn insert(&mut self, addr: IoEndAddr, life: Life) -> bool {
        if let Some(before) = self.get(addr) {
            *before = life;
            return true;
        }
        while self.free.is_empty() && self.slots.len() == self.capacity {
            if !self.drop_oldest() {
                return false;
            }
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(life);
            u32::try_from(self.slots.len() - 1).expect("the capacity fits 32 bits")
        });
        self.slots[slot as usize] = life;
        self.index.insert(addr, slot);
        true
    }

    /// Nothing is known of what is at `addr` any more.
    pub(super) fn forget(&mut self, addr: IoEndAddr) {
        self.free.extend(self.index.remove(&addr));
    }

    /// Nothing is known of any.
    pub(super) fn clear(&mut self) {
        let Lives { index, slots, free, freed, capacity: _ } = self;
        index.clear();
        slots.clear();
        free.clear();
        freed.clear();
    }

    /// Its life was seen to end; told once per life.
    pub(super) fn bury(&mut self, addr: IoEndAddr, born: Nanos) {
        self.freed.push_back((addr, born));
        if self.freed.len() > limits::TOMBSTONES_MAX {
            self.drop_oldest();
        }
    }

    /// Forgets the oldest freed life, unless its address was born again; `false` if there is none.
    fn drop_oldest(&mut self) -> bool {
        let Some((addr, born)) = self.freed.pop_front() else { return false };
        if self.get(addr).is_some_and(|life| life.born() == born) {
            self.forget(addr);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Life, Lives};
    use crate::event::{IoEndAddr, Nanos};
    use crate::limits;

    #[test]
    fn a_life_takes_at_most_80_bytes() {
        assert!(size_of::<Life>() <= 80, "{} bytes", size_of::<Life>());
    }

    #[test]
    fn a_full_table_takes_at_most_5_mib() {
        let Lives { index, slots, free, freed, capacity: _ } = Lives::new(limits::ORACLE_LIVES_MAX);
        let lives = slots.capacity() * size_of::<Life>() + free.capacity() * size_of::<u32>();
        let graves = freed.capacity() * size_of::<(IoEndAddr, Nanos)>();
        let bytes = index.allocation_size() + lives + graves;
        assert!(bytes <= 5 << 20, "{bytes} bytes");
    }

    #[test]
    fn a_full_table_refuses_but_recycles_the_freed_first() {
        let mut lives = Lives::new(2);
        let insert = |lives: &mut Lives, addr: u64, at: u64| {
            lives.insert(IoEndAddr(addr), Life::new(Nanos(at), 1))
        };
        assert!(insert(&mut lives, 1, 1) && insert(&mut lives, 2, 2));
        assert!(!insert(&mut lives, 3, 3));
        lives.bury(IoEndAddr(1), Nanos(1));
        assert!(insert(&mut lives, 3, 4));
        assert!(lives.get(IoEndAddr(1)).is_none());
        assert_eq!(lives.get(IoEndAddr(3)).map(|life| life.born()), Some(Nanos(4)));
    }

    #[test]
    fn memory_does_not_grow_with_the_lives_that_pass() {
        let mut lives = Lives::new(limits::TOMBSTONES_MAX + 64);
        let allocated = (lives.index.capacity(), lives.slots.capacity(), lives.free.capacity());
        for addr in 0..10 * limits::TOMBSTONES_MAX as u64 {
            assert!(lives.insert(IoEndAddr(addr), Life::new(Nanos(addr), 1)));
            lives.bury(IoEndAddr(addr), Nanos(addr));
        }
        let now = (lives.index.capacity(), lives.slots.capacity(), lives.free.capacity());
        assert!(now.0 <= allocated.0 && now.1 == allocated.1 && now.2 == allocated.2);
    }
}
