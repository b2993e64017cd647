//! ext4 as a module without BTF (5.10): what is left is attached, says that it is degraded, and is
//! conserved.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;

use super::conservation::{buffered_line, check_stream, settled_scrape};
use crate::{
    Facts, Guest,
    agent::{Agent, LISTEN, LISTEN_TOO},
    http,
    workload::{COMMIT_LINE, Issued, make_room, stress, sync},
};

/// What each back end's files are called; `raw_tp` is where the page of kernels looks for it.
const AUTO: &str = "undescribed";
const RAW: &str = "agree_raw_tp";

/// How rules are shown that wait for a layout to fit.
const BY_LAYOUT: &str = "reason=\"layout\"";

pub(crate) fn only_without_btf_of_ext4(kernel: &str) -> Option<&'static str> {
    (kernel != "5.10-modular").then_some("this kernel describes its ext4")
}

/// What the kernel takes, and raw tracepoints alone, over one load: each is conserved, and they agree.
pub(crate) fn is_conserved(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let auto = Agent::start_at(LISTEN, &[])?;
    let raw = Agent::start_at(LISTEN_TOO, &["--backend", "raw_tp"])?;
    let (_, before) = http::get(auto.addr(), "/metrics")?;
    ensure!(
        http::sum_with(&before, "endiod_detector_degraded", BY_LAYOUT) > 0.0
            && http::sum(&before, "endiod_violations_total") == 0.0
            && !before.contains("endiod_violations_total{"),
        "a rule is armed although no io_end was looked at:\n{before}"
    );
    let buffered = buffered_line();
    let issued = [stress("undescribed1", &COMMIT_LINE)?, stress("undescribed2", &buffered)?];
    sync();
    let mut seen = Vec::new();
    for (name, agent) in [(RAW, raw), (AUTO, auto)] {
        let scrape = settled_scrape(&agent)?;
        fs::write(guest.out.join(format!("{name}.prom")), &scrape)?;
        let ended = agent.stop(guest, name)?;
        ensure!(ended.log.contains("a module without BTF"), "it is not said:\n{}", ended.log);
        check(&issued, &ended.summary).context(name)?;
        check_arming(&scrape).context(name)?;
        seen.push(ended.summary);
    }
    let [raw, auto] = [&seen[0], &seen[1]];
    for ((what, by_raw), (_, by_auto)) in common(raw).into_iter().zip(common(auto)) {
        facts.insert(what.into(), vec![by_raw, by_auto].into());
        ensure!(by_raw > 0 && by_raw == by_auto, "{what}: {by_raw}, {by_auto}: {raw}{auto}");
    }
    for (what, summary) in [("raw_tp", raw), ("auto", auto)] {
        let probes = summary.probes.attached;
        facts.insert(format!("probes by {what}"), probes.into());
        facts.insert(format!("events by {what}"), summary.emitted().into());
    }
    let incomplete: u64 = auto.io_ends.incomplete.values().sum();
    facts.insert("puts".into(), auto.io_ends.puts.into());
    facts.insert("incomplete".into(), incomplete.into());
    ensure!(auto.io_ends.puts > 0 && raw.io_ends.puts == 0, "puts are what kprobes add: {auto}");
    // The functions of the phases are the kernel's own, which it describes.
    for phase in ["data_submit", "data_wait", "barrier"] {
        let name = format!("fsync phase {phase}");
        ensure!(auto.durations.contains_key(&name), "{name} is not timed: {auto}");
    }
    Ok(())
}

/// Seen by raw tracepoints, whoever else looks.
fn common(summary: &Summary) -> [(&'static str, u64); 6] {
    let io_ends = &summary.io_ends;
    [
        ("births", io_ends.born),
        ("bios attached", io_ends.bios_attached),
        ("bios done", io_ends.bios_done),
        ("worker runs", io_ends.worker_runs),
        ("listed", io_ends.listed),
        ("fsyncs", summary.fsyncs.completed),
    ]
}

/// What holds of a load that was issued and synced under an agent. 5.10 skips no hit of a raw tracepoint.
pub(super) fn check(issued: &[Issued], summary: &Summary) -> Result<()> {
    let Summary { io_ends, fsyncs, findings, .. } = summary;
    check_stream(summary)?;
    ensure!(findings.is_empty(), "findings on a healthy kernel: {findings:?}");
    ensure!(summary.dropped() == 0, "records were lost, the ring is too small");
    ensure!(io_ends.born > 0 && io_ends.listed > 0, "this run proves nothing: {io_ends:?}");
    // Memory that was born again before its release was traced is released by the birth.
    let deaths = io_ends.released + io_ends.lost;
    ensure!(io_ends.born == deaths, "{} births, {deaths} deaths: {io_ends:?}", io_ends.born);
    ensure!(io_ends.in_flight == 0 && io_ends.adopted == 0, "left or older: {io_ends:?}");
    let bios = [io_ends.bios_attached, io_ends.bios_done];
    ensure!(bios[0] == bios[1], "bios attached and done: {bios:?}: {io_ends:?}");
    let calls: u64 = issued.iter().map(Issued::sync_file_calls).sum();
    let spans = [calls, fsyncs.started, fsyncs.completed];
    ensure!(spans.iter().all(|count| *count == calls), "fsyncs issued, seen: {spans:?}");
    let looks = summary.layout.context("nothing says that the layout is assumed")?;
    ensure!(looks.believed && looks.fits > 0 && looks.misfits == 0, "the layout: {looks:?}");
    Ok(())
}

/// Once an io_end was seen to fit, what raw tracepoints serve is armed, and no rule waits for it.
fn check_arming(scrape: &str) -> Result<()> {
    let waiting = http::sum_with(scrape, "endiod_detector_degraded", BY_LAYOUT);
    ensure!(waiting == 0.0, "{waiting} rules still wait for the layout");
    for rule in ["double_process", "use_after_release", "bad_reference"] {
        let row = format!("rule=\"{rule}\"");
        let mut rows = scrape.lines().filter(|row| row.starts_with("endiod_violations_total{"));
        ensure!(rows.any(|line| line.contains(&row)), "{rule} is not armed:\n{scrape}");
    }
    let of_vda = http::sum_with(scrape, "endiod_io_end_started_total", "device=\"vda\"");
    ensure!(of_vda > 0.0, "no io_end is known to be of vda:\n{scrape}");
    Ok(())
}
