//! Evictions of inodes that had pages when they began: `ext4_evict_inode`, keyed by task.
//!
//! ```text
//!   Begin ─► truncate_inode_pages_final: each page's writeback is waited for ─► blocks are freed ─► End
//! ```
//!
//! Writeback ends with the release of the io_end that holds the page (5.10 to 7.3), so whoever evicts an
//! inode waits for every io_end of it; up to 3.10 for their count instead (`ext4_ioend_wait`,
//! `ext4_ioend_shutdown`). This module must never know an io_end.

use super::lingering::Waiter;
use super::table::{Full, Spans};
use crate::event::{InodeAddr, InodeId, Nanos, Stamp, Task};

/// An eviction that returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvictionDone {
    /// Begin to return.
    pub duration: Nanos,
    /// The file.
    pub inode: Option<InodeId>,
    /// Who evicted it.
    pub task: Task,
}

#[derive(Clone, Copy)]
struct Span {
    begun: Nanos,
    task: Task,
    inode: Option<InodeId>,
    inode_at: InodeAddr,
}

/// What an event led to.
pub(super) enum Told {
    Begun,
    Done(EvictionDone),
    /// A begin while one was open.
    Superseded,
    /// An end without its begin.
    WithoutBegin,
    Full,
}

/// Open evictions.
pub(super) struct Evictions {
    spans: Spans<u32, Span>,
}

impl Evictions {
    pub(super) fn new(capacity: usize) -> Self {
        Evictions { spans: Spans::new(capacity) }
    }

    pub(super) fn len(&self) -> u64 {
        self.spans.len()
    }

    /// Every open one: of which inode, and who waits in it since when.
    pub(super) fn each(&self, mut told: impl FnMut(InodeAddr, Option<InodeId>, Waiter)) {
        self.spans.each(|span| {
            let Span { begun: since, task, inode, inode_at } = *span;
            told(inode_at, inode, Waiter { task, call: "ext4_evict_inode", since });
        });
    }

    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.spans.oldest(|span| span.begun)
    }

    /// Forgets those that began by then; how many.
    pub(super) fn forget(&mut self, begun_by: Nanos) -> u64 {
        self.spans.forget(|span| span.begun <= begun_by)
    }

    pub(super) fn begin(
        &mut self,
        stamp: &Stamp,
        inode: Option<InodeId>,
        inode_at: InodeAddr,
    ) -> Told {
        let span = Span { begun: stamp.at, task: stamp.task, inode, inode_at };
        match self.spans.begin(stamp.task.tid, span) {
            Ok(None) => Told::Begun,
            Ok(Some(_)) => Told::Superseded,
            Err(Full) => Told::Full,
        }
    }

    pub(super) fn end(&mut self, stamp: &Stamp, inode_at: InodeAddr) -> Told {
        let tid = stamp.task.tid;
        // One of another inode, whose begin was lost, leaves that which is open.
        if self.spans.get(&tid).is_none_or(|span| span.inode_at != inode_at) {
            return Told::WithoutBegin;
        }
        let span = self.spans.end(&tid).expect("it was just there");
        let duration = stamp.at.since(span.begun);
        Told::Done(EvictionDone { duration, inode: span.inode, task: stamp.task })
    }
}
