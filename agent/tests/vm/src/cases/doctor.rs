//! What `doctor` says is what happens, and `selftest` sees what it wrote.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use endiod::{
    detect::{Detectors, Rule},
    doctor::{Answer, Arming, ProbeVerdict, Report},
    event::Backend,
    probes::Witness,
    witnesses::Witnesses,
};

use super::{
    bad_input::{NOBODY, lock_down},
    stop::{drained_to, programs},
};
use crate::{Facts, Guest, agent::Agent};

pub(super) fn endiod(args: &[&str]) -> Result<Output> {
    Command::new("endiod").args(args).output().context("cannot start endiod")
}

/// Runs the doctor in both formats, keeps both pages, and checks the text's form.
pub(super) fn pages(
    guest: &Guest,
    name: &str,
    require: &str,
) -> Result<(Report, String, Option<i32>)> {
    let text = endiod(&["doctor", "--require", require])?;
    let json = endiod(&["doctor", "--require", require, "--format", "json"])?;
    fs::write(guest.out.join(format!("{name}.txt")), &text.stdout)?;
    fs::write(guest.out.join(format!("{name}.json")), &json.stdout)?;
    let stderr = String::from_utf8_lossy(&json.stderr);
    ensure!(text.status.code() == json.status.code(), "the formats end differently: {stderr}");
    let report = serde_json::from_slice(&json.stdout)
        .with_context(|| format!("ended with {} and no page: {stderr}", json.status))?;
    let page = String::from_utf8(text.stdout).context("the page is not UTF-8")?;
    let wide = page.lines().find(|line| line.chars().count() > 100 && line.contains(' '));
    ensure!(wide.is_none(), "a line is wider than 100 columns: {wide:?}");
    Ok((report, page, text.status.code()))
}

/// Generations of the harness's kernels, as read in their binaries.
fn generation(kernel: &str) -> &'static str {
    match kernel {
        "5.10" | "6.1" | "6.1-modular" => "G4c",
        "6.12" => "G4d",
        _ => "G6",
    }
}

pub(crate) fn meets_full(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let start = Instant::now();
    let (report, page, status) = pages(guest, "doctor", "full")?;
    let elapsed = start.elapsed() / 2;
    facts.insert("milliseconds".into(), u64::try_from(elapsed.as_millis())?.into());
    drained_to(before)?;
    ensure!(status == Some(0), "full is not met:\n{page}");
    ensure!(report.basic.answer == Answer::Meets && report.full.answer == Answer::Meets, "{page}");
    ensure!(report.rules.iter().all(|rule| rule.verdict == Arming::Armed), "{page}");
    ensure!(report.devices.iter().any(|device| device.mountpoint == "/mnt"), "{page}");
    let expected = generation(&guest.kernel);
    let told = report.kernel.generations.join(" or ");
    facts.insert("generation".into(), told.clone().into());
    ensure!(told == expected, "{} is {expected}, told {told}:\n{page}", guest.kernel);
    agrees_with_run(guest, facts, &report)
}

/// Of ext4 as a module without BTF it says what stands in, and that the host is degraded and why.
pub(crate) fn says_what_is_assumed(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let (report, page, status) = pages(guest, "doctor", "basic")?;
    ensure!(status == Some(0), "basic is not met:\n{page}");
    ensure!(report.full.answer == Answer::Lacks, "full is met:\n{page}");
    ensure!(report.full.why[0].contains("a module without BTF"), "{:?}", report.full.why);
    let layout = report.kernel.ext4_layout.clone().unwrap_or_default();
    ensure!(layout.contains("64 bytes long"), "it does not say what is assumed:\n{page}");
    ensure!(report.rules.iter().all(|rule| rule.verdict != Arming::Armed), "{page}");
    let in_part = report.rules.iter().filter(|rule| rule.verdict == Arming::InPart).count();
    facts.insert("rules in part".into(), in_part.into());
    let mut detectors = Detectors::new();
    let mut witnesses = Witnesses::all_by(Backend::RawTracepoint);
    witnesses.set(Witness::FlagWrite, Some(Backend::Watchpoint));
    detectors.arm(&witnesses);
    let served = Rule::ALL.iter().filter(|rule| detectors.is_armed(**rule)).count();
    ensure!(
        in_part == served,
        "raw tracepoints and watchpoints serve {served} rules in part:\n{page}"
    );
    let full = endiod(&["doctor", "--require", "full"])?.status;
    ensure!(full.code() == Some(1), "full ends with {full}");
    drained_to(before)?;
    let ok = report.probes.iter().filter(|probe| probe.verdict == ProbeVerdict::Ok).count();
    let run = Agent::start(&[])?.stop(guest, "doctor_run")?.summary.probes;
    facts.insert("ok".into(), ok.into());
    ensure!(ok == run.attached, "told {ok} ok, run attached {}", run.attached);
    Ok(())
}

/// What the doctor said of each probe is what `run` then meets: every probe of the table is attached,
/// or absent because this kernel needs it not.
fn agrees_with_run(guest: &Guest, facts: &mut Facts, report: &Report) -> Result<()> {
    let count = |verdict| report.probes.iter().filter(|probe| probe.verdict == verdict).count();
    let ok = count(ProbeVerdict::Ok);
    let absent = count(ProbeVerdict::NotNeeded) + count(ProbeVerdict::Served);
    facts.insert("ok".into(), ok.into());
    facts.insert("not_needed".into(), absent.into());
    let run = Agent::start(&[])?.stop(guest, "doctor_run")?.summary.probes;
    ensure!(run.failed.is_empty(), "the doctor found all well, run: {:?}", run.failed);
    let told = [u64::try_from(ok)?, u64::try_from(absent)?];
    let met = [u64::try_from(run.attached)?, u64::try_from(run.absent)?];
    ensure!(run.attached > 20, "only {} probes are attached", run.attached);
    ensure!(told == met, "told {told:?} ok and not needed, run met {met:?}");
    let counted: BTreeSet<_> = run.missed.keys().collect();
    ensure!(
        report.programs.misses_counted == Some(!guest.kernel.starts_with("5.10")),
        "misses counted: told {:?}, run has {counted:?}",
        report.programs.misses_counted
    );
    Ok(())
}

/// Who is not root is told that nothing could be told, not that the host lacks anything.
pub(crate) fn without_privileges(_guest: &Guest, _facts: &mut Facts) -> Result<()> {
    let output = Command::new("endiod")
        .args(["doctor", "--require", "basic"])
        .uid(NOBODY)
        .gid(NOBODY)
        .output()?;
    let page = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(2), "ended with {}:\n{page}", output.status);
    for word in ["could not tell", "CAP_BPF", "sudo endiod doctor", "G"] {
        ensure!(page.contains(word), "does not say {word:?}:\n{page}");
    }
    Ok(())
}

pub(crate) fn selftest(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = programs();
    let entries = || -> Result<BTreeSet<_>> {
        Ok(fs::read_dir("/mnt")?.flatten().map(|entry| entry.file_name()).collect())
    };
    let files = entries()?;
    let output = endiod(&["selftest", "--format", "json"])?;
    fs::write(guest.out.join("selftest.json"), &output.stdout)?;
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    ensure!(output.status.code() == Some(0), "ended with {}: {said}", output.status);
    let outcome: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(outcome["seen"] == true && outcome["directory"] == "/mnt", "{outcome}");
    for fact in ["rounds", "fsync_ns"] {
        facts.insert(fact.into(), outcome[fact].clone());
    }
    facts.insert("bios".into(), outcome["life"]["bios"].clone());
    ensure!(outcome["life"]["bios"].as_u64() >= Some(1), "a life without a bio: {outcome}");

    let output = endiod(&["selftest", "--dir", "/mnt"])?;
    let page = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success() && page.contains("a whole life was seen"), "{page}");
    fs::write(guest.out.join("selftest.txt"), &output.stdout)?;
    let output = endiod(&["selftest", "--dir", "/tmp"])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "not on an ext4: ended with {}", output.status);
    ensure!(stderr.contains("/tmp") && stderr.contains("--dir"), "{stderr}");
    ensure!(entries()? == files, "the canary stayed");
    drained_to(before)
}

/// The kernel stays locked down: among the last cases.
pub(crate) fn names_lockdown(guest: &Guest, facts: &mut Facts) -> Result<()> {
    lock_down()?;
    let (report, page, status) = pages(guest, "doctor_locked_down", "basic")?;
    ensure!(status == Some(1), "a locked-down kernel met basic, exit {status:?}:\n{page}");
    ensure!(report.security.lockdown.as_deref() == Some("confidentiality"), "{page}");
    ensure!(page.contains("locked down"), "the cause is not named:\n{page}");
    let lost = |verdict| report.probes.iter().filter(|probe| probe.verdict == verdict).count();
    facts.insert("missing".into(), lost(ProbeVerdict::Missing).into());
    ensure!(lost(ProbeVerdict::Ok) == 0, "some probes attach under lockdown:\n{page}");
    Ok(())
}
