//! A ring that is far too small: what is lost is counted to the event, and nobody is accused.

use anyhow::{Context as _, Result, ensure};

use super::conservation::check_stream;
use crate::{
    Facts, Guest,
    agent::{Agent, Ended},
    workload::{stress, sync},
};

fn overflow(guest: &Guest, name: &str) -> Result<Ended> {
    sync();
    let agent = Agent::start(&["--ring-bytes", "4096"])?;
    stress(name, &["--buffered", "-t", "20", "-s", "10", "-S", "-o", "2", "-I", "600"])?;
    sync();
    agent.stop(guest, name)
}

/// seen + lost = emitted on every CPU with real loss, and no verdict stands on it.
pub(crate) fn ring_overflow(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let Ended { summary, .. } = overflow(guest, "overflow")?;
    facts.insert("emitted".into(), summary.emitted().into());
    facts.insert("lost".into(), summary.dropped().into());
    facts.insert("suppressed".into(), summary.suppressed.values().sum::<u64>().into());
    ensure!(summary.dropped() > 0, "nothing was lost: this run proves nothing");
    check_stream(&summary)?;
    ensure!(summary.findings.is_empty(), "accused under loss: {:?}", summary.findings);
    Ok(())
}

/// One line when the programs are loaded, one rate-limited line when records are lost.
pub(crate) fn log_lines(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let Ended { summary, log } = overflow(guest, "log")?;
    let hello = log.lines().find(|line| line.contains("programs loaded: wire version 1"));
    hello.context("the programs' first line is not in the daemon's log")?;
    let drops = log.lines().filter(|line| line.contains("ring full on cpu")).count();
    facts.insert("lost".into(), summary.dropped().into());
    facts.insert("drop_lines".into(), drops.into());
    ensure!(drops > 0, "{} records were lost and no line says so", summary.dropped());
    // One per second and CPU, begun seconds included.
    let cpus = summary.stream.cpus.len();
    let lines_max = (summary.seconds.ceil() + 1.0) * f64::from(u32::try_from(cpus)?);
    let lines = f64::from(u32::try_from(drops)?);
    ensure!(lines <= lines_max, "{drops} lines in {:.1} s on {cpus} CPUs", summary.seconds);
    Ok(())
}
