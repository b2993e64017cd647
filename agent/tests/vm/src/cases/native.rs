//! A kernel as it comes, with whatever back end it takes or with raw tracepoints alone: what was written to the device on `/mnt` is
//! what was seen of it. The machine itself has other file systems, so everything is counted by device.

use std::fs;

use anyhow::{Context as _, Result, ensure};

use super::conservation::{buffered_line, check_misses, check_stream, settled_scrape};
use crate::{
    Facts, Guest,
    agent::{Agent, Ended},
    http,
    workload::{COMMIT_LINE, Issued, stress, sync},
};

/// On this machine's own kernel, on a loop device, by the back ends of the agent's choice.
pub(crate) fn loop_device_is_conserved(guest: &Guest, facts: &mut Facts) -> Result<()> {
    loop_device(guest, "native", "auto", facts).map(drop)
}

/// The same by raw tracepoints alone, where the agent's choice is another.
pub(crate) fn conserved_by_raw_tracepoints(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let ended = loop_device(guest, "native_raw_tp", "raw_tp", facts)?;
    let serving = facts.get("back end").and_then(|it| it.as_str()).unwrap_or_default();
    // Watchpoints are beside whatever back end there is.
    let alone = matches!(serving, "raw_tp" | "raw_tp; watchpoint");
    ensure!(alone, "not by raw tracepoints alone, but by {serving}: {}", ended.log);
    Ok(())
}

fn loop_device(guest: &Guest, name: &str, backend: &str, facts: &mut Facts) -> Result<Ended> {
    let buffered = buffered_line();
    conserved(guest, name, backend, [&COMMIT_LINE, &buffered], facts)
}

/// A direct and a buffered workload on the device, and the agent that watched them by that back end.
pub(super) fn conserved(
    guest: &Guest,
    name: &str,
    backend: &str,
    lines: [&[&str]; 2],
    facts: &mut Facts,
) -> Result<Ended> {
    let device = device_on("/mnt")?;
    sync();
    let agent = Agent::start(&["--findings-dir", "none", "--backend", backend])?;
    let [direct, buffered] = lines;
    let issued = [stress(&format!("{name}1"), direct)?, stress(&format!("{name}2"), buffered)?];
    sync();
    let scrape = settled_scrape(&agent)?;
    fs::write(guest.out.join(format!("{name}.prom")), &scrape)?;
    let ended = agent.stop(guest, name)?;
    let summary = &ended.summary;
    let serving = ended.log.lines().filter_map(|line| line.split_once(" probes by "));
    let serving: Vec<_> = serving.map(|(_, by)| by).collect();
    facts.insert("back end".into(), serving.join("; ").into());

    let label = format!("device=\"{device}\"");
    let of_device = |metric: &str| http::sum_with(&scrape, metric, &label);
    let started = of_device("endiod_io_end_started_total");
    let completed = of_device("endiod_io_end_completed_total");
    let fsyncs = of_device("endiod_fsync_duration_seconds_count");
    let calls: u64 = issued.iter().map(Issued::sync_file_calls).sum();
    for (name, count) in [("io_ends", started), ("completed", completed), ("fsyncs", fsyncs)] {
        facts.insert(name.into(), count.into());
    }
    facts.insert("events".into(), summary.emitted().into());
    facts.insert("missed".into(), summary.missed().into());
    check_stream(summary)?;
    check_misses(summary)?;
    let findings = &summary.findings;
    ensure!(findings.is_empty(), "findings on a healthy kernel: {findings:?}");
    ensure!(summary.dropped() == 0, "records were lost, the ring is too small");
    // A skipped hit costs at most one life or one call. Most hits of the slab tracepoints are other
    // allocations of the machine, so lives are the looser balance.
    let missed = f64::from(u32::try_from(summary.missed())?);
    let of_fsyncs = summary.probes.missed.iter().filter(|(name, _)| name.contains("sync_file"));
    let missed_fsyncs = f64::from(u32::try_from(of_fsyncs.map(|it| it.1).sum::<u64>())?);
    let calls = f64::from(u32::try_from(calls)?);
    ensure!(started > 0.0, "no io_end of {device} was seen: this proves nothing");
    ensure!((started - completed).abs() <= missed, "{started} io_ends, {completed} ended");
    ensure!((fsyncs - calls).abs() <= missed_fsyncs, "{calls} fsyncs issued, {fsyncs} seen");
    Ok(ended)
}

/// The kernel's name of the device that is mounted there.
fn device_on(dir: &str) -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().rev().find(|line| line.split(' ').nth(1) == Some(dir));
    let source = line.and_then(|line| line.split(' ').next());
    let source = source.with_context(|| format!("nothing is mounted on {dir}"))?;
    Ok(source.trim_start_matches("/dev/").to_owned())
}
