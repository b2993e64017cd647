//! Direct writes: from `ext4_file_write_iter` to `ext4_dio_write_end_io`, keyed by kiocb.
//!
//! 5.10 to 7.3; since 5.5 direct I/O has no io_end.
//!
//! ```text
//!   span (kiocb)          Begin ──► CompleteBegin ──► CompleteEnd = done ──► ended, the last of them are kept
//!   call (kiocb, tid)     Begin ──────────────► Return             in any order with the above
//!                                               │ -EIOCBQUEUED: the span goes on without its call
//!                                               └ else, span still open: not completed as direct
//!   a completion of one that has ended, with no begin since: the order is broken
//! ```
//!
//! The kiocb may be freed and reused by another task between completion and return, so the call is
//! a second object: a return can never end the span of another call. "Not direct" is a buffered
//! fallback or a refusal before any I/O; it has no duration as direct I/O. This module must never
//! dereference or print a kiocb.

mod write;

use super::act::Party;
use super::table::{Full, Spans, errno};
use crate::event::{Event, InodeId, IocbAddr, Nanos, Stamp, Task};
use write::Ended;
pub use write::{DirectAct, DirectWrite, DirectWriteId};

/// `-EIOCBQUEUED`, include/linux/errno.h: the kernel's own code for "still in flight".
const EIOCBQUEUED: i64 = -529;

/// A direct write that completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectIoDone {
    /// Begin.
    pub begun: Nanos,
    /// Begin to the return of `ext4_dio_write_end_io`.
    pub duration: Nanos,
    /// The file.
    pub inode: Option<InodeId>,
    /// Who submitted it.
    pub task: Task,
    /// Bytes asked for.
    pub len_bytes: Option<u64>,
    /// Bytes that iomap reported as written; `None` if the completion's entry was not seen.
    pub done_bytes: Option<i64>,
    /// Positive errno of a failed completion.
    pub errno: Option<i32>,
}

/// A direct write that returned without a completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectIoRefused {
    /// Begin.
    pub begun: Nanos,
    /// The file.
    pub inode: Option<InodeId>,
    /// What the call returned: bytes written through the page cache, or a negative errno.
    pub ret: i64,
}

/// How a completion can break the order of a direct write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disorder {
    /// It was complete, or completing.
    Again,
    /// Its call had returned, and not because it was still in flight.
    AfterReturn,
    /// Its inode counted no direct I/O (`i_dio_count`, 5.10 to 7.3).
    Uncounted,
}

/// A direct write whose order is broken.
#[derive(Clone, Copy, Debug)]
pub struct DirectIoBroken {
    /// As it was before.
    pub write: DirectWrite,
    /// How.
    pub how: Disorder,
    /// What was done.
    pub act: DirectAct,
    /// When and where.
    pub stamp: Stamp,
}

#[derive(Clone, Copy)]
struct Span {
    write: DirectWrite,
    len_bytes: Option<u64>,
    /// Bytes and error at the completion's entry.
    completion: Option<(i64, i32)>,
}

/// What a direct-I/O event told beyond a finished span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Oddity {
    /// A completion of a span that was not begun.
    CompletionWithoutBegin,
    /// A return of a call that was not begun.
    ReturnWithoutBegin,
    /// A span of this kiocb was still open.
    Superseded,
}

/// What an event led to.
pub(super) enum Told {
    Nothing,
    Begun(Option<Oddity>),
    Done(DirectIoDone),
    Refused(DirectIoRefused),
    Broken(DirectIoBroken),
    Odd(Oddity),
    /// It is not followed, and what was open for its kiocb not any more.
    Full(Option<Oddity>),
}

/// Spans and calls in flight.
pub(super) struct DirectIos {
    spans: Spans<IocbAddr, Span>,
    /// Begin time of each call that has not returned.
    calls: Spans<(IocbAddr, u32), Nanos>,
    ended: Ended,
}

impl DirectIos {
    pub(super) fn new(capacity: usize) -> Self {
        DirectIos {
            spans: Spans::new(capacity),
            calls: Spans::new(capacity),
            ended: Ended::default(),
        }
    }

    pub(super) fn len(&self) -> u64 {
        self.spans.len()
    }

    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.spans.oldest(|span| span.write.id().begun)
    }

    /// Forgets writes and calls that began by then; how many writes.
    pub(super) fn forget(&mut self, begun_by: Nanos) -> u64 {
        self.calls.forget(|begun| *begun <= begun_by);
        self.ended.forget_begun_by(begun_by);
        self.spans.forget(|span| span.write.id().begun <= begun_by)
    }

    pub(super) fn begin(
        &mut self,
        stamp: &Stamp,
        iocb: IocbAddr,
        inode: Option<InodeId>,
        len_bytes: Option<u64>,
    ) -> Told {
        self.ended.forget(iocb);
        let write = DirectWrite::begun(stamp, iocb, inode);
        let call = (iocb, stamp.task.tid);
        if self.calls.begin(call, stamp.at).is_err() {
            // What it completes is not that which was open.
            let open = self.spans.end(&iocb).is_some();
            return Told::Full(open.then_some(Oddity::Superseded));
        }
        match self.spans.begin(iocb, Span { write, len_bytes, completion: None }) {
            Ok(open) => Told::Begun(open.map(|_| Oddity::Superseded)),
            Err(Full) => {
                self.calls.end(&call);
                Told::Full(None)
            }
        }
    }

    pub(super) fn complete_begin(
        &mut self,
        stamp: &Stamp,
        iocb: IocbAddr,
        bytes: i64,
        error: i32,
    ) -> Told {
        let act = DirectAct::Complete;
        let broken = |write, how| Told::Broken(DirectIoBroken { write, how, act, stamp: *stamp });
        if let Some(span) = self.spans.get_mut(&iocb) {
            if span.completion.is_some() {
                return broken(span.write, Disorder::Again);
            }
            span.completion = Some((bytes, error));
            span.write.entered = Some((stamp.at, Party::new(stamp, act)));
            return Told::Nothing;
        }
        match self.ended.get(iocb) {
            Some(write) if write.left.is_some() => broken(*write, Disorder::Again),
            Some(write) => broken(*write, Disorder::AfterReturn),
            None => Told::Odd(Oddity::CompletionWithoutBegin),
        }
    }

    /// At the begin or the end of a completion; that of a write which has ended is told by its begin.
    pub(super) fn uncounted(&self, stamp: &Stamp, iocb: IocbAddr) -> Told {
        let Some(span) = self.spans.get(&iocb) else { return Told::Nothing };
        let act = match span.completion {
            None => DirectAct::Complete,
            Some(_) => DirectAct::Completed,
        };
        let (write, how) = (span.write, Disorder::Uncounted);
        Told::Broken(DirectIoBroken { write, how, act, stamp: *stamp })
    }

    /// The completion's entry without a begin was counted there already.
    pub(super) fn complete_end(&mut self, stamp: &Stamp, iocb: IocbAddr, ret: i64) -> Told {
        let Some(Span { mut write, len_bytes, completion }) = self.spans.end(&iocb) else {
            return Told::Nothing;
        };
        write.left = Some((stamp.at, stamp.cpu));
        self.ended.keep(write);
        let error = match completion {
            Some((_, error)) if error < 0 => i64::from(error),
            _ => ret.min(0),
        };
        let begun = write.id().begun;
        Told::Done(DirectIoDone {
            begun,
            duration: stamp.at.since(begun),
            inode: write.inode(),
            task: write.by().task,
            len_bytes,
            done_bytes: completion.map(|(bytes, _)| bytes),
            errno: errno(error),
        })
    }

    pub(super) fn returned(&mut self, event: &Event, iocb: IocbAddr, ret: i64) -> Told {
        let (task, at) = (event.stamp.task, (event.stamp.at, event.stamp.cpu));
        let Some(begun) = self.calls.end(&(iocb, task.tid)) else {
            return Told::Odd(Oddity::ReturnWithoutBegin);
        };
        let own = |write: &DirectWrite| write.by().task == task && write.id().begun == begun;
        let open = self.spans.get_mut(&iocb).map(|span| &mut span.write);
        let is_open = open.is_some();
        let Some(write) = open.or_else(|| self.ended.get_mut(iocb)).filter(|it| own(it)) else {
            return Told::Nothing;
        };
        write.returned = Some(at);
        if ret == EIOCBQUEUED || !is_open {
            return Told::Nothing;
        }
        match self.spans.end(&iocb) {
            Some(Span { write, .. }) => {
                self.ended.keep(write);
                Told::Refused(DirectIoRefused { begun, inode: write.inode(), ret })
            }
            None => Told::Nothing,
        }
    }
}
