//! The flight recorder in the daemon: a slice on request, whatever happens to disk and process.

use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    Facts, Guest,
    agent::Agent,
    workload::{make_room, stress, sync},
};

/// A directory in memory: what is kept must not show up as ext4 I/O.
const DIR: &str = "/tmp/findings";
/// How long a slice may take to be written under emulation.
const PATIENCE: Duration = Duration::from_secs(90);

/// A short buffered load.
fn load(name: &str) -> Result<()> {
    stress(name, &["--buffered", "-t", "4", "-s", "1", "-S", "-o", "2"])?;
    sync();
    Ok(())
}

/// Recordings in a directory.
pub(super) fn recordings(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|found| found == "endiod")).collect()
}

/// Asks for a slice, waits until there is one more recording, and says which.
pub(super) fn dump(agent: &Agent, dir: &Path) -> Result<PathBuf> {
    let before = recordings(dir);
    agent.kill(libc::SIGUSR1)?;
    let start = Instant::now();
    loop {
        let new = recordings(dir).into_iter().find(|path| !before.contains(path));
        if let Some(new) = new {
            return Ok(new);
        }
        ensure!(start.elapsed() < PATIENCE, "no slice in {}", dir.display());
        std::thread::yield_now();
    }
}

/// Every recording is whole and replays; how many io_ends were released in them.
pub(super) fn all_replay(dir: &Path) -> Result<u64> {
    let mut released = 0;
    for path in recordings(dir) {
        let replay =
            Command::new("endiod").args(["replay", "--format", "json"]).arg(&path).output()?;
        let stderr = String::from_utf8_lossy(&replay.stderr);
        ensure!(replay.status.success(), "{}: {}: {stderr}", path.display(), replay.status);
        let summary: endiod::report::Summary = serde_json::from_slice(&replay.stdout)?;
        ensure!(summary.findings.is_empty(), "{}: {:?}", path.display(), summary.findings);
        released += summary.io_ends.released;
    }
    Ok(released)
}

/// A slice on request, one after its directory went away, one that began in the middle, and after
/// SIGKILL in the midst of requests every file that is there is whole.
pub(crate) fn a_slice_on_request(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let dir = Path::new(DIR);
    let args = ["--findings-dir", DIR, "--recorder-bytes", "65536"];
    let agent = Agent::start(&args)?;
    load("keep1")?;
    dump(&agent, dir)?;
    fs::remove_dir_all(dir).context("the agent made the directory")?;
    load("keep2")?;
    dump(&agent, dir)?;
    let released = all_replay(dir)?;
    ensure!(released > 0, "the slices hold no life: they prove nothing");
    for _ in 0..5 {
        agent.kill(libc::SIGUSR1)?;
    }
    agent.signal(libc::SIGKILL)?;
    all_replay(dir)?;
    let kept = recordings(dir).len();

    // The next one removes what was half written, and nothing else.
    Agent::start(&args)?.signal(libc::SIGTERM)?;
    let partial = fs::read_dir(dir)?
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|extension| extension == "partial"));
    ensure!(!partial, "a half-written file is left");
    ensure!(recordings(dir).len() == kept, "a whole file was removed");
    facts.insert("slices".into(), kept.into());
    facts.insert("released".into(), released.into());
    Ok(())
}

/// A disk that takes nothing costs the file, not the agent.
pub(crate) fn a_full_disk(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let dir = "/tmp/full";
    fs::create_dir_all(dir)?;
    let (source, target) = (CString::new("none")?, CString::new(dir)?);
    let (kind, size) = (CString::new("tmpfs")?, CString::new("size=4k")?);
    // SAFETY: all four strings are NUL-terminated and live through the call.
    let status = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, size.as_ptr().cast())
    };
    ensure!(status == 0, "cannot mount {dir}: {}", std::io::Error::last_os_error());
    let agent = Agent::start(&["--findings-dir", dir])?;
    load("full1")?;
    agent.kill(libc::SIGUSR1)?;
    load("full2")?;
    let (status, stdout, log) = agent.signal(libc::SIGTERM)?;
    ensure!(status.success(), "endiod ended with {status}:\n{log}");
    ensure!(log.contains("cannot write /tmp/full/slice-"), "the log does not say it:\n{log}");
    ensure!(recordings(Path::new(dir)).is_empty(), "part of a recording is left");
    let summary: endiod::report::Summary = serde_json::from_str(&stdout)?;
    ensure!(summary.io_ends.released > 0, "it did not go on watching: {:?}", summary.io_ends);
    facts.insert("released".into(), summary.io_ends.released.into());
    // SAFETY: the string is NUL-terminated and lives through the call.
    unsafe { libc::umount(target.as_ptr()) };
    Ok(())
}

/// Started in the middle of a load: what is seen to begin is seen to end.
pub(crate) fn attached_under_load(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let (rounds, over) = (AtomicU32::new(0), AtomicBool::new(false));
    let ended = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            while !over.load(Relaxed) {
                stress("underload", &["--buffered", "-t", "8", "-s", "4", "-S", "-o", "2"])?;
                rounds.fetch_add(1, Relaxed);
            }
            anyhow::Ok(())
        });
        // It attaches in the midst of a round, and watches at least one whole round.
        let agent = Agent::start(&[])?;
        let attached_in = rounds.load(Relaxed);
        while rounds.load(Relaxed) < attached_in + 2 && !load.is_finished() {
            std::thread::yield_now();
        }
        over.store(true, Relaxed);
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
        sync();
        agent.stop(guest, "underload")
    })?;
    let summary = ended.summary;
    let (io_ends, fsyncs, missed) = (&summary.io_ends, &summary.fsyncs, summary.missed());
    facts.insert("born".into(), io_ends.born.into());
    facts.insert("adopted".into(), io_ends.adopted.into());
    facts.insert("lost".into(), io_ends.lost.into());
    facts.insert("missed".into(), missed.into());
    ensure!(io_ends.born > 0, "no io_end was born: this run proves nothing");
    ensure!(
        io_ends.lost + io_ends.in_flight <= missed && fsyncs.lost + fsyncs.in_flight <= missed,
        "more was left open than the kernel skipped: {io_ends:?} {fsyncs:?} {:?}",
        summary.probes.missed
    );
    ensure!(summary.findings.is_empty(), "findings on a healthy kernel: {:?}", summary.findings);
    Ok(())
}
