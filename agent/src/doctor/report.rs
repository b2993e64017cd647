//! What the doctor says, as data: the JSON page is this, and the text page is made from it alone.
//!
//! `schema` counts changes that break a reader; new members may appear without. The members are
//! described in `agent/docs/doctor.md`.

use serde::{Deserialize, Serialize};

/// Version of the JSON page.
pub const SCHEMA: u32 = 1;

macro_rules! page {
    ($( $(#[$doc:meta])* $Name:ident { $( $(#[$field_doc:meta])* $field:ident: $ty:ty, )* } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        pub struct $Name { $( $(#[$field_doc])* pub $field: $ty, )* }
    )* };
}

macro_rules! words {
    ($( $(#[$doc:meta])* $Name:ident { $( $(#[$word_doc:meta])* $Word:ident = $text:literal, )* } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $Name { $( $(#[$word_doc])* $Word, )* }

        impl $Name {
            /// As people read it.
            pub fn label(self) -> &'static str {
                match self { $( $Name::$Word => $text, )* }
            }
        }
    )* };
}

words! {
    /// Whether a requirement is met.
    Answer {
        /// It is.
        Meets = "met",
        /// It is not.
        Lacks = "not met",
        /// Something it rests on could not be told.
        Unknown = "could not tell",
    }
    /// What became of a probe.
    ProbeVerdict {
        /// It attaches.
        Ok = "ok",
        /// It attaches, but the other end of its span does not.
        Degraded = "degraded",
        /// This kernel has no such function, and something else stands in.
        NotNeeded = "not needed",
        /// Another back end serves what it witnesses.
        Served = "served",
        /// The caller named another back end, or turned it off.
        NotAsked = "not asked",
        /// It does not attach: what it witnesses is lost.
        Missing = "missing",
        /// It was not tried.
        NotTried = "not tried",
    }
    /// Whether this process may use a feature.
    Permission {
        /// It was tried and works.
        Ok = "ok",
        /// It does not.
        Missing = "missing",
        /// It was not tried.
        NotTried = "not tried",
    }
    /// Whether a rule would be armed.
    Arming {
        /// All that it needs is witnessed.
        Armed = "armed",
        /// Something is not, and what is witnessed shows some of its crimes.
        InPart = "in part",
        /// Something is not, and nothing of it can be seen.
        Off = "off",
        /// It was not tried.
        NotTried = "not tried",
    }
    /// Whether the kernel has a known defect, by its upstream version.
    DefectVerdict {
        /// It has.
        Affected = "affected",
        /// Its patch level is unknown, or the range was not looked at to the end.
        Perhaps = "perhaps",
    }
}

page! {
    /// The page.
    Report {
        /// [`SCHEMA`].
        schema: u32,
        /// Version of endiod.
        version: String,
        /// `basic`: io_end birth to release, and fsync, by whichever back end.
        basic: Requirement,
        /// `full`: all by fentry that this kernel has, and every rule armed.
        full: Requirement,
        /// What to do about what is missing, where that is known.
        fix: Option<String>,
        /// The kernel.
        kernel: Kernel,
        /// What may keep programs out.
        security: Security,
        /// Per feature, whether this process may use it.
        privileges: Vec<Privilege>,
        /// In the order in which they are preferred.
        backends: Vec<Backend>,
        /// In the order of `PROBES`.
        probes: Vec<Probe>,
        /// In the order of `DETECTORS`.
        rules: Vec<Rule>,
        /// How programs number and count.
        programs: Programs,
        /// Mounted ext4 file systems.
        devices: Vec<Device>,
        /// Why they could not be listed, or that some were left out.
        devices_note: Option<String>,
        /// Known defects that its upstream version has or may have.
        defects: Vec<Defect>,
    }
    /// A requirement and its answer.
    Requirement {
        /// Whether it is met.
        answer: Answer,
        /// What is lacking or could not be told.
        why: Vec<String>,
    }
    /// The kernel.
    Kernel {
        /// `uname -r`.
        release: String,
        /// Upstream version, `6.1.192`, or the series with what is unknown.
        upstream: String,
        /// Possible generations of the completion protocol; one unless it could not be told.
        generations: Vec<String>,
        /// How they were told.
        evidence: Vec<String>,
        /// Preemption model, `None` if the kernel does not tell.
        preemption: Option<String>,
        /// What that model means for the probes.
        preemption_note: String,
        /// Type information.
        btf: String,
        /// Where ext4's code is.
        ext4: String,
        /// What pins ext4 when it is a module.
        ext4_pinned_by: Option<String>,
        /// What stands in for BTF of ext4, when it is a module without.
        #[serde(default)]
        ext4_layout: Option<String>,
    }
    /// What may keep programs out.
    Security {
        /// Lockdown mode, `None` if the kernel does not tell.
        lockdown: Option<String>,
        /// `kernel.kptr_restrict`.
        kptr_restrict: Option<u64>,
        /// `kernel.unprivileged_bpf_disabled`.
        unprivileged_bpf_disabled: Option<u64>,
        /// Security modules in force, `None` if securityfs is not mounted.
        security_modules: Option<Vec<String>>,
    }
    /// A feature and whether this process may use it.
    Privilege {
        /// The feature.
        feature: String,
        /// What it takes.
        needs: String,
        /// The capabilities that it takes.
        #[serde(default)]
        capabilities: Vec<String>,
        /// Which process of `run` keeps them, and for how long.
        #[serde(default)]
        held: String,
        /// Whether it works.
        verdict: Permission,
        /// Why not.
        why: Option<String>,
    }
    /// A back end.
    Backend {
        /// Its name: `fentry`, `raw_tp` or `kprobe`.
        backend: String,
        /// Probes that attach by it.
        probes: usize,
        /// Why no more of them do, and what it costs.
        why: String,
    }
    /// A probe.
    Probe {
        /// Name of the program.
        program: String,
        /// The kernel function, or the tracepoint.
        function: String,
        /// How it attaches: `fentry`, `fexit`, `raw_tp` or `kprobe`.
        backend: String,
        /// What it witnesses.
        witnesses: String,
        /// What became of it.
        verdict: ProbeVerdict,
        /// Why it is not `ok`; for `served`, by which, and why not by this one; for `not_needed`, where the function exists and what stands in.
        why: Option<String>,
        /// What is lost without it, if it is missing.
        lost: Option<String>,
    }
    /// A rule.
    Rule {
        /// Its name.
        rule: String,
        /// What a finding claims.
        claim: String,
        /// Kernel functions that must be probed.
        needs: Vec<String>,
        /// Whether it would be armed.
        verdict: Arming,
        /// Of `needs`, those that are not probed.
        lacks: Vec<String>,
    }
    /// How programs number records and count misses.
    Programs {
        /// `fetch_and_add` or `lanes`.
        numbering: String,
        /// Why that one.
        numbering_why: String,
        /// Whether the kernel counts hits it skipped; `None` if nothing attached.
        misses_counted: Option<bool>,
        /// The same of kprobes; `None` if no kprobe attached.
        kprobe_misses_counted: Option<bool>,
    }
    /// A block device with a mounted ext4.
    Device {
        /// `major:minor`.
        dev: String,
        /// The kernel's name.
        name: String,
        /// Its whole disk.
        disk: String,
        /// Where it is mounted.
        mountpoint: String,
    }
    /// A known defect.
    Defect {
        /// Fixing commit, `None` if nothing upstream fixes it.
        fix: Option<String>,
        /// Its subject, or what is wrong.
        title: String,
        /// CVE number.
        cve: Option<String>,
        /// Whether this version has it.
        verdict: DefectVerdict,
        /// The rule of this version that sees it happen.
        rule: Option<String>,
        /// Why no rule does.
        unseen_because: Option<String>,
    }
}
