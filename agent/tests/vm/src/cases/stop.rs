//! However the agent ends, the kernel is as it was.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aya::programs::loaded_programs;

use crate::{Facts, Guest, agent::Agent};

/// Programs in the kernel now.
pub(super) fn programs() -> usize {
    loaded_programs().filter(Result::is_ok).count()
}

/// Waits until there are no more programs than that; the kernel frees the last ones from a worker.
pub(super) fn drained_to(before: usize) -> Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    let start = Instant::now();
    while programs() > before {
        let left = programs() - before;
        ensure!(start.elapsed() < PATIENCE, "{left} programs are still in the kernel");
        std::thread::yield_now();
    }
    Ok(())
}

/// SIGINT, as SIGTERM in all other cases: exit 0, all probes gone, a last summary.
pub(crate) fn leaves_nothing(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let agent = Agent::start(&[])?;
    let attached = programs() - before;
    facts.insert("programs".into(), attached.into());
    ensure!(attached > 20, "only {attached} programs while it runs");
    let (status, stdout, log) = agent.signal(libc::SIGINT)?;
    ensure!(status.success(), "it ended with {status}\n{log}");
    ensure!(stdout.contains("\"schema\""), "no summary but {stdout:?}");
    drained_to(before)
}

/// SIGKILL: the kernel drops what the file descriptors held.
pub(crate) fn killed_leaves_nothing(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let agent = Agent::start(&[])?;
    facts.insert("programs".into(), (programs() - before).into());
    let (status, _, _) = agent.signal(libc::SIGKILL)?;
    ensure!(!status.success(), "SIGKILL was survived");
    drained_to(before)
}
