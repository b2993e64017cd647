//! Crimes at which the kernel stops the task that meets them: an oops, after which a host without
//! `panic_on_oops` goes on and the file system does not. The agent goes on too, and what it found is on
//! disk while tasks hang.
//!
//! Each crime has a file system of its own, which cannot be unmounted any more. With `panic_on_oops` the
//! guest would be gone within microseconds of the crime: no agent in user space can write that down.

use std::{fs, mem, path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::{PARAMETERS, Row, STUCK_AFTER_S, arm, kernel_log::KernelLog, key, set, stress};
use crate::{Facts, Guest, agent::Agent, disk, findings, patience::until};

/// A crime, what tells of it, and the disk that is spent on it.
struct Deadly {
    crime: &'static str,
    rule: &'static str,
    told_by: &'static str,
    device: &'static str,
}

const DEADLY: &[Deadly] = &[
    // Its worker meets a BUG_ON before any probe has looked at the flag.
    Deadly { crime: "flag_cleared", rule: "lost_flag_update", told_by: STUCK, device: "/dev/vdc" },
    // The last: the task dies within the crime, so the saboteur is never through with it.
    Deadly {
        crime: "release_twice_hard",
        rule: "release_twice",
        told_by: "release_twice",
        device: "/dev/vdd",
    },
];

const STUCK: &str = "stuck";

/// In memory, which still works when the disk does not.
const FINDINGS: &str = "/tmp/deadly";
/// How long a crime may take to be committed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each is committed once, and its finding is on disk.
pub(crate) fn told_and_on_disk(guest: &Guest, facts: &mut Facts) -> Result<()> {
    for (parameter, value) in [("count", "1"), ("odds", "1"), ("seed", "1"), ("hold_ms", "200")] {
        set(parameter, value)?;
    }
    let mut log = KernelLog::open()?;
    let args = ["--findings-dir", FINDINGS, "--stuck-after", STUCK_AFTER_S];
    let agent = Agent::start(&args)?;
    let mut told = Vec::new();
    for Deadly { crime, told_by, device, .. } in DEADLY {
        commit(crime, device)?;
        let committed = log.crimes()?;
        let [committed] = &committed[..] else {
            bail!("{crime} was committed {} times", committed.len());
        };
        let finding = findings::first(Path::new(FINDINGS), told_by, committed.at_ns)?;
        facts.insert((*crime).into(), finding["what"].clone());
        told.push((told_by, committed.object, finding));
    }
    drop(agent);
    let key = key(&findings::slice(Path::new(FINDINGS))?)?;
    for (told_by, io_end, finding) in told {
        let hash = format!("{:016x}@", key.hash_of(io_end));
        let object = finding["object"].as_str().context("a finding has an object")?;
        // Another that waits for the same worker may be told in its place.
        let is_of_it = *told_by == STUCK || object.starts_with(&hash);
        ensure!(is_of_it, "the crime was of {hash}, {told_by} says {object}");
    }
    add_to_report(guest)
}

/// Loads a new file system until the crime is committed; who writes there may never return.
fn commit(crime: &str, device: &str) -> Result<()> {
    disk::make(Path::new(device), "-t ext4 -b 4096")?;
    let mounted = disk::mount(Path::new(device), crime, "ext4", "")?;
    let dir = mounted.dir().to_owned();
    // To unmount it would hang.
    mem::forget(mounted);
    arm(crime)?;
    stress("--buffered", &dir).spawn().context("cannot start endiod stress")?;
    until(PATIENCE, &format!("{crime} was not committed"), || {
        let committed = fs::read_to_string(format!("{PARAMETERS}/committed"))?;
        Ok((committed.trim() == "1").then_some(()))
    })
}

/// Their rows, behind those of the other crimes.
fn add_to_report(guest: &Guest) -> Result<()> {
    let path = guest.out.join("crimes.json");
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut report: Value = serde_json::from_slice(&text)?;
    let rows = report["rows"].as_array_mut().context("a report has rows")?;
    for Deadly { crime, rule, told_by, .. } in DEADLY {
        rows.push(json!({
            "kernel": guest.kernel, "crime": crime, "rule": rule, "committed": 1,
            "found": u64::from(rule == told_by), "beside": [told_by],
            "missed_because": Row::of(crime).missed,
        }));
    }
    fs::write(&path, serde_json::to_vec_pretty(&report)?)?;
    Ok(())
}
