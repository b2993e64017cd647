//! One round of `ext4_writepages`: attach bios, set UNWRITTEN when a range is mapped, put.
//!
//! ```text
//!   Attaching (early bios) ─► load flag ─► Marking: store UNWRITTEN ─► Attaching ─► Putting ─► …
//! ```
//!
//! It must never touch the io_end after its put, unless that was the last one.

use super::state::{Bio, Closing, State, Submitter, flag};
use super::{Lane, Mutant, Refcounted};
use crate::oracle::explore::Step;

impl Refcounted {
    /// The submitter's next step, if it can take one.
    pub(super) fn submit(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        match state.submitter {
            Submitter::Attaching(attached) => Some(self.attach_or_map(state, attached)),
            Submitter::Marking(loaded) => {
                next.submitter = Submitter::Attaching(self.early());
                let what = "store flag | UNWRITTEN";
                Some(self.store(&next, Lane::SUBMITTER, (loaded, flag::UNWRITTEN, true), what))
            }
            Submitter::Putting => {
                next.count -= 1;
                next.submitter = if self.is(Mutant::PutNotAtomic) {
                    Submitter::Closing(Closing::Testing)
                } else if next.count == 0 {
                    Submitter::Closing(Closing::Final)
                } else {
                    Submitter::Done
                };
                let what = if self.world.submitter_defers {
                    "ext4_put_io_end_defer"
                } else {
                    "ext4_put_io_end"
                };
                Some(self.touch(state, Lane::SUBMITTER, what, next))
            }
            Submitter::Closing(closing) => {
                let defers = self.world.submitter_defers;
                let mut step = self.close(state, Lane::SUBMITTER, closing, defers);
                step.0.next.submitter = match step.1 {
                    Closing::Over => Submitter::Done,
                    closing => Submitter::Closing(closing),
                };
                Some(step.0)
            }
            Submitter::Done => None,
        }
    }

    fn early(&self) -> u8 {
        self.world.bios.early.count_ones() as u8
    }

    /// The early bios, then the mapping, then the others.
    fn attach_or_map(&self, state: &State, attached: u8) -> Step<State> {
        let mut next = *state;
        if attached == self.early() && self.world.unwritten && !state.handle && state.freed == 0 {
            next.handle = true;
            next.submitter = Submitter::Marking(state.flag);
            return self.touch(
                state,
                Lane::SUBMITTER,
                "map a range, take a handle, load flag",
                next,
            );
        }
        if attached == self.world.bios.count {
            next.submitter = Submitter::Putting;
            return self.step(Lane::SUBMITTER, "is through with the round", next);
        }
        next.count += i8::from(!self.is(Mutant::NoReference));
        next.writeback |= 1 << attached;
        next.bios[usize::from(attached)] = Bio::InFlight;
        next.submitter = Submitter::Attaching(attached + 1);
        self.touch(state, Lane::SUBMITTER, "submit_bio with a reference", next)
    }
}
