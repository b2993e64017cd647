//! What happens beside an io_end and moves it nowhere: who had to wait for it and did not (an fsync that
//! returned 0, the end of its inode), and a store to its flag that a watchpoint saw.
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
//! This module must never judge: whether it was over for whom, and who may write, is for the rules.

use super::fsync::FsyncDone;
use super::io_end::IoEnd;
use super::step::{IoEndStep, Step};
use super::{Act, Irregular, Lifecycle, Move, State, Writer};
use crate::event::{CodeAddr, InodeAddr, IoEndImage, Nanos, Seen, Stamp};

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
                pass_by(object, stamp, By::unseen(Act::FsyncReturned), sink);
            }
        }
        let of = |object: &IoEnd| had_to_wait(&done, waits_from, object);
        while let Some(mut object) = self.failures.take(done.inode_at, of) {
            pass_by(&mut object, stamp, By::unseen(Act::FsyncReturned), sink);
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
            pass_by(self.io_ends.at(slot), stamp, By::unseen(Act::InodeDestroyed), sink);
        }
    }

    /// A flag is written. It leaves nothing but a step in the io_end's history: what is known of one must not
    /// depend on whether it has a watchpoint. A store to what is no io_end, or none any more, is anybody's:
    /// the allocator's, say, which makes the next one of it.
    ///
    /// In the core of 2012 the flag is the lock's once the io_end is on the list, until it is freed.
    pub(super) fn flag_written(
        &mut self,
        stamp: &Stamp,
        (seen, locked): (&Seen, Option<bool>),
        ip: CodeAddr,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        let Some(slot) = self.io_ends.find(seen.io_end) else { return };
        if self.io_ends.at(slot).state() == State::Released {
            return;
        }
        self.note_probes_changed(slot);
        let object = self.io_ends.at(slot);
        let published = matches!(object.state(), State::Queued | State::Claimed | State::Converted);
        let unlocked = self.sight.worker_releases && published && locked == Some(false);
        self.summary.irregular_steps += u64::from(unlocked);
        let by = By {
            act: Act::FlagWrite,
            image: seen.image,
            irregular: unlocked.then_some(Irregular::Unlocked),
            writer: Some(self.writers.writer(ip)),
        };
        pass_by(object, stamp, by, sink);
    }
}

/// What passes an io_end by.
#[derive(Clone, Copy)]
struct By {
    act: Act,
    image: Option<IoEndImage>,
    irregular: Option<Irregular>,
    writer: Option<Writer>,
}

impl By {
    /// Nobody looked at the io_end.
    fn unseen(act: Act) -> Self {
        By { act, image: None, irregular: None, writer: None }
    }
}

fn had_to_wait(done: &FsyncDone, waits_from: Nanos, object: &IoEnd) -> bool {
    let whole = done.range.bytes.is_some_and(|range| range.first == 0 && range.last == i64::MAX);
    let own = object.owner() == done.task && object.id().born >= done.begun;
    (whole || own) && object.submitted_at().is_some_and(|at| at < waits_from)
}

fn pass_by(object: &mut IoEnd, stamp: &Stamp, by: By, sink: &mut impl FnMut(Step<'_>)) {
    let By { act, image, irregular, writer } = by;
    let (before, earlier) = (object.state(), object.snapshots);
    object.tell(stamp, act, image.as_ref());
    sink(Step::IoEndMoved(IoEndStep {
        object,
        before,
        act,
        action: Move::PassBy,
        stamp: *stamp,
        image,
        earlier,
        irregular,
        writer,
        lingers: None,
    }));
}
