//! The agent's pages over real sockets, with findings made from recordings: what they show, what they refuse,
//! and what they must never show. A browser looks at the same in `cargo xtask test`.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/findings.rs"]
mod findings;

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use endiod::{
    http::{self, Endpoint, Findings, Timeouts},
    source::trace::Reader,
};
use tokio::sync::oneshot;

/// What a task of the first finding is called.
const COMM: [u8; 16] = *b"<script>alert(1)";

/// The pages of an agent with findings, for as long as it lives.
struct Site {
    addr: SocketAddr,
    dir: PathBuf,
    /// Oldest first.
    ids: Vec<String>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Site {
    fn new(name: &str) -> Site {
        let dir = std::env::temp_dir().join(format!("endiod-{name}-{}", std::process::id()));
        let metrics = findings::metrics();
        findings::introduce(&metrics, "/srv/<em>db</em>");
        let ids = findings::fill(&dir, &metrics, COMM);
        let endpoint = Endpoint {
            metrics,
            healthy: Arc::new(|| Ok(())),
            ready: Arc::new(|| Err("ext4_put_io_end cannot be <attached>".to_owned())),
            version: "0.1.0",
            findings: Some(Findings::new(&dir)),
        };
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let shutdown = async { drop(stopped.await) };
            let served = http::serve(listener, endpoint, Timeouts::default(), shutdown);
            runtime.unwrap().block_on(served).unwrap();
        });
        Site { addr, dir, ids, stop: Some(stop), thread: Some(thread) }
    }

    /// Head and body of the answer.
    fn get(&self, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    fn page(&self, path: &str) -> String {
        let (head, body) = self.get(path);
        assert!(head.starts_with("http/1.1 200 "), "{path}: {head}");
        body
    }

    /// Every page that there is.
    fn pages(&self) -> Vec<String> {
        let of_findings = self.ids.iter().map(|id| self.page(&format!("/findings/{id}")));
        of_findings.chain([self.page("/")]).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        let _ = fs::remove_dir_all(&self.dir);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

#[track_caller]
fn contains(page: &str, all: &[&str]) {
    for words in all {
        assert!(page.contains(words), "{words:?} is not in\n{page}");
    }
}

#[test]
fn the_overview_tells_health_durations_devices_and_findings() {
    let site = Site::new("overview");
    let page = site.page("/");
    contains(
        &page,
        &[
            "<strong class=\"good\">yes</strong>: the pipeline makes progress",
            "<strong class=\"bad\">no</strong>: ext4_put_io_end cannot be &lt;attached&gt;",
            "6.1.0-56-cloud-amd64, generation of the protocol: G4c",
            " fentry",
            "<th scope=\"row\">queued</th>",
            "<th scope=\"row\">vda</th><td>/mnt</td>",
            "id=\"endiod_io_end_phase_duration_seconds-convert-title\"",
            "id=\"endiod_fsync_duration_seconds-range_sync-title\"",
            "× double_process, vda, certain",
        ],
    );
    // Newest first.
    let places: Vec<_> =
        site.ids.iter().rev().map(|id| page.find(&format!("/findings/{id}\""))).collect();
    assert!(places.len() >= RULES_MIN && places.is_sorted(), "{places:?}");
    assert!(places.iter().all(Option::is_some), "{places:?}");
}

/// Findings of the corpus: fewer and the pages are not tried.
const RULES_MIN: usize = 6;

#[test]
fn a_finding_has_its_picture_even_where_another_shares_the_slice() {
    let site = Site::new("finding");
    let mut direct = 0;
    for id in &site.ids {
        let page = site.page(&format!("/findings/{id}"));
        assert!(!page.contains("There is no picture"), "{page}");
        contains(&page, &["In plain words", "aria-labelledby=\"picture\"", id]);
        direct += usize::from(page.contains("<dt>direct write</dt>"));
        let (head, json) = site.get(&format!("/findings/{id}.json"));
        assert!(head.contains("content-type: application/json"), "{head}");
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["id"], **id);
    }
    assert!(direct > 0, "no finding is of a direct write");
    // Asked again it is the one that was kept.
    let path = format!("/findings/{}", site.ids[0]);
    assert_eq!(site.page(&path), site.page(&path));
}

#[test]
fn a_finding_without_a_readable_slice_says_why_and_still_tells() {
    let site = Site::new("slices");
    for entry in fs::read_dir(&site.dir).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|it| it == "endiod") {
            fs::write(entry.path(), b"no recording").unwrap();
        }
    }
    let page = site.page(&format!("/findings/{}", site.ids[0]));
    contains(&page, &["There is no picture: not a recording of endiod", "acted illegally"]);
}

#[test]
fn every_value_is_escaped() {
    let site = Site::new("escaped");
    let first = site.page(&format!("/findings/{}", site.ids[0]));
    contains(&first, &["&lt;script&gt;alert(1"]);
    for page in site.pages() {
        assert!(!page.contains("<script"), "{page}");
        assert!(!page.contains("<em>"), "{page}");
    }
    contains(&site.page("/"), &["/srv/&lt;em&gt;db&lt;/em&gt;"]);
}

#[test]
fn the_policy_forbids_scripts_and_everything_from_elsewhere() {
    let site = Site::new("policy");
    for path in ["/".to_owned(), format!("/findings/{}", site.ids[0]), "/findings/x".to_owned()] {
        let (head, body) = site.get(&path);
        contains(
            &head,
            &[
                "content-security-policy: default-src 'none'; style-src 'sha256-",
                "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                "x-content-type-options: nosniff",
                "cache-control: no-store",
            ],
        );
        assert!(!body.contains("http://") && !body.contains("https://"), "{body}");
        assert!(!body.contains(" style=") && !body.contains(" onclick="), "{body}");
    }
}

#[test]
fn nothing_but_an_id_names_a_file() {
    let site = Site::new("paths");
    fs::write(site.dir.join("finding-secret.json"), "{\"secret\":1}").unwrap();
    let id = &site.ids[0];
    for path in [
        "secret",
        "secret.json",
        "..%2f..%2fetc%2fpasswd",
        "../../etc/passwd",
        "%2e%2e%2f%2e%2e%2fetc%2fpasswd.json",
        &format!("{}.endiod", id),
        &format!("{}.json.json", id),
        &id.to_uppercase(),
        &format!("{id}%00"),
        &format!("{id}%0a.json"),
        "0000000000000000",
        "0000000000000000.json",
        "0000000000000000/trace",
        "..%2f..%2f/trace",
    ] {
        let (head, body) = site.get(&format!("/findings/{path}"));
        assert!(head.starts_with("http/1.1 404 "), "{path}: {head}");
        assert!(!body.contains("secret\"") && !body.contains("root:"), "{path}: {body}");
    }
}

/// 16 digits that begin as an address of x86's or arm64's kernel half does.
fn kernel_address(text: &str) -> Option<&str> {
    let digits =
        |at: usize| text.get(at..at + 16).filter(|it| it.bytes().all(|b| b.is_ascii_hexdigit()));
    let places = text.match_indices("ffff").map(|(at, _)| at);
    places.filter_map(digits).next()
}

#[test]
fn kernel_addresses_stay_in_the_trace_which_is_not_given_to_anybody() {
    let site = Site::new("addresses");
    for page in site.pages() {
        assert_eq!(kernel_address(&page.to_lowercase()), None, "{page}");
    }
    for id in &site.ids {
        let (head, body) = site.get(&format!("/findings/{id}/trace"));
        assert!(head.starts_with("http/1.1 403 "), "{head}");
        assert_eq!(body.lines().count(), 1, "{body}");
        contains(&body, &["authenticated", "sudo endiod explain", &site.dir.display().to_string()]);
    }
    let slices = fs::read_dir(&site.dir).unwrap().map(|entry| entry.unwrap().path());
    let slices = slices.filter(|path| path.extension().is_some_and(|it| it == "endiod"));
    assert!(slices.map(|path| addresses(&path)).sum::<usize>() > 0, "no trace holds an address");
}

/// Words of a trace that are addresses of the kernel's half.
fn addresses(trace: &Path) -> usize {
    let mut reader = Reader::new(File::open(trace).unwrap()).unwrap();
    let mut found = 0;
    while let Some(record) = reader.next_record().unwrap() {
        let words = record.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        found += words.filter(|word| word >> 48 == 0xffff && *word != u64::MAX).count();
    }
    found
}

#[test]
fn a_file_that_is_no_finding_hides_no_other() {
    let site = Site::new("foreign");
    let foreign = "00000000000000aa";
    fs::write(site.dir.join(format!("finding-{foreign}.json")), "{\"<b>\": 1}").unwrap();
    let page = site.page("/");
    contains(&page, &["written by another version of endiod", "double_process"]);
    assert!(!page.contains("<b>"));
    let (head, body) = site.get(&format!("/findings/{foreign}"));
    assert!(head.starts_with("http/1.1 404 ") && body.contains("another version"), "{head} {body}");
}
