//! A kernel that refuses tracing programs, as some hosts do for good: the agent takes the next back end
//! for each hook, says why, and sees what that sees.

use anyhow::{Result, ensure};
use endiod::doctor::{Answer, ProbeVerdict};

use super::{doctor, native};
use crate::{
    Facts, Guest,
    hindrance::{KPROBE, Refusal, TRACING},
    workload::make_room,
};

/// Enough of each for a balance.
const DIRECT: [&str; 8] = ["-t", "8", "-s", "2", "-O", "-S", "-o", "2"];
const BUFFERED: [&str; 8] = ["--buffered", "-t", "8", "-s", "2", "-S", "-o", "2"];

/// Whose list of security modules has no place for a program.
pub(crate) fn where_a_program_may_refuse(kernel: &str) -> Option<&'static str> {
    (kernel == "5.10").then_some("this kernel asks no program whether to load another")
}

/// How the kernel says it.
const REFUSAL: &str = "Operation not permitted";

/// Without fentry: raw tracepoints, and kprobes for what they do not see.
pub(crate) fn tracing(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let _refusal = Refusal::of(TRACING)?;
    falls_back(guest, "refused", facts)
}

/// Without kprobes too: raw tracepoints alone.
pub(crate) fn tracing_and_kprobes(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let _refusal = Refusal::of(TRACING | KPROBE)?;
    falls_back(guest, "refused_too", facts)
}

fn falls_back(guest: &Guest, name: &str, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let (report, page, status) = doctor::pages(guest, &format!("doctor_{name}"), "basic")?;
    ensure!(status == Some(0), "basic is not met, exit {status:?}:\n{page}");
    ensure!(report.full.answer == Answer::Lacks, "full is met without fentry:\n{page}");
    let of = |label: &str| report.backends.iter().find(|row| row.backend == label);
    let fentry = of("fentry").filter(|row| row.probes == 0 && row.why.contains(REFUSAL));
    ensure!(fentry.is_some(), "the page does not say that fentry is refused, and why:\n{page}");
    ensure!(
        of("raw_tp").is_some_and(|row| row.probes > 0),
        "raw tracepoints do not serve:\n{page}"
    );
    let ended = native::conserved(guest, name, "auto", [&DIRECT, &BUFFERED], facts)?;
    let said = ended.log.lines().find(|line| line.contains("probes by raw_tp, in place of fentry"));
    ensure!(said.is_some_and(|line| line.contains(REFUSAL)), "no reason is logged: {}", ended.log);
    let ok = report.probes.iter().filter(|probe| probe.verdict == ProbeVerdict::Ok).count();
    let attached = ended.summary.probes.attached;
    ensure!(attached == ok, "the doctor found {ok} probes, run attached {attached}");
    Ok(())
}
