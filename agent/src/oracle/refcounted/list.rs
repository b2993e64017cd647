//! `i_rsv_conversion_list`, and the one worker of the superblock that empties it.
//!
//! ```text
//!   ext4_add_complete_io        lock; list empty? queue_work; list_add_tail; unlock
//!   rsv_conversion_wq           works of inodes, in order, one at a time; queued twice is queued once
//!   ext4_end_io_rsv_work        Idle ─► Begun ──lock, take the whole list, unlock──► Draining
//!                                 ▲                                                   │   ▲
//!                                 └── nothing left ──┐                     list_del,  │   │ freed
//!                                                    │                     claim      ▼   │
//!                                                    └──────────────────────────── Closing
//! ```
//!
//! The lock couples the two: what is added to an empty list is followed by a run that takes it, also
//! when a run is under way, for a work is queued again from its begin on. Nothing is converted under
//! the lock. The worker must never touch the inode once its private list is empty.

use super::state::{Closing, State, Worker};
use super::{Lane, Mutant, On, Refcounted};
use crate::oracle::explore::Step;
use crate::oracle::fifo::Fifo;
use crate::oracle::property::Property;

impl Refcounted {
    /// `ext4_add_complete_io`: one critical section.
    pub(super) fn add_complete(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let inode = self.world.inode(on.io);
        let mut next = *state;
        let queues = state.inode(inode).list.is_empty() != self.is(Mutant::QueuedIfNotEmpty);
        let dropped = self.is(Mutant::RunNotRepeated) && self.runs(state, inode);
        if queues && !dropped {
            next.works.push(inode);
        }
        if self.is(Mutant::ListedUnlocked) {
            let step = self.touch_inode(state, on, "lock, queue_work for {}, unlock", next);
            return (step, Closing::Listing);
        }
        next.inode_mut(inode).list.push(on.io);
        let what = if queues {
            "lock, queue_work, list_add {}, unlock"
        } else {
            "lock, list_add {}, unlock"
        };
        (self.touch_inode(state, on, what, next), Closing::Over)
    }

    /// The mutant's `list_add_tail`, after the lock was given back.
    pub(super) fn list(&self, state: &State, on: On) -> (Step<State>, Closing) {
        let mut next = *state;
        next.inode_mut(self.world.inode(on.io)).list.push(on.io);
        (self.touch_inode(state, on, "list_add {}", next), Closing::Over)
    }

    /// Is the work of this inode running?
    fn runs(&self, state: &State, inode: u8) -> bool {
        let io = match state.worker {
            Worker::Idle | Worker::Hung(_) => return false,
            Worker::Begun(running) | Worker::Copied(running, _) => return running == inode,
            Worker::Draining(rest) => rest.first(),
            Worker::Closing(_, io, _) => Some(io),
        };
        io.is_some_and(|io| self.world.inode(io) == inode)
    }

    /// The worker's next step, if it can take one.
    pub(super) fn work(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        Some(match state.worker {
            Worker::Idle => {
                let inode = next.works.pop()?;
                next.worker = Worker::Begun(inode);
                self.on_inode(state, inode, "work of {}'s inode begins", next)
            }
            Worker::Begun(inode) if self.is(Mutant::TakenUnlocked) => {
                next.worker = Worker::Copied(inode, state.inode(inode).list);
                self.on_inode(state, inode, "copy {}'s list", next)
            }
            Worker::Copied(inode, list) => {
                next.inode_mut(inode).list = Fifo::default();
                next.worker = drain(list);
                self.on_inode(state, inode, "empty {}'s list", next)
            }
            Worker::Begun(inode) => {
                let mut list = std::mem::take(&mut next.inode_mut(inode).list);
                if self.is(Mutant::TakesOne) {
                    let one = list.pop();
                    next.inode_mut(inode).list = list;
                    list = Fifo::default();
                    one.into_iter().for_each(|io| list.push(io));
                }
                next.worker = drain(list);
                self.on_inode(state, inode, "lock, take {}'s list, unlock", next)
            }
            Worker::Draining(mut rest) => {
                let on = On { lane: Lane::WORKER, io: rest.pop()? };
                next.io_mut(on.io).claims |= on.lane.bit();
                next.worker = Worker::Closing(rest, on.io, Closing::Claimed);
                self.touch_inode(state, on, "list_del {}: claim it", next)
            }
            Worker::Hung(_) => return None,
            Worker::Closing(rest, io, closing) => {
                let on = On { lane: Lane::WORKER, io };
                let (mut step, then) = self.close(state, on, closing, true);
                step.next.worker = match then {
                    Closing::Over => drain(rest),
                    closing => Worker::Closing(rest, io, closing),
                };
                step
            }
        })
    }

    /// The worker's conversion of the first io_end may hang, in such a world.
    pub(super) fn hang(&self, state: &State) -> Option<Step<State>> {
        let Worker::Closing(rest, 0, Closing::Converting) = state.worker else { return None };
        let (on, next) =
            (On { lane: Lane::WORKER, io: 0 }, State { worker: Worker::Hung(rest), ..*state });
        self.world.hangs.then(|| self.step(on, "the conversion of {} hangs", next))
    }

    /// A step of the worker that touches an inode, and what is on its list.
    fn on_inode(&self, state: &State, inode: u8, what: &'static str, next: State) -> Step<State> {
        let mut step = self.step(On { lane: Lane::WORKER, io: inode }, what, next);
        let listed = state.inode(inode).list;
        let gone = listed.iter().any(|io| state.io(io).freed > 0);
        step.broken.note(Property::UsedAfterFree, gone || state.inode(inode).freed);
        step
    }
}

/// Where the worker is with so much left.
fn drain(rest: Fifo<2>) -> Worker {
    if rest.is_empty() { Worker::Idle } else { Worker::Draining(rest) }
}
