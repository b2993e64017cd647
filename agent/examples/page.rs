//! The agent's pages as they look with findings, on any machine and without root: recordings of the corpus in
//! place of a kernel. Prints where it serves them, and ends with its standard input.
//!
//! `cargo xtask test` shows them to a browser; so can you: `cargo run --example page`.

#[expect(clippy::unwrap_used, reason = "it is the tests' own")]
#[path = "../tests/support/findings.rs"]
mod findings;

use std::{io, net::SocketAddr, sync::Arc, thread};

use endiod::http::{self, Endpoint, Findings, Timeouts};
use tokio::sync::oneshot;

#[tokio::main]
async fn main() {
    let dir = std::env::temp_dir().join(format!("endiod-page-{}", std::process::id()));
    let metrics = findings::metrics();
    findings::introduce(&metrics, "/srv/db");
    findings::fill(&dir, &metrics, *b"kworker/0:1\0\0\0\0\0");
    let endpoint = Endpoint {
        metrics,
        healthy: Arc::new(|| Ok(())),
        ready: Arc::new(|| Ok("ok")),
        version: env!("CARGO_PKG_VERSION"),
        findings: Some(Findings::new(&dir)),
    };
    let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    println!("http://{}/", listener.local_addr().expect("it is bound"));
    let (stop, stopped) = oneshot::channel::<()>();
    thread::spawn(move || {
        // An error ends it as the end does.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(stop);
    });
    let shutdown = async { drop(stopped.await) };
    http::serve(listener, endpoint, Timeouts::default(), shutdown).await.expect("served");
    std::fs::remove_dir_all(dir).expect("the directory is ours");
}
