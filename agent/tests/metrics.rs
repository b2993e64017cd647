//! The metrics as a user meets them: the table, a whole scrape, the reference page, and the endpoint over
//! real sockets.
//!
//! `ENDIOD_BLESS=1 cargo test --test metrics` writes the golden scrape and the reference page anew.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use endiod::devices::Device;
use endiod::event::{ByteRange, DevId, FsyncPhase, FsyncRange, Nanos, ProbeId};
use endiod::host::Host;
use endiod::http::{self, CONNECTIONS_MAX, Endpoint, Heartbeat, REQUEST_BYTES_MAX, Timeouts};
use endiod::metrics::table::{Type, Unit, Values};
use endiod::metrics::{
    Build, DeviceMetrics, IoEndPhase, Kernel, METRICS, Metrics, Names, RingUse, Scope, TableUse,
    WatchpointsUse, reference,
};

const NAMES: Names = Names {
    event_kinds: &["io_end_birth", "put", "tick"],
    states: &["submitting", "queued", "claimed"],
    rules: &["double_process", "stuck"],
    probes: &["io_end_birth", "claim"],
    tables: &["io_ends"],
    losses: &[("kernel", "ring_full"), ("decode", "short")],
    suppression_reasons: &["loss"],
    degraded_reasons: &["generation", "probe_missing"],
    miss_reasons: &["recursion", "kprobe"],
};

const VDA1: DevId = DevId(254 << 20 | 1);

fn new_metrics() -> Metrics {
    Metrics::new(NAMES).expect("the names fit")
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Compares a checked-in file with what it should be, or writes it.
fn check_file(path: &str, expected: &str) {
    let path = repository(path);
    if std::env::var_os("ENDIOD_BLESS").is_some() {
        fs::write(&path, expected).expect("the file can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let line = found.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
    assert!(
        found == expected,
        "{} is out of date from line {}; regenerate it: ENDIOD_BLESS=1 cargo test --test metrics",
        path.display(),
        line.unwrap_or_else(|| found.lines().count().min(expected.lines().count())) + 1
    );
}

#[test]
fn every_name_has_prefix_unit_and_suffix() {
    for row in METRICS {
        let prefix = if row.scope == Scope::Process { "process_" } else { "endiod_" };
        assert!(row.name.starts_with(prefix), "{}", row.name);
        assert_eq!(row.kind == Type::Counter, row.name.ends_with("_total"), "{}", row.name);
        let stem = row.name.trim_end_matches("_total");
        assert_eq!(row.unit == Unit::Seconds, stem.ends_with("_seconds"), "{}", row.name);
        assert_eq!(row.unit == Unit::Bytes, stem.ends_with("_bytes"), "{}", row.name);
        assert_eq!(row.unit == Unit::Info, stem.ends_with("_info"), "{}", row.name);
        assert!(row.kind != Type::Histogram || row.unit == Unit::Seconds, "{}", row.name);
        for derived in ["_bucket", "_sum", "_count"] {
            assert!(!row.name.ends_with(derived), "{} looks like a histogram's", row.name);
        }
        assert!(row.help.ends_with('.') && !row.help.contains('\n'), "{}", row.name);
    }
    let names: BTreeSet<_> = METRICS.iter().map(|row| row.name).collect();
    assert_eq!(names.len(), METRICS.len(), "a name is there twice");
}

#[test]
fn every_label_is_bounded_and_none_names_a_task_or_an_object() {
    const LINES_MAX: usize = 12_000;
    for row in METRICS {
        assert!(row.series_max() <= LINES_MAX, "{} has {} lines", row.name, row.series_max());
        for label in row.labels {
            assert!(label.values.max() > 0, "{}", row.name);
            assert!(!["pid", "tid", "ino", "inode", "address"].contains(&label.name));
            if let Values::Fixed(values) = label.values {
                let distinct: BTreeSet<_> = values.iter().collect();
                assert_eq!(distinct.len(), values.len(), "{}", row.name);
            }
        }
    }
}

#[test]
fn reference_page_is_that_of_the_table() {
    check_file("docs/metrics.md", &reference::page());
}

/// Two lives of io_ends, an fsync, an eviction, a failed direct write, a finding.
fn script(metrics: &Metrics) {
    metrics.set_build(Build { version: "0.1.0", revision: "abc", wire: 1 });
    metrics.set_kernel(Kernel { release: "6.12.1", generation: "G4c" });
    metrics.set_devices(&[Device {
        dev: VDA1,
        name: "vda1".to_owned(),
        disk: "vda".to_owned(),
        mountpoint: "/srv/a\"b\\c".to_owned(),
        uuid: Some("0b7e6a1e-0000-4000-8000-000000000001".to_owned()),
    }]);
    metrics.probe_attached(ProbeId(0), "ext4_init_io_end", "fentry");
    metrics.probe_missed(ProbeId(0), "recursion", 0);
    metrics.probe_missed(ProbeId(1), "kprobe", 3);
    metrics.probe_ran(ProbeId(0), 4, Nanos(1_200));
    metrics.rule_active("double_process", Nanos(2_000_000_000));
    for scope in Scope::ALL.into_iter().filter(|scope| *scope != Scope::Process) {
        metrics.observing(scope);
    }
    metrics.arm_rule("double_process", &["certain", "likely"]);
    metrics.set_degraded("stuck", "generation", true);
    let vda1 = metrics.device(VDA1, Some("vda1"));
    io_ends(metrics, &vda1);
    let range = FsyncRange { bytes: Some(ByteRange { first: 0, last: i64::MAX }), datasync: true };
    vda1.fsync(range, Nanos(4_000_000));
    vda1.fsync_phase(FsyncPhase::Journal, Nanos(3_000_000));
    vda1.fsync_error(-5);
    vda1.eviction(Nanos(2_000_000));
    vda1.direct_io(Nanos(65_000_000_000));
    vda1.direct_io_error(-28);
    let finding = ("00f1a5c0ffee0042", Nanos(7_250_000_000));
    vda1.violation("double_process", "certain", Some(("the one before", Nanos(1))));
    vda1.violation("double_process", "certain", Some(finding));
    metrics.suppressed("double_process", "loss", 2);
    metrics.events_lost("kernel", "ring_full", 7);
    metrics.swept("open_fsyncs", 2);
    metrics.set_ring(RingUse { used_bytes: 4096, size_bytes: 1 << 20 });
    metrics.set_cpu_limit_exceeded(false);
    metrics.set_table("io_ends", TableUse { entries: 1, max_entries: 65536 });
    metrics.watchpoints(&WatchpointsUse {
        slots: 3,
        coverage: Some(0.25),
        armed: Nanos(1_500_000_000),
        interrupts: 9,
        late: 2,
        hits: [5, 1, 2, 0],
    });
}

fn io_ends(metrics: &Metrics, device: &DeviceMetrics) {
    for took in [Nanos(1_953_125), Nanos(1_953_126)] {
        metrics.event(0);
        device.io_end_started();
        metrics.bio_attached();
        metrics.bio_ended();
        device.io_end_phase(IoEndPhase::Total, took);
        device.io_end_completed();
    }
    device.io_end_started();
    metrics.set_in_flight("queued", 1, Some(Nanos(1_500_000_000)));
    metrics.set_in_flight("claimed", 3, Some(Nanos(1)));
    metrics.set_in_flight("claimed", 0, None);
}

/// A directory of that test's own with a `/proc` whose numbers never change.
fn proc_root(test: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("metrics-root-{test}"));
    let stat = "1 (endiod) S 1 1 1 0 -1 0 9 0 0 0 150 50 0 0 20 0 4 0 250 1 2\n";
    for (path, text) in [
        ("proc/stat", "cpu  1 2 3 4\nbtime 1700000000\n"),
        ("proc/self/stat", stat),
        ("proc/self/status", "Name:\tendiod\nVmSize:\t   40960 kB\nVmRSS:\t   20480 kB\n"),
        ("proc/self/limits", "Max open files            1024                 4096  files\n"),
        ("proc/self/fd/0", ""),
        ("proc/self/fd/1", ""),
    ] {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("the directory is ours");
        fs::write(path, text).expect("the directory is ours");
    }
    root
}

#[test]
fn scrape_of_a_script_is_golden() {
    let metrics = new_metrics();
    metrics.watch_process(&Host::at(proc_root("text")), None).expect("once");
    script(&metrics);
    check_file("tests/data/metrics/golden.prom", &metrics.encode());
}

/// When a moment of the script was.
fn date(at: Nanos) -> Duration {
    Duration::from_secs(1_700_000_000) + Duration::from_nanos(at.0)
}

#[test]
fn openmetrics_of_a_script_is_golden_and_an_exemplar_keeps_its_first_date() {
    let metrics = new_metrics();
    metrics.watch_process(&Host::at(proc_root("openmetrics")), None).expect("once");
    script(&metrics);
    let text = metrics.encode_openmetrics(&date);
    check_file("tests/data/metrics/golden.openmetrics", &text);
    assert_eq!(text, metrics.encode_openmetrics(&|_| Duration::ZERO));
}

#[test]
fn openmetrics_says_what_the_text_says() {
    let metrics = new_metrics();
    script(&metrics);
    let samples = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| line.split(" # ").next().unwrap_or_default());
        // Whole bounds are written otherwise.
        lines.map(|line| line.replace(".0\"", "\"")).collect()
    };
    let text = samples(&metrics.encode());
    assert!(text.len() > 100);
    assert_eq!(text, samples(&metrics.encode_openmetrics(&date)));
}

/// An endpoint on a free port, stopped when dropped.
struct Server {
    addr: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    ready: Arc<AtomicBool>,
}

/// Long enough that only a stalled client meets it, short enough to wait for.
const TIMEOUTS: Timeouts = Timeouts {
    request: Duration::from_secs(2),
    idle: Duration::from_secs(30),
    write: Duration::from_secs(30),
    shutdown: Duration::from_millis(200),
};

impl Server {
    fn start(silence_max: Duration) -> Server {
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let ready = Arc::new(AtomicBool::new(false));
        let attached = Arc::clone(&ready);
        let heartbeat = Heartbeat::new(silence_max);
        let endpoint = Endpoint {
            metrics: new_metrics(),
            healthy: Arc::new(move || heartbeat.check()),
            ready: Arc::new(move || {
                let attached = attached.load(Ordering::Relaxed);
                attached.then_some("ok").ok_or_else(|| "0 of 2 probes are attached".to_owned())
            }),
            version: "0.1.0",
            findings: None,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let shutdown = async { drop(stopped.await) };
            let served = http::serve(listener, endpoint, TIMEOUTS, shutdown);
            runtime.expect("a runtime").block_on(served).expect("served");
        });
        Server { addr, stop: Some(stop), thread: Some(thread), ready }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a valid time-out");
        stream
    }

    /// The whole answer to a request on a connection of its own.
    fn ask(&self, method: &str, path: &str) -> String {
        self.ask_with(method, path, "")
    }

    /// The same, with a line more in the head.
    fn ask_with(&self, method: &str, path: &str, line: &str) -> String {
        let mut stream = self.connect();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\n{line}Connection: close\r\n\r\n")
            .expect("the server reads");
        answer(&mut stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}

/// What the server sends until it closes; a reset counts as the end.
fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    let open = end.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!open, "the server keeps the connection open");
    String::from_utf8(bytes).expect("text")
}

#[test]
fn metrics_answers_get_and_head_only() {
    let server = Server::start(Duration::from_secs(60));
    let get = server.ask("GET", "/metrics");
    let (head, body) = get.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(body.contains("endiod_events_total{kind=\"tick\"} 0\n"), "{body}");
    let length = format!("content-length: {}", body.len());
    let head = server.ask("HEAD", "/metrics");
    assert!(head.contains(&length) && head.ends_with("\r\n\r\n"), "{head}");
    for method in ["POST", "PUT", "DELETE"] {
        let refused = server.ask(method, "/metrics");
        assert!(refused.starts_with("HTTP/1.1 405 "), "{method}: {refused}");
        assert!(refused.to_lowercase().contains("allow: get,head"), "{method}: {refused}");
    }
    assert!(server.ask("GET", "/nothing").starts_with("HTTP/1.1 404 "));
    let index = server.ask("GET", "/");
    assert!(index.contains("href=\"/metrics\"") && index.contains("endiod 0.1.0"), "{index}");
}

#[test]
fn openmetrics_is_for_who_asks_for_it() {
    let server = Server::start(Duration::from_secs(60));
    let asked = "Accept: application/openmetrics-text;version=1.0.0;q=0.8,text/plain;q=0.3\r\n";
    let answer = server.ask_with("GET", "/metrics", asked);
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n";
    assert!(answer.contains(kind) && answer.contains("vary: accept\r\n"), "{answer}");
    assert!(answer.ends_with("\n# EOF\n"), "{answer}");
    let text = server.ask_with("GET", "/metrics", "Accept: */*\r\n");
    assert!(text.contains("content-type: text/plain; version=0.0.4"), "{text}");
    assert!(text.contains("vary: accept\r\n") && !text.contains("# EOF"), "{text}");
}

#[test]
fn health_and_readiness_say_why_not() {
    let server = Server::start(Duration::from_secs(60));
    assert!(server.ask("GET", "/healthz").starts_with("HTTP/1.1 200 "));
    let waiting = server.ask("GET", "/readyz");
    assert!(waiting.starts_with("HTTP/1.1 503 "), "{waiting}");
    assert!(waiting.ends_with("0 of 2 probes are attached\n"), "{waiting}");
    server.ready.store(true, Ordering::Relaxed);
    assert!(server.ask("GET", "/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn silent_pipeline_is_unhealthy_until_it_beats() {
    let heartbeat = Heartbeat::new(Duration::ZERO);
    while heartbeat.check().is_ok() {
        thread::yield_now();
    }
    let reason = heartbeat.check().expect_err("it is silent");
    assert!(reason.starts_with("the pipeline made no progress for "), "{reason}");
    let patient = Heartbeat::new(Duration::from_secs(60));
    patient.beat();
    assert_eq!(patient.check(), Ok(()));
}

#[test]
fn stalled_clients_lose_their_place_and_stop_nobody() {
    let server = Server::start(Duration::from_secs(60));
    let start = Instant::now();
    let stalled: Vec<TcpStream> = (0..CONNECTIONS_MAX + 8)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /metrics HT").expect("the server or its backlog takes it");
            stream
        })
        .collect();
    assert!(server.ask("GET", "/metrics").starts_with("HTTP/1.1 200 "));
    assert!(start.elapsed() >= TIMEOUTS.request, "it was served although every place was taken");
    for mut stream in stalled {
        assert_eq!(answer(&mut stream), "", "closed without an answer");
    }
}

#[test]
fn request_beyond_its_bound_is_cut_off() {
    let server = Server::start(Duration::from_secs(60));
    let mut stream = server.connect();
    let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(REQUEST_BYTES_MAX));
    // The server may close before it has read all.
    let _ = stream.write_all(long.as_bytes());
    assert!(!answer(&mut stream).contains("200 OK"));
}

#[test]
fn connection_is_kept_for_the_next_request_and_ends_with_the_server() {
    let server = Server::start(Duration::from_secs(60));
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n").expect("still open");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("an answer");
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 OK"));
    }
    let mut stalled = server.connect();
    stalled.write_all(b"GET /").expect("the server or its backlog takes it");
    // The end must wait neither for the idle connection nor, beyond its grace, for the stalled one.
    drop(server);
    assert_eq!((answer(&mut stream), answer(&mut stalled)), (String::new(), String::new()));
}

#[test]
fn port_in_use_names_the_address_and_the_way_out() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let addr = taken.local_addr().expect("it is bound");
    let error = http::bind(addr).expect_err("it is taken").to_string();
    for part in [&addr.to_string(), "in use", "--listen", &format!("sport = :{}", addr.port())] {
        assert!(error.contains(part), "{part:?} is not in {error:?}");
    }
}
