//! What `/readyz` says, and systemd is told: whether all that can be watched now is watched.
//!
//! Waiting for the first mount is ready, for there is nothing to see, and the answer says so; not
//! attached yet, or failed with a file system mounted, is not.

use std::sync::{Arc, Mutex, PoisonError};

use super::service;

/// Set by the one that watches, asked by the endpoint; a clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Readiness(Arc<Mutex<Result<&'static str, String>>>);

impl Default for Readiness {
    fn default() -> Self {
        Readiness(Arc::new(Mutex::new(Err("the probes are not attached yet".to_owned()))))
    }
}

impl Readiness {
    pub(super) fn set(&self, state: Result<&'static str, String>) {
        service::state(&state);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = state;
    }

    /// What holds now.
    pub(crate) fn check(&self) -> Result<&'static str, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
