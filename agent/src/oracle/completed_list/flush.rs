//! `ext4_flush_completed_IO`, as fsync (3.2, `ext4_sync_file`) and evict call it: with the inode
//! mutex held, take io_ends off the list and convert them, until it is empty.
//!
//! ```text
//!   Outside ─► Entered ──mutex──► Holding ──list empty──► Drained ──unlock──► Returned
//!                                  │   ▲                                └─► Waiting (evict) ─► Returned
//!                              del │   │ clear IN_FSYNC
//!                                  ▼   │
//!                              Converting ─► Converted
//! ```
//!
//! The flusher must never free: its io_ends' works are still queued.

use super::state::{Flush, Lane, State, flag};
use super::{CompletedList, Mutant};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl CompletedList {
    /// The next step of the n-th flusher, if it can take one.
    pub(super) fn flush(&self, state: &State, at: u8) -> Option<Step<State>> {
        let (me, evict) = (usize::from(at), at == self.world.fsyncs);
        let lane = self.flusher(at);
        let mut next = *state;
        let (what, object) = match state.flushers[me] {
            Flush::Outside => {
                if evict && !(0..at).all(|fsync| state.returned(fsync)) {
                    return None;
                }
                next.flushers[me] = Flush::Entered;
                next.owed[me] = self.complete(state);
                (if evict { "evict begins" } else { "fsync begins" }, None)
            }
            Flush::Entered if self.variant.mutant == Some(Mutant::FlushWithoutMutex) => {
                next.flushers[me] = Flush::Holding;
                ("takes no mutex", None)
            }
            Flush::Entered => {
                if state.mutex.is_some() {
                    return None;
                }
                next.mutex = Some(lane);
                next.flushers[me] = Flush::Holding;
                ("lock i_mutex", None)
            }
            Flush::Holding => return Some(self.take(state, at)),
            Flush::Marking(object, loaded) => return Some(self.mark(state, at, object, loaded)),
            Flush::Converting(object) => return Some(self.converted(state, at, object)),
            Flush::Converted(object) => return Some(self.unmark(state, at, object)),
            Flush::Freeing(object) => {
                let mut step = self.free(state, lane, object);
                step.next.flushers[me] = Flush::Holding;
                return Some(step);
            }
            Flush::Drained => return Some(self.leave(state, at)),
            Flush::Waiting => {
                if state.live(self.world) > 0 {
                    return None;
                }
                next.flushers[me] = Flush::Returned;
                ("no io_end lives: evict returns", None)
            }
            Flush::Returned => return None,
        };
        Some(self.step(lane, what, object, next))
    }

    /// The task that is the n-th flusher; the one after the fsyncs is evict.
    fn flusher(&self, at: u8) -> Lane {
        if at == self.world.fsyncs { Lane::EVICT } else { Lane(1 + at) }
    }

    /// io_ends whose write completed and that are not converted, a bit each.
    fn complete(&self, state: &State) -> u8 {
        let io_ends = state.io.iter().zip(0..self.world.io_ends);
        io_ends.filter(|(io, _)| io.completed).map(|(_, at)| 1 << at).sum()
    }

    /// lock; the first of the list, if any, is claimed; unlock.
    fn take(&self, state: &State, at: u8) -> Step<State> {
        let (me, lane, mut next) = (usize::from(at), self.flusher(at), *state);
        let Some(object) = state.list.first() else {
            next.flushers[me] = Flush::Drained;
            return self.step(lane, "lock, list is empty, unlock", None, next);
        };
        let io = &mut next.io[usize::from(object)];
        io.claim(lane);
        next.list.remove(object);
        next.flushers[me] = Flush::Converting(object);
        if self.variant.mutant == Some(Mutant::InFsyncUnlocked) {
            next.flushers[me] = Flush::Marking(object, io.flag);
            return self.step(lane, "lock, del {}, unlock, load flag", Some(object), next);
        }
        let what = if self.variant.in_fsync {
            io.flag |= flag::IN_FSYNC;
            "lock, del {}, set IN_FSYNC, unlock"
        } else {
            "lock, del {}, unlock"
        };
        let mut step = self.step(lane, what, Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step
    }

    fn mark(&self, state: &State, at: u8, object: u8, loaded: u8) -> Step<State> {
        let mut step =
            self.store(state, self.flusher(at), object, loaded, flag::IN_FSYNC, "store IN_FSYNC");
        step.next.flushers[usize::from(at)] = Flush::Converting(object);
        step
    }

    /// The conversion returns; afterwards it reads the iocb, the result and the inode of the io_end.
    fn converted(&self, state: &State, at: u8, object: u8) -> Step<State> {
        let (me, lane, mut next) = (usize::from(at), self.flusher(at), *state);
        let io = &mut next.io[usize::from(object)];
        let again = io.conversions > 0;
        io.conversions = (io.conversions + 1).min(2);
        next.flushers[me] = if self.variant.in_fsync && !self.keeps_in_fsync() {
            Flush::Converted(object)
        } else {
            io.give_up(lane);
            self.after_conversion(object)
        };
        let mut step = self.step(lane, "conversion of {} returns", Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step.broken.note(Property::Converted, again);
        step
    }

    fn keeps_in_fsync(&self) -> bool {
        self.variant.mutant == Some(Mutant::InFsyncKept)
    }

    fn after_conversion(&self, object: u8) -> Flush {
        let frees = self.variant.mutant == Some(Mutant::FlusherFrees);
        if frees { Flush::Freeing(object) } else { Flush::Holding }
    }

    /// lock; clear IN_FSYNC; unlock: the claim ends here.
    fn unmark(&self, state: &State, at: u8, object: u8) -> Step<State> {
        let (me, lane, mut next) = (usize::from(at), self.flusher(at), *state);
        let io = &mut next.io[usize::from(object)];
        io.flag &= !flag::IN_FSYNC;
        io.give_up(lane);
        next.flushers[me] = self.after_conversion(object);
        let mut step = self.step(lane, "lock, clear IN_FSYNC of {}, unlock", Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step
    }

    fn leave(&self, state: &State, at: u8) -> Step<State> {
        let (me, evict, mut next) = (usize::from(at), at == self.world.fsyncs, *state);
        if next.mutex == Some(self.flusher(at)) {
            next.mutex = None;
        }
        let what = if evict { "unlock i_mutex" } else { "unlock i_mutex, fsync returns" };
        next.flushers[me] = if evict { Flush::Waiting } else { Flush::Returned };
        let owes = |object: &u8| {
            state.owed[me] & 1 << object != 0 && state.io[usize::from(*object)].conversions == 0
        };
        let early = !evict && (0..self.world.io_ends).any(|object| owes(&object));
        let mut step = self.step(self.flusher(at), what, None, next);
        step.broken.note(Property::FsyncEarly, early);
        step
    }
}
