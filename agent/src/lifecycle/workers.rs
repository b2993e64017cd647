//! Threads inside `ext4_end_io_rsv_work`, so that a claim tells whether the inode's worker made it.
//!
//! A run whose end was lost would make its thread a worker for ever. So after a loss nobody who was
//! inside before it is taken for one; the thread stays noted, and its end is no orphan.

use crate::event::{InodeAddr, Nanos, Task};
use crate::limits;

/// One thread's open run.
struct Run {
    task: Task,
    /// Whose list it drains.
    inode: InodeAddr,
    begun: Nanos,
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
        self.sure(|run| run.task.tid == tid).map(|run| run.number)
    }

    /// Who surely runs for that inode, and since when.
    pub(super) fn in_run_of(&self, inode: InodeAddr) -> Option<(Task, Nanos)> {
        self.sure(|run| run.inode == inode).map(|run| (run.task, run.begun))
    }

    /// Is the run of that number surely not over?
    pub(super) fn is_open(&self, number: u16) -> bool {
        self.sure(|run| run.number == number).is_some()
    }

    fn sure(&self, is_it: impl Fn(&Run) -> bool) -> Option<&Run> {
        self.runs.iter().find(|run| is_it(run) && !run.doubtful)
    }

    /// The thread enters; of a thread that is inside already the exit was lost.
    pub(super) fn begin(&mut self, task: Task, inode: InodeAddr, begun: Nanos) -> Result<(), Full> {
        // After 65,535 runs the numbers begin again, and never with 0.
        self.begun = self.begun.checked_add(1).unwrap_or(1);
        let run = Run { task, inode, begun, number: self.begun, doubtful: false };
        if let Some(open) = self.runs.iter_mut().find(|run| run.task.tid == task.tid) {
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

    /// The thread leaves; for which inode it was inside, and since when.
    pub(super) fn end(&mut self, tid: u32) -> Option<(InodeAddr, Nanos)> {
        let at = self.runs.iter().position(|run| run.task.tid == tid)?;
        let Run { inode, begun, .. } = self.runs.swap_remove(at);
        Some((inode, begun))
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
    use crate::event::{InodeAddr, Nanos, Task};
    use crate::limits;

    fn begin(workers: &mut Workers, tid: u32) -> Result<(), Full> {
        workers.begin(Task { tid, tgid: tid }, InodeAddr(u64::from(tid)), Nanos(5))
    }

    #[test]
    fn after_a_loss_nobody_is_a_worker_until_its_next_begin_and_no_end_is_an_orphan() {
        let mut workers = Workers::new();
        assert_eq!(begin(&mut workers, 7), Ok(()));
        assert!(workers.run_of(7).is_some());
        workers.doubt();
        assert!(workers.run_of(7).is_none());
        assert_eq!(begin(&mut workers, 7), Ok(()));
        assert!(workers.run_of(7).is_some());
        workers.doubt();
        assert_eq!(workers.end(7), Some((InodeAddr(7), Nanos(5))));
        assert_eq!(workers.end(7), None);
    }

    #[test]
    fn each_run_of_a_thread_has_its_own_number() {
        let mut workers = Workers::new();
        assert_eq!((begin(&mut workers, 7), workers.run_of(7)), (Ok(()), Some(1)));
        assert_eq!((begin(&mut workers, 7), workers.run_of(7)), (Ok(()), Some(2)));
    }

    #[test]
    fn a_doubtful_run_makes_room() {
        let mut workers = Workers::new();
        let most = u32::try_from(limits::WORKERS_MAX).unwrap();
        assert!((0..most).all(|tid| begin(&mut workers, tid) == Ok(())));
        assert_eq!(begin(&mut workers, most), Err(Full));
        workers.doubt();
        assert_eq!(begin(&mut workers, most), Ok(()));
        assert!(workers.run_of(most).is_some());
    }
}
