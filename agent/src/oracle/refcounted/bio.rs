//! `ext4_end_bio` of one bio: mark a failure, decide who clears writeback, put.
//!
//! ```text
//!   InFlight ─► (Failing ─► Marking ─►) Deciding ─┬─ chained ─► Putting ──────────────► Done
//!                                                 └─ not ─────► Putting ─► Finishing ─► Done
//! ```
//!
//! A bio that is chained has its writeback cleared by the release; one that is not clears it itself,
//! after its put.

use super::state::{Bio, Closing, Flag, IoEnd, State, flag};
use super::world::Generation;
use super::{Mutant, On, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl Refcounted {
    /// The next step of one bio of an io_end, if it can take one.
    pub(super) fn bio(&self, state: &State, io: u8, at: u8) -> Option<Step<State>> {
        let (me, on) = (usize::from(at), On::bio(io, at));
        let mut next = *state;
        let now = next.io_mut(io);
        let fails = self.world.write(io).failing & 1 << at != 0;
        let late = fails && self.is(Mutant::FailedAfterPut);
        let (what, bio) = match state.io(io).bios[me] {
            Bio::Unborn | Bio::Done => return None,
            Bio::InFlight => {
                now.failed |= u8::from(fails) << at;
                let marks = fails && self.generation.marks_failures() && !late;
                let what = if fails { "ext4_end_bio: it failed" } else { "ext4_end_bio" };
                (what, if marks { Bio::Failing } else { Bio::Deciding })
            }
            Bio::Failing => ("load flag of {}", Bio::Marking(now.flag)),
            Bio::Marking(loaded) => return Some(self.mark(state, on, at, loaded, Bio::Deciding)),
            Bio::Deciding => {
                let chains = self.chains(now);
                if chains {
                    now.chain.push(at);
                }
                if self.is(Mutant::WritebackClearedEarly) {
                    now.writeback &= !(1 << at);
                }
                let what = if chains { "chain the bio to {}" } else { "leave the bio unchained" };
                (what, Bio::Putting(chains))
            }
            Bio::Putting(chained) => {
                let closing = self.put(&mut next, io);
                let bio = closing.map_or(after(chained, late), |it| Bio::Closing(chained, it));
                ("ext4_put_io_end_defer {}", bio)
            }
            Bio::Closing(chained, closing) => {
                let (mut step, closing) = self.close(state, on, closing, true);
                step.next.io_mut(io).bios[me] = match closing {
                    Closing::Over => after(chained, late),
                    closing => Bio::Closing(chained, closing),
                };
                return Some(step);
            }
            Bio::LateFailing(chained) => ("load flag of {}", Bio::LateMarking(chained, now.flag)),
            Bio::LateMarking(chained, loaded) => {
                let mut step = self.mark(state, on, at, loaded, after(chained, false));
                step.broken.note(Property::WriteRule, true);
                return Some(step);
            }
            Bio::Finishing => {
                now.writeback &= !(1 << at);
                now.bios[me] = Bio::Done;
                return Some(self.step(on, "ext4_finish_bio: clear writeback", next));
            }
        };
        next.io_mut(io).bios[me] = bio;
        Some(self.touch(state, on, what, next))
    }

    fn mark(&self, state: &State, on: On, at: u8, loaded: Flag, then: Bio) -> Step<State> {
        let mut before = *state;
        before.io_mut(on.io).bios[usize::from(at)] = then;
        self.store(&before, on, (loaded, flag::FAILED, true), "store flag of {} | FAILED")
    }

    /// Does the bio's writeback wait for the release?
    fn chains(&self, io: &IoEnd) -> bool {
        let unwritten = io.flag & flag::UNWRITTEN != 0;
        let aborts = io.flag & flag::FAILED != 0 && self.world.data_err_abort;
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
