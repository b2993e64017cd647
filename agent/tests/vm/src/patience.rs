//! Waiting for what must come.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Asks again and again until there is an answer; `or` is what it means that none came.
pub(crate) fn until<T>(
    patience: Duration,
    or: &str,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        ensure!(begun.elapsed() < patience, "{or} after {} s", patience.as_secs());
        std::thread::yield_now();
    }
}
