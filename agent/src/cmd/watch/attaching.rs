//! An attach that is made beside the watch.
//!
//! It waits for the kernel again and again (each program waits until no CPU is in what it replaces), a
//! second or more in all. The seconds of the stream, the signals and whoever asks for our health must not
//! wait with it. What its first programs write meanwhile lies in the ring of a stream that has not begun.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use endiod::source::kernel::{KernelError, KernelSource};
use tokio::task::JoinHandle;

use super::Setup;

/// One that is going on.
pub(super) struct Attaching {
    begun: Instant,
    task: JoinHandle<Result<KernelSource, KernelError>>,
}

impl Attaching {
    pub(super) fn begin(setup: &Setup) -> Self {
        let task = tokio::task::spawn_blocking(setup.opener());
        Attaching { begun: Instant::now(), task }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Waits for the end of the one that is going on; for ever if there is none.
pub(super) async fn opened(
    attaching: &mut Option<Attaching>,
) -> Result<Result<KernelSource, KernelError>> {
    match attaching {
        Some(attaching) => (&mut attaching.task).await.context("the attaching task failed"),
        None => std::future::pending().await,
    }
}
