//! Attaches the programs by the `PROBES` table, each on its own: one that fails costs only what it
//! witnesses, and says why.

use std::{
    error::Error,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::{
    Btf as KernelBtf, Ebpf,
    programs::{FEntry, FExit, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};

use super::{KernelError, TotalsError, btf::Btf, module::ModuleProbes, offsets::Constants};
use crate::{
    event::ProbeId,
    host::Host,
    probes::{Hook, PROBES, Presence, Probe},
};

/// The first kernel that skips, and counts, hits of a program that already runs on the CPU.
pub const GUARDED_FROM: (u32, u32) = (5, 12);

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is attached.
    Attached,
    /// This kernel has no such function, and need not: the table says what stands in.
    Absent(&'static str),
    /// It could not be attached: what it witnesses is lost.
    Failed(String),
}

/// What is known of the kernel: the programs' constants, its BTF for aya, its BTF.
pub(super) type Known<'a> = (&'a Constants, &'a KernelBtf, &'a Btf<'a>);

/// Loads and attaches every program; a probe's verdict has its index in the table.
///
/// The table begins with begins, so it is gone through from its end: whatever is seen to begin is seen
/// to end, and births, which come last, are of objects whose whole life is watched. Detaching goes
/// the other way round for the same reason.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    constants: &Constants,
    facts: &Btf<'_>,
) -> Result<Vec<Verdict>, KernelError> {
    let btf = KernelBtf::from_sys_fs().map_err(|error| KernelError::Load(reason(&error)))?;
    let mut attach = |probe| attach(ebpf, modules, (constants, &btf, facts), probe);
    let from_the_end = PROBES.iter().rev().map(&mut attach);
    let mut verdicts: Vec<_> = from_the_end.collect();
    verdicts.reverse();
    Ok(verdicts)
}

/// Loads and attaches each program and takes it away again before the next; whether the kernel counts
/// skipped hits is read from the first that attached.
pub(super) fn try_each(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    known: Known<'_>,
) -> (Vec<Verdict>, Option<bool>) {
    let mut misses_counted = None;
    let verdicts = PROBES.iter().map(|probe| {
        let verdict = attach(ebpf, modules, known, probe);
        if verdict != Verdict::Attached {
            return verdict;
        }
        let program = attached_program(ebpf, modules, probe);
        misses_counted =
            misses_counted.or_else(|| Some(program.and_then(recursion_misses).is_some()));
        match unload(ebpf, modules, probe) {
            Ok(()) => Verdict::Attached,
            Err(error) => Verdict::Failed(format!("it cannot be detached: {}", reason(&*error))),
        }
    });
    let verdicts = verdicts.collect();
    (verdicts, misses_counted)
}

fn attach(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    (constants, btf, facts): Known<'_>,
    probe: &Probe,
) -> Verdict {
    if matches!(probe.hook, Hook::Tracepoint | Hook::Kprobe) {
        return Verdict::Absent("stands in where fentry cannot");
    }
    match (facts.has_function(probe.function), probe.presence) {
        (false, Presence::Some(on)) => return Verdict::Absent(on),
        (false, Presence::Always) => {
            let function = probe.function;
            return Verdict::Failed(format!("this kernel's BTF has no function {function}"));
        }
        (true, _) => {}
    }
    if let Some(constant) = constants.lacks(probe.witness) {
        return Verdict::Failed(format!("no BTF of ext4 tells {constant}"));
    }
    match load_and_attach(ebpf, modules, btf, probe) {
        Ok(()) => Verdict::Attached,
        Err(error) => Verdict::Failed(reason(&*error)),
    }
}

fn load_and_attach(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    btf: &KernelBtf,
    probe: &Probe,
) -> Result<(), Box<dyn Error>> {
    if let Some(attached) = modules.attach(probe) {
        return Ok(attached?);
    }
    let program = ebpf.program_mut(probe.program).ok_or("the object has no such program")?;
    match probe.hook {
        Hook::Entry => {
            let program: &mut FEntry = program.try_into()?;
            program.load(probe.function, btf)?;
            program.attach()?;
        }
        Hook::Exit => {
            let program: &mut FExit = program.try_into()?;
            program.load(probe.function, btf)?;
            program.attach()?;
        }
        Hook::Tracepoint | Hook::Kprobe => return Err("not a back end yet".into()),
    }
    Ok(())
}

/// Fails if no program at all is attached, with the first refusal and what may be behind it.
pub(super) fn refuse_if_none(verdicts: &[Verdict], host: &Host) -> Result<(), KernelError> {
    if verdicts.contains(&Verdict::Attached) {
        return Ok(());
    }
    let first = PROBES.iter().zip(verdicts).find_map(|(probe, verdict)| match verdict {
        Verdict::Failed(reason) => Some((probe.program, reason.clone())),
        Verdict::Attached | Verdict::Absent(_) => None,
    });
    let (probe, reason) = first.unwrap_or(("none", "no function exists".to_owned()));
    let hint = format!("; {}", refusal_hint(host.lockdown().as_deref()));
    Err(KernelError::Refused { probe, reason, hint })
}

/// What may be behind a kernel that refuses every program, by its lockdown mode.
pub fn refusal_hint(lockdown: Option<&str>) -> &'static str {
    match lockdown {
        Some("none") | None => {
            "the kernel may be locked down or built without CONFIG_FUNCTION_TRACER"
        }
        Some("confidentiality") => {
            "the kernel is locked down (/sys/kernel/security/lockdown), which refuses them"
        }
        // Integrity lets programs read kernel memory (LOCKDOWN_BPF_READ_KERNEL, 5.4 and later).
        Some(_) => {
            "the kernel is locked down (/sys/kernel/security/lockdown), which may be why, or built \
             without CONFIG_FUNCTION_TRACER"
        }
    }
}

/// Unloads every attached program, which detaches it, and returns which they were.
pub(super) fn detach_all(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    verdicts: &[Verdict],
) -> Vec<ProbeId> {
    let mut detached = Vec::new();
    for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(verdicts) {
        if *verdict != Verdict::Attached {
            continue;
        }
        match unload(ebpf, modules, probe) {
            Ok(()) => detached.push(id),
            Err(error) => log::error!("cannot detach {}: {}", probe.program, reason(&*error)),
        }
    }
    detached
}

fn unload(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    probe: &Probe,
) -> Result<(), Box<dyn Error>> {
    if modules.detach(probe) {
        return Ok(());
    }
    let program = ebpf.program_mut(probe.program).ok_or("the object has no such program")?;
    match probe.hook {
        Hook::Entry => <&mut FEntry>::try_from(program)?.unload()?,
        Hook::Exit => <&mut FExit>::try_from(program)?.unload()?,
        Hook::Tracepoint | Hook::Kprobe => {}
    }
    Ok(())
}

/// Hits that the kernel skipped, per loaded program (`recursion_misses`, from [`GUARDED_FROM`]; a
/// kernel before that skips none).
pub(super) fn misses(
    ebpf: &Ebpf,
    modules: &ModuleProbes,
    verdicts: &[Verdict],
    version: (u32, u32),
) -> Result<Vec<(ProbeId, u64)>, TotalsError> {
    let mut misses = Vec::new();
    for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(verdicts) {
        let loaded = attached_program(ebpf, modules, probe);
        let Some(program) = loaded.filter(|_| *verdict == Verdict::Attached) else { continue };
        match recursion_misses(program) {
            Some(total) => misses.push((id, total)),
            None if version < GUARDED_FROM => {}
            None => return Err(TotalsError::Misses { program: probe.program }),
        }
    }
    Ok(misses)
}

/// The descriptor of a loaded program.
fn attached_program<'a>(
    ebpf: &'a Ebpf,
    modules: &'a ModuleProbes,
    probe: &Probe,
) -> Option<BorrowedFd<'a>> {
    modules.program(probe.program).or_else(|| Some(ebpf.program(probe.program)?.fd().ok()?.as_fd()))
}

fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    let fd = program.as_raw_fd();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("recursion_misses:"))?;
    line.trim().parse().ok()
}

/// Runs the program that writes the first log line.
pub(super) fn run_hello(ebpf: &mut Ebpf) -> Result<(), String> {
    let run = |ebpf: &mut Ebpf| -> Result<(), Box<dyn Error>> {
        let program = ebpf.program_mut("hello").ok_or("the object has no program hello")?;
        let hello: &mut RawTracePoint = program.try_into()?;
        hello.load()?;
        hello.test_run(RawTracePointRunOptions::new())?;
        hello.unload()?;
        Ok(())
    };
    run(ebpf).map_err(|error| reason(&*error))
}

/// An error with its causes in one line; of a verifier's log, the last lines.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    const LOG_LINES_MAX: usize = 6;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    match lines.len() {
        // A refusal without a verifier's log ends with the log's empty title.
        0 | 1 => lines.concat().trim_end_matches(". Verifier output:").to_owned(),
        count => {
            let tail = &lines[count.saturating_sub(LOG_LINES_MAX).max(1)..];
            format!("{} … {}", lines[0], tail.join(" | "))
        }
    }
}
