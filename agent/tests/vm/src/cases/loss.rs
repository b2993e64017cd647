//! A ring that is far too small, and an agent that is kept from draining it: what is lost is counted
//! to the event, nobody is accused, and once it can drain again it is as if nothing had been.

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;

use super::conservation::{buffered_line, check_stream, settled_scrape};
use crate::{
    Facts, Guest,
    agent::{Agent, Ended},
    http,
    workload::{make_room, stress, sync},
};

/// seen + lost = emitted on every CPU with real loss, and no verdict stands on it. The programs' own
/// words are in the daemon's log: one line when they are loaded, one rate-limited line when records
/// are lost.
pub(crate) fn ring_overflow(guest: &Guest, facts: &mut Facts) -> Result<()> {
    sync();
    let agent = Agent::start(&["--ring-bytes", "4096"])?;
    stress("overflow", &["--buffered", "-t", "20", "-s", "10", "-S", "-o", "2", "-I", "600"])?;
    sync();
    let Ended { summary, log } = agent.stop(guest, "overflow")?;
    facts.insert("emitted".into(), summary.emitted().into());
    facts.insert("lost".into(), summary.dropped().into());
    facts.insert("suppressed".into(), summary.suppressed.values().sum::<u64>().into());
    ensure!(summary.dropped() > 0, "nothing was lost: this run proves nothing");
    check_stream(&summary)?;
    ensure!(summary.findings.is_empty(), "accused under loss: {:?}", summary.findings);
    let hello = log.lines().find(|line| line.contains("programs loaded: wire version 1"));
    hello.context("the programs' first line is not in the daemon's log")?;
    let drops = log.lines().filter(|line| line.contains("ring full on cpu")).count();
    facts.insert("drop_lines".into(), drops.into());
    ensure!(drops > 0, "{} records were lost and no line says so", summary.dropped());
    // One per second and CPU, begun seconds included.
    let cpus = summary.stream.cpus.len();
    let lines_max = (summary.seconds.ceil() + 1.0) * f64::from(u32::try_from(cpus)?);
    let lines = f64::from(u32::try_from(drops)?);
    ensure!(lines <= lines_max, "{drops} lines in {:.1} s on {cpus} CPUs", summary.seconds);
    Ok(())
}

/// Holds less than the heavy load emits, and more than the light one, however long the agent is kept from
/// draining it.
const RING_BYTES: &str = "2097152";
/// A load that no agent needs to hurry for.
const LIGHT: [&str; 8] = ["--buffered", "-t", "4", "-s", "4", "-S", "-o", "2"];

/// What a scrape says of loss and of lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) lost: f64,
    pub(super) no_room: f64,
    /// At the programs' own bounds.
    pub(super) left_out: f64,
    /// Of what skipped returns left in the programs' tables.
    pub(super) swept: f64,
    pub(super) suppressed: f64,
    pub(super) started: f64,
    pub(super) whole: f64,
    pub(super) in_flight: f64,
}

impl Told {
    pub(super) fn by(agent: &Agent) -> Result<Told> {
        let scrape = settled_scrape(agent)?;
        let of = |metric: &str, label: &str| {
            let lines: Vec<_> = scrape.lines().filter(|line| line.contains(label)).collect();
            http::sum(&lines.join("\n"), metric)
        };
        Ok(Told {
            lost: of("endiod_events_lost_total", "stage=\"ring\""),
            no_room: of("endiod_events_lost_total", "reason=\"io_ends\""),
            left_out: of("endiod_events_lost_total", "stage=\"program\""),
            swept: of("endiod_table_swept_total", ""),
            suppressed: of("endiod_violations_suppressed_total", ""),
            started: of("endiod_io_end_started_total", ""),
            whole: of("endiod_io_end_phase_duration_seconds_count", "phase=\"total\""),
            in_flight: of("endiod_io_end_in_flight", ""),
        })
    }
}

/// A consumer that is stopped for the length of a load.
pub(crate) fn stopped_consumer(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let line = buffered_line();
    let agent = Agent::start(&["--ring-bytes", RING_BYTES])?;
    agent.kill(libc::SIGSTOP)?;
    stress("stopped1", &line)?;
    sync();
    agent.kill(libc::SIGCONT)?;
    // What it finds in the ring it takes before it serves a second tick.
    let stopped = Told::by(&agent)?;
    facts.insert("lost".into(), stopped.lost.into());
    ensure!(stopped.lost > 0.0, "nothing was lost, so this proves nothing: {stopped:?}");
    stress("stopped2", &LIGHT)?;
    sync();
    recovers(guest, agent, "stopped", stopped, 0.0, facts).map(drop)
}

/// More io_ends at once than the table holds: the ones that find no room are counted, and nothing that
/// they do later is taken for a crime.
pub(crate) fn full_table(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let line = buffered_line();
    let agent = Agent::start(&["--io-ends-max", "8"])?;
    stress("full1", &line)?;
    sync();
    let full = Told::by(&agent)?;
    facts.insert("no_room".into(), full.no_room.into());
    ensure!(full.no_room > 0.0, "the table was never full, so this proves nothing: {full:?}");
    // One writer that waits for each write has two io_ends at most.
    stress("full2", &["--buffered", "-t", "1", "-s", "2", "-S", "-o", "2"])?;
    sync();
    recovers(guest, agent, "full", full, 0.0, facts).map(drop)
}

/// Ends the agent. Since `stopped`, nothing more was lost, and lives were seen whole as if nothing had
/// been, but for so many that were begun at the address of one whose release had been lost.
pub(super) fn recovers(
    guest: &Guest,
    agent: Agent,
    name: &str,
    stopped: Told,
    in_the_place_of_lost: f64,
    facts: &mut Facts,
) -> Result<Summary> {
    let after = Told::by(&agent)?;
    let summary = agent.stop(guest, name)?.summary;
    let (started, whole) = (after.started - stopped.started, after.whole - stopped.whole);
    facts.insert("started_afterwards".into(), started.into());
    facts.insert("whole_afterwards".into(), whole.into());
    facts.insert("missed".into(), summary.missed().into());
    let losses = |told: Told| (told.lost, told.no_room, told.left_out);
    ensure!(losses(after) == losses(stopped), "it still loses: {stopped:?} {after:?}");
    // A skipped birth leaves what comes after it to an object from before the loss.
    ensure!(
        after.suppressed - stopped.suppressed <= summary.missed() as f64,
        "still suppressed: {stopped:?} {after:?}"
    );
    ensure!(started > 0.0, "no io_end was born afterwards: this run proves nothing");
    let unexplained = started - whole;
    ensure!(
        unexplained.abs() <= summary.missed() as f64 + in_the_place_of_lost,
        "{started} lives began afterwards and {whole} were seen whole, but the kernel skipped {} \
         hits only",
        summary.missed()
    );
    check_stream(&summary)?;
    ensure!(summary.findings.is_empty(), "accused under loss: {:?}", summary.findings);
    Ok(summary)
}
