//! Who may ask: the web configuration in force, read again when one of its files changes.
//!
//! ```text
//!   a connection, a request ──► did a file change? ─no──► as it was
//!   SIGHUP ──────────────────────────► read ─mistake────► as it was, told and counted, until the next change
//!                                       └──────────────► in force for new connections and for every request
//! ```
//!
//! To look costs four stat(2) at most. What is read again may change every protection but take none away: a
//! file that is written in place is short for a moment, and must not open the door.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
};

use axum::http::{HeaderName, HeaderValue};
use rustls::ServerConfig;

use super::{
    files::Files,
    passwords::{Judge, Users},
    tls,
    web_config::{self, ClientAuth, Mistake, WebConfigError},
};
use crate::{
    clock,
    metrics::{ConfigFile, Metrics},
};

/// What is in force.
#[derive(Default)]
pub(super) struct Protection {
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) client_auth: ClientAuth,
    pub(super) users: Users,
    pub(super) headers: Vec<(HeaderName, Option<HeaderValue>)>,
}

impl Protection {
    /// What there is of it, for people.
    fn told(&self) -> String {
        let mut parts = vec![if self.tls.is_some() { "TLS" } else { "no TLS" }];
        if self.client_auth.is_required() {
            parts.push("clients' certificates");
        }
        parts.push(if self.users.is_empty() { "no passwords" } else { "passwords" });
        parts.join(", ")
    }

    /// What another one has and this has not.
    fn lacks(&self, other: &Protection) -> Option<&'static str> {
        let (auth, before) = (self.client_auth, other.client_auth);
        let asks_less = (before.is_required() && !auth.is_required())
            || (before.verifies() && !auth.verifies());
        [
            (other.tls.is_some() && self.tls.is_none(), "TLS"),
            (!other.users.is_empty() && self.users.is_empty(), "passwords"),
            (asks_less, "clients' certificates"),
        ]
        .into_iter()
        .find_map(|(lacks, what)| lacks.then_some(what))
    }
}

/// The file that it is from.
struct Source {
    path: PathBuf,
    read: Mutex<Files>,
    metrics: Metrics,
}

/// Decides who is served.
pub struct Guard {
    source: Option<Source>,
    current: RwLock<Arc<Protection>>,
    pub(super) judge: Arc<Judge>,
}

impl Guard {
    /// Serves everyone, without TLS.
    pub fn open() -> Guard {
        Guard::new(None, Protection::default())
    }

    /// As a web configuration says; `metrics` is told how reading it again goes.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its place.
    pub fn load(path: &Path, metrics: Metrics) -> Result<Guard, WebConfigError> {
        let (files, protection) = read(path);
        let source = Source { path: path.to_owned(), read: Mutex::new(files), metrics };
        Ok(Guard::new(Some(source), protection?))
    }

    /// Whether [`Guard::load`] would take it.
    ///
    /// # Errors
    /// Likewise.
    pub fn check(path: &Path) -> Result<(), WebConfigError> {
        read(path).1.map(drop)
    }

    /// Of a protection that no file is behind.
    #[cfg(test)]
    pub(super) fn of(protection: Protection) -> Guard {
        Guard::new(None, protection)
    }

    fn new(source: Option<Source>, protection: Protection) -> Guard {
        Guard { source, current: RwLock::new(Arc::new(protection)), judge: Arc::new(Judge::new()) }
    }

    /// What an operator must know of serving there, if anything.
    pub fn warning(&self, addr: SocketAddr) -> Option<String> {
        let current = self.current();
        if addr.ip().is_loopback() || (current.tls.is_some() && current.is_closed()) {
            return None;
        }
        let risk = match (current.tls.is_some(), current.is_closed()) {
            (true, _) => "whoever reaches it reads this host's metrics",
            (false, true) => "passwords and metrics cross the network for everyone to read",
            (false, false) => {
                "whoever reaches it reads this host's metrics, and so does everyone in between"
            }
        };
        Some(format!("listening on {addr} with {}: {risk}; see --web-config", current.told()))
    }

    /// Reads the file again, changed or not.
    pub fn reload(&self) {
        if let Some(source) = &self.source {
            let mut files = source.read.lock().unwrap_or_else(PoisonError::into_inner);
            self.read_again(source, &mut files);
        }
    }

    /// What is in force, after a look at the files.
    pub(super) async fn refreshed(self: &Arc<Self>) -> Arc<Protection> {
        if self.source.is_some() {
            let guard = Arc::clone(self);
            // An error means that it panicked: then everything stays as it was.
            let _ = tokio::task::spawn_blocking(move || guard.look()).await;
        }
        self.current()
    }

    fn current(&self) -> Arc<Protection> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again if it has changed.
    fn look(&self) {
        let Some(source) = &self.source else { return };
        let mut files = source.read.lock().unwrap_or_else(PoisonError::into_inner);
        if files.changed() {
            self.read_again(source, &mut files);
        }
    }

    fn read_again(&self, source: &Source, files: &mut Files) {
        let (read, protection) = self::read(&source.path);
        *files = read;
        match protection.and_then(|new| self.no_less(new, &source.path)) {
            Ok(new) => {
                log::info!("{} is read: {}", source.path.display(), new.told());
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                source.metrics.reloaded(ConfigFile::Web, clock::since_epoch());
            }
            Err(error) => {
                log::error!("{error}");
                log::error!("{}: what was in force stays in force", source.path.display());
                source.metrics.reload_failed(ConfigFile::Web);
            }
        }
    }

    /// What was read, unless it protects less than what is in force.
    fn no_less(&self, new: Protection, path: &Path) -> Result<Protection, WebConfigError> {
        let Some(what) = new.lacks(&self.current()) else { return Ok(new) };
        let what = format!("it takes {what} away, which only a restart does");
        let mistakes = vec![Mistake { place: None, what }];
        Err(WebConfigError { file: path.to_owned(), mistakes })
    }
}

impl Protection {
    /// Whether not everyone is served.
    fn is_closed(&self) -> bool {
        !self.users.is_empty() || self.client_auth == ClientAuth::RequireAndVerify
    }
}

/// Reads a file and those that it names.
fn read(path: &Path) -> (Files, Result<Protection, WebConfigError>) {
    let mut files = Files::default();
    let protection = protection(path, &mut files)
        .map_err(|mistakes| WebConfigError { file: path.to_owned(), mistakes });
    (files, protection)
}

fn protection(path: &Path, files: &mut Files) -> Result<Protection, Vec<Mistake>> {
    let of_file = |what: String| vec![Mistake { place: None, what }];
    let bytes = files.read(path).map_err(|error| of_file(format!("cannot be read: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| of_file(error.to_string()))?;
    let config = web_config::parse(&text)?;
    let server = config.tls.as_ref().map(|of| tls::server(of, path, files)).transpose();
    Ok(Protection {
        tls: server.map_err(|mistake| vec![mistake])?,
        client_auth: config.tls.map(|tls| tls.client_auth).unwrap_or_default(),
        users: Users::new(config.users),
        headers: config.headers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_to_the_network_that_anyone_can_open_is_told() {
        let users = || Users::new(vec![("a".to_owned(), bcrypt::hash("b", 4).unwrap())]);
        let warning = |protection, addr: &str| Guard::of(protection).warning(addr.parse().unwrap());
        for loopback in ["127.0.0.1:1", "[::1]:1"] {
            assert_eq!(warning(Protection::default(), loopback), None);
        }
        let told = warning(Protection::default(), "0.0.0.0:1").unwrap();
        assert!(told.contains("no TLS, no passwords: whoever") && told.contains("--web-config"));
        let told = warning(Protection { users: users(), ..Protection::default() }, "[::]:1");
        assert!(told.unwrap().contains("passwords and metrics cross the network"));
    }
}
