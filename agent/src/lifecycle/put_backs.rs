//! io_ends that their work put back, in the core of 2012: how often, since when, without getting on.
//!
//! ```text
//!   work runs ──IN_FSYNC, or trylock fails──► put back: counted ──┬─ in another state than before: from 1
//!                                                                 └─ over: forgotten
//! ```
//!
//! `ext4_end_io_work` (3.2 to 3.6) queues itself again as long as somebody else has the io_end or the mutex
//! of its inode. A few times is how it waits; for ever is a livelock (before "ext4: completed_io locking
//! cleanup", 3.7). From 3.9 on no work is put back, and nothing is kept. This module must never call a
//! number too high.

use super::io_end::IoEndId;
use super::state::State;
use crate::event::{IoEndAddr, Nanos};
use crate::limits;

/// How often the work of an io_end put it back while it was in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutBack {
    /// How often.
    pub times: u64,
    /// The first of them.
    pub since: Nanos,
    /// The last of them.
    pub last: Nanos,
}

#[derive(Clone, Copy)]
struct Kept {
    id: IoEndId,
    state: State,
    told: PutBack,
}

/// Those that are put back.
pub(super) struct PutBacks {
    kept: Vec<Kept>,
}

impl PutBacks {
    /// All memory is taken here.
    pub(super) fn new() -> Self {
        PutBacks { kept: Vec::with_capacity(limits::PUT_BACKS_MAX) }
    }

    /// It is put back once more.
    pub(super) fn note(&mut self, id: IoEndId, state: State, at: Nanos) {
        let fresh = Kept { id, state, told: PutBack { times: 1, since: at, last: at } };
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.id == id) {
            if kept.state == state {
                kept.told.times += 1;
                kept.told.last = at;
            } else {
                *kept = fresh;
            }
        } else if self.kept.len() < limits::PUT_BACKS_MAX {
            self.kept.push(fresh);
        } else if let Some(quiet) = self.kept.iter_mut().min_by_key(|kept| kept.told.last) {
            *quiet = fresh;
        }
    }

    /// How often in that state.
    pub(super) fn of(&self, id: IoEndId, state: State) -> Option<PutBack> {
        let kept = self.kept.iter().find(|kept| kept.id == id && kept.state == state)?;
        Some(kept.told)
    }

    /// What is at that address is over.
    pub(super) fn forget(&mut self, addr: IoEndAddr) {
        self.kept.retain(|kept| kept.id.addr != addr);
    }

    /// Everything is another stream's.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{PutBack, PutBacks};
    use crate::event::{IoEndAddr, Nanos};
    use crate::lifecycle::io_end::IoEndId;
    use crate::lifecycle::state::State;
    use crate::limits;

    fn id(addr: u64) -> IoEndId {
        IoEndId { addr: IoEndAddr(addr), born: Nanos(1) }
    }

    #[test]
    fn a_change_of_state_is_progress_and_counts_anew() {
        let mut put_backs = PutBacks::new();
        for at in [10, 20, 30] {
            put_backs.note(id(1), State::Queued, Nanos(at));
        }
        let told = PutBack { times: 3, since: Nanos(10), last: Nanos(30) };
        assert_eq!(put_backs.of(id(1), State::Queued), Some(told));
        put_backs.note(id(1), State::Converted, Nanos(40));
        let told = PutBack { times: 1, since: Nanos(40), last: Nanos(40) };
        assert_eq!(put_backs.of(id(1), State::Converted), Some(told));
        assert_eq!(put_backs.of(id(1), State::Queued), None);
        put_backs.forget(IoEndAddr(1));
        assert_eq!(put_backs.of(id(1), State::Converted), None);
    }

    #[test]
    fn beyond_the_bound_the_one_that_was_quiet_longest_goes() {
        let mut put_backs = PutBacks::new();
        for addr in 0..=limits::PUT_BACKS_MAX as u64 {
            put_backs.note(id(addr), State::Queued, Nanos(100 + addr));
        }
        assert_eq!(put_backs.of(id(0), State::Queued), None);
        assert!(put_backs.of(id(1), State::Queued).is_some());
        assert!(put_backs.of(id(limits::PUT_BACKS_MAX as u64), State::Queued).is_some());
    }
}
