//! Threads inside `ext4_end_io_rsv_work`, so that a claim tells whether the inode's worker made it.
//!
//! A run whose end was lost would make its thread a worker for ever. So after a loss nobody who was
//! inside before it is taken for one; the thread stays noted, and its end is no orphan.

use crate::limits;

/// One thread's open run.
struct Run {
    tid: u32,
    /// Its number on this stream, from 1.
    number: u16,
    /// A loss may have taken its end.
    doubtful: bool,
}

/// All open runs.
pub(super) struct Workers {
    runs: Vec<Run>,
    begun: u16,
}

/// There is no room for the run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Workers {
    /// All memory is taken here.
    pub(super) fn new() -> Self {
        Workers { runs: Vec::with_capacity(limits::WORKERS_MAX), begun: 0 }
    }

    /// The run that the thread is surely in.
    pub(super) fn run_of(&self, tid: u32) -> Option<u16> {
        self.runs.iter().find(|run| run.tid == tid && !run.doubtful).map(|run| run.number)
    }

    /// The thread enters; of a thread that is inside already the exit was lost.
    pub(super) fn begin(&mut self, tid: u32) -> Result<(), Full> {
        // After 65,535 runs the numbers begin again, and never with 0.
        self.begun = self.begun.checked_add(1).unwrap_or(1);
        let run = Run { tid, number: self.begun, doubtful: false };
        if let Some(open) = self.runs.iter_mut().find(|run| run.tid == tid) {
            *open = run;
            return Ok(());
        }
        if self.runs.len() == limits::WORKERS_MAX {
            let doubtful = self.runs.iter().position(|run| run.doubtful).ok_or(Full)?;
            self.runs.swap_remove(doubtful);
        }
        self.runs.push(run);
        Ok(())
    }

    /// The thread leaves; whether it was inside.
    pub(super) fn end(&mut self, tid: u32) -> bool {
        let Some(at) = self.runs.iter().position(|run| run.tid == tid) else { return false };
        self.runs.swap_remove(at);
        true
    }

    /// Forgets every run.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
    }

    /// A loss may have taken the end of every run that is open.
    pub(super) fn doubt(&mut self) {
        for run in &mut self.runs {
            run.doubtful = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Workers};
    use crate::limits;

    #[test]
    fn after_a_loss_nobody_is_a_worker_until_its_next_begin_and_no_end_is_an_orphan() {
        let mut workers = Workers::new();
        assert_eq!(workers.begin(7), Ok(()));
        assert!(workers.run_of(7).is_some());
        workers.doubt();
        assert!(workers.run_of(7).is_none());
        assert_eq!(workers.begin(7), Ok(()));
        assert!(workers.run_of(7).is_some());
        workers.doubt();
        assert!(workers.end(7));
        assert!(!workers.end(7));
    }

    #[test]
    fn each_run_of_a_thread_has_its_own_number() {
        let mut workers = Workers::new();
        assert_eq!((workers.begin(7), workers.run_of(7)), (Ok(()), Some(1)));
        assert_eq!((workers.begin(7), workers.run_of(7)), (Ok(()), Some(2)));
    }

    #[test]
    fn a_doubtful_run_makes_room() {
        let mut workers = Workers::new();
        let most = u32::try_from(limits::WORKERS_MAX).unwrap();
        assert!((0..most).all(|tid| workers.begin(tid) == Ok(())));
        assert_eq!(workers.begin(most), Err(Full));
        workers.doubt();
        assert_eq!(workers.begin(most), Ok(()));
        assert!(workers.run_of(most).is_some());
    }
}
