//! Direct writes: from `ext4_file_write_iter` to `ext4_dio_write_end_io`, keyed by kiocb.
//!
//! 5.10 to 7.3; since 5.5 direct I/O has no io_end.
//!
//! ```text
//!   span (kiocb)          Begin ──► CompleteBegin ──► CompleteEnd = done
//!   call (kiocb, tid)     Begin ──────────────► Return             in any order with the above
//!                                               │ -EIOCBQUEUED: the span goes on without its call
//!                                               └ else, span still open: not completed as direct
//! ```
//!
//! The kiocb may be freed and reused by another task between completion and return, so the call is
//! a second object: a return can never end the span of another call. "Not direct" is a buffered
//! fallback or a refusal before any I/O; it has no duration as direct I/O. This module must never
//! dereference or print a kiocb.

use super::table::{Full, Spans, errno};
use crate::event::{Event, InodeId, IocbAddr, Nanos, Stamp, Task};

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

#[derive(Clone, Copy)]
struct Span {
    begun: Nanos,
    inode: Option<InodeId>,
    task: Task,
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
    Odd(Oddity),
    Full,
}

/// Spans and calls in flight.
pub(super) struct DirectIos {
    spans: Spans<IocbAddr, Span>,
    /// Begin time of each call that has not returned.
    calls: Spans<(IocbAddr, u32), Nanos>,
}

impl DirectIos {
    pub(super) fn new(capacity: usize) -> Self {
        DirectIos { spans: Spans::new(capacity), calls: Spans::new(capacity) }
    }

    pub(super) fn len(&self) -> u64 {
        self.spans.len()
    }

    pub(super) fn oldest(&self) -> Option<Nanos> {
        self.spans.oldest(|span| span.begun)
    }

    /// Forgets writes and calls that began by then; how many writes.
    pub(super) fn forget(&mut self, begun_by: Nanos) -> u64 {
        self.calls.forget(|begun| *begun <= begun_by);
        self.spans.forget(|span| span.begun <= begun_by)
    }

    pub(super) fn begin(
        &mut self,
        stamp: &Stamp,
        iocb: IocbAddr,
        inode: Option<InodeId>,
        len_bytes: Option<u64>,
    ) -> Told {
        let span = Span { begun: stamp.at, inode, task: stamp.task, len_bytes, completion: None };
        let call = (iocb, stamp.task.tid);
        if self.calls.begin(call, stamp.at).is_err() {
            return Told::Full;
        }
        match self.spans.begin(iocb, span) {
            Ok(open) => Told::Begun(open.map(|_| Oddity::Superseded)),
            Err(Full) => {
                self.calls.end(&call);
                Told::Full
            }
        }
    }

    pub(super) fn complete_begin(&mut self, iocb: IocbAddr, bytes: i64, error: i32) -> Told {
        match self.spans.get_mut(&iocb) {
            Some(span) => span.completion = Some((bytes, error)),
            None => return Told::Odd(Oddity::CompletionWithoutBegin),
        }
        Told::Nothing
    }

    /// The completion's entry without a begin was counted there already.
    pub(super) fn complete_end(&mut self, stamp: &Stamp, iocb: IocbAddr, ret: i64) -> Told {
        let Some(span) = self.spans.end(&iocb) else { return Told::Nothing };
        let error = match span.completion {
            Some((_, error)) if error < 0 => i64::from(error),
            _ => ret.min(0),
        };
        Told::Done(DirectIoDone {
            begun: span.begun,
            duration: stamp.at.since(span.begun),
            inode: span.inode,
            task: span.task,
            len_bytes: span.len_bytes,
            done_bytes: span.completion.map(|(bytes, _)| bytes),
            errno: errno(error),
        })
    }

    pub(super) fn returned(&mut self, event: &Event, iocb: IocbAddr, ret: i64) -> Told {
        let task = event.stamp.task;
        let Some(begun) = self.calls.end(&(iocb, task.tid)) else {
            return Told::Odd(Oddity::ReturnWithoutBegin);
        };
        let own = self.spans.get(&iocb).is_some_and(|it| it.task == task && it.begun == begun);
        if ret == EIOCBQUEUED || !own {
            return Told::Nothing;
        }
        match self.spans.end(&iocb) {
            Some(span) => Told::Refused(DirectIoRefused { begun, inode: span.inode, ret }),
            None => Told::Nothing,
        }
    }
}
