//! The endpoint: `/metrics`, `/healthz`, `/readyz`, and for people `/` and `/findings/…` (`page`).
//!
//! HTTP/1, GET and HEAD, plain and for everyone unless a web configuration says otherwise (`guard`: TLS,
//! certificates, passwords); OpenMetrics for who asks for it (`accept`). A scrape is encoded on blocking
//! threads; it never runs on the pipeline's thread and never waits for it. No request can make the server hold
//! more than its bounds (`connection`): a semaphore on accepting, a deadline per state, handshakes included,
//! and a byte count per request, because `axum::serve` passes none of hyper's own settings on. What is past
//! the connection limit waits in the listener's backlog, at most one time-out long.

mod accept;
pub(crate) mod auth;
mod connection;
mod files;
mod guard;
mod headers;
mod page;
mod passwords;
mod tls;
mod transport;
mod web_config;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::IncomingStream;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use self::accept::wants_openmetrics;
use self::auth::guarded;
use self::connection::Connection;
pub use self::guard::Guard;
pub use self::page::Findings;
use self::transport::{Peer, Transport};
pub use self::web_config::WebConfigError;
use crate::clock;
use crate::metrics::{Metrics, OPENMETRICS, TEXT};

/// Connections at a time: some scrapers, a dashboard and probes of an orchestrator, with room.
pub const CONNECTIONS_MAX: usize = 64;
/// With more connections than this an answer closes its connection, so that idle ones cannot take
/// every place.
pub const CONNECTIONS_KEPT_MAX: usize = CONNECTIONS_MAX / 2;
/// A request in bytes, head and body: ours have a head below 1 KiB and no body.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// How long a connection may stay in each state.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request to its last; also from accepting to the first byte.
    pub request: Duration,
    /// Between two requests; longer than the usual scrape interval.
    pub idle: Duration,
    /// Without progress while the client does not take the answer.
    pub write: Duration,
    /// For open connections after the shutdown began.
    pub shutdown: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            request: Duration::from_secs(5),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(10),
            shutdown: Duration::from_secs(3),
        }
    }
}

/// Why there is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Someone has the port.
    #[error(
        "cannot listen on {addr}: the port is in use, maybe by another endiod; \
         `ss -ltnp 'sport = :{port}'` names the holder, `--listen ADDRESS:PORT` takes another port",
        port = addr.port()
    )]
    PortInUse {
        /// What was asked for.
        addr: SocketAddr,
    },
    /// Anything else.
    #[error("cannot listen on {addr}: {source}; `--listen ADDRESS:PORT` takes another address")]
    Bind {
        /// What was asked for.
        addr: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The listener cannot be used by the runtime.
    #[error("cannot serve on the listening socket: {0}")]
    Serve(#[source] io::Error),
}

/// Says whether something is so, or else why not, in one line for people.
pub type Check = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Likewise, and what is so.
pub type Readiness = Arc<dyn Fn() -> Result<&'static str, String> + Send + Sync>;

/// What the endpoint serves.
#[derive(Clone)]
pub struct Endpoint {
    /// `/metrics`.
    pub metrics: Metrics,
    /// `/healthz`: the process is alive and its pipeline makes progress; see [`Heartbeat::check`].
    pub healthy: Check,
    /// `/readyz`: all that can be watched now is.
    pub ready: Readiness,
    /// Shown on `/`.
    pub version: &'static str,
    /// Those that are kept, if any are.
    pub findings: Option<Findings>,
}

/// The pipeline's sign of life. `beat` is one store; a clone is the same heart.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    born: Instant,
    last_ms: Arc<AtomicU64>,
    silence_max: Duration,
}

impl Heartbeat {
    /// Beats once, then is healthy until `silence_max` passes without another beat.
    pub fn new(silence_max: Duration) -> Self {
        Heartbeat { born: Instant::now(), last_ms: Arc::default(), silence_max }
    }

    /// The pipeline made progress, even if it found nothing to do.
    pub fn beat(&self) {
        self.last_ms.store(self.age_ms(), Relaxed);
    }

    /// # Errors
    /// How long the pipeline has been silent, if too long.
    pub fn check(&self) -> Result<(), String> {
        let silence = self.age_ms().saturating_sub(self.last_ms.load(Relaxed));
        let silence = Duration::from_millis(silence);
        if silence <= self.silence_max {
            return Ok(());
        }
        Err(format!(
            "the pipeline made no progress for {:.1} s (limit {:.1} s)",
            silence.as_secs_f64(),
            self.silence_max.as_secs_f64()
        ))
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Listens on `addr`.
///
/// # Errors
/// With the address, and what to do about it.
pub fn bind(addr: SocketAddr) -> Result<TcpListener, HttpError> {
    TcpListener::bind(addr).map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::PortInUse { addr },
        _ => HttpError::Bind { addr, source },
    })
}

/// Serves until `shutdown` is ready, then lets open requests finish for a moment. Needs a tokio
/// runtime with I/O and time.
///
/// # Errors
/// If the listener cannot be used; a client never makes it fail.
pub async fn serve(
    listener: TcpListener,
    endpoint: Endpoint,
    timeouts: Timeouts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    serve_guarded(listener, Arc::new(Guard::open()), endpoint, timeouts, shutdown).await
}

/// The same, for whom the guard lets in.
///
/// # Errors
/// Likewise.
pub async fn serve_guarded(
    listener: TcpListener,
    guard: Arc<Guard>,
    endpoint: Endpoint,
    timeouts: Timeouts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), HttpError> {
    listener.set_nonblocking(true).map_err(HttpError::Serve)?;
    let inner = tokio::net::TcpListener::from_std(listener).map_err(HttpError::Serve)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let app = router(endpoint, Arc::clone(&guard), Arc::clone(&places));
    let app = app.into_make_service_with_connect_info::<Peer>();
    let listener = BoundedListener { inner, guard, places, timeouts };
    let (stopping, mut stopped) = tokio::sync::watch::channel(());
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        shutdown.await;
        drop(stopping);
    });
    let grace = async {
        // An error means that the sender is gone: the shutdown began.
        while stopped.changed().await.is_ok() {}
        sleep(timeouts.shutdown).await;
    };
    tokio::select! {
        served = server.into_future() => served.map_err(HttpError::Serve),
        () = grace => Ok(()),
    }
}

fn router(endpoint: Endpoint, guard: Arc<Guard>, places: Arc<Semaphore>) -> Router {
    Router::new()
        .merge(page::routes())
        .route("/metrics", get(metrics))
        .route(
            "/healthz",
            get(|State(endpoint): State<Endpoint>| verdict((endpoint.healthy)().map(|()| "ok"))),
        )
        .route("/readyz", get(|State(endpoint): State<Endpoint>| verdict((endpoint.ready)())))
        .layer(from_fn_with_state(guard, guarded))
        .layer(from_fn_with_state(places, close_if_crowded))
        .with_state(endpoint)
}

async fn metrics(State(endpoint): State<Endpoint>, headers: HeaderMap) -> Response {
    let open = wants_openmetrics(&headers);
    let encode = move || match open {
        true => endpoint.metrics.encode_openmetrics(&clock::date),
        false => endpoint.metrics.encode(),
    };
    let kind = if open { OPENMETRICS } else { TEXT };
    match tokio::task::spawn_blocking(encode).await {
        Ok(text) => {
            ([(header::CONTENT_TYPE, kind), (header::VARY, "accept")], text).into_response()
        }
        Err(error) => {
            let reason = format!("cannot encode the metrics: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, reason).into_response()
        }
    }
}

async fn verdict(checked: Result<&'static str, String>) -> Response {
    match checked {
        Ok(what) => format!("{what}\n").into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn close_if_crowded(
    State(places): State<Arc<Semaphore>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = next.run(request).await;
    // The place that waits for the next connection is counted too.
    if CONNECTIONS_MAX - places.available_permits() > CONNECTIONS_KEPT_MAX {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Accepts while there is a place.
struct BoundedListener {
    inner: tokio::net::TcpListener,
    guard: Arc<Guard>,
    places: Arc<Semaphore>,
    timeouts: Timeouts,
}

impl axum::serve::Listener for BoundedListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        // axum's own accept waits a second when descriptors run out, and retries.
        let (stream, addr) = axum::serve::Listener::accept(&mut self.inner).await;
        let peer = Peer::default();
        let stream = Transport::new(stream, Arc::clone(&self.guard), peer.clone());
        (Connection::new(stream, peer, self.timeouts, place), addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Peer {
        stream.io().peer()
    }
}
