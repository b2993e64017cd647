//! Attaches the programs that `choice` decides for, each on its own: one that fails costs only what it
//! witnesses, and says why.

use std::{
    error::Error,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd},
};

use aya::{
    Btf as KernelBtf, Ebpf,
    programs::{
        FEntry, FExit, KProbe, PerfEvent, Program, RawTracePoint, RawTracePointRunOptions,
        TestRun as _,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    DryRun, KernelError, Subject, TotalsError,
    btf::Btf,
    choice::{Choice, Verdict, choose, order},
    kprobes::Kprobes,
    module::ModuleProbes,
    offsets::Constants,
    watch::Watchpoints,
};
use crate::{
    event::ProbeId,
    host::Host,
    probes::{Hook, PROBES, Probe},
};

/// The first kernel that skips, and counts, hits of a program that already runs on the CPU.
pub const GUARDED_FROM: (u32, u32) = (5, 12);

/// The first kernel that counts the hits that kprobes and their programs miss; every kernel skips them.
pub const KPROBE_MISSES_FROM: (u32, u32) = (6, 7);

/// What it takes to attach a program.
pub(super) struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    /// ext4's functions, where it is a module.
    modules: &'a mut ModuleProbes,
    kprobes: &'a mut Kprobes,
    watchpoints: &'a mut Watchpoints,
    /// vmlinux's, for the kernel's own functions; or why there is none.
    btf: Result<KernelBtf, String>,
    /// What the kernel describes, ext4's module included.
    facts: &'a Btf<'a>,
    /// What it shows without describing it, and programs that it lacks something for.
    constants: &'a Constants,
    /// Whose functions they are.
    subject: Subject,
}

impl<'a> Attacher<'a> {
    pub(super) fn new(
        ebpf: &'a mut Ebpf,
        modules: &'a mut ModuleProbes,
        kprobes: &'a mut Kprobes,
        watchpoints: &'a mut Watchpoints,
        types: &'a super::Types<'a>,
        constants: &'a Constants,
    ) -> Self {
        let btf = KernelBtf::from_sys_fs().map_err(|error| reason(&error));
        let (facts, subject) = (types.all(), types.subject());
        Attacher { ebpf, modules, kprobes, watchpoints, btf, facts, constants, subject }
    }

    /// Loads and attaches everything that `choice` wants and the kernel takes; a probe's verdict has its
    /// index in the table.
    pub(super) fn attach_all(&mut self, choice: Choice) -> Vec<Verdict> {
        choose(choice, self.existence(), |probe| self.attach(probe))
    }

    /// Loads and attaches each program and takes it away again before the next; whether the kernel
    /// counts skipped hits is read from the first that attached, for kprobes from the first of them.
    pub(super) fn try_each(&mut self, choice: Choice) -> DryRun {
        let (mut misses_counted, mut kprobe_misses_counted) = (None, None);
        let verdicts = choose(choice, self.existence(), |probe| {
            self.attach(probe)?;
            let program = attached_program(self.ebpf, self.modules, probe);
            misses_counted =
                misses_counted.or_else(|| Some(program.and_then(recursion_misses).is_some()));
            if probe.hook == Hook::Kprobe && kprobe_misses_counted.is_none() {
                let missed = self.kprobes.missed(probe.program);
                kprobe_misses_counted = Some(missed.is_some_and(|missed| missed.is_ok()));
            }
            unload(self.ebpf, self.modules, self.kprobes, self.watchpoints, probe)
                .map_err(|error| format!("it cannot be detached: {}", reason(&*error)))
        });
        DryRun { verdicts, misses_counted, kprobe_misses_counted }
    }

    /// Whether this kernel has a probe's function.
    fn existence(&self) -> impl Fn(&Probe) -> bool + use<'a> {
        let (facts, constants, subject) = (self.facts, self.constants, self.subject);
        move |probe| {
            let described = subject.function(probe).is_some_and(|name| facts.has_function(name));
            described || constants.undescribed.contains(probe.function)
        }
    }

    fn attach(&mut self, probe: &Probe) -> Result<(), String> {
        if let Some(why) = self.constants.unusable.get(probe.program) {
            return Err(why.clone());
        }
        self.load_and_attach(probe).map_err(|error| reason(&*error))
    }

    fn load_and_attach(&mut self, probe: &Probe) -> Result<(), Box<dyn Error>> {
        match probe.hook {
            Hook::Entry | Hook::Exit => self.attach_function(probe),
            Hook::Tracepoint => {
                let program: &mut RawTracePoint = program(self.ebpf, probe)?.try_into()?;
                program.load()?;
                program.attach(probe.function)?;
                Ok(())
            }
            Hook::Kprobe => {
                let program: &mut KProbe = program(self.ebpf, probe)?.try_into()?;
                program.load()?;
                self.kprobes.attach(probe.program, program, probe.function)
            }
            Hook::Watchpoint => self.watchpoints.attach(probe.program, self.ebpf),
        }
    }

    /// fentry and fexit: the program is loaded for one function, which its BTF id names.
    fn attach_function(&mut self, probe: &Probe) -> Result<(), Box<dyn Error>> {
        if let Some(attached) = self.modules.attach(probe) {
            return Ok(attached?);
        }
        let btf = self.btf.as_ref().map_err(Clone::clone)?;
        let program = program(self.ebpf, probe)?;
        match probe.hook {
            Hook::Exit => {
                let program: &mut FExit = program.try_into()?;
                program.load(probe.function, btf)?;
                program.attach()?;
            }
            _ => {
                let program: &mut FEntry = program.try_into()?;
                program.load(probe.function, btf)?;
                program.attach()?;
            }
        }
        Ok(())
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, probe: &Probe) -> Result<&'a mut Program, Box<dyn Error>> {
    ebpf.program_mut(probe.program).ok_or_else(|| "the object has no such program".into())
}

/// Whether any program sees anything: watchpoints alone see nothing of a life.
pub fn any_sees(verdicts: &[Verdict]) -> bool {
    let mut rows = PROBES.iter().zip(verdicts);
    rows.any(|(probe, verdict)| *verdict == Verdict::Attached && !probe.is_of_watchpoints())
}

/// Fails if no program at all is attached, with the first refusal and what may be behind it.
pub(super) fn refuse_if_none(verdicts: &[Verdict], host: &Host) -> Result<(), KernelError> {
    if any_sees(verdicts) {
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

/// Unloads every attached program, which detaches it, in the reverse order of attaching; returns which
/// they were.
pub(super) fn detach_all(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    kprobes: &mut Kprobes,
    watchpoints: &mut Watchpoints,
    verdicts: &[Verdict],
) -> Vec<ProbeId> {
    let mut detached = Vec::new();
    for at in order().into_iter().rev().filter(|at| verdicts[*at] == Verdict::Attached) {
        let probe = &PROBES[at];
        match unload(ebpf, modules, kprobes, watchpoints, probe) {
            Ok(()) => detached.extend(u32::try_from(at).map(ProbeId)),
            Err(error) => log::error!("cannot detach {}: {}", probe.program, reason(&*error)),
        }
    }
    detached
}

fn unload(
    ebpf: &mut Ebpf,
    modules: &mut ModuleProbes,
    kprobes: &mut Kprobes,
    watchpoints: &mut Watchpoints,
    probe: &Probe,
) -> Result<(), Box<dyn Error>> {
    if modules.detach(probe) {
        return Ok(());
    }
    kprobes.detach(probe.program);
    if probe.hook == Hook::Watchpoint {
        watchpoints.detach();
    }
    let program = program(ebpf, probe)?;
    match probe.hook {
        Hook::Entry => <&mut FEntry>::try_from(program)?.unload()?,
        Hook::Exit => <&mut FExit>::try_from(program)?.unload()?,
        Hook::Tracepoint => <&mut RawTracePoint>::try_from(program)?.unload()?,
        Hook::Kprobe => <&mut KProbe>::try_from(program)?.unload()?,
        Hook::Watchpoint => <&mut PerfEvent>::try_from(program)?.unload()?,
    }
    Ok(())
}

/// What the kernel counts of an attached program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ProbeTotals {
    pub(super) probe: ProbeId,
    /// Hits that the kernel skipped (`recursion_misses`, from [`GUARDED_FROM`]; a kernel before that skips
    /// none). Those of kprobes are skipped by every kernel and counted from [`KPROBE_MISSES_FROM`], in two
    /// places; where they are not there is no total, not even zero.
    pub(super) missed: Option<u64>,
    pub(super) runs: Runs,
}

/// Runs of a program, where `kernel.bpf_stats_enabled` is 1; else they stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Runs {
    pub(super) count: u64,
    pub(super) nanos: u64,
}

/// The totals of every attached program.
pub(super) fn totals(
    ebpf: &Ebpf,
    modules: &ModuleProbes,
    kprobes: &Kprobes,
    verdicts: &[Verdict],
    version: (u32, u32),
) -> Result<Vec<ProbeTotals>, TotalsError> {
    let mut totals = Vec::new();
    for ((id, probe), verdict) in (0..).map(ProbeId).zip(PROBES).zip(verdicts) {
        let loaded = attached_program(ebpf, modules, probe);
        let Some(program) = loaded.filter(|_| *verdict == Verdict::Attached) else { continue };
        let unreadable = || TotalsError::Misses { program: probe.program };
        let info = fdinfo(program).unwrap_or_default();
        let before_program = match probe.hook {
            Hook::Kprobe => kprobes.missed(probe.program).transpose().map_err(|_| unreadable())?,
            Hook::Entry | Hook::Exit | Hook::Tracepoint | Hook::Watchpoint => Some(0),
        };
        let of_program = number(&info, "recursion_misses:");
        if of_program.is_none() && before_program.is_some() && version >= GUARDED_FROM {
            return Err(unreadable());
        }
        let missed = before_program.zip(of_program).map(|(before, of)| before + of);
        let [count, nanos] =
            ["run_cnt:", "run_time_ns:"].map(|name| number(&info, name).unwrap_or(0));
        totals.push(ProbeTotals { probe: id, missed, runs: Runs { count, nanos } });
    }
    Ok(totals)
}

/// The descriptor of a loaded program, whoever loaded it.
fn attached_program<'a>(
    ebpf: &'a Ebpf,
    modules: &'a ModuleProbes,
    probe: &Probe,
) -> Option<BorrowedFd<'a>> {
    modules.program(probe.program).or_else(|| Some(ebpf.program(probe.program)?.fd().ok()?.as_fd()))
}

fn recursion_misses(program: BorrowedFd<'_>) -> Option<u64> {
    number(&fdinfo(program)?, "recursion_misses:")
}

/// What the kernel shows of a program (`bpf_prog_show_fdinfo`, kernel/bpf/syscall.c).
fn fdinfo(program: BorrowedFd<'_>) -> Option<String> {
    fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()
}

fn number(info: &str, name: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
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
