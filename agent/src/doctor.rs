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
mod report;
mod surroundings;
mod text;

use std::collections::BTreeSet;

pub use facts::{Attempt, BtfFacts, DoctorError, Ext4Code, Facts, gather};
pub use report::{
    Answer, Arming, Defect, DefectVerdict, Device, Kernel, Permission, Privilege, Probe,
    ProbeVerdict, Programs, Report, Requirement, Rule, SCHEMA, Security,
};

use crate::{
    detect::{DETECTORS, Detectors},
    probes::{self, PROBES, Presence},
    source::kernel::{Verdict, refusal_hint},
};
use facts::ext4_is_described;
use surroundings::{defects_of, devices_of, kernel_of, privileges_of, programs_of};

/// The probes of the requirement `basic`: an io_end from birth to release, and fsync.
pub const BASIC: [&str; 8] = [
    "ext4_init_io_end_exit",
    "submit_bio",
    "ext4_end_bio",
    "ext4_put_io_end",
    "ext4_put_io_end_defer",
    "ext4_release_io_end",
    "ext4_sync_file",
    "ext4_sync_file_exit",
];

/// Decides what the facts mean.
pub fn examine(facts: &Facts) -> Report {
    let probes = probes_of(facts);
    let rules = rules_of(facts, &probes);
    let (devices, devices_note) = devices_of(facts);
    Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        basic: requirement(&probes, &[], |probe| BASIC.contains(&&*probe.program)),
        full: requirement(&probes, &rules, |_| true),
        fix: fix(facts, &probes),
        kernel: kernel_of(facts),
        security: Security {
            lockdown: facts.lockdown.clone(),
            kptr_restrict: facts.kptr_restrict,
            unprivileged_bpf_disabled: facts.unprivileged_bpf_disabled,
            security_modules: facts.security_modules.clone(),
        },
        privileges: privileges_of(facts),
        probes,
        rules,
        programs: programs_of(facts),
        devices,
        devices_note,
        defects: defects_of(facts),
    }
}

fn requirement(probes: &[Probe], rules: &[Rule], counts: impl Fn(&Probe) -> bool) -> Requirement {
    let (mut lacking, mut unknown) = (Vec::new(), Vec::new());
    for probe in probes.iter().filter(|probe| counts(probe)) {
        let line = || format!("probe {} {}", probe.program, probe.verdict.label());
        match probe.verdict {
            ProbeVerdict::Ok | ProbeVerdict::NotNeeded => {}
            ProbeVerdict::Missing | ProbeVerdict::Degraded => lacking.push(line()),
            ProbeVerdict::NotTried => unknown.push(line()),
        }
    }
    for rule in rules {
        match rule.verdict {
            Arming::Armed => {}
            Arming::Off => lacking.push(format!("rule {} off", rule.rule)),
            Arming::NotTried => unknown.push(format!("rule {} not tried", rule.rule)),
        }
    }
    match (lacking.is_empty(), unknown.is_empty()) {
        (false, _) => Requirement { answer: Answer::Lacks, why: lacking },
        (true, false) => Requirement { answer: Answer::Unknown, why: unknown },
        (true, true) => Requirement { answer: Answer::Meets, why: Vec::new() },
    }
}

fn probes_of(facts: &Facts) -> Vec<Probe> {
    let mut found: Vec<_> =
        PROBES.iter().enumerate().map(|(at, probe)| probe_of(facts, at, probe)).collect();
    let missing: Vec<_> = found
        .iter()
        .filter(|probe| probe.verdict == ProbeVerdict::Missing)
        .map(|probe| (probe.function.clone(), probe.program.clone()))
        .collect();
    for probe in found.iter_mut().filter(|probe| probe.verdict == ProbeVerdict::Ok) {
        if let Some((_, other)) = missing.iter().find(|(function, _)| *function == probe.function) {
            probe.verdict = ProbeVerdict::Degraded;
            probe.why = Some(format!("its other end, {other}, is missing"));
        }
    }
    found
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
            Verdict::Absent(absence) => (ProbeVerdict::NotNeeded, Some(absence.to_string())),
            Verdict::Failed(reason) => (ProbeVerdict::Missing, Some(reason.clone())),
        };
    }
    // Which functions exist is known without attaching.
    let exists = facts.btf.as_ref().ok().map(|btf| btf.functions.contains(probe.function));
    match (exists, probe.presence, &facts.attempt) {
        (Some(false), Presence::Some(on), _) if ext4_is_described(facts) => {
            (ProbeVerdict::NotNeeded, Some(on.to_owned()))
        }
        (_, _, Attempt::Impossible(why)) => (ProbeVerdict::Missing, Some(why.clone())),
        (_, _, Attempt::NotPermitted(why)) => (ProbeVerdict::NotTried, Some(why.clone())),
        (Some(false), ..) => {
            let why = format!("this kernel's BTF has no function {}", probe.function);
            (ProbeVerdict::Missing, Some(why))
        }
        (Some(true), ..) => {
            (ProbeVerdict::NotTried, Some("the function exists; --no-attach".to_owned()))
        }
        (None, ..) => (ProbeVerdict::NotTried, Some("--no-attach".to_owned())),
    }
}

/// Armed as the pipeline arms: by the functions of the probes that attach.
fn rules_of(facts: &Facts, probes: &[Probe]) -> Vec<Rule> {
    let attached: BTreeSet<&str> = probes
        .iter()
        .filter(|probe| matches!(probe.verdict, ProbeVerdict::Ok | ProbeVerdict::Degraded))
        .map(|probe| &*probe.function)
        .collect();
    let mut detectors = Detectors::new();
    detectors.arm(|act| attached.contains(act.function()));
    let tried = !matches!(facts.attempt, Attempt::Skipped | Attempt::NotPermitted(_));
    DETECTORS
        .iter()
        .map(|detector| {
            let mut needs: Vec<_> = detector.needs.iter().map(|act| act.function()).collect();
            needs.dedup();
            let lacks = needs.iter().filter(|function| !attached.contains(*function));
            let lacks: Vec<_> = lacks.map(|function| (*function).to_owned()).collect();
            Rule {
                rule: detector.rule.label().to_owned(),
                claim: detector.claim.to_owned(),
                needs: needs.into_iter().map(str::to_owned).collect(),
                verdict: match (tried, detectors.is_armed(detector.rule)) {
                    (false, _) => Arming::NotTried,
                    (true, true) => Arming::Armed,
                    (true, false) => Arming::Off,
                },
                lacks: if tried { lacks } else { Vec::new() },
            }
        })
        .collect()
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
        Attempt::Tried(_) => None,
    }
}
