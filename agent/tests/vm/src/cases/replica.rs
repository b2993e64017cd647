//! The agent watches the completion core of 2012 on the guest's kernel: the fixture module `replica`.
//!
//! The module counts its own races and says them in the kernel log; what the agent said is joined with
//! that afterwards. The last case leaves a writer behind that no signal ends, and a worker that runs for
//! ever.

mod join;
pub(super) mod module;

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;

use crate::{Facts, Guest, agent::Agent, http};
use join::{Joined, Told};
use module::{Core, Tally};

/// In memory: a recording of the replica must not be taken for one of the healthy ones in /out.
const RECORDING: &str = "/tmp/replica.endiod";
/// Longest time until what must happen has happened.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long an io_end must have been stuck to be called so, seconds.
const STUCK_S: f64 = 5.0;
/// After how long the agent tells of it, seconds; well before.
const STUCK_AFTER_S: &str = "2";

const UNFIXED: Core = Core { in_fsync: false, queued_locked: false, widen: false, rescue: true };
const FIXED: Core = Core { in_fsync: true, queued_locked: true, ..UNFIXED };
/// Where the fsync path and the worker meet more often.
pub(super) const FIXED_WIDENED: Core = Core { widen: true, ..FIXED };
/// The second half of the fix is missing.
pub(super) const QUEUED_UNLOCKED: Core = Core { in_fsync: true, widen: true, ..UNFIXED };
/// The first half of the fix is missing.
const NO_IN_FSYNC: Core = Core { queued_locked: true, ..UNFIXED };

pub(crate) fn only_where_modules_have_btf(kernel: &str) -> Option<&'static str> {
    kernel
        .starts_with("5.10")
        .then_some("modules have no BTF before 5.11, and the replica no other way")
}

/// What was seen of some runs of a core.
struct Watched {
    tally: Tally,
    summary: Summary,
    joined: Joined,
}

/// Runs a core under the agent and joins what both said of io_ends that were freed in use.
fn watch(core: Core, seed: u32, runs: u32) -> Result<Watched> {
    module::set(core, seed)?;
    remove(RECORDING)?;
    let agent = Agent::record_replica(RECORDING)?;
    let since = module::now();
    let tally = module::run(runs)?;
    let (status, live, log) = agent.signal(libc::SIGTERM)?;
    ensure!(status.success(), "endiod record ended with {status}:\n{log}");
    let summary: Summary = serde_json::from_str(&live)?;
    check(&tally, &summary)?;
    replays(&live)?;
    let told = Told::read(&PathBuf::from(RECORDING))?;
    let joined = told.join(&module::races("freed_in_use", since)?, &summary)?;
    Ok(Watched { tally, summary, joined })
}

/// All of it was seen, and it is judged as what it is.
fn check(tally: &Tally, summary: &Summary) -> Result<()> {
    let io_ends = &summary.io_ends;
    ensure!(summary.subject.is_some(), "the stream does not say that it is the replica's");
    ensure!(summary.probes.failed.is_empty(), "not attached: {:?}", summary.probes.failed);
    ensure!(summary.dropped() == 0 && summary.missed() == 0, "lost or missed: {summary}");
    let counts = [io_ends.born, io_ends.released, io_ends.bios_ended];
    ensure!(counts == [tally.io_ends; 3], "of {} io_ends {counts:?} were seen", tally.io_ends);
    let judges: Vec<_> = summary.oracle.keys().collect();
    ensure!(judges == ["completed_list"], "it is judged by {judges:?}");
    ensure!(summary.oracle["completed_list"].allowed > tally.io_ends, "little was judged");
    let requeues = summary.stream.events.get("requeue").copied().unwrap_or(0);
    ensure!(requeues == tally.requeues, "of {} requeues {requeues} were seen", tally.requeues);
    Ok(())
}

/// The recording tells what the live run told, to the byte.
fn replays(live: &str) -> Result<()> {
    let replay = Command::new("endiod").args(["replay", "--format", "json", RECORDING]).output()?;
    let told = String::from_utf8_lossy(&replay.stdout);
    ensure!(told == live, "the replay tells something else\nlive   {live}\nreplay {told}");
    Ok(())
}

/// The fixed core, with and without widened windows: not a word.
pub(crate) fn fixed_is_silent(_: &Guest, facts: &mut Facts) -> Result<()> {
    let (mut io_ends, mut judged, mut requeues) = (0, 0, 0);
    for (seed, widen) in [(1, false), (2, true)] {
        let Watched { tally, summary, .. } = watch(Core { widen, ..FIXED }, seed, 1000)?;
        let queued = summary.io_ends.queued;
        ensure!(queued == tally.io_ends, "{queued} of {} io_ends were queued", tally.io_ends);
        let Tally { freed_in_use, lost_update, hung, .. } = tally;
        ensure!([freed_in_use, lost_update, hung] == [0; 3], "the fixed core raced: {tally:?}");
        ensure!(summary.findings.is_empty(), "findings: {:?}", summary.findings);
        ensure!(summary.suppressed.is_empty(), "suppressed: {:?}", summary.suppressed);
        let core = summary.oracle["completed_list"];
        ensure!((core.diverged, core.could_not_tell) == (0, 0), "{core:?}");
        io_ends += tally.io_ends;
        judged += core.allowed;
        requeues += tally.requeues;
        let complete = summary.io_ends.complete;
        ensure!(complete == tally.io_ends, "{complete} of {} lives were whole", tally.io_ends);
    }
    facts.insert("io_ends".into(), io_ends.into());
    facts.insert("events_judged".into(), judged.into());
    facts.insert("requeues".into(), requeues.into());
    ensure!(requeues > 0, "fsync and worker never met: this proves nothing");
    Ok(())
}

/// Bug 1: the work frees what the fsync path processes.
pub(crate) fn bug_1_is_found(_: &Guest, facts: &mut Facts) -> Result<()> {
    for (name, core) in [("unfixed", UNFIXED), ("no_in_fsync", NO_IN_FSYNC)] {
        let joined = find(facts, name, core, 80, 3)?;
        ensure!(joined.accused > 0, "{name}: no rule found any: {joined:?}");
        let unlocked = joined.unlocked > 0;
        ensure!(unlocked != core.queued_locked, "{name}: outside of the lock: {joined:?}");
    }
    Ok(())
}

/// Bug 2: QUEUED, set outside of the lock, takes IN_FSYNC away, and the work frees what is in use.
pub(crate) fn bug_2_is_found_by_what_it_frees(_: &Guest, facts: &mut Facts) -> Result<()> {
    let joined = find(facts, "queued_unlocked", QUEUED_UNLOCKED, 120, 3)?;
    ensure!(joined.accused > 0, "no rule found any: {joined:?}");
    ensure!(joined.unlocked > 0, "no write outside of the lock was found: {joined:?}");
    Ok(())
}

/// Runs of several seeds, added up; at least one io_end was freed in use, and found. The facts are the
/// runs in which the module saw each race, and what the agent found of the single ones.
fn find(facts: &mut Facts, name: &str, core: Core, runs: u32, seeds: u32) -> Result<Joined> {
    let (mut sum, mut total, mut diverged) = (Joined::default(), Tally::default(), 0);
    for seed in 1..=seeds {
        let Watched { tally, joined, summary } = watch(core, seed, runs)?;
        let Joined { found, accused, over, of_newborns, reborn, masked, unlocked } = joined;
        let told_of = found + over + reborn + masked;
        ensure!(told_of >= tally.freed_in_use, "{joined:?} of {tally:?}");
        sum.masked += masked;
        sum.reborn += reborn;
        sum.unlocked += unlocked;
        diverged += summary.diverged();
        total.requeues += tally.requeues;
        sum.found += found;
        sum.accused += accused;
        sum.over += over;
        sum.of_newborns += of_newborns;
        total.io_ends += tally.io_ends;
        total.freed_in_use += tally.freed_in_use;
        total.lost_update += tally.lost_update;
        total.hung += tally.hung;
    }
    for (fact, value) in [
        ("runs", u64::from(runs * seeds)),
        ("io_ends", total.io_ends),
        ("runs_freed_in_use", total.freed_in_use),
        ("runs_lost_update", total.lost_update),
        ("runs_hung", total.hung),
        ("found", sum.found),
        ("accused", sum.accused),
        ("over_when_freed", sum.over),
        ("of_newborns", sum.of_newborns),
        ("reborn_before_the_claim", sum.reborn),
        ("masked", sum.masked),
        ("requeues", total.requeues),
        ("diverged", diverged),
        ("unlocked", sum.unlocked),
    ] {
        facts.insert(format!("{name}_{fact}"), value.into());
    }
    ensure!(sum.found > 0, "nothing was freed in use: this proves nothing");
    Ok(sum)
}

/// Bug 2: umount waits for an io_end that is in fsync for ever; who waits cannot be killed, and is named.
pub(crate) fn bug_2_hangs_and_is_seen_to(guest: &Guest, facts: &mut Facts) -> Result<()> {
    module::set(Core { rescue: false, ..QUEUED_UNLOCKED }, 1)?;
    let agent = Agent::start_replica(&["--stuck-after", STUCK_AFTER_S])?;
    let since = module::now();
    let mut umount = Command::new("sh")
        .args(["-c", &format!("echo 100000 >{}", module::RUN)])
        .spawn()
        .context("cannot start sh")?;
    let hung_at = module::wait_for_hang(since)?;
    facts.insert("hung_after_ms".into(), (hung_at.since(since).0 / 1_000_000).into());
    let age_s = stuck(&agent)?;
    facts.insert("stuck_s".into(), (age_s as u64).into());
    let state = killed(&mut umount)?;
    facts.insert("who_waits".into(), state.clone().into());
    ensure!(state == "D", "who waits in umount is in state {state} after SIGKILL");
    let ended = agent.stop(guest, "replica_hang")?;
    let io_ends = &ended.summary.io_ends;
    facts.insert("in_flight".into(), io_ends.in_flight.into());
    facts.insert("worker_runs".into(), io_ends.worker_runs.into());
    ensure!(io_ends.in_flight > 0, "nothing is in flight");
    facts.insert("diverged".into(), ended.summary.diverged().into());
    ensure!(ended.summary.diverged() > 0, "no write outside of the lock was found");
    let told = |finding: &&serde_json::Value| {
        finding["rule"] == "stuck" && finding["state"] == "converted"
    };
    let stuck = ended.summary.findings.iter().find(told);
    let stuck = stuck.with_context(|| format!("nobody is told: {:?}", ended.summary.findings))?;
    facts.insert("told".into(), stuck["what"].clone());
    let waiters = stuck["stuck"]["waiters"].as_array().context("a stuck one has waiters")?;
    let is_umount = |it: &serde_json::Value| {
        it["tid"] == umount.id() && it["call"] == "ext4_evict_inode" && it["since_ns"].is_u64()
    };
    ensure!(waiters.iter().any(is_umount), "who unmounts is not named: {stuck}");
    facts.insert("named".into(), waiters.clone().into());
    ensure!(io_ends.worker_runs > 10 * io_ends.born, "its work does not requeue itself");
    Ok(())
}

/// Waits until an io_end whose conversion returned is in flight for long; for how long.
fn stuck(agent: &Agent) -> Result<f64> {
    let start = Instant::now();
    loop {
        let (_, scrape) = http::get(agent.addr(), "/metrics")?;
        let metric = "endiod_io_end_oldest_age_seconds";
        let age_s = http::sum_with(&scrape, metric, "state=\"converted\"");
        if age_s >= STUCK_S {
            return Ok(age_s);
        }
        ensure!(start.elapsed() < PATIENCE, "nothing is seen to be stuck:\n{scrape}");
        std::thread::yield_now();
    }
}

/// The state of a process that was sent SIGKILL, once the signal is pending or it has ended.
fn killed(child: &mut Child) -> Result<String> {
    child.kill().context("cannot send SIGKILL")?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_ascii_whitespace().next());
    Ok(state.context("no state in /proc/PID/stat")?.to_owned())
}

fn remove(path: &str) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
