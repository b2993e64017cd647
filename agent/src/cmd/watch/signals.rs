//! The signals that a verb which waits takes in order, instead of being ended by them.

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask for a stop.
pub(crate) struct Signals {
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    pub(super) dump: Signal,
    pub(super) reload: Signal,
}

impl Signals {
    /// From here on a signal is a request to stop in order.
    pub(crate) fn new() -> Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
            dump: signal(SignalKind::user_defined1()).context("cannot watch for SIGUSR1")?,
            reload: signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?,
        })
    }

    /// Waits for a request to stop; says which.
    pub(crate) async fn stop(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.reload.recv() => "SIGHUP",
        }
    }
}
