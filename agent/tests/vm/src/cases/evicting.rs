//! Whoever evicts an inode waits for the io_ends of it, and is named where one of them is stuck.
//!
//! ```text
//!   write, data is held back ─► io_end in flight ─► unlink, close: evicted ─► `stuck` names who waits
//!                                                      │ data is let go
//!                                                      └► the eviction returns, nobody waits any more
//! ```

use std::{
    fs::{self, File},
    io,
    net::SocketAddr,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    process::Command,
    sync::mpsc,
    thread::{Builder, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use endiod::{clock, event::Nanos, report::Evictions};
use serde_json::Value;

use super::stock::rig::Rig;
use crate::{Facts, Guest, agent::Agent, findings, http, workload::sync};

/// In memory.
const FINDINGS: &str = "/tmp/evicting";
/// From which age on an io_end is stuck, seconds.
const STUCK_AFTER_S: &str = "3";
/// What the thread is called that evicts.
const EVICTOR: &str = "evictor";
const CALL: &str = "ext4_evict_inode";
const FILE_BYTES: usize = 64 << 10;

/// By the finding on disk, by what `explain` says of it, and by the totals once it is over.
pub(crate) fn is_named(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let rig = Rig::new()?;
    let agent = Agent::start(&["--findings-dir", FINDINGS, "--stuck-after", STUCK_AFTER_S])?;
    // It has no pages when it is evicted, and is not told.
    let empty = rig.mounted.dir().join("empty");
    File::create(&empty)?;
    fs::remove_file(&empty)?;
    let since = clock::monotonic();
    let path = rig.mounted.dir().join("removed");
    let file = File::create(&path)?;
    file.write_all_at(&[0x5a; FILE_BYTES], 0).context("cannot write to the cache")?;
    rig.hold_data()?;
    begin_writeback(&file)?;
    rig.until_a_write_waits()?;
    fs::remove_file(&path)?;
    let (tid, evictor) = evict(file)?;
    let told = told(guest, facts, since, tid, agent.addr());
    // Whatever was told: nobody can end the thread that waits.
    rig.release_data(false)?;
    evictor.join().map_err(|_| anyhow!("the evicting thread panicked"))?;
    told?;
    sync();
    let summary = agent.stop(guest, "evicting")?.summary;
    rig.mount_the_disk()?.unmount()?;
    let evictions = summary.evictions.context("evictions are not watched")?;
    ensure!(
        evictions == Evictions { started: 1, completed: 1, lost: 0, in_flight: 0 },
        "one file had pages: {evictions:?}"
    );
    let longest_s = summary.durations.get("eviction").context("none was timed")?.max_seconds;
    facts.insert("eviction_ms".into(), ((longest_s * 1e3) as u64).into());
    ensure!(longest_s >= STUCK_AFTER_S.parse()?, "it waited for {longest_s} s only");
    Ok(())
}

/// While it waits.
fn told(guest: &Guest, facts: &mut Facts, since: Nanos, tid: u32, agent: SocketAddr) -> Result<()> {
    let finding = findings::first(Path::new(FINDINGS), "stuck", since.0)?;
    facts.insert("told".into(), finding["what"].clone());
    facts.insert("waits in".into(), stack(tid)?.into());
    names(&finding, tid)?;
    explains(guest, &finding, tid)?;
    shows(agent, &finding, tid)
}

/// Begins to write it back and does not wait.
fn begin_writeback(file: &File) -> Result<()> {
    // SAFETY: the descriptor is open; the call takes plain integers otherwise.
    let status =
        unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    ensure!(status == 0, "sync_file_range: {}", io::Error::last_os_error());
    Ok(())
}

/// Closes the file, which is the last use of its inode, in a thread of its own; which that is.
fn evict(file: File) -> Result<(u32, JoinHandle<()>)> {
    let (told, tid) = mpsc::channel();
    let evictor = Builder::new().name(EVICTOR.into()).spawn(move || {
        // SAFETY: gettid(2) takes nothing and cannot fail.
        let tid = unsafe { libc::gettid() };
        told.send(tid).expect("it is waited for");
        drop(file);
    })?;
    Ok((u32::try_from(tid.recv()?)?, evictor))
}

/// The functions of the kernel that a task waits in, the innermost first, up to the eviction.
fn stack(tid: u32) -> Result<String> {
    let told = fs::read_to_string(format!("/proc/self/task/{tid}/stack"))?;
    let function = |line: &str| Some(line.split_whitespace().last()?.split('+').next()?.to_owned());
    let functions: Vec<String> = told.lines().filter_map(function).collect();
    let evicts = functions.iter().position(|it| it == CALL);
    let evicts = evicts.with_context(|| format!("it does not wait in {CALL}: {functions:?}"))?;
    Ok(functions[..=evicts].join(" "))
}

fn names(finding: &Value, tid: u32) -> Result<()> {
    let waiters = finding["stuck"]["waiters"].as_array().context("a stuck one has waiters")?;
    let is_it = |waiter: &&Value| waiter["tid"] == tid && waiter["call"] == CALL;
    let waiter = waiters.iter().find(is_it).with_context(|| format!("{tid} not in {finding}"))?;
    let (since, at) = (waiter["since_ns"].as_u64(), finding["at_ns"].as_u64());
    ensure!(since < at && since > finding["stuck"]["since_ns"].as_u64(), "{finding}");
    ensure!(finding["stuck"]["waiting"] == 1, "somebody else waits: {finding}");
    Ok(())
}

/// The slice of it goes to the host as well.
fn explains(guest: &Guest, finding: &Value, tid: u32) -> Result<()> {
    let id = finding["id"].as_str().context("a finding has an id")?;
    let slice = findings::slice(Path::new(FINDINGS))?;
    fs::copy(&slice, guest.out.join("evicting.slice"))?;
    let mut explain = Command::new("endiod");
    explain.arg("explain").arg(slice).args(["--finding", id]);
    let output = explain.output().context("cannot start endiod explain")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // Lines end where they are full.
    let sentence = format!("Task {tid} \"{EVICTOR}\" had been in {CALL} for ");
    ensure!(words(&said).contains(&sentence), "it does not say {sentence:?}:\n{said}");
    Ok(())
}

/// So does the agent itself, on the finding's page, while it watches.
fn shows(agent: SocketAddr, finding: &Value, tid: u32) -> Result<()> {
    let id = finding["id"].as_str().context("a finding has an id")?;
    let (status, page) = http::get(agent, &format!("/findings/{id}"))?;
    let sentence = format!("Task {tid} &quot;{EVICTOR}&quot; had been in {CALL} for ");
    ensure!(status == 200 && words(&page).contains(&sentence), "{status}: {page}");
    let (_, all) = http::get(agent, "/")?;
    ensure!(all.contains(&format!("<a href=\"/findings/{id}\">stuck</a>")), "{all}");
    let (status, why) = http::get(agent, &format!("/findings/{id}/trace"))?;
    ensure!(status == 403 && why.contains(FINDINGS), "{status}: {why}");
    Ok(())
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
