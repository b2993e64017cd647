//! Which process may do what: the daemon nothing, its helper what it still needs.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail, ensure};
use endiod::doctor::{Permission, Privilege, Report};
use rustix::{
    io::Errno,
    thread::{CapabilitySet, remove_capability_from_bounding_set},
};

use super::{
    conservation::settled_scrape,
    stop::{drained_to, programs},
};
use crate::{
    Facts, Guest,
    agent::{Agent, send},
    http,
    workload::{make_room, stress},
};

/// Capabilities by their bits (include/uapi/linux/capability.h).
const CAPABILITIES: [(&str, u32); 4] =
    [("CAP_SYS_ADMIN", 21), ("CAP_SYSLOG", 34), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
/// The sets of capabilities of a thread, as proc(5) names them; the bounding set is no right to anything.
const SETS: [&str; 4] = ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"];

/// Runs a program as root with these capabilities and no others.
fn with_only(capabilities: &[&str], program: &str, args: &[&str]) -> Result<Output> {
    let kept = CAPABILITIES.iter().filter(|(name, _)| capabilities.contains(name));
    let kept = kept.fold(0, |kept, (_, bit)| kept | 1 << bit);
    let lost = CapabilitySet::all().difference(CapabilitySet::from_bits_retain(kept));
    let mut command = Command::new(program);
    command.args(args);
    let drop_them = move || {
        for capability in lost.iter() {
            match remove_capability_from_bounding_set(capability) {
                // Younger than this kernel.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes system calls only, and allocates nothing.
    unsafe { command.pre_exec(drop_them) };
    command.output().with_context(|| format!("cannot start {program}"))
}

/// What a kernel before 5.19 asks of who reads maps.
fn of_maps(guest: &Guest) -> &'static [&'static str] {
    if guest.kernel.starts_with("5.") { &["CAP_BPF"] } else { &[] }
}

/// What the threads of a process may do, by their names; each must be past gaining anything, and filtered.
fn held(pid: u32) -> Result<BTreeSet<(String, String)>> {
    let mut held = BTreeSet::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let word = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.map(str::trim).with_context(|| format!("no {key} in {status}"))
        };
        ensure!(word("NoNewPrivs:")? == "1" && word("Seccomp:")? == "2", "{status}");
        let mut bits = 0;
        for set in SETS {
            bits |= u64::from_str_radix(word(set)?, 16)?;
        }
        let names = CAPABILITIES.iter().filter(|(_, bit)| bits >> bit & 1 == 1);
        let known = names.clone().fold(0, |sum, (_, bit)| sum | 1 << bit);
        ensure!(bits == known, "more than is ever needed: {bits:#x}\n{status}");
        let names: Vec<_> = names.map(|(name, _)| *name).collect();
        held.insert((word("Name:")?.to_owned(), names.join(" ")));
    }
    Ok(held)
}

/// The process that an agent has beside it.
fn helper_of(agent: &Agent) -> Result<u32> {
    for entry in fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse() else { continue };
        // One that is gone is none.
        let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.map(str::trim) == Some(&agent.pid().to_string()) {
            return Ok(pid);
        }
    }
    bail!("the agent has no helper")
}

/// Filters of its system calls (from 5.9).
fn filters(pid: u32) -> Result<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line.context("no count of filters")?.trim().parse().context("no number of filters")
}

/// Sockets that a process has.
fn sockets(pid: u32) -> Result<BTreeSet<String>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))?;
    let links = open.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    let links = links.map(|link| link.to_string_lossy().into_owned());
    Ok(links.filter(|link| link.starts_with("socket:")).collect())
}

/// Whoever takes over the daemon has its user and no capability: the helper is closed to that, and only to that.
fn cannot_be_traced(helper: u32) -> Result<()> {
    let all = CAPABILITIES.map(|(name, _)| name);
    for (program, path) in [("cat", "environ"), ("readlink", "fd/0")] {
        let path = format!("/proc/{helper}/{path}");
        let [refused, told] =
            [with_only(&[], program, &[&path])?, with_only(&all, program, &[&path])?];
        ensure!(!refused.status.success(), "{path} is open to a process without capabilities");
        ensure!(told.status.success(), "{path} is open to nobody, so this proves nothing");
    }
    Ok(())
}

/// Whether there is an address of the kernel's half: sixteen digits or more, the first four `f`.
fn names_an_address(text: &str) -> bool {
    let mut numbers = text.split(|letter: char| !letter.is_ascii_hexdigit());
    numbers.any(|number| number.len() >= 16 && number.to_ascii_lowercase().starts_with("ffff"))
}

fn checked(pid: u32, expected: &[(&str, &[&str])]) -> Result<String> {
    let held = held(pid)?;
    for (name, capabilities) in &held {
        let found = expected.iter().find(|(thread, _)| *thread == "*" || thread == name);
        let (_, wanted) = found.with_context(|| format!("a thread {name} of {pid}"))?;
        ensure!(*capabilities == wanted.join(" "), "{name} of {pid} holds {capabilities}");
    }
    let told = held.into_iter().map(|(name, it)| format!("{name}: {it}"));
    Ok(told.collect::<Vec<_>>().join(", "))
}

/// While it watches, with watchpoints that are put on and taken off by a helper that can do that and no more.
pub(crate) fn kept(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let (all, maps) = (CAPABILITIES.map(|(name, _)| name), of_maps(guest));
    let admin = [&["CAP_SYS_ADMIN"], maps].concat();
    let is_module = Path::new("/sys/module/ext4/initstate").exists();
    let of_helper: &[&str] = if is_module { &all } else { &admin };
    let agent = Agent::start(&[])?;
    let helper = helper_of(&agent)?;
    stress("privileges", &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"])?;
    facts.insert("daemon".into(), checked(agent.pid(), &[("*", maps)])?.into());
    let engine = ("endiod-watch", &["CAP_SYS_ADMIN"][..]);
    facts.insert("helper".into(), checked(helper, &[engine, ("*", of_helper)])?.into());
    // The second refuses to load programs, where nothing is attached again.
    let filters = filters(helper)?;
    ensure!(filters == if is_module { 1 } else { 2 }, "the helper has {filters} filters");
    let sockets = sockets(helper)?;
    ensure!(sockets.len() == 1, "the helper has more than its line: {sockets:?}");
    cannot_be_traced(helper)?;
    // What a terminal or a service manager sends to both is for the daemon.
    send(helper, libc::SIGINT)?;
    send(helper, libc::SIGTERM)?;
    let armed = "endiod_watchpoint_armed_seconds_total";
    let scrape = settled_scrape(&agent)?;
    ensure!(http::sum(&scrape, armed) > 0.0, "no watchpoint was put on");
    for path in ["/", "/metrics", "/healthz", "/readyz"] {
        let (_, served) = http::get(agent.addr(), path)?;
        ensure!(!served.is_empty() && !names_an_address(&served), "{path} has one:\n{served}");
    }
    agent.stop(guest, "privileges")?;

    let agent = Agent::start(&["--watchpoints", "0", "--late-attach", "off"])?;
    let helper = helper_of(&agent)?;
    let told = checked(helper, &[("*", maps)])?;
    facts.insert("helper without watchpoints and late attach".into(), told.into());
    stress("privileges", &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"])?;
    let summary = agent.stop(guest, "privileges_none")?.summary;
    ensure!(summary.io_ends.released > 0, "it saw nothing");
    Ok(())
}

/// A daemon without its helper says so and ends, and the programs are gone.
pub(crate) fn lost_helper(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let agent = Agent::start(&[])?;
    send(helper_of(&agent)?, libc::SIGKILL)?;
    // Signal 0 is none.
    let (status, stdout, log) = agent.signal(0)?;
    facts.insert("exit".into(), status.code().into());
    ensure!(status.code() == Some(2), "it ended with {status}\n{log}");
    let said = log.lines().filter(|line| line.contains("does not answer")).count();
    ensure!(said > 0, "it does not say why:\n{log}");
    ensure!(stdout.contains("\"schema\""), "no last summary but {stdout:?}");
    drained_to(before)?;
    // One that is stopped hears nothing, and goes with its daemon all the same.
    let agent = Agent::start(&[])?;
    send(helper_of(&agent)?, libc::SIGSTOP)?;
    agent.signal(libc::SIGKILL)?;
    drained_to(before)
}

/// With what a row of the doctor's table asks for the feature is there, without it is not.
pub(crate) fn rows_of_doctor(guest: &Guest, facts: &mut Facts) -> Result<()> {
    // As on a host that hides addresses.
    for (knob, value) in [("kptr_restrict", "1"), ("perf_event_paranoid", "2")] {
        fs::write(Path::new("/proc/sys/kernel").join(knob), value)?;
    }
    let all = CAPABILITIES.map(|(name, _)| name);
    let rows = page(guest, "all", &all, &[])?.privileges;
    ensure!(rows.len() >= 3, "few rows: {rows:?}");
    for row in rows {
        let Privilege { feature, needs, capabilities, verdict, .. } = row;
        let of_kprobes = verdict == Permission::NotTried;
        let flags: &[&str] = if of_kprobes { &["--backend", "kprobe"] } else { &[] };
        let lost = |name: &&str| {
            let stands_in = *name == "CAP_SYS_ADMIN" && needs.contains("or CAP_SYS_ADMIN");
            stands_in || capabilities.iter().any(|it| it == name)
        };
        let left: Vec<_> = all.into_iter().filter(|name| !lost(name)).collect();
        let mut verdicts = Vec::new();
        for (name, set) in [("with", &all[..]), ("without", &left)] {
            let report = page(guest, name, set, flags)?;
            let row = report.privileges.into_iter().find(|row| row.feature == feature);
            verdicts.push(row.with_context(|| format!("{feature} is gone"))?);
        }
        let told: Vec<_> = verdicts.iter().map(|row| row.verdict).collect();
        let [_, Privilege { why, .. }] = &verdicts[..] else { bail!("two runs") };
        facts.insert(feature.clone(), why.clone().into());
        ensure!(
            told == [Permission::Ok, Permission::Missing],
            "{feature} with {all:?} and with {left:?}: {verdicts:?}"
        );
    }
    Ok(())
}

fn page(guest: &Guest, name: &str, capabilities: &[&str], flags: &[&str]) -> Result<Report> {
    let args = [&["doctor", "--format", "json"], flags].concat();
    let output = with_only(capabilities, "endiod", &args)?;
    fs::write(guest.out.join(format!("privileges_{name}.json")), &output.stdout)?;
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("no page: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Where its rows differ.
pub(crate) fn only_where_rows_differ(kernel: &str) -> Option<&'static str> {
    let differ = ["5.10", "6.1-modular", "6.18"].contains(&kernel);
    (!differ).then_some("told on 5.10, on 6.1 with ext4 as a module, and on 6.18")
}

/// An agent that takes more CPU than it may lets go of the kernel, says so, and goes on answering.
pub(crate) fn cpu_limit(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let before = programs();
    // No agent that drains takes so little.
    let agent = Agent::start(&["--cpu-max", "0.1"])?;
    let reason = loop {
        stress("cpu", &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"])?;
        let (status, said) = http::get(agent.addr(), "/readyz")?;
        if status != 200 {
            break said;
        }
    };
    facts.insert("said".into(), reason.trim().into());
    ensure!(reason.contains("--cpu-max"), "{reason}");
    drained_to(before)?;
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    ensure!(http::sum(&scrape, "endiod_cpu_limit_exceeded") == 1.0, "{scrape}");
    ensure!(http::get(agent.addr(), "/healthz")?.0 == 200, "it is not healthy");
    let summary = agent.stop(guest, "cpu_limit")?.summary;
    ensure!(summary.findings.is_empty(), "accused on the way: {:?}", summary.findings);
    Ok(())
}
