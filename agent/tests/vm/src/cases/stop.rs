//! However the agent ends, the kernel is as it was.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use aya::programs::loaded_programs;

use super::conservation::{check_stream, settled_scrape};
use crate::{
    Facts, Guest,
    agent::{Agent, Ended},
    http,
    workload::{make_room, stress},
};

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

/// A ring that the load fills many times while the programs are taken away, and never between two looks.
const RING_BYTES: &str = "32768";
/// More records than it holds: none is shorter, its header in the ring included.
const RING_RECORDS: f64 = 32_768.0 / 48.0;

/// Programs go one by one, each when the kernel is through with it, and the others go on writing: what they
/// write is taken out of the ring meanwhile.
pub(crate) fn under_load(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--ring-bytes", RING_BYTES])?;
    let over = AtomicBool::new(false);
    let (taken, took, ended) = std::thread::scope(|scope| -> Result<_> {
        let load = scope.spawn(|| write_until(&over));
        let ended = (|| {
            let taken = http::sum(&settled_scrape(&agent)?, "endiod_events_total");
            let begun = Instant::now();
            Ok((taken, begun, agent.stop(guest, "stop_under_load")?))
        })();
        over.store(true, Relaxed);
        load.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        ended.map(|(taken, begun, ended): (f64, Instant, Ended)| (taken, begun.elapsed(), ended))
    })?;
    let Ended { summary, .. } = ended;
    let events: u64 = summary.stream.events.values().sum();
    let meanwhile = events as f64 - taken;
    facts.insert("seconds".into(), took.as_secs_f64().into());
    facts.insert("records meanwhile".into(), meanwhile.into());
    facts.insert("lost".into(), summary.dropped().into());
    check_stream(&summary)?;
    // Nobody who drains loses more than a stall of the machine costs; who does not loses all of this.
    let dropped = summary.dropped() as f64;
    let beyond = meanwhile + dropped - RING_RECORDS;
    facts.insert("beyond the ring".into(), beyond.into());
    ensure!(
        beyond > 100.0,
        "{meanwhile} records in {took:?} find room in the ring, so this proves nothing"
    );
    ensure!(dropped < beyond / 2.0, "{dropped} of {beyond} records beyond the ring were lost");
    ensure!(summary.findings.is_empty(), "accused while detaching: {:?}", summary.findings);
    Ok(())
}

/// Four writers that wait for each write, again and again.
fn write_until(over: &AtomicBool) -> Result<()> {
    while !over.load(Relaxed) {
        stress("stop-load", &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"])?;
    }
    Ok(())
}
