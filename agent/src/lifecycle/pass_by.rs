//! Who had to wait for an io_end and did not: an fsync that returned 0, the end of its inode.
//!
//! ```text
//!   fsync:    begin ─► data_submit ─► data_wait ──────────────► … ─► return 0
//!   io_end:      … ─► submitter's put ─┘ (all its bios are attached and under writeback)
//! ```
//!
//! The first thing that `__filemap_fdatawait_range` does in an `ext4_sync_file` is to wait for the
//! writeback of the file's own range (`file_write_and_wait_range`, 5.10 to 7.3; a later one may be of
//! other files, by a fast commit). Which part of the file an io_end covers is not seen. So an fsync had to
//! wait for those whose submitter had put its reference before that, if it was of the whole file, or if
//! the syncing task had made them itself since it was called: then they are of its own range.
//!
//! This module must never look at a state: whether it was over for whom is for the rules.

use super::fsync::FsyncDone;
use super::io_end::IoEnd;
use super::step::{IoEndStep, Step};
use super::{Act, Lifecycle, Move};
use crate::event::{InodeAddr, Nanos, Stamp};

impl Lifecycle {
    /// An `ext4_sync_file` returns.
    pub(super) fn fsync_end(&mut self, stamp: &Stamp, ret: i64, sink: &mut impl FnMut(Step<'_>)) {
        let Some(done) = self.calls.fsync_end(stamp, ret, &mut self.summary, sink) else { return };
        if done.errno.is_some() {
            return self.failures.forget(done.inode_at);
        }
        let Some(waits_from) = done.waits_from else { return };
        let mut next = self.io_ends.first_of(done.inode_at);
        while let Some(slot) = next {
            next = self.io_ends.after(slot);
            let object = self.io_ends.at(slot);
            if object.id().born >= waits_from {
                break; // and so were all that follow
            }
            if had_to_wait(&done, waits_from, object) {
                pass_by(object, stamp, Act::FsyncReturned, sink);
            }
        }
        let of = |object: &IoEnd| had_to_wait(&done, waits_from, object);
        while let Some(mut object) = self.failures.take(done.inode_at, of) {
            pass_by(&mut object, stamp, Act::FsyncReturned, sink);
        }
    }

    /// An inode is destroyed.
    pub(super) fn inode_destroyed(
        &mut self,
        stamp: &Stamp,
        inode: InodeAddr,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        self.failures.forget(inode);
        let mut next = self.io_ends.first_of(inode);
        while let Some(slot) = next {
            next = self.io_ends.after(slot);
            pass_by(self.io_ends.at(slot), stamp, Act::InodeDestroyed, sink);
        }
    }
}

fn had_to_wait(done: &FsyncDone, waits_from: Nanos, object: &IoEnd) -> bool {
    let whole = done.range.bytes.is_some_and(|range| range.first == 0 && range.last == i64::MAX);
    let own = object.owner() == done.task && object.id().born >= done.begun;
    (whole || own) && object.submitted_at().is_some_and(|at| at < waits_from)
}

fn pass_by(object: &mut IoEnd, stamp: &Stamp, act: Act, sink: &mut impl FnMut(Step<'_>)) {
    let (before, earlier) = (object.state(), object.snapshots);
    object.tell(stamp, act, None);
    sink(Step::IoEndMoved(IoEndStep {
        object,
        before,
        act,
        action: Move::PassBy,
        stamp: *stamp,
        image: None,
        earlier,
        irregular: None,
        writer: None,
        lingers: None,
    }));
}
