//! Who waits for writeback: fsync, and eviction.
//!
//! Neither must know anything of the io_end: a folio's writeback bit is all that tells them.

use super::state::{Evict, Fsync, State, Submitter};
use super::{Lane, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl Refcounted {
    /// `ext4_sync_file`: waits for what was submitted when it began.
    pub(super) fn fsync(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        match state.fsync {
            Fsync::Outside if self.world.fsync && !state.inode_freed => {
                next.fsync = Fsync::Waiting(state.submitted());
                Some(self.step(Lane::FSYNC, "fsync begins", next))
            }
            Fsync::Waiting(bios) if state.writeback & bios == 0 => {
                next.fsync = Fsync::Returned;
                let mut step = self.step(Lane::FSYNC, "no writeback is left: fsync returns", next);
                // After a failed bio the mapping's error makes it return EIO.
                let waited = bios & !self.world.bios.early != 0 && state.failed == 0;
                let owed = self.world.unwritten && waited && state.conversions == 0;
                step.broken.note(Property::FsyncEarly, owed);
                Some(step)
            }
            _ => None,
        }
    }

    /// `ext4_evict_inode` and what follows: the inode is freed.
    pub(super) fn evict(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        let closing = matches!(state.submitter, Submitter::Done);
        let waited = !self.world.fsync || state.fsync == Fsync::Returned;
        let ready = state.evict == Evict::Waiting && closing && waited && state.writeback == 0;
        ready.then(|| {
            next.evict = Evict::Returned;
            next.inode_freed = true;
            self.step(Lane::EVICT, "no writeback is left: evict, free the inode", next)
        })
    }
}
