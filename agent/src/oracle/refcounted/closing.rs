//! From the last reference to the free, whoever walks it: submitter, bio or worker.
//!
//! ```text
//!   Final ─┬─ to defer ──► listed, Over
//!          ├─ in place ──► Claimed ─┬─► Converting ─► Clearing ─► Releasing ─► Finishing … ─► Freeing ─► Over
//!          └─ nothing to do ─┐      └─ FAILED: free the handle ─┘    ▲
//!                            └───────────────────────────────────────┘
//! ```
//!
//! A claim must be made at count 0 and off the list. From the last `Finishing` on the inode may be
//! gone: nothing but the io_end's own memory may be touched.

use super::state::{Closing, IoEnd, State, flag};
use super::world::Generation;
use super::{Lane, Mutant, On, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

/// The conversion begins.
pub(super) const CONVERTS: &str = "start the handle, convert {}";

impl Refcounted {
    /// The next step of a lane on its way, and where it is then. `defers`: the last reference went
    /// through `ext4_put_io_end_defer`.
    pub(super) fn close(
        &self,
        state: &State,
        on: On,
        closing: Closing,
        defers: bool,
    ) -> (Step<State>, Closing) {
        let now = state.io(on.io);
        match closing {
            Closing::Testing => {
                let then = if now.count == 0 { Closing::Final } else { Closing::Over };
                (self.touch(state, on, "test the count of {}", *state), then)
            }
            Closing::Final if defers => self.hand_over(state, on),
            Closing::Final => self.in_place(state, on),
            Closing::Listing => self.list(state, on),
            Closing::Claimed => self.convert(state, on),
            Closing::Converting => self.converted(state, on),
            Closing::Clearing => {
                let step = self.touch(state, on, "load flag of {}", *state);
                (step, Closing::ClearingWith(now.flag))
            }
            Closing::ClearingWith(loaded) => {
                let what = "store flag of {} without UNWRITTEN";
                let mut step = self.store(state, on, (loaded, flag::UNWRITTEN, false), what);
                let mine = now.count == 0 && !state.is_listed(on.io) && now.claims == on.lane.bit();
                step.broken.note(Property::WriteRule, !mine);
                (step, Closing::Releasing)
            }
            Closing::Releasing => {
                let mut step = self.touch(state, on, "ext4_release_io_end {}", *state);
                step.broken.note(Property::HandleLeaked, now.handle);
                (step, self.after_bios(now))
            }
            Closing::Finishing => self.finish(state, on),
            Closing::Looking => {
                (self.touch_inode(state, on, "look at the inode of {}", *state), Closing::Freeing)
            }
            Closing::Freeing => (self.free(state, on), Closing::Over),
            Closing::Over => unreachable!("who is through takes no step"),
        }
    }

    fn is_deferred(&self, io: &IoEnd) -> bool {
        let unwritten = io.flag & flag::UNWRITTEN != 0;
        let failed = io.flag & flag::FAILED != 0;
        match self.generation {
            Generation::G4c | Generation::G4d => unwritten,
            Generation::G5 => unwritten || failed,
            Generation::G6 => unwritten || (failed && self.world.data_err_abort),
        }
    }

    /// `ext4_put_io_end_defer` at count 0.
    fn hand_over(&self, state: &State, on: On) -> (Step<State>, Closing) {
        if !self.is_deferred(state.io(on.io)) {
            let what = "the count of {} is 0, nothing to defer";
            return (self.decide(state, on, what, *state), Closing::Releasing);
        }
        let (step, then) = self.add_complete(state, on);
        let released = self.is(Mutant::ListedAndReleased);
        (step, if released { Closing::Releasing } else { then })
    }

    /// `ext4_put_io_end` at count 0.
    fn in_place(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let (mut next, now) = (*state, state.io(on.io));
        let unwritten = now.flag & flag::UNWRITTEN != 0;
        let processes = unwritten || self.generation.has_one_claim() && self.is_deferred(now);
        if !processes {
            let what = "the count of {} is 0, nothing to convert";
            return (self.decide(state, on, what, next), Closing::Releasing);
        }
        next.io_mut(on.io).claims |= on.lane.bit();
        let what = "the count of {} is 0: claim it in place";
        (self.touch_inode(state, on, what, next), Closing::Claimed)
    }

    /// Since 6.15.10 the decision looks at the inode's mount too.
    fn decide(&self, state: &State, on: On, what: &'static str, next: State) -> Step<State> {
        match self.generation {
            Generation::G6 => self.touch_inode(state, on, what, next),
            Generation::G4c | Generation::G4d | Generation::G5 => self.touch(state, on, what, next),
        }
    }

    fn convert(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let mut next = *state;
        let looks = match self.generation {
            Generation::G4c => false,
            Generation::G4d => on.lane == Lane::WORKER,
            Generation::G5 | Generation::G6 => !self.is(Mutant::FailedIgnored),
        };
        let now = next.io_mut(on.io);
        if looks && now.flag & flag::FAILED != 0 {
            now.handle &= self.is(Mutant::HandleKept);
            let step = self.touch(state, on, "FAILED: free the handle of {}", next);
            let again = self.is(Mutant::FailedListedAgain) && on.lane == Lane::WORKER;
            return (step, if again { Closing::Final } else { Closing::Clearing });
        }
        now.handle = false;
        let failed = now.failed != 0;
        let mut step = self.touch_inode(state, on, CONVERTS, next);
        step.broken.note(Property::FailedConverted, failed);
        (step, Closing::Converting)
    }

    fn converted(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let mut next = *state;
        let now = next.io_mut(on.io);
        let again = now.conversions > 0;
        now.conversions = (now.conversions + 1).min(2);
        let mut step = self.touch_inode(state, on, "the conversion of {} returns", next);
        step.broken.note(Property::Converted, again);
        (step, Closing::Clearing)
    }

    /// Finishes the next of the chained bios: whoever waits for its writeback may go on.
    fn finish(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let mut next = *state;
        let now = next.io_mut(on.io);
        if let Some(bio) = now.chain.pop_last() {
            now.writeback &= !(1 << bio);
        }
        let then = self.after_bios(now);
        (self.step(on, "ext4_finish_bio: clear writeback", next), then)
    }

    fn after_bios(&self, io: &IoEnd) -> Closing {
        match (io.chain.is_empty(), self.is(Mutant::InodeAfterWriteback)) {
            (false, _) => Closing::Finishing,
            (true, true) => Closing::Looking,
            (true, false) => Closing::Freeing,
        }
    }

    /// Frees the vecs and the io_end: the claim ends here.
    fn free(&self, state: &State, on: On) -> Step<State> {
        let mut next = *state;
        let now = next.io_mut(on.io);
        now.claims &= !on.lane.bit();
        let (in_use, again) = (now.claims != 0, now.freed > 0);
        now.freed = (now.freed + 1).min(2);
        let mut step = self.step(on, "free {}", next);
        step.broken.note(Property::FreedInUse, in_use);
        step.broken.note(Property::FreedOnce, again);
        step
    }
}
