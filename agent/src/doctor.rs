//! What this host lets us observe: facts, then decisions, then a page.
//!
//! ```text
//!  host, devices, source::kernel ──gather──► Facts ──examine──► Report ──► JSON
//!                                                                 └─text──► one page
//! ```
//!
//! `gather` may ask the kernel, `examine` is a function of the facts alone, the page shows nothing that
//! the report has not. It must never say "no" where it could not tell.

mod facts;
mod privileges;
mod report;
mod surroundings;
mod text;

pub use facts::{Attempt, BtfFacts, DoctorError, Ext4Code, Facts, gather};
pub use report::{
    Answer, Arming, Defect, DefectVerdict, Device, Kernel, Permission, Privilege, Probe,
    ProbeVerdict, Programs, Report, Requirement, Rule, SCHEMA, Security,
};

use crate::{
    detect::{self, DETECTORS, Detectors, Need},
    event::Backend,
    oracle::in_step::Protocol,
    pipeline::kernel_facts::{self, Evidence, Shown},
    probes::{self, Hook, PROBES, Presence, Witness},
    source::kernel::{Absence, Verdict, brief, refusal_hint},
    witnesses::Witnesses,
};
use facts::{ext4_is_described, layout_is_assumed};
use privileges::privileges_of;
use surroundings::{defects_of, devices_of, kernel_of, programs_of};

/// What the requirement `basic` wants seen, each by one of these: an io_end from birth to release, and
/// fsync.
pub const BASIC: [&[Witness]; 6] = [
    &[Witness::Birth],
    &[Witness::Attach],
    &[Witness::BioEnd, Witness::BioDone],
    &[Witness::Release],
    &[Witness::FsyncBegin],
    &[Witness::FsyncEnd],
];

/// What births and releases by raw tracepoint cost.
const SLAB_COST: &str = "its slab tracepoints run at every slab allocation of the host, tens of ns each \
                         (--slab-tracepoints off)";

/// What would show all of an ext4 that is a module without BTF.
const BTF_OF_THE_MODULE: &str = "an ext4 module built with BTF, on a kernel from 5.11 on with \
                                 CONFIG_DEBUG_INFO_BTF_MODULES, would show what is degraded";

/// Decides what the facts mean.
pub fn examine(facts: &Facts) -> Report {
    let probes = probes_of(facts);
    let rules = rules_of(facts, &probes);
    let (devices, devices_note) = devices_of(facts);
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        basic: basic(&probes),
        full: full(facts, &probes, &rules),
        fix: fix(facts, &probes),
        kernel: kernel_of(facts),
        security: Security {
            lockdown: facts.lockdown.clone(),
            kptr_restrict: facts.kptr_restrict,
            unprivileged_bpf_disabled: facts.unprivileged_bpf_disabled,
            security_modules: facts.security_modules.clone(),
        },
        privileges: privileges_of(facts),
        backends: backends_of(facts, &probes),
        probes,
        rules,
        programs: programs_of(facts),
        devices,
        devices_note,
        defects: defects_of(facts),
    }
}

fn basic(found: &[Probe]) -> Requirement {
    let (mut lacking, mut unknown) = (Vec::new(), Vec::new());
    for witnesses in BASIC {
        let rows = || {
            let rows = probes::of_kernels().zip(found);
            rows.filter(|(row, _)| witnesses.contains(&row.witness)).map(|(_, probe)| probe)
        };
        let seen = [ProbeVerdict::Ok, ProbeVerdict::Degraded];
        if rows().any(|probe| seen.contains(&probe.verdict)) {
            continue;
        }
        let Some(first) = rows().next() else { continue };
        let untried = rows().any(|probe| probe.verdict == ProbeVerdict::NotTried);
        if untried { &mut unknown } else { &mut lacking }.push(line(first));
    }
    answer(lacking, unknown)
}

fn full(facts: &Facts, found: &[Probe], rules: &[Rule]) -> Requirement {
    let (mut lacking, mut unknown) = (Vec::new(), Vec::new());
    if layout_is_assumed(facts) {
        lacking.push("ext4 is a module without BTF".to_owned());
    }
    let by_fentry =
        probes::of_kernels().zip(found).filter(|(row, _)| row.hook.backend() == Backend::Fentry);
    for (_, probe) in by_fentry {
        match probe.verdict {
            ProbeVerdict::Ok | ProbeVerdict::NotNeeded => {}
            ProbeVerdict::NotTried => unknown.push(line(probe)),
            ProbeVerdict::Missing
            | ProbeVerdict::Degraded
            | ProbeVerdict::Served
            | ProbeVerdict::NotAsked => lacking.push(line(probe)),
        }
    }
    for rule in rules {
        match rule.verdict {
            Arming::Armed => {}
            Arming::InPart => lacking.push(format!("rule {} in part", rule.rule)),
            Arming::Off => lacking.push(format!("rule {} off", rule.rule)),
            Arming::NotTried => unknown.push(format!("rule {} not tried", rule.rule)),
        }
    }
    answer(lacking, unknown)
}

fn line(probe: &Probe) -> String {
    format!("probe {} {}", probe.program, probe.verdict.label())
}

fn answer(lacking: Vec<String>, unknown: Vec<String>) -> Requirement {
    match (lacking.is_empty(), unknown.is_empty()) {
        (false, _) => Requirement { answer: Answer::Lacks, why: lacking },
        (true, false) => Requirement { answer: Answer::Unknown, why: unknown },
        (true, true) => Requirement { answer: Answer::Meets, why: Vec::new() },
    }
}

fn probes_of(facts: &Facts) -> Vec<Probe> {
    let mut found: Vec<_> =
        PROBES.iter().enumerate().map(|(at, probe)| probe_of(facts, at, probe)).collect();
    let missing: Vec<_> = PROBES
        .iter()
        .zip(&found)
        .filter(|(_, probe)| probe.verdict == ProbeVerdict::Missing)
        .map(|(row, _)| row)
        .collect();
    for (row, probe) in PROBES.iter().zip(&mut found) {
        let other_end = |other: &&&probes::Probe| {
            other.function == row.function && other.hook.backend() == row.hook.backend()
        };
        if let Some(other) = missing.iter().find(other_end)
            && probe.verdict == ProbeVerdict::Ok
        {
            probe.verdict = ProbeVerdict::Degraded;
            probe.why = Some(format!("its other end, {}, is missing", other.program));
        }
    }
    // Nobody who asks what a host lets be seen has heard of fixtures.
    let of_kernels = PROBES.iter().zip(found).filter(|(row, _)| !row.is_of_fixture());
    of_kernels.map(|(_, probe)| probe).collect()
}

fn probe_of(facts: &Facts, at: usize, probe: &probes::Probe) -> Probe {
    let (verdict, why) = probe_verdict(facts, at, probe);
    let lost = (verdict == ProbeVerdict::Missing).then(|| probe.loss().to_owned());
    Probe {
        program: probe.program.to_owned(),
        function: probe.function.to_owned(),
        backend: probe.hook.label().to_owned(),
        witnesses: probe.witnesses.to_owned(),
        verdict,
        why,
        lost,
    }
}

fn probe_verdict(
    facts: &Facts,
    at: usize,
    probe: &probes::Probe,
) -> (ProbeVerdict, Option<String>) {
    if let Attempt::Tried(tried) = &facts.attempt {
        return match &tried.verdicts[at] {
            Verdict::Attached => (ProbeVerdict::Ok, None),
            Verdict::Absent(absence) => {
                let verdict = match absence {
                    Absence::NotHere(_) | Absence::NotNeeded(_) => ProbeVerdict::NotNeeded,
                    Absence::Served { .. } => ProbeVerdict::Served,
                    Absence::NotAsked(_) => ProbeVerdict::NotAsked,
                };
                (verdict, Some(absence.to_string()))
            }
            Verdict::Failed(reason) => (ProbeVerdict::Missing, Some(reason.clone())),
        };
    }
    // Which functions exist is known without attaching.
    let exists = facts.btf.as_ref().ok().map(|btf| btf.functions.contains(probe.function));
    let exists = exists.filter(|_| probe.hook != Hook::Tracepoint);
    match (exists, probe.presence, &facts.attempt) {
        (Some(false), Presence::Some(on), _) if ext4_is_described(facts) => {
            (ProbeVerdict::NotNeeded, Some(on.to_owned()))
        }
        (_, _, Attempt::Impossible(why)) => (ProbeVerdict::Missing, Some(why.clone())),
        (_, _, Attempt::NotPermitted(why)) => (ProbeVerdict::NotTried, Some(why.clone())),
        (Some(false), ..) => {
            let why = format!("this kernel shows no function {}", probe.function);
            (ProbeVerdict::Missing, Some(why))
        }
        (Some(true), ..) => {
            (ProbeVerdict::NotTried, Some("the function exists; --no-attach".to_owned()))
        }
        (None, ..) => (ProbeVerdict::NotTried, Some("--no-attach".to_owned())),
    }
}

/// One row per back end: what it serves, why it does not serve more, and what it costs.
fn backends_of(facts: &Facts, probes: &[Probe]) -> Vec<report::Backend> {
    let backends = [Backend::Fentry, Backend::RawTracepoint, Backend::Kprobe, Backend::Watchpoint];
    backends.into_iter().map(|backend| backend_of(facts, probes, backend)).collect()
}

fn backend_of(facts: &Facts, found: &[Probe], backend: Backend) -> report::Backend {
    let rows: Vec<_> =
        probes::of_kernels().zip(found).filter(|(row, _)| row.hook.backend() == backend).collect();
    let attaches =
        |probe: &Probe| matches!(probe.verdict, ProbeVerdict::Ok | ProbeVerdict::Degraded);
    let attached = rows.iter().filter(|(_, probe)| attaches(probe)).count();
    let why_of = |verdict| {
        let row = rows.iter().find(|(_, probe)| probe.verdict == verdict);
        row.and_then(|(_, probe)| probe.why.as_deref())
    };
    let mut why: Vec<String> = Vec::new();
    if let Some(refused) = why_of(ProbeVerdict::Missing).or_else(|| refused(facts, backend)) {
        why.push(format!("refused: {}", brief(refused)));
    } else if attached == 0 {
        let others = [ProbeVerdict::NotTried, ProbeVerdict::NotAsked, ProbeVerdict::Served];
        why.extend(others.into_iter().find_map(why_of).map(str::to_owned));
    }
    let slab = |verdict| rows.iter().any(|(row, probe)| row.is_slab() && probe.verdict == verdict);
    if slab(ProbeVerdict::Ok) {
        why.push(SLAB_COST.to_owned());
    } else if attached > 0 && slab(ProbeVerdict::NotAsked) {
        why.push("--slab-tracepoints off: no io_end is followed from birth to release".to_owned());
    }
    if backend == Backend::Kprobe && attached > 0 {
        why.push("the kernel skips hits of kprobes, so no verdict is certain".to_owned());
    }
    report::Backend { backend: backend.label().to_owned(), probes: attached, why: why.join("; ") }
}

/// Why that back end was refused where another serves in its place.
fn refused(facts: &Facts, backend: Backend) -> Option<&str> {
    let Attempt::Tried(tried) = &facts.attempt else { return None };
    PROBES.iter().zip(&tried.verdicts).find_map(|(row, verdict)| match verdict {
        Verdict::Absent(Absence::Served { refused: Some(reason), .. })
            if row.hook.backend() == backend =>
        {
            Some(&**reason)
        }
        _ => None,
    })
}

/// Armed as the pipeline arms: by what the probes that attach witness.
fn rules_of(facts: &Facts, found: &[Probe]) -> Vec<Rule> {
    let attached = probes::of_kernels()
        .zip(found)
        .filter(|(_, probe)| matches!(probe.verdict, ProbeVerdict::Ok | ProbeVerdict::Degraded));
    let witnesses = Witnesses::of(attached.map(|(row, _)| row));
    let known = facts_known(facts, found, &witnesses);
    let mut detectors = Detectors::new();
    detectors.arm(&witnesses);
    detectors.know(known);
    let tried = !matches!(facts.attempt, Attempt::Skipped | Attempt::NotPermitted(_));
    let names = |needs: &mut dyn Iterator<Item = Need>| {
        let mut names: Vec<_> = needs.map(|need| need.name().to_owned()).collect();
        names.dedup();
        names
    };
    DETECTORS
        .iter()
        .map(|detector| {
            let needs = detector.needs().iter().copied();
            let unmet = |need: &Need| !need.is_met(&witnesses);
            let lacks = names(
                &mut needs.clone().filter(|need| tried && (unmet(need) || !need.is_known(known))),
            );
            let all_met = !needs.clone().any(|need| unmet(&need));
            Rule {
                rule: detector.rule.label().to_owned(),
                claim: detector.claim.to_owned(),
                needs: names(&mut needs.clone()),
                verdict: match (tried, detectors.is_armed(detector.rule)) {
                    (false, _) => Arming::NotTried,
                    (true, true) if all_met => Arming::Armed,
                    (true, true) => Arming::InPart,
                    (true, false) => Arming::Off,
                },
                lacks,
            }
        })
        .collect()
}

/// What the pipeline will know of this kernel, by the release that it is told and by its probes.
fn facts_known(facts: &Facts, found: &[Probe], witnesses: &Witnesses) -> detect::Facts {
    let enciphered = probes::of_kernels().zip(found).any(|(row, probe)| {
        row.witness == Witness::AttachEnciphered && probe.verdict != ProbeVerdict::NotNeeded
    });
    let by_fentry = witnesses.get(Witness::AttachEnciphered) == Some(Backend::Fentry);
    let protocol = Protocol::of(facts.release.as_bytes());
    let core_described = match facts.attempt {
        Attempt::Skipped | Attempt::NotPermitted(_) => protocol != Protocol::Unknown,
        _ => protocol.is_described(witnesses.sees(Witness::Claim)),
    };
    kernel_facts::known(Evidence {
        release: Some(&facts.release),
        claims_seen: witnesses.sees(Witness::Claim),
        // It learns that with the first conversions.
        shown: Shown { chained_bio: true, attaches: true, ..Shown::default() },
        bios_unseen: enciphered && !by_fentry,
        core_described,
    })
}

/// What to do, where one cause is behind everything that is missing.
fn fix(facts: &Facts, probes: &[Probe]) -> Option<String> {
    let all_refused = !probes.iter().any(|probe| {
        matches!(probe.verdict, ProbeVerdict::Ok | ProbeVerdict::Degraded | ProbeVerdict::NotTried)
    });
    match &facts.attempt {
        Attempt::Skipped => Some("run again without --no-attach to try the probes".to_owned()),
        Attempt::NotPermitted(_) => Some("run it as root: sudo endiod doctor".to_owned()),
        // Its text has the fix, where there is one.
        Attempt::Impossible(why) => Some(why.clone()),
        Attempt::Tried(_) if all_refused => {
            let hint = refusal_hint(facts.lockdown.as_deref());
            Some(format!("{hint}; boot a kernel that allows tracing programs"))
        }
        Attempt::Tried(_) if layout_is_assumed(facts) => Some(BTF_OF_THE_MODULE.to_owned()),
        Attempt::Tried(_) => None,
    }
}
