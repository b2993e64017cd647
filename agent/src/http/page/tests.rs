//! What takes an authenticated request or the stylesheet itself; the pages over a socket are in
//! `tests/page.rs`.

use std::fs;

use axum::body::to_bytes;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::metrics::Metrics;
use crate::pipeline::names;

/// RFC 4648, of whole bytes.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= chunk.len() { char::from(DIGITS[at]) } else { '=' });
        }
    }
    text
}

#[test]
fn the_policy_lets_the_stylesheet_in_and_no_other() {
    let hash = base64(&Sha256::digest(frame::STYLE));
    assert!(POLICY.contains(&format!("style-src 'sha256-{hash}'; ")), "its hash is {hash} now");
    assert!(POLICY.starts_with("default-src 'none'; "));
    assert!(!POLICY.contains("unsafe"));
}

fn endpoint(findings: Option<Findings>) -> Endpoint {
    Endpoint {
        metrics: Metrics::new(names()).unwrap(),
        healthy: Arc::new(|| Ok(())),
        ready: Arc::new(|| Ok("ok")),
        version: "0",
        findings,
    }
}

#[tokio::test]
async fn a_trace_is_for_authenticated_requests() {
    let dir = std::env::temp_dir().join(format!("endiod-trace-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let id = "00f1a5c0ffee0042";
    let file = dir.join(format!("finding-{id}.endiod"));
    fs::write(&file, b"kernel addresses").unwrap();
    let ask = async |authenticated: MayBe<Authenticated>, id: &str| {
        let endpoint = endpoint(Some(Findings::new(&dir)));
        let path = extract::Path(id.to_owned());
        let (head, body) = trace(State(endpoint), authenticated, path).await.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        (head.status, String::from_utf8(body.to_vec()).unwrap(), head.headers)
    };
    let (status, body, _) = ask(None, id).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(body.lines().count(), 1);
    let command = format!("sudo endiod explain --finding {id} '{}'", file.display());
    assert!(body.contains(&command) && body.contains("authenticated"), "{body}");
    let (status, body, headers) = ask(Some(Extension(Authenticated)), id).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "kernel addresses"));
    assert!(headers[header::CONTENT_DISPOSITION].to_str().unwrap().starts_with("attachment;"));
    let (status, _, _) = ask(Some(Extension(Authenticated)), "../../../etc/passwd").await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    fs::remove_dir_all(&dir).unwrap();
}

#[tokio::test]
async fn without_a_directory_the_page_says_so() {
    let answer = overview(State(endpoint(None))).await;
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("--findings-dir none"), "{body}");
    let gone = Findings::new(Path::new("/nonexistent/findings"));
    let answer = overview(State(endpoint(Some(gone)))).await;
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("/nonexistent/findings is not there"), "{body}");
}
