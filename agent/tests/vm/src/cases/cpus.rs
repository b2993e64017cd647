//! Many CPUs, CPUs that come and go, and other tracers on the same functions.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, ensure};

use super::conservation::{self, buffered_line};
use crate::{
    Facts, Guest,
    agent::{Agent, LISTEN_TOO},
    workload::{COMMIT_LINE, make_room, sync},
};

/// What the harness gives this suite.
const CPUS: usize = 8;
const TRACING: &str = "/sys/kernel/tracing";

/// Both workloads, seen from many CPUs.
pub(crate) fn many(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let online = std::thread::available_parallelism()?.get();
    ensure!(online >= CPUS, "{online} CPUs are online, this needs {CPUS}");
    let (_, summary) =
        conservation::watch(guest, "many", facts, &[&COMMIT_LINE, &buffered_line()])?;
    conservation::check_io_ends(&summary)?;
    let emitting = summary.stream.cpus.iter().filter(|cpu| cpu.emitted > 0).count();
    facts.insert("cpus".into(), emitting.into());
    ensure!(emitting > CPUS / 2, "only {emitting} CPUs emitted anything");
    Ok(())
}

/// All but the first go and come back while the load runs.
pub(crate) fn come_and_go(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let over = AtomicBool::new(false);
    let (seen, switched) = std::thread::scope(|scope| {
        let plug = scope.spawn(|| plug_until(&over));
        let seen =
            conservation::watch(guest, "comego", facts, &[&buffered_line(), &buffered_line()]);
        over.store(true, Relaxed);
        let switched = plug.join().map_err(|_| anyhow::anyhow!("the plugger panicked"))??;
        anyhow::Ok((seen, switched))
    })?;
    facts.insert("switched".into(), switched.into());
    ensure!(switched >= 4, "only {switched} CPUs were switched: this proves little");
    conservation::check_io_ends(&seen?.1)
}

/// Takes CPUs away and gives them back, one after the other; all are there at the end.
fn plug_until(over: &AtomicBool) -> Result<u64> {
    let mut switched = 0;
    for cpu in (1..CPUS).cycle() {
        if over.load(Relaxed) {
            break;
        }
        for state in ["0", "1"] {
            let path = format!("/sys/devices/system/cpu/cpu{cpu}/online");
            fs::write(&path, state).with_context(|| format!("cannot write {state} to {path}"))?;
            switched += 1;
        }
    }
    Ok(switched)
}

/// The kernel's own function tracer and a second agent on the same functions: all see all.
pub(crate) fn beside_others(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let write = |file: &str, text: &str| {
        let path = format!("{TRACING}/{file}");
        fs::write(&path, text).with_context(|| format!("cannot write {text} to {path}"))
    };
    write("set_ftrace_filter", "ext4_end_bio ext4_release_io_end ext4_sync_file submit_bio")?;
    write("current_tracer", "function")?;
    let mut both = || {
        let other = Agent::start_at(LISTEN_TOO, &[])?;
        let seen = conservation::watch(guest, "beside", facts, &[&buffered_line()]);
        let other = other.stop(guest, "beside_too")?.summary;
        Ok::<_, anyhow::Error>((seen, other))
    };
    let both = both();
    let traced = fs::read_to_string(format!("{TRACING}/trace"));
    // Whatever came of it: later cases are not traced.
    write("current_tracer", "nop")?;
    write("set_ftrace_filter", "")?;
    let ((seen, other), traced) = (both?, traced?);
    let traced = traced.lines().filter(|line| line.contains("ext4_end_bio")).count();
    facts.insert("traced_bio_ends".into(), traced.into());
    ensure!(traced > 0, "the function tracer saw nothing: this proves nothing");
    let (_, summary) = seen?;
    conservation::check_io_ends(&summary)?;
    conservation::check_io_ends(&other)?;
    sync();
    let born = [summary.io_ends.born, other.io_ends.born];
    ensure!(
        born[0].abs_diff(born[1]) <= summary.missed() + other.missed(),
        "two agents saw {born:?} births"
    );
    Ok(())
}
