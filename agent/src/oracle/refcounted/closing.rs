//! From the last reference to the release, whoever walks it: submitter, bio or worker.
//!
//! ```text
//!   Final ─┬─ to defer ──► listed, Over
//!          ├─ in place ──► Claimed ─┬─► Converting ─► Clearing ─► Releasing ─► Over
//!          └─ nothing to do ─┐      └─ FAILED: free the handle ─┘
//!                            └─────────────────────────────────────► Releasing
//! ```
//!
//! A claim must be made at count 0 and off the list.

use super::state::{Closing, Generation, State, Worker, flag};
use super::{Lane, Mutant, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl Refcounted {
    /// The next step of `lane` on its way, and where it is then. `defers`: the last reference went
    /// through `ext4_put_io_end_defer`.
    pub(super) fn close(
        &self,
        state: &State,
        lane: Lane,
        closing: Closing,
        defers: bool,
    ) -> (Step<State>, Closing) {
        let mut next = *state;
        match closing {
            Closing::Testing => {
                let then = if state.count == 0 { Closing::Final } else { Closing::Over };
                (self.touch(state, lane, "test the count", next), then)
            }
            Closing::Final if defers => self.hand_over(state, lane),
            Closing::Final => self.in_place(state, lane),
            Closing::Claimed => self.convert(state, lane),
            Closing::Converting => {
                let again = state.conversions > 0;
                next.conversions = (state.conversions + 1).min(2);
                let mut step = self.touch(state, lane, "the conversion returns", next);
                step.broken.note(Property::Converted, again);
                (step, Closing::Clearing)
            }
            Closing::Clearing => {
                (self.touch(state, lane, "load flag", next), Closing::ClearingWith(state.flag))
            }
            Closing::ClearingWith(loaded) => {
                let what = "store flag without UNWRITTEN";
                let mut step = self.store(state, lane, (loaded, flag::UNWRITTEN, false), what);
                let mine = state.count == 0 && !state.listed && state.claims == 1 << lane.0;
                step.broken.note(Property::WriteRule, !mine);
                (step, Closing::Releasing)
            }
            Closing::Releasing => (self.release(state, lane), Closing::Over),
            Closing::Over => unreachable!("who is through takes no step"),
        }
    }

    fn is_deferred(&self, state: &State) -> bool {
        let unwritten = state.flag & flag::UNWRITTEN != 0;
        let failed = state.flag & flag::FAILED != 0;
        match self.generation {
            Generation::G4c | Generation::G4d => unwritten,
            Generation::G5 => unwritten || failed,
            Generation::G6 => unwritten || (failed && self.world.data_err_abort),
        }
    }

    fn hand_over(&self, state: &State, lane: Lane) -> (Step<State>, Closing) {
        let mut next = *state;
        if !self.is_deferred(state) {
            let what = "the count is 0, nothing to defer";
            return (self.touch(state, lane, what, next), Closing::Releasing);
        }
        next.listed = true;
        next.work_queued |= !self.is(Mutant::WorkNotQueued);
        let then =
            if self.is(Mutant::ListedAndReleased) { Closing::Releasing } else { Closing::Over };
        let mut step = self.touch(state, lane, "lock, queue_work, list_add, unlock", next);
        step.broken.note(Property::UsedAfterFree, state.inode_freed);
        (step, then)
    }

    fn in_place(&self, state: &State, lane: Lane) -> (Step<State>, Closing) {
        let mut next = *state;
        let g6 = matches!(self.generation, Generation::G5 | Generation::G6);
        let processes = state.flag & flag::UNWRITTEN != 0 || (g6 && self.is_deferred(state));
        if !processes {
            let what = "the count is 0, nothing to convert";
            return (self.touch(state, lane, what, next), Closing::Releasing);
        }
        next.claims |= 1 << lane.0;
        (self.touch(state, lane, "the count is 0: claim it in place", next), Closing::Claimed)
    }

    fn convert(&self, state: &State, lane: Lane) -> (Step<State>, Closing) {
        let mut next = *state;
        let looks = match self.generation {
            Generation::G4c => false,
            Generation::G4d => lane == Lane::WORKER,
            Generation::G5 | Generation::G6 => !self.is(Mutant::FailedIgnored),
        };
        if looks && state.flag & flag::FAILED != 0 {
            next.handle = self.is(Mutant::HandleKept) && state.handle;
            let step = self.touch(state, lane, "FAILED: free the handle", next);
            let again = self.is(Mutant::FailedListedAgain) && lane == Lane::WORKER;
            return (step, if again { Closing::Final } else { Closing::Clearing });
        }
        next.handle = false;
        let mut step = self.touch(state, lane, "start the handle, convert", next);
        step.broken.note(Property::UsedAfterFree, state.freed > 0 || state.inode_freed);
        step.broken.note(Property::FailedConverted, state.failed != 0);
        (step, Closing::Converting)
    }

    /// `ext4_release_io_end`: finishes the chained bios and frees the io_end.
    fn release(&self, state: &State, lane: Lane) -> Step<State> {
        let mut next = *state;
        next.claims &= !(1 << lane.0);
        next.writeback &= !state.chained;
        next.freed = (state.freed + 1).min(2);
        let mut step = self.step(lane, "release: finish chained bios, free", next);
        step.broken.note(Property::FreedInUse, next.claims != 0);
        step.broken.note(Property::FreedOnce, state.freed > 0);
        step.broken.note(Property::HandleLeaked, state.handle);
        step
    }

    /// `ext4_end_io_rsv_work`, the inode's worker.
    pub(super) fn work(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        match state.worker {
            Worker::Idle if !state.work_queued => None,
            Worker::Idle => {
                next.work_queued = false;
                let what = if state.listed {
                    next.listed = false;
                    next.claims |= 1 << Lane::WORKER.0;
                    next.worker = Worker::Closing(Closing::Claimed);
                    "lock, take the list, unlock; claim"
                } else {
                    "lock, the list is empty, unlock"
                };
                let mut step = self.step(Lane::WORKER, what, next);
                step.broken.note(Property::UsedAfterFree, state.inode_freed || state.freed > 0);
                Some(step)
            }
            Worker::Closing(closing) => {
                let (mut step, then) = self.close(state, Lane::WORKER, closing, true);
                step.next.worker = match then {
                    Closing::Over => Worker::Idle,
                    closing => Worker::Closing(closing),
                };
                Some(step)
            }
        }
    }
}
