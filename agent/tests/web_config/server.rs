//! The endpoint behind a web configuration in a directory of the test's own.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use endiod::{
    http::{self, Endpoint, Findings, Guard, Timeouts, WebConfigError},
    metrics::{Metrics, Names},
};

use super::certificates::Pair;

/// Long enough that only a stalled client meets it, short enough to wait for; but whoever is taken for idle
/// stays longer than a test waits.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    request: Duration::from_secs(5),
    idle: Duration::from_secs(600),
    write: Duration::from_secs(30),
    shutdown: Duration::from_millis(200),
};

const NAMES: Names = Names {
    event_kinds: &[],
    states: &[],
    rules: &[],
    probes: &[],
    tables: &[],
    losses: &[],
    suppression_reasons: &[],
    degraded_reasons: &[],
    miss_reasons: &[],
};

/// Where a test's files are.
pub(crate) struct Dir(PathBuf);

impl Dir {
    /// An empty one.
    pub(crate) fn new(dir: PathBuf) -> Dir {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).expect("a directory");
        Dir(dir)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces a file as one should: whole, by renaming.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).expect("a file");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("a mode");
        fs::rename(&new, self.path(name)).expect("a file");
    }

    pub(crate) fn put_pair(&self, name: &str, pair: &Pair) {
        self.put(&format!("{name}.crt"), &pair.pem());
        self.put(&format!("{name}.key"), &pair.key_pem());
    }

    /// What is wrong with a configuration, without the directory.
    pub(crate) fn refused(&self, text: &str) -> String {
        self.put("web.yml", text);
        let refused = Guard::check(&self.path("web.yml"));
        let told = refused.map_err(|error| error.to_string()).expect_err("it is taken");
        told.replace(&format!("{}/", self.0.display()), "")
    }
}

/// An endpoint on a free port, stopped when dropped.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) guard: Arc<Guard>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// With the `web.yml` of a directory.
    pub(crate) fn start(dir: &Dir) -> Server {
        Server::try_start(&dir.path("web.yml")).expect("the configuration is taken")
    }

    fn try_start(file: &Path) -> Result<Server, WebConfigError> {
        let metrics = Metrics::new(NAMES).expect("the names fit");
        let guard = Arc::new(Guard::load(file, metrics.clone())?);
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let endpoint = Endpoint {
            metrics,
            healthy: Arc::new(|| Ok(())),
            ready: Arc::new(|| Ok("ok")),
            version: "0.1.0",
            findings: file.parent().map(|dir| Findings::new(&dir.join("findings"))),
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let at_the_door = Arc::clone(&guard);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let shutdown = async { drop(stopped.await) };
            let served = http::serve_guarded(listener, at_the_door, endpoint, TIMEOUTS, shutdown);
            runtime.expect("a runtime").block_on(served).expect("served");
        });
        Ok(Server { addr, guard, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        let ended = self.thread.take().map(thread::JoinHandle::join);
        assert!(thread::panicking() || ended.is_some_and(|ended| ended.is_ok()));
    }
}
