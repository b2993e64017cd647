//! Who waits for writeback: fsync, and eviction, of each inode.
//!
//! Neither must know anything of the io_end: a folio's writeback bit is all that tells them.

use super::state::{Fsync, State, Submitter};
use super::{Lane, On, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl Refcounted {
    /// `ext4_sync_file`: waits for what was submitted when it began.
    pub(super) fn fsync(&self, state: &State, inode: u8) -> Option<Step<State>> {
        let on = On { lane: Lane::fsync(inode), io: inode };
        let mut next = *state;
        match state.inode(inode).fsync {
            Fsync::Outside if self.world.fsync && !state.inode(inode).freed => {
                let mut bios = [0; 2];
                for io in self.world.of_inode(inode) {
                    bios[usize::from(io)] = state.io(io).submitted();
                }
                next.inode_mut(inode).fsync = Fsync::Waiting(bios);
                Some(self.step(on, "fsync begins", next))
            }
            Fsync::Waiting(bios) => {
                let waits = state.io.iter().zip(bios).any(|(io, bios)| io.writeback & bios != 0);
                next.inode_mut(inode).fsync = Fsync::Returned;
                let mut step = self.step(on, "no writeback is left: fsync returns", next);
                step.broken.note(Property::FsyncEarly, self.owes(state, inode, bios));
                (!waits).then_some(step)
            }
            Fsync::Outside | Fsync::Returned => None,
        }
    }

    /// Was one of these bios written to a range that is not converted? After a failed bio the
    /// mapping's error makes fsync return EIO.
    fn owes(&self, state: &State, inode: u8, bios: [u8; 2]) -> bool {
        let failed = self.world.of_inode(inode).any(|io| state.io(io).failed != 0);
        let unconverted = |io: u8| {
            let write = self.world.write(io);
            let mapped_before = (1 << write.early) - 1;
            let waited = bios[usize::from(io)] & !mapped_before != 0;
            write.unwritten && waited && state.io(io).conversions == 0
        };
        !failed && self.world.of_inode(inode).any(unconverted)
    }

    /// `ext4_evict_inode` and what follows: the inode is freed.
    pub(super) fn evict(&self, state: &State, inode: u8) -> Option<Step<State>> {
        let on = On { lane: Lane::evict(inode), io: inode };
        let now = state.inode(inode);
        let waited = !self.world.fsync || now.fsync == Fsync::Returned;
        let through = self
            .world
            .of_inode(inode)
            .all(|io| state.io(io).submitter == Submitter::Done && state.io(io).writeback == 0);
        (!now.freed && waited && through).then(|| {
            let mut next = *state;
            next.inode_mut(inode).freed = true;
            self.step(on, "no writeback is left: evict, free the inode", next)
        })
    }
}
