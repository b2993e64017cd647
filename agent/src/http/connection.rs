//! A connection with a deadline for each state and a bound on each request, below hyper.
//!
//! What is counted is HTTP: of TLS, the handshake is part of the wait for the first byte, and what else is
//! not HTTP changes no state.
//!
//! ```text
//!  accept ──► Idle ──first byte──► Reading ──answer──► Writing ──flushed──► Idle …
//!               │ REQUEST/IDLE        │ REQUEST            │ WRITE
//!               └────── time-out ─────┴──────► closed ◄────┘ (or REQUEST_BYTES_MAX)
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};

use super::transport::{Peer, Transport};
use super::{REQUEST_BYTES_MAX, Timeouts};

/// What a connection does, as far as its bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    Reading { bytes: usize },
    Writing,
}

/// A stream with a deadline per state; see the module's picture.
pub(super) struct Connection {
    stream: Transport,
    peer: Peer,
    doing: Doing,
    deadline: Pin<Box<Sleep>>,
    timeouts: Timeouts,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(
        stream: Transport,
        peer: Peer,
        timeouts: Timeouts,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let deadline = Box::pin(sleep(timeouts.request));
        Connection { stream, peer, doing: Doing::Idle, deadline, timeouts, _place: place }
    }

    /// The other end, as far as it is known.
    pub(super) fn peer(&self) -> Peer {
        self.peer.clone()
    }

    fn enter(&mut self, doing: Doing, timeout: Duration) {
        self.doing = doing;
        self.deadline.as_mut().reset(tokio::time::Instant::now() + timeout);
    }

    /// Counts bytes of a request. Bytes while an answer is written belong to the next request, which
    /// starts when it is flushed.
    fn received(&mut self, bytes: usize) -> io::Result<()> {
        match &mut self.doing {
            Doing::Idle => self.enter(Doing::Reading { bytes }, self.timeouts.request),
            Doing::Reading { bytes: sum } => *sum += bytes,
            Doing::Writing => {}
        }
        match self.doing {
            Doing::Reading { bytes } if bytes > REQUEST_BYTES_MAX => {
                Err(io::Error::other("the request is too long"))
            }
            _ => Ok(()),
        }
    }

    /// Pending until the deadline, then an error.
    fn expired<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Bytes taken by the client, or a client that takes none.
    fn sent(
        &mut self,
        cx: &mut Context<'_>,
        taken: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if taken.is_ready() || self.doing != Doing::Writing {
            self.enter(Doing::Writing, self.timeouts.write);
        }
        if taken.is_ready() { taken } else { self.expired(cx) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.received(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.expired(cx),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(cx, taken)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let taken = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.sent(cx, taken)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        match (flushed.is_ready(), self.doing) {
            (true, Doing::Writing) => {
                let idle = self.timeouts.idle;
                self.enter(Doing::Idle, idle);
                flushed
            }
            (true, Doing::Idle | Doing::Reading { .. }) => flushed,
            // TLS has bytes of its own that the client does not take.
            (false, _) => self.expired(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = Pin::new(&mut self.stream).poll_shutdown(cx);
        if ended.is_ready() {
            return ended;
        }
        if self.doing != Doing::Writing {
            let write = self.timeouts.write;
            self.enter(Doing::Writing, write);
        }
        self.expired(cx)
    }
}
