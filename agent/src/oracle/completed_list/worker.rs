//! `ext4_end_io_work` (3.2): the worker runs the work of one io_end.
//!
//! ```text
//!   Idle ─► Running ──IN_FSYNC, or trylock fails──► Requeueing ─► (Yielding ─►) Idle, its work queued
//!              │  └───on no list────────────────────────────────────► Freeing ─► Idle
//!              └──────del──► Converting ─► Converted ──unlock──────────┘
//! ```
//!
//! Unfixed, the requeue goes on outside of the lock: Requeueing ─► Loading ─► (Yielding ─►
//! Reloading ─►) Storing.

use super::state::{Lane, State, Worker, flag};
use super::{CompletedList, Mutant};
use crate::oracle::explore::Step;
use crate::oracle::property::Property;

impl CompletedList {
    /// The worker's next step, if it can take one.
    pub(super) fn work(&self, state: &State) -> Option<Step<State>> {
        let mut step = self.run(state)?;
        let yields = matches!(state.worker, Worker::Yielding(_));
        let sleeps = matches!(step.next.worker, Worker::Converting(_));
        let rests = step.next.worker_is_idle() && step.next.works.is_empty();
        step.next.on_cpu = self.world.one_cpu && !yields && !sleeps && !rests;
        Some(step)
    }

    fn run(&self, state: &State) -> Option<Step<State>> {
        let mut next = *state;
        let (what, object) = match state.worker {
            Worker::Idle => {
                let object = next.works.pop()?;
                next.worker = Worker::Running(object);
                ("work of {} begins", object)
            }
            Worker::Running(object) => return Some(self.look(state, object)),
            Worker::Requeueing(object, yields) => {
                return Some(self.requeue(state, object, yields));
            }
            Worker::Yielding(object) => {
                next.worker = if self.variant.queued_under_lock {
                    Worker::Idle
                } else {
                    Worker::Reloading(object)
                };
                // The io_end is not looked at: it may be gone.
                return Some(self.step(Lane::WORKER, "yield", Some(object), next));
            }
            Worker::Loading(object) => return Some(self.load(state, object)),
            Worker::Reloading(object) => {
                next.worker = Worker::Storing(object, state.io[usize::from(object)].flag);
                ("load flag of {} again", object)
            }
            Worker::Storing(object, loaded) => {
                let what = "store flag of {} | QUEUED";
                let mut step = self.store(state, Lane::WORKER, object, loaded, flag::QUEUED, what);
                step.next.worker = Worker::Idle;
                step.next.io[usize::from(object)].requeued = true;
                return Some(step);
            }
            Worker::Converting(object) => return Some(self.worker_converted(state, object)),
            Worker::Converted(object) => {
                next.mutex = None;
                next.worker = Worker::Freeing(object);
                ("unlock i_mutex", object)
            }
            Worker::Freeing(object) => {
                let mut step = self.free(state, Lane::WORKER, object);
                step.next.worker = Worker::Idle;
                return Some(step);
            }
        };
        let mut step = self.step(Lane::WORKER, what, Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        Some(step)
    }

    /// One hold of the lock: IN_FSYNC, the list, the mutex.
    fn look(&self, state: &State, object: u8) -> Step<State> {
        let mut next = *state;
        let io = &mut next.io[usize::from(object)];
        let busy = self.variant.in_fsync && io.flag & flag::IN_FSYNC != 0;
        let mut wrong = false;
        let what = if !busy && !state.list.contains(object) {
            next.worker = Worker::Freeing(object);
            "lock, {} is on no list, unlock"
        } else if busy || state.mutex.is_some() {
            let mut yields = false;
            if self.variant.queued_under_lock {
                yields = self.decides(io.flag, io.flag | flag::QUEUED);
                wrong = yields != io.requeued;
                io.flag |= flag::QUEUED;
            }
            next.worker = Worker::Requeueing(object, yields);
            match (busy, self.variant.queued_under_lock) {
                (true, true) => "lock, IN_FSYNC is set, set QUEUED, unlock",
                (true, false) => "lock, IN_FSYNC is set, unlock",
                (false, true) => "lock, trylock fails, set QUEUED, unlock",
                (false, false) => "lock, trylock fails, unlock",
            }
        } else {
            io.claim(Lane::WORKER);
            next.mutex = Some(Lane::WORKER);
            next.worker = Worker::Converting(object);
            if self.variant.mutant != Some(Mutant::ClaimLeavesListed) {
                next.list.remove(object);
            }
            "lock, trylock, del {}, unlock"
        };
        let mut step = self.step(Lane::WORKER, what, Some(object), next);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step.broken.note(Property::Yield, wrong);
        step
    }

    /// Does it yield, by the flag before the requeue, and after?
    fn decides(&self, old: u8, new: u8) -> bool {
        let by = match self.variant.mutant {
            Some(Mutant::YieldsByNewValue) => new,
            Some(Mutant::NeverYields) => 0,
            _ => old,
        };
        by & flag::QUEUED != 0
    }

    fn requeue(&self, state: &State, object: u8, yields: bool) -> Step<State> {
        let mut next = *state;
        if self.variant.mutant != Some(Mutant::WorkDropped) {
            next.works.push(object);
        }
        next.io[usize::from(object)].requeued |= self.variant.queued_under_lock;
        next.worker = match (self.variant.queued_under_lock, yields) {
            (false, _) => Worker::Loading(object),
            (true, false) => Worker::Idle,
            (true, true) => Worker::Yielding(object),
        };
        self.step(Lane::WORKER, "queue_work {}", Some(object), next)
    }

    /// Unfixed: was it requeued before? Then yield, and read the flag anew for the update.
    fn load(&self, state: &State, object: u8) -> Step<State> {
        let mut next = *state;
        let loaded = state.io[usize::from(object)].flag;
        let again = loaded & flag::QUEUED != 0;
        next.worker =
            if again { Worker::Yielding(object) } else { Worker::Storing(object, loaded) };
        let mut step = self.step(Lane::WORKER, "load flag of {}", Some(object), next);
        step.broken.note(Property::Yield, again != state.io[usize::from(object)].requeued);
        step
    }

    fn worker_converted(&self, state: &State, object: u8) -> Step<State> {
        let mut next = *state;
        let io = &mut next.io[usize::from(object)];
        let again = io.conversions > 0;
        io.conversions = (io.conversions + 1).min(2);
        io.give_up(Lane::WORKER);
        next.worker = Worker::Converted(object);
        let mut step = self.step(Lane::WORKER, "conversion of {} returns", Some(object), next);
        step.broken.note(Property::Converted, again);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step
    }

    /// A plain store of `loaded | bit`, outside of the lock.
    pub(super) fn store(
        &self,
        state: &State,
        lane: Lane,
        object: u8,
        loaded: u8,
        bit: u8,
        what: &'static str,
    ) -> Step<State> {
        let mut next = *state;
        let io = &mut next.io[usize::from(object)];
        let undone = (loaded ^ io.flag) & !bit != 0;
        io.flag = loaded | bit;
        let mut step = self.step(lane, what, Some(object), next);
        step.broken.note(Property::WriteRule, true);
        step.broken.note(Property::UpdateLost, undone);
        step.broken.note(Property::UsedAfterFree, state.io[usize::from(object)].freed > 0);
        step
    }

    pub(super) fn free(&self, state: &State, lane: Lane, object: u8) -> Step<State> {
        let mut next = *state;
        let io = &mut next.io[usize::from(object)];
        io.give_up(lane);
        let (in_use, again) = (io.claims != 0, io.freed > 0);
        io.freed = (io.freed + 1).min(2);
        let mut step = self.step(lane, "free {}", Some(object), next);
        step.broken.note(Property::FreedInUse, in_use);
        step.broken.note(Property::FreedOnce, again);
        step
    }
}
