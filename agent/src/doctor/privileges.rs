//! The `PRIVILEGES` table: what each feature takes, and which of the two processes of `endiod run` keeps that for how
//! long. A guest runs the doctor with and without the capabilities of each row and compares.

use super::{
    facts::{Attempt, Ext4Code, Facts},
    report::{Permission, Privilege},
};
use crate::{
    privileges::MAPS_WITHOUT_CAPABILITY_FROM,
    probes::{Hook, PROBES},
    source::kernel::{Absence, KPROBE_MISSES_FROM, Verdict, any_sees},
};

/// A feature.
struct Row {
    feature: &'static str,
    /// Without these it is not to be had, where `needs` says nothing else.
    capabilities: &'static [&'static str],
    needs: &'static str,
    held: &'static str,
    /// Whether this kernel has the question.
    arises: fn(&Facts) -> bool,
    verdict: fn(&Facts) -> (Permission, Option<String>),
}

const WHILE_ATTACHING: &str = "by the helper, while it attaches";
const ALWAYS: &str = "by the helper, always";

const PRIVILEGES: &[Row] = &[
    Row {
        feature: "load tracing programs",
        capabilities: &["CAP_BPF", "CAP_PERFMON"],
        needs: "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN",
        held: WHILE_ATTACHING,
        arises: |_| true,
        verdict: loading,
    },
    Row {
        feature: "read kernel addresses",
        capabilities: &["CAP_SYSLOG"],
        needs: "CAP_SYSLOG and kernel.kptr_restrict below 2",
        held: WHILE_ATTACHING,
        arises: |_| true,
        verdict: addresses,
    },
    Row {
        feature: "types of ext4's module",
        capabilities: &["CAP_SYS_ADMIN"],
        needs: "CAP_SYS_ADMIN",
        held: ALWAYS,
        arises: |facts| matches!(facts.ext4, Ext4Code::Module { .. }),
        verdict: module_types,
    },
    Row {
        feature: "watchpoints",
        capabilities: &["CAP_SYS_ADMIN"],
        needs: "CAP_SYS_ADMIN; none with --watchpoints 0",
        held: ALWAYS,
        arises: |_| true,
        verdict: watchpoints,
    },
    Row {
        feature: "count kprobes' misses",
        capabilities: &["CAP_SYS_ADMIN"],
        needs: "CAP_SYS_ADMIN, Linux 6.7; no other back end needs it",
        held: ALWAYS,
        arises: |facts| facts.upstream.series >= KPROBE_MISSES_FROM,
        verdict: kprobe_misses,
    },
    Row {
        feature: "read the programs' counters",
        capabilities: &["CAP_BPF"],
        needs: "CAP_BPF or CAP_SYS_ADMIN where kernel.unprivileged_bpf_disabled is not 0; none from 5.19 on",
        held: "by daemon and helper, always",
        arises: |facts| facts.upstream.series < MAPS_WITHOUT_CAPABILITY_FROM,
        verdict: loading,
    },
];

/// The rows that this kernel has.
pub(super) fn privileges_of(facts: &Facts) -> Vec<Privilege> {
    let told = |row: &Row| {
        let (verdict, why) = (row.verdict)(facts);
        Privilege {
            feature: row.feature.to_owned(),
            needs: row.needs.to_owned(),
            capabilities: row.capabilities.iter().map(|it| (*it).to_owned()).collect(),
            held: row.held.to_owned(),
            verdict,
            why,
        }
    };
    PRIVILEGES.iter().filter(|row| (row.arises)(facts)).map(told).collect()
}

fn loading(facts: &Facts) -> (Permission, Option<String>) {
    match (&facts.attempt, facts.missing_capability) {
        (_, Some(missing)) => (Permission::Missing, Some(format!("this process has no {missing}"))),
        (Attempt::Tried(tried), None) if any_sees(&tried.verdicts) => (Permission::Ok, None),
        (Attempt::Tried(_), None) => (
            Permission::Missing,
            Some("the capabilities are there, the kernel refuses every program".to_owned()),
        ),
        (Attempt::Skipped | Attempt::NotPermitted(_) | Attempt::Impossible(_), None) => {
            (Permission::NotTried, None)
        }
    }
}

fn addresses(facts: &Facts) -> (Permission, Option<String>) {
    if facts.addresses_shown {
        return (Permission::Ok, None);
    }
    let why = "kallsyms shows no address for ext4_end_bio: completions cannot be recognised";
    (Permission::Missing, Some(why.to_owned()))
}

/// By the functions of ext4 that were tried.
fn module_types(facts: &Facts) -> (Permission, Option<String>) {
    if facts.btf.as_ref().is_ok_and(|btf| btf.module_size_bytes.is_none()) {
        return (Permission::NotTried, Some("it has none".to_owned()));
    }
    tried(facts, |hook, function| {
        matches!(hook, Hook::Entry | Hook::Exit) && function.starts_with("ext4_")
    })
}

fn watchpoints(facts: &Facts) -> (Permission, Option<String>) {
    tried(facts, |hook, _| hook == Hook::Watchpoint)
}

/// Whether one of the probes attached, or why not the first.
fn tried(facts: &Facts, of: fn(Hook, &str) -> bool) -> (Permission, Option<String>) {
    let tried = match &facts.attempt {
        Attempt::Tried(tried) => tried,
        Attempt::Impossible(why) => return (Permission::Missing, Some(why.clone())),
        Attempt::Skipped | Attempt::NotPermitted(_) => return (Permission::NotTried, None),
    };
    let rows = PROBES.iter().zip(&tried.verdicts);
    let verdicts = rows.filter(|(probe, _)| of(probe.hook, probe.function)).map(|(_, it)| it);
    let mut first = (Permission::NotTried, None);
    for verdict in verdicts {
        let told = match verdict {
            Verdict::Attached => return (Permission::Ok, None),
            Verdict::Failed(why) | Verdict::Absent(Absence::Served { refused: Some(why), .. }) => {
                (Permission::Missing, Some(crate::source::kernel::brief(why).to_owned()))
            }
            Verdict::Absent(_) => continue,
        };
        if first.0 == Permission::NotTried {
            first = told;
        }
    }
    first
}

fn kprobe_misses(facts: &Facts) -> (Permission, Option<String>) {
    let counted = match &facts.attempt {
        Attempt::Tried(tried) => tried.kprobe_misses_counted,
        Attempt::Skipped | Attempt::NotPermitted(_) | Attempt::Impossible(_) => None,
    };
    match counted {
        Some(true) => (Permission::Ok, None),
        Some(false) => (Permission::Missing, Some("the kernel does not tell them".to_owned())),
        None => (Permission::NotTried, None),
    }
}
