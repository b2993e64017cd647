//! The sections about what is around the probes: kernel, privileges, numbering, mounts, known defects.
//!
//! Functions of the facts alone. What could not be told stays `None` or says so.

use super::{
    facts::{Attempt, Ext4Code, Facts, ext4_is_described, layout_is_assumed},
    report::{Defect, DefectVerdict, Device, Kernel, Programs},
};
use crate::{
    generation::{self, Functions},
    host::Preemption,
    known_defects::{Affected, KNOWN_DEFECTS, SeenBy, affects},
    source::kernel::{FETCH_AND_ADD_FROM, GUARDED_FROM},
};

pub(super) fn kernel_of(facts: &Facts) -> Kernel {
    let functions = facts.btf.as_ref().ok().filter(|_| ext4_is_described(facts)).map(|btf| {
        let [end_io_end, defer_completion] =
            generation::FUNCTIONS.map(|function| btf.functions.contains(function));
        Functions { end_io_end, defer_completion }
    });
    let told = generation::tell(&facts.upstream, functions);
    let (preemption, preemption_note) = preemption_of(facts);
    let (ext4, ext4_pinned_by) = ext4_of(facts);
    Kernel {
        release: facts.release.clone(),
        upstream: facts.upstream.to_string(),
        generations: told.generations.iter().map(ToString::to_string).collect(),
        evidence: told
            .generations
            .iter()
            .map(|generation| format!("{generation}: {}", generation.meaning()))
            .chain(told.evidence)
            .collect(),
        preemption,
        preemption_note,
        btf: btf_of(facts),
        ext4,
        ext4_pinned_by,
        ext4_layout: layout_is_assumed(facts).then(|| layout_of(facts)),
    }
}

/// What is used in place of ext4's BTF, and what that rests on.
fn layout_of(facts: &Facts) -> String {
    let bytes = match facts.io_end_bytes {
        Some(bytes) => format!("its io_ends are {bytes} bytes long, as those"),
        None => "how long its io_ends are, this kernel does not show".to_owned(),
    };
    format!(
        "assumed: ext4 is a module without BTF, so io_ends are taken for those of 5.5 to 7.3; {bytes}; each \
         is checked at its first bio; no rule is armed before one was seen to fit, nor after one did not"
    )
}

fn preemption_of(facts: &Facts) -> (Option<String>, String) {
    let misses = "a task that is preempted inside a program makes the kernel skip that program's \
                  hits on the CPU until it runs on; they are counted and hold verdicts back";
    match facts.preemption {
        Preemption::Yes(model) if facts.upstream.series < GUARDED_FROM => {
            let (major, minor) = GUARDED_FROM;
            let note = format!("kernels before {major}.{minor} skip no hits of these programs");
            (Some(model.to_owned()), note)
        }
        Preemption::No(model) => (
            Some(model.to_owned()),
            "kernel code is not preempted: only nested interrupts make programs miss hits"
                .to_owned(),
        ),
        Preemption::Yes(model) => (Some(model.to_owned()), misses.to_owned()),
        Preemption::Unknown => {
            let note =
                format!("chosen at boot, shown in /sys/kernel/debug only; if full: {misses}");
            (None, note)
        }
    }
}

fn btf_of(facts: &Facts) -> String {
    let megabytes = |bytes: u64| format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10);
    match &facts.btf {
        Err(why) => format!("none: {why}"),
        Ok(btf) => {
            let size = megabytes(btf.size_bytes);
            let ext4 = match (btf.module_size_bytes, ext4_is_described(facts)) {
                (Some(bytes), _) => format!("ext4 in its own, {}", megabytes(bytes)),
                (None, true) => "ext4 inside".to_owned(),
                (None, false) => "ext4 has none".to_owned(),
            };
            format!("/sys/kernel/btf/vmlinux, {size}, {ext4}")
        }
    }
}

fn ext4_of(facts: &Facts) -> (String, Option<String>) {
    match &facts.ext4 {
        Ext4Code::BuiltIn => ("built into the kernel".to_owned(), None),
        Ext4Code::NotSeen => ("not seen: neither a loaded module nor in the BTF".to_owned(), None),
        Ext4Code::Module { references, holders } => {
            let count = references.map_or("unknown".to_owned(), |count| count.to_string());
            let mounts = facts.devices.as_ref().map_or(0, |found| found.devices.len());
            let mut pins = format!("{count} references, {mounts} mounted devices here");
            if !holders.is_empty() {
                pins = format!("{pins}, modules {}", holders.join(" "));
            }
            pins.push_str("; an attached program is one more, so rmmod then fails");
            ("a loaded module".to_owned(), Some(pins))
        }
    }
}

pub(super) fn programs_of(facts: &Facts) -> Programs {
    let (major, minor) = FETCH_AND_ADD_FROM;
    let (numbering, why) = if facts.upstream.series >= FETCH_AND_ADD_FROM {
        ("fetch_and_add", format!("from {major}.{minor} on, BPF has an atomic fetch-and-add"))
    } else {
        let why =
            format!("BPF has no atomic fetch-and-add before {major}.{minor}: a counter per depth");
        ("lanes", why)
    };
    let tried = match &facts.attempt {
        Attempt::Tried(tried) => Some(tried),
        Attempt::Skipped | Attempt::NotPermitted(_) | Attempt::Impossible(_) => None,
    };
    Programs {
        numbering: numbering.to_owned(),
        numbering_why: why,
        misses_counted: tried.and_then(|tried| tried.misses_counted),
        kprobe_misses_counted: tried.and_then(|tried| tried.kprobe_misses_counted),
    }
}

pub(super) fn devices_of(facts: &Facts) -> (Vec<Device>, Option<String>) {
    let found = match &facts.devices {
        Ok(found) => found,
        Err(why) => return (Vec::new(), Some(why.clone())),
    };
    let devices = found.devices.iter().map(|device| Device {
        dev: device.dev.to_string(),
        name: device.name.clone(),
        disk: device.disk.clone(),
        mountpoint: device.mountpoint.clone(),
    });
    let note = match (found.devices.is_empty(), found.left_out) {
        (true, _) => Some("no ext4 is mounted here: nothing will be seen until one is".to_owned()),
        (false, 0) => None,
        (false, left_out) => Some(format!("{left_out} more are not listed")),
    };
    (devices.collect(), note)
}

pub(super) fn defects_of(facts: &Facts) -> Vec<Defect> {
    let affected =
        KNOWN_DEFECTS.iter().filter_map(|defect| Some((defect, affects(defect, &facts.upstream)?)));
    affected
        .map(|(defect, affected)| {
            let (rule, unseen_because) = match defect.seen_by {
                SeenBy::Rule(rule) => (Some(rule.label().to_owned()), None),
                SeenBy::Nothing(why) => (None, Some(why.to_owned())),
            };
            Defect {
                fix: defect.fix.map(str::to_owned),
                title: defect.title.to_owned(),
                cve: defect.cve.map(str::to_owned),
                verdict: match affected {
                    Affected::Yes => DefectVerdict::Affected,
                    Affected::Perhaps => DefectVerdict::Perhaps,
                },
                rule,
                unseen_because,
            }
        })
        .collect()
}
