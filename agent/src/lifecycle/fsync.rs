//! fsync, fdatasync and range syncs: `ext4_sync_file` and its four phases, keyed by task.
//!
//! ```text
//!   Begin ─► data_submit ─► data_wait ─► journal ─► barrier ─► End        5.10 to 7.3
//!            any phase may be skipped, and may occur more than once: its times add up
//! ```
//!
//! The data phases are the two halves of `file_write_and_wait_range`; the wait is skipped when the
//! submit returns -EIO. The barrier also occurs inside a fast commit with an external journal, so
//! phases may overlap. A thread has at most one `ext4_sync_file` open. This module must never guess
//! a phase: a begin without an end leaves the phase absent.

use super::lingering::Waiter;
use super::table::{Full, Spans, errno};
use crate::event::{FsyncPhase, FsyncRange, InodeAddr, InodeId, Nanos, Stamp, Task};

/// An `ext4_sync_file` that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FsyncDone {
    /// Begin.
    pub begun: Nanos,
    /// Begin to return.
    pub duration: Nanos,
    /// The file.
    pub inode: Option<InodeId>,
    /// Its address.
    pub inode_at: InodeAddr,
    /// When it first began to wait for writeback: what it has to wait for is under way by then.
    pub waits_from: Option<Nanos>,
    /// Who called.
    pub task: Task,
    /// What was asked for.
    pub range: FsyncRange,
    /// Time in each phase, in the order of [`FsyncPhase::ALL`]; `None`: not seen.
    pub phases: [Option<Nanos>; 4],
    /// Positive errno of a failed call.
    pub errno: Option<i32>,
}

#[derive(Clone, Copy)]
struct Span {
    begun: Nanos,
    task: Task,
    inode: Option<InodeId>,
    inode_at: InodeAddr,
    range: FsyncRange,
    phases: [Phase; 4],
    waits_from: Option<Nanos>,
}

#[derive(Clone, Copy, Default)]
struct Phase {
    open: Option<Nanos>,
    sum: Option<Nanos>,
}

/// What an event led to.
pub(super) enum Told {
    Nothing,
    Done(FsyncDone),
    /// A begin while one was open.
    Superseded,
    /// An end without its begin.
    WithoutBegin,
    Full,
}

/// Open calls.
pub(super) struct Fsyncs {
    spans: Spans<u32, Span>,
}

impl Fsyncs {
    pub(super) fn new(capacity: usize) -> Self {
        Fsyncs { spans: Spans::new(capacity) }
    }

    pub(super) fn len(&self) -> u64 {
        self.spans.len()
    }

    /// Every open call: whose, and what it waits in since when.
    pub(super) fn each(&self, mut told: impl FnMut(Option<InodeId>, Waiter)) {
        self.spans.each(|span| {
            let open = FsyncPhase::ALL.into_iter().zip(span.phases);
            let open = open.filter_map(|(phase, it)| Some((phase.label(), it.open?)));
            let (call, since) = open.max_by_key(|(_, at)| *at).unwrap_or(("fsync", span.begun));
            told(span.inode, Waiter { task: span.task, call, since });
        });
    }

    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.spans.oldest(|span| span.begun)
    }

    /// Forgets calls that began by then; how many.
    pub(super) fn forget(&mut self, begun_by: Nanos) -> u64 {
        self.spans.forget(|span| span.begun <= begun_by)
    }

    pub(super) fn begin(
        &mut self,
        stamp: &Stamp,
        inode: Option<InodeId>,
        inode_at: InodeAddr,
        range: FsyncRange,
    ) -> Told {
        let phases = [Phase::default(); 4];
        let (begun, task) = (stamp.at, stamp.task);
        let span = Span { begun, task, inode, inode_at, range, phases, waits_from: None };
        match self.spans.begin(stamp.task.tid, span) {
            Ok(None) => Told::Nothing,
            Ok(Some(_)) => Told::Superseded,
            Err(Full) => Told::Full,
        }
    }

    pub(super) fn phase_begin(&mut self, stamp: &Stamp, phase: FsyncPhase) -> Told {
        let Some(span) = self.spans.get_mut(&stamp.task.tid) else { return Told::WithoutBegin };
        span.phases[phase as usize].open = Some(stamp.at);
        if phase == FsyncPhase::DataWait {
            span.waits_from = span.waits_from.or(Some(stamp.at));
        }
        Told::Nothing
    }

    /// A phase whose call or begin was not seen was counted there already, or is counted here.
    pub(super) fn phase_end(&mut self, stamp: &Stamp, phase: FsyncPhase) -> Told {
        let Some(span) = self.spans.get_mut(&stamp.task.tid) else { return Told::WithoutBegin };
        let slot = &mut span.phases[phase as usize];
        let Some(begun) = slot.open.take() else { return Told::WithoutBegin };
        let before = slot.sum.unwrap_or_default();
        slot.sum = Some(Nanos(before.0.saturating_add(stamp.at.since(begun).0)));
        Told::Nothing
    }

    pub(super) fn end(&mut self, stamp: &Stamp, ret: i64) -> Told {
        let Some(span) = self.spans.end(&stamp.task.tid) else { return Told::WithoutBegin };
        Told::Done(FsyncDone {
            begun: span.begun,
            duration: stamp.at.since(span.begun),
            inode: span.inode,
            inode_at: span.inode_at,
            waits_from: span.waits_from,
            task: stamp.task,
            range: span.range,
            phases: span.phases.map(|phase| phase.sum.filter(|_| phase.open.is_none())),
            errno: errno(ret),
        })
    }
}
