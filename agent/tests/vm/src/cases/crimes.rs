//! The saboteur's crimes on live io_ends of the real ext4, joined with what the agent found.
//!
//! ```text
//!   for each crime: arm, load until it is committed ──► kernel log: crime, address, time
//!   one `endiod record` over all of them ────────────► findings: rule, keyed hash of an address, times
//!                                                      recording: the key
//! ```
//!
//! Neither side knows of the other. A crime is found if a finding of its rule is of that address and of a
//! life in which it was committed; a finding that belongs to no crime is a failure. `crimes.json` has a
//! row per crime, for the truth table.

pub(crate) mod deadly;
mod join;
pub(super) mod kernel_log;

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use endiod::{
    decode::decode, detect::Rule, event::Body, finding::AddressKey, report::Summary,
    source::trace::Reader,
};
use serde_json::json;

use crate::{
    Facts, Guest,
    agent::Agent,
    workload::{make_room, sync},
};

use join::{Fate, join};
use kernel_log::KernelLog;

const PARAMETERS: &str = "/sys/module/saboteur/parameters";
/// In memory: what is recorded must not show up as ext4 I/O.
const RECORDING: &str = "/tmp/crimes.endiod";
/// How often each crime is committed: each time in a load of its own, and twice where tasks are preempted
/// inside programs, for a hit that the kernel skips then takes all verdicts of that moment with it.
fn times(kernel: &str) -> u64 {
    match kernel {
        "6.1" | "6.12" => 1,
        _ => 2,
    }
}
/// On one in how many opportunities, on average.
const ODDS: u32 = 3;
/// From which age on an io_end is stuck; no load of a healthy guest takes it so long.
const STUCK_AFTER_S: &str = "2";
/// Loads for one time: some wait for an opportunity that not every load has.
const LOADS_MAX: u32 = 4;
/// How long the crime before may take to be over.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of a crime beside its rule.
pub(crate) struct Row {
    crime: &'static str,
    /// Rules that tell of the same act, or of what it does to the io_end.
    beside: &'static [&'static str],
    /// Why its rule may miss it, if it may.
    missed: Option<&'static str>,
}

const fn row(crime: &'static str, beside: &'static [&'static str]) -> Row {
    Row { crime, beside, missed: None }
}

const fn missed(crime: &'static str, why: &'static str) -> Row {
    Row { crime, beside: &[], missed: Some(why) }
}

/// Crimes that come with more than their own rule, or that their rule may miss.
const ROWS: &[Row] = &[
    // Released unconverted, so with its handle.
    row("flag_lost", &["leaked_handle", "unlocked_flag_write"]),
    // Where a watchpoint sees who sets it.
    row("flag_unknown", &["unlocked_flag_write"]),
    // A bio holds a reference, and its worker converts it again.
    row("convert_in_irq", &["bad_reference", "double_process"]),
    // Its worker finds it on the list and converts it again; where it has a watchpoint, the claimer's store.
    row("claim_listed", &["double_process", "unlocked_flag_write"]),
    // Likewise, the claimer's store while a reference is held.
    row("claimed_with_count", &["unlocked_flag_write"]),
    // The reference of a bio that is out, which then ends and releases it again.
    row("put_early", &["missing_bio", "release_twice"]),
    // It never had a bi_end_io.
    row("stray_bio", &["bad_linkage"]),
    // FAILED goes while it is listed, so it is converted.
    row("failed_lost", &["unlocked_flag_write", "convert_after_failed_write"]),
    // Who sets FAILED ends no bio that failed, and converts it before its worker claims it.
    row("convert_failed", &["unlocked_flag_write", "double_process"]),
    Row {
        crime: "listed_silently",
        beside: &["unlocked_flag_write"],
        missed: Some("a count of 0 with references left is taken for a put that was missed"),
    },
    missed("extra_put", "a reference that was taken unseen is taken for a bio's"),
    missed("flag_cleared", "its worker dies before a probe looks: `stuck` tells"),
    missed("flag_rewritten", "no snapshot differs: only where it has a watchpoint"),
    missed("flag_released", "after its release the memory is anybody's"),
];

/// The cores see most crimes: a finding of theirs is never one too many.
const BESIDE_ALL: &str = "oracle_divergence";

impl Row {
    fn of(crime: &str) -> Row {
        let known = ROWS.iter().find(|row| row.crime == crime);
        known.map_or(row("", &[]), |row| Row { ..*row })
    }
}

/// Every crime that this kernel survives and of which there is a rule: committed, and found or missed
/// for a reason; nothing else is found.
pub(crate) fn found_or_named(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let crimes = crimes()?;
    make_room()?;
    for (parameter, value) in [("count", 1), ("odds", ODDS)] {
        set(parameter, &value.to_string())?;
    }
    let mut log = KernelLog::open()?;
    let agent = Agent::record_ages(RECORDING, STUCK_AFTER_S)?;
    let mut committed = Vec::new();
    for (crime, rule) in &crimes {
        // The harness ends a guest that says nothing for long.
        println!("crime {crime}");
        for seed in 1..=times(&guest.kernel) {
            set("seed", &seed.to_string())?;
            commit(crime, hold_ms(crime, rule))?;
            committed.extend(log.crimes()?);
        }
    }
    disarm()?;
    sync();
    let (status, live, said) = agent.signal(libc::SIGTERM)?;
    fs::write(guest.out.join("crimes.summary.json"), &live)?;
    ensure!(status.success(), "endiod record ended with {status}:\n{said}");
    let summary: Summary = serde_json::from_str(&live)?;
    let fates = join(&committed, &summary.findings, key(Path::new(RECORDING))?)?;
    report(guest, facts, &crimes, &fates, &summary)?;
    judge(&crimes, &fates, &summary)
}

/// These crimes, once each and held for so many milliseconds, for who looks at something else than
/// whether each is found.
pub(super) fn commit_each(crimes: &[(&str, u32)]) -> Result<()> {
    for (parameter, value) in [("count", 1), ("odds", ODDS), ("seed", 1)] {
        set(parameter, &value.to_string())?;
    }
    crimes.iter().try_for_each(|(crime, hold_ms)| commit(crime, *hold_ms))?;
    disarm()
}

/// The crimes to commit with their rules, as the module tells them.
fn crimes() -> Result<Vec<(String, String)>> {
    let told =
        fs::read_to_string(format!("{PARAMETERS}/crimes")).context("the saboteur is not loaded")?;
    let mut crimes = Vec::new();
    for line in told.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            [_, _, "may_kill"] => {}
            [crime, rule] if Rule::ALL.iter().any(|known| known.label() == rule) => {
                crimes.push((crime.to_owned(), rule.to_owned()));
            }
            [_, _] => {}
            _ => bail!("the saboteur lists {line:?}"),
        }
    }
    ensure!(!crimes.is_empty(), "no crime has a rule: this proves nothing");
    Ok(crimes)
}

pub(super) fn set(parameter: &str, value: &str) -> Result<()> {
    fs::write(format!("{PARAMETERS}/{parameter}"), value)
        .with_context(|| format!("cannot set the saboteur's {parameter} to {value}"))
}

/// It refuses another crime while one is open.
pub(super) fn arm(crime: &str) -> Result<()> {
    let begun = Instant::now();
    loop {
        match set("crime", crime) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => std::thread::yield_now(),
        }
    }
}

/// Waits until the last crime is over.
pub(super) fn disarm() -> Result<()> {
    set("count", "0")?;
    arm("flag_unknown")
}

/// How long a crime is held where its length is up to us: an age must be seen by a TICK, an fsync must
/// commit its transaction first, a write to the device must be done.
fn hold_ms(crime: &str, rule: &str) -> u32 {
    match (crime, rule) {
        (_, "stuck") => 5_000,
        ("fsync_early" | "dio_uncounted", _) => 1_000,
        _ => 200,
    }
}

/// Arms a crime and loads ext4 until it is committed.
fn commit(crime: &str, hold_ms: u32) -> Result<()> {
    arm(crime)?;
    // The crime before is over.
    set("hold_ms", &hold_ms.to_string())?;
    let dir = Path::new("/mnt/crimes");
    for _ in 0..LOADS_MAX {
        load(dir, crime)?;
        let committed = fs::read_to_string(format!("{PARAMETERS}/committed"))?;
        if committed.trim() == "1" {
            return Ok(());
        }
    }
    // What was committed is judged; the rest did not happen.
    Ok(())
}

/// Synchronous writes to holes, so that each is an io_end to convert; it may fail, which is a crime's
/// point. One thread: where tasks that write are preempted inside a program (7.3), the kernel skips the
/// hits of the others meanwhile, and a third of the crimes goes unjudged.
fn load(dir: &Path, crime: &str) -> Result<()> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    let how = if crime.starts_with("dio_") { "-O" } else { "--buffered" };
    stress(how, dir).status().context("cannot start endiod stress")?;
    sync();
    Ok(())
}

/// The load itself.
fn stress(how: &str, dir: &Path) -> Command {
    let mut command = Command::new("endiod");
    command
        .args(["stress", how, "-t", "1", "-s", "2", "-S", "-o", "2", "-I", "25"])
        .args(["a", "b", "c", "d"].map(|file| dir.join(file)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// What the run's addresses were hashed with.
fn key(recording: &Path) -> Result<AddressKey> {
    let mut reader = Reader::new(fs::File::open(recording)?)?;
    while let Some(record) = reader.next_record()? {
        if let Ok(event) = decode(record)
            && let Body::Host { hash_key, .. } = event.body
        {
            return Ok(AddressKey(hash_key));
        }
    }
    bail!("{} has no HOST record", recording.display())
}

/// Per crime: found of committed; the whole goes to `crimes.json`.
fn report(
    guest: &Guest,
    facts: &mut Facts,
    crimes: &[(String, String)],
    fates: &join::Joined,
    summary: &Summary,
) -> Result<()> {
    let mut rows = Vec::new();
    for (crime, rule) in crimes {
        let of: Vec<&Fate> = fates.of(crime).collect();
        let found = of.iter().filter(|fate| fate.rules.contains(rule)).count();
        let mut beside: Vec<&String> =
            of.iter().flat_map(|fate| &fate.rules).filter(|other| *other != rule).collect();
        beside.sort_unstable();
        beside.dedup();
        facts.insert(crime.clone(), format!("{found} of {}", of.len()).into());
        rows.push(json!({
            "kernel": guest.kernel, "release": summary.kernel, "crime": crime, "rule": rule,
            "committed": of.len(), "found": found, "beside": beside,
            "missed_because": Row::of(crime).missed,
        }));
    }
    let missed: u64 = summary.probes.missed.values().sum();
    facts.insert("hits missed".into(), missed.into());
    let all = json!({
        "rows": rows, "suppressed": summary.suppressed, "missed_hits": summary.probes.missed,
        "of_no_crime": fates.of_no_crime,
    });
    fs::write(guest.out.join("crimes.json"), serde_json::to_vec_pretty(&all)?)?;
    Ok(())
}

fn judge(crimes: &[(String, String)], fates: &join::Joined, summary: &Summary) -> Result<()> {
    let mut wrong = Vec::new();
    for finding in &fates.of_no_crime {
        wrong.push(format!("found and never committed: {finding}"));
    }
    for (crime, rule) in crimes {
        let row = Row::of(crime);
        let of: Vec<&Fate> = fates.of(crime).collect();
        if of.is_empty() {
            wrong.push(format!("{crime} was not committed"));
        }
        let found = of.iter().filter(|fate| fate.rules.contains(rule)).count();
        let skipped = suppressed(summary, rule, |reason| matches!(reason, "misses" | "loss"));
        if found == 0 && row.missed.is_none() && skipped < of.len() as u64 {
            wrong.push(format!("{crime}: none of {} found by {rule}", of.len()));
        }
        for other in of.iter().flat_map(|fate| &fate.rules) {
            let expected = other == rule || other == BESIDE_ALL;
            if !expected && !row.beside.contains(&other.as_str()) {
                wrong.push(format!("{crime} was found by {other} as well"));
            }
        }
    }
    wrong.extend(rules_short_of(crimes, fates, summary));
    wrong.sort_unstable();
    wrong.dedup();
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Rules that found less than was committed, and did not say so: what is neither found nor suppressed
/// was overlooked.
fn rules_short_of(
    crimes: &[(String, String)],
    fates: &join::Joined,
    summary: &Summary,
) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in Rule::ALL.iter().map(|rule| rule.label()) {
        let of_rule =
            crimes.iter().filter(|(crime, its)| its == rule && Row::of(crime).missed.is_none());
        let of_rule: Vec<&Fate> = of_rule.flat_map(|(crime, _)| fates.of(crime)).collect();
        let found = of_rule.iter().filter(|fate| fate.rules.iter().any(|its| its == rule)).count();
        let suppressed = suppressed(summary, rule, |_| true);
        if (found as u64) + suppressed < of_rule.len() as u64 {
            wrong.push(format!(
                "{rule}: {} committed, {found} found, {suppressed} suppressed",
                of_rule.len()
            ));
        }
    }
    wrong
}

/// Verdicts of a rule that were suppressed for such a reason.
fn suppressed(summary: &Summary, rule: &str, is_such: impl Fn(&str) -> bool) -> u64 {
    let told = summary.suppressed.iter().filter(|(what, _)| {
        what.split_once(": ").is_some_and(|(its, reason)| its == rule && is_such(reason))
    });
    told.map(|(_, count)| count).sum()
}
