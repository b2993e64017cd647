//! `endiod top` at a kernel that works: who calls fsync, from which cgroup, and what is in flight.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::conservation::buffered_line;
use crate::{
    Facts, Guest,
    patience::until,
    workload::{make_room, stress, sync},
};

/// A second's frame and what a slow machine adds to it.
const PATIENCE: Duration = Duration::from_secs(60);
/// The cgroup that this program, and so its stress, is put into, below the mount.
const CGROUP: &str = "endiod-top-test";
const MOUNT: &str = "/tmp/cgroup";

/// All that a workload wrote through is shown as its process's and its cgroup's, and its io_ends are timed.
pub(crate) fn shows_who_calls_fsync(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let _cgroup = Cgroup::enter()?;
    let mut top = Command::new("endiod")
        .args(["top", "--format", "json", "--findings-dir", "none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start endiod top")?;
    let mut frames = BufReader::new(top.stdout.take().context("no stdout")?).lines();
    let mut next = || -> Result<Value> {
        let line = frames.next().context("top ended by itself")??;
        serde_json::from_str(&line).with_context(|| format!("no frame: {line}"))
    };
    let shown = (|| {
        // By the first one it is attached. Nobody reads while stress runs, so frames are replaced meanwhile.
        let first = next()?;
        ensure!(first["health"]["attached"].as_u64() > Some(0), "nothing is attached: {first}");
        let issued = stress("top", &buffered_line())?;
        sync();
        until(PATIENCE, "its fsyncs are not all shown", || {
            let frame = next()?;
            // What the kernel skipped is told, and shown nowhere else.
            let missed = frame["health"]["missed"].as_u64().unwrap_or(0);
            let is_whole = fsyncs(&by_stress(&frame)) + missed >= issued.sync_file_calls();
            Ok(is_whole.then_some((frame, issued.sync_file_calls())))
        })
    })();
    let stopped = Command::new("kill").args(["-TERM", &top.id().to_string()]).status()?;
    drop(frames);
    let ended = top.wait_with_output()?;
    let log = String::from_utf8_lossy(&ended.stderr);
    ensure!(stopped.success() && ended.status.success(), "it ended with {}: {log}", ended.status);
    let (frame, calls) = shown.with_context(|| format!("endiod top said: {log}"))?;
    fs::write(guest.out.join("top.json"), frame.to_string())?;
    check(&frame, calls, facts)
}

fn check(frame: &Value, calls: u64, facts: &mut Facts) -> Result<()> {
    let rows = frame["devices"][0]["io_end"].as_array().context("no phases")?;
    let total = rows.iter().find(|row| row[0] == "total").context("no phase total")?;
    let lives = total[1]["count"].as_u64().unwrap_or(0);
    let health = &frame["health"];
    let of_stress = by_stress(frame);
    let of_cgroup = rows_of(&frame["cgroups"], |row| in_ours(&row["name"]));
    facts.insert("io_ends".into(), lives.into());
    facts.insert("fsyncs".into(), fsyncs(&of_stress).into());
    ensure!(lives > 0, "no io_end was timed: {frame}");
    ensure!(health["lost"] == 0 && health["findings"] == 0, "{health}");
    let missed = health["missed"].as_u64().unwrap_or(0);
    let seen = calls.saturating_sub(missed)..=calls;
    ensure!(
        of_stress.len() == 1 && seen.contains(&fsyncs(&of_stress)),
        "{calls} issued, {missed} hits missed: {of_stress:?}"
    );
    ensure!(
        of_cgroup.len() == 1 && fsyncs(&of_cgroup) >= *seen.start(),
        "stress has {calls}, its cgroup {of_cgroup:?}"
    );
    Ok(())
}

/// The process of stress: the only one of that name that writes, in the cgroup that it was born in.
fn by_stress(frame: &Value) -> Vec<&Value> {
    rows_of(&frame["processes"], |row| row["name"] == "endiod" && in_ours(&row["cgroup"]))
}

fn rows_of(list: &Value, wanted: impl Fn(&Value) -> bool) -> Vec<&Value> {
    list.as_array().into_iter().flatten().filter(|row| wanted(row)).collect()
}

fn fsyncs(rows: &[&Value]) -> u64 {
    rows.iter().filter_map(|row| row["fsyncs"]["count"].as_u64()).sum()
}

fn in_ours(path: &Value) -> bool {
    path.as_str().is_some_and(|path| path == format!("/{CGROUP}"))
}

/// This program in a cgroup of its own, until it is dropped.
struct Cgroup;

impl Cgroup {
    fn enter() -> Result<Cgroup> {
        fs::create_dir_all(MOUNT)?;
        let mount = Command::new("mount").args(["-t", "cgroup2", "none", MOUNT]).status()?;
        ensure!(mount.success(), "cannot mount cgroup2: {mount}");
        let dir = Path::new(MOUNT).join(CGROUP);
        fs::create_dir_all(&dir)?;
        join(&dir)?;
        Ok(Cgroup)
    }
}

/// Children are born where this program is.
fn join(dir: &Path) -> Result<()> {
    let number = std::process::id().to_string();
    fs::write(dir.join("cgroup.procs"), number).with_context(|| format!("not in {}", dir.display()))
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // The guest is over soon; what stays behind disturbs no other case.
        let _ = join(Path::new(MOUNT));
        let _ = fs::remove_dir(Path::new(MOUNT).join(CGROUP));
        let _ = Command::new("umount").arg(MOUNT).status();
    }
}
