//! One round of `ext4_writepages`: attach bios, set UNWRITTEN when a range is mapped, put.
//!
//! ```text
//!   Mapping (early bios) ─► load flag ─► Marking: store UNWRITTEN ─► Attaching ─► put ─► Closing, Done
//! ```
//!
//! It must never touch the io_end after its put, unless that was the last one.

use super::state::{Bio, Closing, State, Submitter, flag};
use super::{Mutant, On, Refcounted};
use crate::oracle::explore::Step;

impl Refcounted {
    /// The next step of the submitter of an io_end, if it can take one.
    pub(super) fn submit(&self, state: &State, io: u8) -> Option<Step<State>> {
        let (on, write) = (On::submitter(io), self.world.write(io));
        let mut next = *state;
        match state.io(io).submitter {
            Submitter::Mapping(attached) if attached < write.early => {
                Some(self.attach(state, on, attached, Submitter::Mapping(attached + 1)))
            }
            Submitter::Mapping(_) => {
                next.io_mut(io).handle = true;
                next.io_mut(io).submitter = Submitter::Marking(state.io(io).flag);
                Some(self.touch(state, on, "map, take a handle, load flag of {}", next))
            }
            Submitter::Marking(loaded) => {
                next.io_mut(io).submitter = Submitter::Attaching(write.early);
                let what = "store flag of {} | UNWRITTEN";
                Some(self.store(&next, on, (loaded, flag::UNWRITTEN, true), what))
            }
            Submitter::Attaching(attached) if attached < write.bios => {
                Some(self.attach(state, on, attached, Submitter::Attaching(attached + 1)))
            }
            Submitter::Attaching(_) => {
                let then = self.put(&mut next, io);
                next.io_mut(io).submitter = then.map_or(Submitter::Done, Submitter::Closing);
                let what =
                    if write.defers { "ext4_put_io_end_defer {}" } else { "ext4_put_io_end {}" };
                Some(self.touch(state, on, what, next))
            }
            Submitter::Closing(closing) => {
                let (mut step, then) = self.close(state, on, closing, write.defers);
                step.next.io_mut(io).submitter = match then {
                    Closing::Over => Submitter::Done,
                    closing => Submitter::Closing(closing),
                };
                Some(step)
            }
            Submitter::Done => None,
        }
    }

    /// Takes a reference for the next bio and submits it.
    fn attach(&self, state: &State, on: On, attached: u8, then: Submitter) -> Step<State> {
        let mut next = *state;
        let io = next.io_mut(on.io);
        io.count += i8::from(!self.is(Mutant::NoReference));
        io.writeback |= 1 << attached;
        io.bios[usize::from(attached)] = Bio::InFlight;
        io.submitter = then;
        self.touch(state, on, "get {}, submit_bio", next)
    }

    /// Drops a reference; where that leads, if it was the last.
    pub(super) fn put(&self, next: &mut State, io: u8) -> Option<Closing> {
        let io = next.io_mut(io);
        io.count -= 1;
        if self.is(Mutant::PutNotAtomic) {
            return Some(Closing::Testing);
        }
        (io.count == 0).then_some(Closing::Final)
    }
}
