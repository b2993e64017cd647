//! Where ext4 is a module: the agent waits for a mount, watches, and lets the module go.

use std::{
    fs, io,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use endiod::report::Summary;

use super::{
    conservation::{buffered_line, check_run},
    stop::{drained_to, programs},
    undescribed,
};
use crate::{
    Facts, Guest,
    agent::Agent,
    http,
    workload::{Issued, stress, sync},
};

/// The file system that the harness mounts.
const DEVICE: &std::ffi::CStr = c"/dev/vda";
const MOUNTPOINT: &std::ffi::CStr = c"/mnt";

/// Longest time until what must happen has happened: four times the 15 s that an attachment took in a
/// guest whose machine was busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn only_where_ext4_is_a_module(kernel: &str) -> Option<&'static str> {
    (!kernel.ends_with("-modular"))
        .then_some("ext4 is part of this kernel's image: it always is there")
}

/// Started without ext4 in the kernel: twice it is loaded, mounted, written to, unmounted and removed.
pub(crate) fn follows_the_mounts(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let line = buffered_line();
    follow(guest, facts, &Watched { probes_min: 21.0, line, check: check_run })
}

/// The same of a module without BTF.
pub(crate) fn follows_the_mounts_without_btf(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let line = vec!["--buffered", "-t", "4", "-s", "4", "-S", "-o", "2"];
    follow(guest, facts, &Watched { probes_min: 10.0, line, check: undescribed::check })
}

/// What must be attached, what is written, and what must be seen of it.
struct Watched {
    probes_min: f64,
    line: Vec<&'static str>,
    check: fn(&[Issued], &Summary) -> Result<()>,
}

fn follow(guest: &Guest, facts: &mut Facts, watched: &Watched) -> Result<()> {
    umount()?;
    remove_module()?;
    let before = programs();
    let result = two_lives(guest, facts, watched);
    // Whatever came of it: the cases after this one need the file system.
    let restored = insert_module().and_then(|()| mount());
    result.and(restored)?;
    drained_to(before)
}

fn two_lives(guest: &Guest, facts: &mut Facts, watched: &Watched) -> Result<()> {
    let agent = Agent::start_waiting(&[])?;
    let before = programs();
    ensure!(http::get(agent.addr(), "/healthz")?.0 == 200, "a waiting agent is healthy");
    let mut issued = Vec::new();
    for life in ["first", "second"] {
        wait_until(&agent, "waiting for the first ext4 mount")?;
        ensure!(attached(&agent)? == 0.0, "a probe is shown as attached before the {life} mount");
        insert_module()?;
        let ticks = ticks(&agent)?;
        mount()?;
        let took = wait_until(&agent, "ok")?;
        facts.insert(format!("{life}_attach_ms"), millis(took));
        went_on(&agent, ticks, took)?;
        let probes = attached(&agent)?;
        facts.insert(format!("{life}_attached"), (probes as u64).into());
        ensure!(probes >= watched.probes_min, "only {probes} probes are attached");
        issued.push(write(life, &watched.line)?);
        ensure!(remove_module().is_err(), "ext4 could be removed while it was mounted");
        umount()?;
        let took = wait_until(&agent, "waiting for the first ext4 mount")?;
        facts.insert(format!("{life}_detach_ms"), millis(took));
        drained_to(before)?;
        facts.insert(format!("{life}_removed_ms"), millis(removed()?));
    }
    let ended = agent.stop(guest, "module_life")?;
    facts.insert("events".into(), ended.summary.emitted().into());
    facts.insert("io_ends".into(), ended.summary.io_ends.born.into());
    facts.insert("missed".into(), ended.summary.missed().into());
    (watched.check)(&issued, &ended.summary)
}

/// Writes through the page cache, on files of that life.
fn write(life: &str, line: &[&str]) -> Result<Issued> {
    let issued = stress(&format!("module-{life}"), line)?;
    sync();
    Ok(issued)
}

/// Waits until `/readyz` says that, with 200; how long it took.
fn wait_until(agent: &Agent, state: &str) -> Result<Duration> {
    let start = Instant::now();
    loop {
        let (status, said) = http::get(agent.addr(), "/readyz")?;
        if status == 200 && said.trim() == state {
            return Ok(start.elapsed());
        }
        ensure!(start.elapsed() < PATIENCE, "/readyz says {status} {said:?} and not {state:?}");
        std::thread::yield_now();
    }
}

/// Seconds that the stream has counted.
fn ticks(agent: &Agent) -> Result<f64> {
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    let ticks: Vec<_> = scrape.lines().filter(|line| line.contains("kind=\"tick\"")).collect();
    Ok(http::sum(&ticks.join("\n"), "endiod_events_total"))
}

/// The seconds were counted while the probes were attached, but for those before it began and, on a busy
/// machine, some between.
fn went_on(agent: &Agent, before: f64, took: Duration) -> Result<()> {
    let counted = ticks(agent)? - before;
    let due = (took.as_secs_f64() - 2.0) / 2.0;
    ensure!(counted >= due, "{counted} seconds were counted while attaching took {took:?}");
    Ok(())
}

/// How many probes the scrape shows as attached.
fn attached(agent: &Agent) -> Result<f64> {
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    Ok(http::sum(&scrape, "endiod_probe_attached"))
}

/// Removes the module; its last user may be on its way out.
fn removed() -> Result<Duration> {
    let start = Instant::now();
    while let Err(error) = remove_module() {
        ensure!(start.elapsed() < PATIENCE, "{error:#}");
        std::thread::yield_now();
    }
    Ok(start.elapsed())
}

fn remove_module() -> Result<()> {
    let name = c"ext4";
    // SAFETY: delete_module(2) reads a string that ends with a zero and takes plain flags.
    let status = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    ensure!(status == 0, "cannot remove ext4: {}", io::Error::last_os_error());
    Ok(())
}

/// Loads the module again from where the guest loaded it at its start.
fn insert_module() -> Result<()> {
    if PathBuf::from("/sys/module/ext4").exists() {
        return Ok(());
    }
    let mut modules = fs::read_dir("/vm/modules").context("cannot list /vm/modules")?.flatten();
    let file = modules.find(|entry| entry.file_name().to_string_lossy().ends_with("-ext4.ko"));
    let file = file.context("/vm/modules has no ext4.ko")?.path();
    let output = Command::new("insmod").arg(&file).output().context("cannot start insmod")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "insmod {}: {said}", file.display());
    Ok(())
}

fn mount() -> Result<()> {
    // SAFETY: mount(2) reads three strings that end with a zero; ext4 takes no data.
    let status = unsafe {
        libc::mount(DEVICE.as_ptr(), MOUNTPOINT.as_ptr(), c"ext4".as_ptr(), 0, std::ptr::null())
    };
    ensure!(status == 0, "cannot mount /dev/vda: {}", io::Error::last_os_error());
    Ok(())
}

fn umount() -> Result<()> {
    // SAFETY: umount(2) reads a string that ends with a zero.
    match unsafe { libc::umount(MOUNTPOINT.as_ptr()) } {
        0 => Ok(()),
        _ => bail!("cannot unmount /mnt: {}", io::Error::last_os_error()),
    }
}

fn millis(took: Duration) -> serde_json::Value {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX).into()
}
