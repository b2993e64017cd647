//! The fixture module `replica`: loaded, set, run, and what it says of itself in the kernel log.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use endiod::{clock, event::Nanos};

const FILE: &str = "/in/replica.ko";
const PARAMETERS: &str = "/sys/module/replica/parameters";
/// Who writes a number here runs the core so many times, and waits in its umount.
pub(super) const RUN: &str = "/sys/kernel/debug/replica/run";
const RESULT: &str = "/sys/kernel/debug/replica/result";
/// More races than a case's runs can have, and few enough for the kernel's log buffer.
const TOLD_MAX: u32 = 400;
/// How long the kernel log may take to show a line.
const PATIENCE: Duration = Duration::from_secs(90);

/// A core and how it is driven.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Core {
    /// The fsync path marks what it processes.
    pub(super) in_fsync: bool,
    /// QUEUED is set under the lock.
    pub(in super::super) queued_locked: bool,
    /// Windows are held open at random.
    pub(super) widen: bool,
    /// A hang ends once it is certain.
    pub(super) rescue: bool,
}

/// A race as the module saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Race {
    /// Address of the io_end.
    pub(super) io_end: u64,
    /// When, by CLOCK_MONOTONIC.
    pub(super) at: Nanos,
}

/// What the module counted: runs in which each race showed.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Tally {
    pub(super) io_ends: u64,
    pub(super) freed_in_use: u64,
    pub(super) lost_update: u64,
    pub(super) hung: u64,
    /// How often a work put its io_end back.
    pub(super) requeues: u64,
}

/// Loads it, unless it is there, and sets it.
pub(in super::super) fn set(core: Core, seed: u32) -> Result<()> {
    if !Path::new(PARAMETERS).exists() {
        let output = Command::new("insmod").arg(FILE).output().context("cannot start insmod")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "insmod {FILE}: {said}");
    }
    let Core { in_fsync, queued_locked, widen, rescue } = core;
    for (name, value) in [
        ("in_fsync", u32::from(in_fsync)),
        ("queued_locked", u32::from(queued_locked)),
        ("widen", u32::from(widen)),
        ("rescue", u32::from(rescue)),
        ("seed", seed),
        ("hang_ms", 50),
        ("told_max", TOLD_MAX),
    ] {
        let path = Path::new(PARAMETERS).join(name);
        fs::write(&path, value.to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Runs it so many times.
pub(in super::super) fn run(runs: u32) -> Result<Tally> {
    fs::write(RUN, runs.to_string()).context("cannot run the replica")?;
    let text = fs::read_to_string(RESULT).context("cannot read the replica's result")?;
    let number = |name: &str| -> Result<u64> {
        let words = text.split_ascii_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).next();
        value.with_context(|| format!("no {name} in {text:?}"))?.parse().context("not a number")
    };
    ensure!(number("runs")? == u64::from(runs), "{text}");
    Ok(Tally {
        io_ends: number("io_ends")?,
        freed_in_use: number("freed_in_use")?,
        lost_update: number("lost_update")?,
        hung: number("hung")?,
        requeues: number("requeues")?,
    })
}

/// Races of a kind that the log tells from `since` on.
pub(super) fn races(kind: &str, since: Nanos) -> Result<Vec<Race>> {
    let output = Command::new("dmesg").output().context("cannot start dmesg")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line_of = format!("replica: race={kind} ");
    let races = text.lines().filter_map(|line| race(line.split_once(&line_of)?.1));
    let races: Vec<_> = races.filter(|race| race.at >= since).collect();
    ensure!(races.len() < TOLD_MAX as usize, "the log does not tell all of the races");
    Ok(races)
}

/// `run=4 io_end=0xff… at_ns=6031212399 pid=32: …`; a hang names no io_end.
fn race(text: &str) -> Option<Race> {
    let value = |name: &str| {
        let words = text.split([' ', ':']);
        words.filter_map(|word| word.strip_prefix(name)?.strip_prefix('=')).next()
    };
    let address = value("io_end").and_then(|text| text.strip_prefix("0x"));
    let io_end = address.map_or(Some(0), |text| u64::from_str_radix(text, 16).ok())?;
    Some(Race { io_end, at: Nanos(value("at_ns")?.parse().ok()?) })
}

/// Waits until the module has seen a hang.
pub(super) fn wait_for_hang(since: Nanos) -> Result<Nanos> {
    let start = Instant::now();
    loop {
        if let Some(hang) = races("hung", since)?.first() {
            return Ok(hang.at);
        }
        ensure!(start.elapsed() < PATIENCE, "it did not hang");
        std::thread::yield_now();
    }
}

/// Now, in the clock of the races.
pub(super) fn now() -> Nanos {
    clock::monotonic()
}
