//! Lives by address, in a table of fixed capacity.
//!
//! A freed life stays until its address is born again or enough others were freed since, so that a
//! use after the free is seen. The table is never iterated: its hash is seeded at random.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::life::Life;
use crate::event::{IoEndAddr, Nanos};
use crate::limits;

pub(super) struct Lives {
    by_addr: HashMap<IoEndAddr, Life>,
    freed: VecDeque<(IoEndAddr, Nanos)>,
    capacity: usize,
}

impl Lives {
    pub(super) fn new(capacity: usize) -> Self {
        Lives {
            // At half of its load it is rehashed in place, without an allocation.
            by_addr: HashMap::with_capacity(2 * capacity),
            freed: VecDeque::with_capacity(limits::TOMBSTONES_MAX + 1),
            capacity,
        }
    }

    pub(super) fn get(&mut self, addr: IoEndAddr) -> Option<&mut Life> {
        self.by_addr.get_mut(&addr)
    }

    /// Takes a life, in place of what was at its address; `false` if there is no room.
    pub(super) fn insert(&mut self, addr: IoEndAddr, life: Life) -> bool {
        while self.by_addr.len() >= self.capacity && !self.by_addr.contains_key(&addr) {
            if !self.drop_oldest() {
                return false;
            }
        }
        self.by_addr.insert(addr, life);
        true
    }

    /// Nothing is known of what is at `addr` any more.
    pub(super) fn forget(&mut self, addr: IoEndAddr) {
        self.by_addr.remove(&addr);
    }

    /// Its life was seen to end; told once per life.
    pub(super) fn bury(&mut self, addr: IoEndAddr, born: Nanos) {
        self.freed.push_back((addr, born));
        if self.freed.len() > limits::TOMBSTONES_MAX {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) -> bool {
        let Some((addr, born)) = self.freed.pop_front() else { return false };
        if self.by_addr.get(&addr).is_some_and(|life| life.born() == born) {
            self.by_addr.remove(&addr);
        }
        true
    }
}
