//! io_ends that were released after their conversion had failed, until an fsync speaks of their inode.
//!
//! ```text
//!   released, conversion < 0 ──► kept ──┬─ an fsync of the inode fails ──► told to the caller: forgotten
//!                                       ├─ one that had to tell it returns 0 ──► taken out, for the rules
//!                                       └─ the inode is destroyed, or there are too many ──► forgotten
//! ```
//!
//! A conversion fails when the metadata cannot be written, which is rare and soon followed by more. This
//! module must never say what an fsync has to tell.

use std::collections::VecDeque;

use super::io_end::IoEnd;
use crate::event::InodeAddr;
use crate::limits;

/// Failed conversions that nobody was told of, oldest first.
pub(super) struct Failures {
    kept: VecDeque<(InodeAddr, IoEnd)>,
}

impl Failures {
    /// All memory is taken here.
    pub(super) fn new() -> Self {
        Failures { kept: VecDeque::with_capacity(limits::FAILED_CONVERSIONS_MAX) }
    }

    /// An io_end of that inode is released, its conversion failed.
    pub(super) fn keep(&mut self, inode: InodeAddr, object: IoEnd) {
        if self.kept.len() == limits::FAILED_CONVERSIONS_MAX {
            self.kept.pop_front();
        }
        self.kept.push_back((inode, object));
    }

    /// Whoever syncs that inode was told of an error, or it is gone.
    pub(super) fn forget(&mut self, inode: InodeAddr) {
        self.kept.retain(|(it, _)| *it != inode);
    }

    /// Everything is another stream's.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Takes out the oldest of that inode of which this holds.
    pub(super) fn take(&mut self, inode: InodeAddr, of: impl Fn(&IoEnd) -> bool) -> Option<IoEnd> {
        if self.kept.is_empty() {
            return None;
        }
        let at = self.kept.iter().position(|(it, object)| *it == inode && of(object))?;
        self.kept.remove(at).map(|(_, object)| object)
    }
}
