//! The agent's own pages, for people without Grafana at hand: `/`, what it sees and found; `/findings/ID`, one
//! finding with its picture; `/findings/ID.json`; `/findings/ID/trace`, the slice of the stream around it.
//!
//! ```text
//!   Metrics ──gather──► Scrape ─┐
//!   healthy, ready ─────────────┼─► HTML, on a blocking thread of the runtime
//!   findings_dir ──► Shelf ─────┘        └─ slice ──replay──► picture, one at a time
//! ```
//!
//! Nothing here runs on the pipeline's thread or takes a lock that it waits for. A page needs no script and
//! nothing from elsewhere, and says so in its policy; it is not loaded again by itself, which would take the
//! place from who reads it. Every value is escaped: names of tasks and devices are anybody's choice. Kernel
//! addresses never appear: only a trace holds them, and it is given to authenticated requests alone.

mod chart;
mod devices;
mod drawing;
mod finding;
mod frame;
mod health;
mod list;
mod scrape;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::{self, Extension, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Router, middleware};
use tokio_util::io::ReaderStream;

use self::drawing::Drawings;
use self::finding::Told;
use self::scrape::Scrape;
use super::Endpoint;
use super::auth::Authenticated;
use crate::store::shelf::{FindingId, Shelf};
use crate::store::{RECORDING, finding_name};

/// What a browser may load: the stylesheet inside the page, by its hash, and the icon that is none.
const POLICY: &str = concat!(
    "default-src 'none'; style-src 'sha256-",
    "d1bJ2XFCTKsBpBJQA01Oni9QFt/iytzzJ66MEwJdQuk=",
    "'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
);
/// Findings that `/` tells, the newest: a screen or two; the others are in the directory.
const FINDINGS_SHOWN_MAX: usize = 20;

/// Whether the request is from somebody who may know everything.
type MayBe<T> = Option<Extension<T>>;

/// The findings that are kept, to be shown; a clone shows the same.
#[derive(Clone, Debug)]
pub struct Findings {
    shelf: Shelf,
    drawings: Arc<Drawings>,
}

impl Findings {
    /// Of the directory in which the agent keeps them; it need not be there yet.
    pub fn new(dir: &Path) -> Self {
        Findings { shelf: Shelf::new(dir), drawings: Arc::default() }
    }
}

pub(super) fn routes() -> Router<Endpoint> {
    Router::new()
        .route("/", get(overview))
        .route("/findings/{name}", get(finding))
        .route("/findings/{id}/trace", get(trace))
        .layer(middleware::map_response(guarded))
}

/// What every answer of these pages tells a browser, beside what every answer does (`headers`).
async fn guarded(mut response: Response) -> Response {
    const TOLD: [(HeaderName, &str); 2] =
        [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    for (name, value) in TOLD {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn overview(State(endpoint): State<Endpoint>) -> Response {
    blocking(move || {
        let scrape = Scrape::new(endpoint.metrics.gather());
        let shelf = endpoint.findings.as_ref().map(|findings| &findings.shelf);
        let listed = list::Listed::read(shelf, FINDINGS_SHOWN_MAX);
        frame::overview(&endpoint, &scrape, &listed, SystemTime::now())
    })
    .await
}

/// A finding as a page or, as `ID.json`, as it is kept.
async fn finding(
    State(endpoint): State<Endpoint>,
    authenticated: MayBe<Authenticated>,
    extract::Path(name): extract::Path<String>,
) -> Response {
    let digits = name.strip_suffix(".json");
    let is_json = digits.is_some();
    let Some((id, findings)) = asked(&endpoint, digits.unwrap_or(&name)) else {
        return not_found();
    };
    let shelf = findings.shelf.clone();
    let of = id.clone();
    let Ok(Ok(json)) = tokio::task::spawn_blocking(move || shelf.finding(&of)).await else {
        return not_found();
    };
    if is_json {
        return ([(header::CONTENT_TYPE, "application/json")], json).into_response();
    }
    let Ok(told) = serde_json::from_slice::<Told>(&json) else {
        let why = "this finding was written by another version of endiod: see its JSON\n";
        return (StatusCode::NOT_FOUND, why).into_response();
    };
    let drawing = findings.drawings.of(findings.shelf.clone(), id.clone()).await;
    finding::page(&id, &told, &drawing, authenticated.is_some()).into_response()
}

/// The slice around a finding. It holds kernel addresses, for which its file is its owner's alone.
async fn trace(
    State(endpoint): State<Endpoint>,
    authenticated: MayBe<Authenticated>,
    extract::Path(id): extract::Path<String>,
) -> Response {
    let Some((id, findings)) = asked(&endpoint, &id) else { return not_found() };
    let of = id.clone();
    let slice = tokio::task::spawn_blocking(move || findings.shelf.slice(&of)).await;
    let Ok(Some(slice)) = slice else { return not_found() };
    if authenticated.is_none() {
        let why = format!(
            "a trace holds kernel addresses and is given to authenticated requests only; \
             on the host: {}\n",
            finding::command(&slice, &id)
        );
        return (StatusCode::FORBIDDEN, why).into_response();
    }
    let Ok(file) = tokio::fs::File::open(&slice.path).await else { return not_found() };
    let name = finding_name(id.as_str());
    let name = format!("attachment; filename=\"{name}.{RECORDING}\"");
    let head = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, name),
    ];
    (head, Body::from_stream(ReaderStream::new(file))).into_response()
}

/// The finding that a path names, and where findings are, if both can be.
fn asked(endpoint: &Endpoint, digits: &str) -> Option<(FindingId, Findings)> {
    FindingId::parse(digits).zip(endpoint.findings.clone())
}

fn not_found() -> Response {
    let why = "no such finding is kept: there never was one, or newer ones took its place\n";
    (StatusCode::NOT_FOUND, why).into_response()
}

/// Off the runtime's own threads.
async fn blocking<T: IntoResponse + Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            let why = format!("cannot make the page: {error}\n");
            (StatusCode::INTERNAL_SERVER_ERROR, why).into_response()
        }
    }
}

#[cfg(test)]
mod tests;
