//! TCP, or TLS on it, as the configuration in force when the first byte is wanted says.
//!
//! The handshake is part of the first read, so that accepting never waits for it, and the deadlines of the
//! connection around it hold for it as well:
//!
//! ```text
//!   Opening ──look at the files──► Plain
//!      │                └─handshake─► Tls
//!      └─ an error, or a request without TLS, which is told so ─► Closed
//! ```

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::guard::Guard;

/// What is said to whoever begins without TLS where there is some.
const NOT_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\n\
    Connection: close\r\n\r\nthis is an https port: ask with https://\n";

/// What is known of the other end, once the handshake is done; a clone is the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer(Arc<AtomicBool>);

impl Peer {
    #[cfg(test)]
    pub(super) fn new(is_verified: bool) -> Peer {
        Peer(Arc::new(AtomicBool::new(is_verified)))
    }

    /// Whether it has a certificate of an authority that was named.
    pub(super) fn is_verified(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Bytes of HTTP.
pub(super) enum Transport {
    Opening(Pin<Box<dyn Future<Output = io::Result<Transport>> + Send>>),
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Closed,
}

impl Transport {
    /// As the guard says.
    pub(super) fn new(stream: TcpStream, guard: Arc<Guard>, peer: Peer) -> Transport {
        Transport::Opening(Box::pin(open(stream, guard, peer)))
    }

    /// The stream, once it is open.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Pin<&mut dyn Stream>>> {
        if let Transport::Opening(opening) = self {
            let opened = ready!(opening.as_mut().poll(cx));
            *self = Transport::Closed;
            *self = opened?;
        }
        Poll::Ready(match self {
            Transport::Plain(stream) => Ok(Pin::new(stream)),
            Transport::Tls(stream) => Ok(Pin::new(&mut **stream)),
            Transport::Opening(_) | Transport::Closed => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

/// Both ways.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

async fn open(mut stream: TcpStream, guard: Arc<Guard>, peer: Peer) -> io::Result<Transport> {
    let protection = guard.refreshed().await;
    let Some(tls) = &protection.tls else { return Ok(Transport::Plain(stream)) };
    let mut first = [0];
    if stream.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        // What was sent is taken first: with bytes unread, a close takes the answer back.
        let _ = stream.try_read(&mut [0; 4096]);
        stream.write_all(NOT_TLS).await?;
        stream.shutdown().await?;
        return Err(io::Error::other("a request without TLS"));
    }
    let accepted = TlsAcceptor::from(Arc::clone(tls)).accept(stream).await;
    let stream = accepted.inspect_err(|error| log::debug!("no TLS with a client: {error}"))?;
    let has_shown_one = stream.get_ref().1.peer_certificates().is_some();
    peer.0.store(has_shown_one && protection.client_auth.verifies(), Relaxed);
    Ok(Transport::Tls(Box::new(stream)))
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(cx))?.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(cx))?.poll_write_vectored(cx, slices)
    }

    /// So are both.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            // Nothing was written.
            Transport::Opening(_) | Transport::Closed => Poll::Ready(Ok(())),
            Transport::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Transport::Opening(_) | Transport::Closed => Poll::Ready(Ok(())),
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Transport::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
