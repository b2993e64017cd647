//! `ext4_end_bio` of one bio: mark a failure, decide who clears writeback, put.
//!
//! ```text
//!   InFlight ─► (Failing ─► Marking ─►) Deciding ─┬─ chained ─► Putting ──────────────► Done
//!                                                 └─ not ─────► Putting ─► Finishing ─► Done
//! ```
//!
//! A bio that is chained has its writeback cleared by the release; one that is not clears it itself,
//! after its put.

use super::state::{Bio, Closing, Generation, State, flag};
use super::{Lane, Mutant, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl Refcounted {
    /// The next step of one bio, if it can take one.
    pub(super) fn bio(&self, state: &State, at: u8) -> Option<Step<State>> {
        let (me, lane) = (usize::from(at), Lane::bio(at));
        let mut next = *state;
        let fails = self.world.bios.failing & 1 << at != 0;
        let late = fails && self.is(Mutant::FailedAfterPut);
        let (what, bio) = match state.bios[me] {
            Bio::Unborn | Bio::Done => return None,
            Bio::InFlight => {
                next.failed |= u8::from(fails) << at;
                let marks = fails && self.generation.marks_failures() && !late;
                let what = if fails { "ext4_end_bio: it failed" } else { "ext4_end_bio" };
                (what, if marks { Bio::Failing } else { Bio::Deciding })
            }
            Bio::Failing => ("load flag", Bio::Marking(state.flag)),
            Bio::Marking(loaded) => return Some(self.mark(state, at, loaded, Bio::Deciding)),
            Bio::Deciding => {
                let chains = self.chains(state);
                next.chained |= u8::from(chains) << at;
                if self.is(Mutant::WritebackClearedEarly) {
                    next.writeback &= !(1 << at);
                }
                let what =
                    if chains { "chain the bio to the io_end" } else { "leave the bio unchained" };
                (what, Bio::Putting(chains))
            }
            Bio::Putting(chained) => {
                next.count -= 1;
                let bio = if self.is(Mutant::PutNotAtomic) {
                    Bio::Closing(chained, Closing::Testing)
                } else if next.count == 0 {
                    Bio::Closing(chained, Closing::Final)
                } else {
                    after(chained, late)
                };
                ("ext4_put_io_end_defer", bio)
            }
            Bio::Closing(chained, closing) => {
                let (mut step, closing) = self.close(state, lane, closing, true);
                step.next.bios[me] = match closing {
                    Closing::Over => after(chained, late),
                    closing => Bio::Closing(chained, closing),
                };
                return Some(step);
            }
            Bio::LateFailing(chained) => ("load flag", Bio::LateMarking(chained, state.flag)),
            Bio::LateMarking(chained, loaded) => {
                let mut step = self.mark(state, at, loaded, after(chained, false));
                step.broken.note(Property::WriteRule, true);
                return Some(step);
            }
            Bio::Finishing => {
                next.writeback &= !(1 << at);
                next.bios[me] = Bio::Done;
                return Some(self.step(lane, "ext4_finish_bio: clear writeback", next));
            }
        };
        next.bios[me] = bio;
        Some(self.touch(state, lane, what, next))
    }

    fn mark(&self, state: &State, at: u8, loaded: u8, then: Bio) -> Step<State> {
        let mut before = *state;
        before.bios[usize::from(at)] = then;
        self.store(&before, Lane::bio(at), (loaded, flag::FAILED, true), "store flag | FAILED")
    }

    /// Does the bio's writeback wait for the release?
    fn chains(&self, state: &State) -> bool {
        let unwritten = state.flag & flag::UNWRITTEN != 0;
        let aborts = state.flag & flag::FAILED != 0 && self.world.data_err_abort;
        match self.generation {
            Generation::G4c | Generation::G4d => unwritten,
            Generation::G5 | Generation::G6 => unwritten || aborts,
        }
    }
}

fn after(chained: bool, late: bool) -> Bio {
    match (late, chained) {
        (true, _) => Bio::LateFailing(chained),
        (false, true) => Bio::Done,
        (false, false) => Bio::Finishing,
    }
}
