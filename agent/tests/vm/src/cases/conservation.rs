//! What the workload issued is what the agent saw, to the event.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;

use crate::{
    Facts, Guest,
    agent::Agent,
    http,
    workload::{COMMIT_LINE, Issued, ran_the_line, stress, sync},
};

/// At most one in so many hits may be skipped by the kernel. None is where programs are not
/// preempted and interrupts do not nest; a preemptible kernel (6.18) skips all hits of a program on
/// a CPU while a task that was preempted inside it waits.
const MISSED_SHARE_MAX: u64 = 10;

/// Whether the kernel counts runs of programs and their time.
pub(super) const RUNS_COUNTED: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The commit's own line: from 5.5 on it reaches direct-I/O completions and fsync, no data io_end.
pub(crate) fn direct(guest: &Guest, facts: &mut Facts) -> Result<()> {
    fs::write(RUNS_COUNTED, "1").context("cannot have runs of programs counted")?;
    let watched = watch(guest, "direct", facts, &[&COMMIT_LINE]);
    fs::write(RUNS_COUNTED, "0")?;
    let (issued, summary) = watched?;
    ran_the_line(&issued[0])?;
    check_direct(&summary, issued[0].direct_writes)?;
    check_runs(&fs::read_to_string(guest.out.join("direct.prom"))?)
}

/// A program told of each of its runs, its rule watched for a while.
fn check_runs(scrape: &str) -> Result<()> {
    let probe = r#"probe="ext4_dio_write_end_io""#;
    let runs = http::sum_with(scrape, "endiod_probe_runs_total", probe);
    let seconds = http::sum_with(scrape, "endiod_probe_run_seconds_total", probe);
    let kind = r#"kind="direct_io_complete_begin""#;
    let told = http::sum_with(scrape, "endiod_events_total", kind);
    ensure!(runs == told && runs > 0.0, "{runs} runs of a program, {told} records of it");
    ensure!(seconds > 0.0, "{runs} runs of a program took no time");
    let rule = r#"rule="direct_io_order""#;
    let active = http::sum_with(scrape, "endiod_detector_active_seconds_total", rule);
    ensure!(active >= 1.0, "the rule of direct writes watched for {active} s");
    Ok(())
}

/// The same pattern through the page cache: io_ends are born.
pub(crate) fn buffered(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let (issued, summary) = watch(guest, "buffered", facts, &[&buffered_line()])?;
    ran_the_line(&issued[0])?;
    check_io_ends(&summary)?;
    ensure!(summary.direct_ios.started == 0, "a buffered write was taken for direct I/O");
    let scrape = fs::read_to_string(guest.out.join("buffered.prom"))?;
    ensure!(!scrape.contains("endiod_probe_run"), "runs are told that the kernel does not count");
    Ok(())
}

/// The commit's line through the page cache.
pub(super) fn buffered_line() -> Vec<&'static str> {
    let rest = COMMIT_LINE.into_iter().filter(|flag| *flag != "-O");
    ["--buffered"].into_iter().chain(rest).collect()
}

/// Runs the workloads under an agent, checks what holds for all of them, and returns what was issued
/// and what was seen.
pub(super) fn watch(
    guest: &Guest,
    name: &str,
    facts: &mut Facts,
    lines: &[&[&str]],
) -> Result<(Vec<Issued>, Summary)> {
    sync();
    let agent = Agent::start(&[])?;
    let mut issued = Vec::new();
    for (run, line) in (1..).zip(lines) {
        issued.push(stress(&format!("{name}{run}"), line)?);
    }
    sync();
    let scrape = settled_scrape(&agent)?;
    fs::write(guest.out.join(format!("{name}.prom")), &scrape)?;
    let ended = agent.stop(guest, name)?;
    note(facts, &ended.summary);
    check_scrape(&scrape, &ended.summary)?;
    check_common(&issued, &ended.summary)?;
    Ok((issued, ended.summary))
}

/// What holds after buffered writes that were issued and synced under one agent.
pub(super) fn check_run(issued: &[Issued], summary: &Summary) -> Result<()> {
    check_common(issued, summary)?;
    check_io_ends(summary)
}

/// What holds after any workload.
fn check_common(issued: &[Issued], summary: &Summary) -> Result<()> {
    check_stream(summary)?;
    check_fsyncs(summary, issued.iter().map(Issued::sync_file_calls).sum())?;
    let Summary { io_ends, findings, .. } = summary;
    check_misses(summary)?;
    ensure!(findings.is_empty(), "findings on a healthy kernel: {findings:?}");
    balanced(summary, "none older than the agent", [io_ends.adopted, 0], &[BIRTH])
}

fn note(facts: &mut Facts, summary: &Summary) {
    let Summary { io_ends, direct_ios, fsyncs, .. } = summary;
    for (name, count) in [
        ("io_ends", io_ends.born),
        ("bios", io_ends.bios_attached),
        ("queued", io_ends.queued),
        ("direct_ios", direct_ios.completed),
        ("fsyncs", fsyncs.completed),
        ("events", summary.emitted()),
        ("lost", summary.dropped()),
        ("missed", summary.missed()),
    ] {
        facts.insert(name.into(), count.into());
    }
}

/// seen + lost = emitted on every CPU, every number once.
pub(crate) fn check_stream(summary: &Summary) -> Result<()> {
    let stream = &summary.stream;
    ensure!(!stream.cpus.is_empty(), "no CPU emitted anything");
    ensure!(stream.malformed == 0, "{} records were malformed", stream.malformed);
    for cpu in &stream.cpus {
        ensure!(
            cpu.seen + cpu.dropped == cpu.emitted
                && cpu.missing == cpu.dropped
                && cpu.duplicates == 0,
            "the stream of a CPU does not add up: {cpu:?}"
        );
    }
    Ok(())
}

/// Few enough hits were skipped for a balance to prove something. Those of the slab tracepoints are not
/// counted: nearly all of them are other allocations of the kernel.
pub(super) fn check_misses(summary: &Summary) -> Result<()> {
    let missed = summary.probes.missed.iter();
    let missed: u64 = missed.filter(|(name, _)| !name.starts_with("tp_kmem_")).map(|it| it.1).sum();
    ensure!(
        missed * MISSED_SHARE_MAX < summary.emitted(),
        "the kernel skipped {missed} of {} hits: too many for a balance to prove anything",
        summary.emitted()
    );
    Ok(())
}

/// Every fsync is seen, and returned without an error.
pub(super) fn check_fsyncs(summary: &Summary, calls: u64) -> Result<()> {
    let fsyncs = &summary.fsyncs;
    ensure!(calls > 0, "the workload caused no fsync");
    balanced(summary, "fsyncs issued = seen", [calls, fsyncs.started], &["ext4_sync_file"])?;
    let spans = [fsyncs.started, fsyncs.completed];
    balanced(summary, "fsyncs started = returned", spans, &["ext4_sync_file_exit"])?;
    ensure!(fsyncs.errors == 0, "fsyncs failed: {fsyncs:?}");
    Ok(())
}

/// Two sides of a balance. They must be equal, but for hits that the kernel skipped because the
/// program was already running on that CPU, and counted: each explains a difference of one.
pub(super) fn balanced(
    summary: &Summary,
    what: &str,
    [left, right]: [u64; 2],
    programs: &[&str],
) -> Result<()> {
    let missed: u64 = programs.iter().filter_map(|name| summary.probes.missed.get(*name)).sum();
    ensure!(
        left.abs_diff(right) <= missed,
        "{what}: {left} and {right} differ by more than the {missed} skipped hits of {programs:?}: \
         {:?} {:?} {:?}, skipped {:?}",
        summary.io_ends,
        summary.direct_ios,
        summary.fsyncs,
        summary.probes.missed
    );
    Ok(())
}

/// What one skipped hit can leave without its other half: the most is a skipped begin of an fsync,
/// with its end and the ends and begins of its four phases. Without a skipped hit nothing is odd.
const ODD_PER_MISS: u64 = 9;

const BIRTH: &str = "ext4_init_io_end_exit";
/// The second is of enciphered files, from 7.0 on.
const ATTACH: [&str; 2] = ["submit_bio", "__blk_crypto_submit_bio"];
const BIO_END: &str = "ext4_end_bio";
const PUTS: [&str; 2] = ["ext4_put_io_end", "ext4_put_io_end_defer"];
const RELEASE: [&str; 2] = ["ext4_release_io_end", "ext4_release_io_end_exit"];

/// The same, and something was deferred.
pub(super) fn check_io_ends(summary: &Summary) -> Result<()> {
    let io_ends = &summary.io_ends;
    ensure!(io_ends.born > 0, "no io_end was born: this run proves nothing");
    ensure!(io_ends.queued > 0, "no conversion was left to the worker: {io_ends:?}");
    ensure!(io_ends.bios_attached > 0, "no bio was attached: {io_ends:?}");
    check_lives(summary)
}

/// born = released, attached = ended, every reference put once, nothing in flight after sync, no
/// event without a start.
pub(super) fn check_lives(summary: &Summary) -> Result<()> {
    let io_ends = &summary.io_ends;
    check_births(summary)?;
    let bios = [io_ends.bios_attached, io_ends.bios_ended];
    balanced(summary, "attached = ended", bios, &[ATTACH[0], ATTACH[1], BIO_END])?;
    let puts = [io_ends.puts, io_ends.born + io_ends.bios_attached];
    balanced(
        summary,
        "a put per reference",
        puts,
        &[BIRTH, ATTACH[0], ATTACH[1], PUTS[0], PUTS[1]],
    )?;
    let odd: u64 = io_ends.orphans.values().chain(io_ends.incomplete.values()).sum();
    ensure!(
        odd <= ODD_PER_MISS * summary.missed(),
        "lives do not fit together: {odd} oddities, but the kernel skipped {} hits only: {io_ends:?}",
        summary.missed()
    );
    check_oracle(summary)
}

/// Both cores judged this kernel and had a run for everything. That takes fentry, the default of every
/// guest; `backends` compares the others without it.
fn check_oracle(summary: &Summary) -> Result<()> {
    ensure!(summary.oracle.len() == 2, "not both cores describe it: {:?}", summary.oracle);
    for (name, core) in &summary.oracle {
        ensure!(core.allowed > 0, "{name} judged nothing: {core:?}");
        ensure!(core.diverged == 0, "{name} diverged: {core:?} {:?}", summary.divergences);
    }
    Ok(())
}

/// born = released, nothing in flight after sync.
fn check_births(summary: &Summary) -> Result<()> {
    let io_ends = &summary.io_ends;
    ensure!(
        io_ends.born + io_ends.adopted == io_ends.released + io_ends.lost + io_ends.in_flight,
        "objects are not conserved: {io_ends:?}"
    );
    let ends = [io_ends.born, io_ends.released];
    balanced(summary, "born = released", ends, &[BIRTH, RELEASE[0], RELEASE[1]])?;
    balanced(summary, "nothing in flight", [io_ends.in_flight, 0], &RELEASE)
}

pub(super) fn check_direct(summary: &Summary, issued: u64) -> Result<()> {
    let seen = &summary.direct_ios;
    let (entry, exit) = ("ext4_file_write_iter", "ext4_file_write_iter_exit");
    let (complete, completed) = ("ext4_dio_write_end_io", "ext4_dio_write_end_io_exit");
    balanced(summary, "issued = started", [issued, seen.started], &[entry])?;
    let spans = [seen.started, seen.completed];
    balanced(summary, "started = completed", spans, &[complete, completed])?;
    balanced(summary, "none left open", [seen.in_flight, 0], &[exit, complete, completed])?;
    // A write that returns and whose completion was skipped is taken for one that was not direct; so is
    // one whose entry was skipped after the return of the one before.
    balanced(summary, "all direct", [seen.not_direct, 0], &[entry, exit, complete, completed])?;
    ensure!(seen.errors == 0, "{issued} direct writes were issued, seen: {seen:?}");
    Ok(())
}

/// A scrape that shows everything up to now: gauges are set once a second, so ask until a new second
/// has been counted.
pub(super) fn settled_scrape(agent: &Agent) -> Result<String> {
    let ticks = |scrape: &str| {
        let line =
            scrape.lines().find(|line| line.starts_with("endiod_events_total{kind=\"tick\"}"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    let (_, first) = http::get(agent.addr(), "/metrics")?;
    loop {
        let (status, scrape) = http::get(agent.addr(), "/metrics")?;
        ensure!(status == 200, "/metrics answered {status}: {scrape}");
        if ticks(&scrape) >= ticks(&first) + 2.0 {
            return Ok(scrape);
        }
        std::thread::yield_now();
    }
}

/// started − completed = in flight, as in the last summary: 0 after sync.
fn check_scrape(scrape: &str, summary: &Summary) -> Result<()> {
    let started = http::sum(scrape, "endiod_io_end_started_total");
    let completed = http::sum(scrape, "endiod_io_end_completed_total");
    let in_flight = http::sum(scrape, "endiod_io_end_in_flight");
    let expected = f64::from(u32::try_from(summary.io_ends.in_flight)?);
    ensure!(
        started - completed == in_flight && in_flight == expected,
        "after sync the scrape shows {started} started, {completed} completed, {in_flight} in \
         flight, the summary {expected}"
    );
    let violations = http::sum(scrape, "endiod_violations_total");
    ensure!(violations == 0.0, "the scrape shows {violations} violations on a healthy kernel");
    ensure!(scrape.contains("endiod_probe_attached"), "the scrape names no probe");
    Ok(())
}
