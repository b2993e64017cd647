//! A recording made while the kernel is at work tells what the live run told, to the byte.

use std::{fs, process::Command};

use anyhow::{Result, ensure};

use super::conservation::{buffered_line, check_stream};
use crate::{
    Facts, Guest,
    agent::Recorder,
    workload::{COMMIT_LINE, make_room, stress, sync},
};

/// Live and replay print the same summary, as JSON and as bytes; the host replays the file again.
pub(crate) fn replays_to_the_same_summary(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let recorder = Recorder::start(guest, "both")?;
    let path = recorder.path.clone();
    stress("recorded1", &COMMIT_LINE)?;
    let line = buffered_line();
    stress("recorded2", &line)?;
    sync();
    let summary = recorder.stop()?;
    check_stream(&summary)?;
    ensure!(summary.io_ends.born > 0, "no io_end was born: this run proves nothing");
    ensure!(summary.direct_ios.completed > 0, "no direct write completed: this proves nothing");
    let told = summary.stream.program_losses.is_some();
    ensure!(told, "the stream does not tell what the programs left out");
    let names = summary.stream.events.get("task_name").copied().unwrap_or(0);
    facts.insert("tasks_named".into(), names.into());
    ensure!(names > 0, "no task is named");
    ensure!(summary.findings.is_empty(), "findings on a healthy kernel: {:?}", summary.findings);
    let bytes = fs::metadata(&path)?.len();
    let events: u64 = summary.stream.events.values().sum();
    facts.insert("events".into(), events.into());
    facts.insert("bytes".into(), bytes.into());
    let per_event = u32::try_from(bytes).map(f64::from)? / u32::try_from(events).map(f64::from)?;
    facts.insert("bytes_per_event".into(), ((per_event * 10.0).round() / 10.0).into());

    let live = fs::read_to_string(path.with_extension("live.json"))?;
    let replay = ["replay", "--format", "json"];
    let replay = Command::new("endiod").args(replay).arg(&path).output()?;
    let stderr = String::from_utf8_lossy(&replay.stderr);
    ensure!(replay.status.success(), "endiod replay ended with {}: {stderr}", replay.status);
    let told = String::from_utf8_lossy(&replay.stdout);
    ensure!(told == live, "the replay tells something else\nlive   {live}\nreplay {told}");
    Ok(())
}
