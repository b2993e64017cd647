//! Which live io_ends belong to one inode.
//!
//! ```text
//!   ends: inode ─► first, last slot          links, by slot:  inode │ before │ after
//! ```
//!
//! A doubly linked list through the slots of the io_end table, the oldest first: entering and leaving
//! cost one look-up, and an inode without live io_ends, which is nearly every one that is synced or
//! evicted, costs one that misses. An inode is its address, which is its own as long as it lives. The
//! map is seeded at random and must never be walked: only a list is, whose order replays.

use hashbrown::HashMap;

use super::table::Slot;
use crate::event::{InodeAddr, Nanos};

/// Lists of io_ends, by inode.
pub(super) struct Kin {
    ends: HashMap<InodeAddr, Ends>,
    links: Vec<Option<Link>>,
}

#[derive(Clone, Copy)]
struct Ends {
    first: Slot,
    last: Slot,
    /// When the latest of the inode's worker runs that ended had begun.
    run: Option<Nanos>,
}

#[derive(Clone, Copy)]
struct Link {
    inode: InodeAddr,
    before: Option<Slot>,
    after: Option<Slot>,
}

impl Kin {
    /// All memory is taken here.
    pub(super) fn new(capacity: usize) -> Self {
        Kin { ends: HashMap::with_capacity(2 * capacity), links: Vec::with_capacity(capacity) }
    }

    /// The one in that slot, just born, is of this inode.
    pub(super) fn enter(&mut self, inode: InodeAddr, slot: Slot) {
        let at = slot.index();
        if self.links.len() <= at {
            self.links.resize(at + 1, None);
        }
        debug_assert!(self.links[at].is_none(), "an io_end has one inode");
        let before = match self.ends.get_mut(&inode) {
            Some(ends) => Some(std::mem::replace(&mut ends.last, slot)),
            None => {
                self.ends.insert(inode, Ends { first: slot, last: slot, run: None });
                None
            }
        };
        if let Some(link) = before.and_then(|before| self.link(before)) {
            link.after = Some(slot);
        }
        self.links[at] = Some(Link { inode, before, after: None });
    }

    /// The one in that slot is over, or another object's.
    pub(super) fn leave(&mut self, slot: Slot) {
        let Some(link) = self.links.get_mut(slot.index()).and_then(Option::take) else { return };
        let Link { inode, before, after } = link;
        if let Some(link) = after.and_then(|after| self.link(after)) {
            link.before = before;
        }
        if let Some(link) = before.and_then(|before| self.link(before)) {
            link.after = after;
        }
        let Some(ends) = self.ends.get_mut(&inode) else { return };
        match (before, after) {
            (Some(_), Some(_)) => {}
            (None, Some(after)) => ends.first = after,
            (Some(before), None) => ends.last = before,
            (None, None) => drop(self.ends.remove(&inode)),
        }
    }

    /// The oldest of an inode.
    pub(super) fn first_of(&self, inode: InodeAddr) -> Option<Slot> {
        self.ends.get(&inode).map(|ends| ends.first)
    }

    /// The next younger one of the same inode.
    pub(super) fn after(&self, slot: Slot) -> Option<Slot> {
        self.links.get(slot.index())?.as_ref()?.after
    }

    /// The inode of the one in that slot, if it is known.
    pub(super) fn inode_of(&self, slot: Slot) -> Option<InodeAddr> {
        Some(self.links.get(slot.index())?.as_ref()?.inode)
    }

    /// A worker run of that inode ended; it is noted as long as the inode has any.
    pub(super) fn note_run(&mut self, inode: InodeAddr, begun: Nanos) {
        if let Some(ends) = self.ends.get_mut(&inode) {
            ends.run = ends.run.max(Some(begun));
        }
    }

    /// When the latest run that ended, of the inode of the one in that slot, had begun.
    pub(super) fn last_run_of(&self, slot: Slot) -> Option<Nanos> {
        self.ends.get(&self.inode_of(slot)?)?.run
    }

    fn link(&mut self, slot: Slot) -> Option<&mut Link> {
        self.links.get_mut(slot.index())?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::{InodeAddr, Kin, Slot};

    fn of(kin: &Kin, inode: u64) -> Vec<u32> {
        let mut next = kin.first_of(InodeAddr(inode));
        let mut slots = Vec::new();
        while let Some(slot) = next {
            slots.push(slot.0);
            next = kin.after(slot);
        }
        slots
    }

    #[test]
    fn each_inode_has_its_own_and_whoever_leaves_is_gone_from_any_place() {
        let mut kin = Kin::new(8);
        for slot in 0..6 {
            kin.enter(InodeAddr(u64::from(slot % 2)), Slot(slot));
        }
        assert_eq!((of(&kin, 0), of(&kin, 1)), (vec![0, 2, 4], vec![1, 3, 5]));
        kin.leave(Slot(2));
        kin.leave(Slot(5));
        kin.leave(Slot(1));
        kin.leave(Slot(1));
        assert_eq!((of(&kin, 0), of(&kin, 1)), (vec![0, 4], vec![3]));
        assert_eq!(kin.inode_of(Slot(3)), Some(InodeAddr(1)));
        kin.enter(InodeAddr(1), Slot(2));
        assert_eq!(of(&kin, 1), [3, 2]);
        for slot in 0..6 {
            kin.leave(Slot(slot));
        }
        assert_eq!(kin.ends.len(), 0, "an inode without any takes no room");
        assert_eq!(kin.inode_of(Slot(3)), None);
    }

    #[test]
    fn nothing_is_allocated_for_as_many_as_it_was_made_for() {
        let mut kin = Kin::new(64);
        let (inodes, links) = (kin.ends.capacity(), kin.links.capacity());
        for round in 0..10_000 {
            let slot = Slot(round % 64);
            kin.leave(slot);
            kin.enter(InodeAddr(u64::from(round)), slot);
        }
        // Entries that were taken out count as room that is gone until the map tidies itself in place; a
        // map that had to grow has more than it began with.
        assert!(kin.ends.capacity() <= inodes, "{} inodes", kin.ends.capacity());
        assert_eq!(kin.links.capacity(), links);
    }
}
