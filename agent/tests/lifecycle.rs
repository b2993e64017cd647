//! The tracker and the rules, by example: text in, text out.
//!
//! Each `tests/data/*.trace` is a trace in the notation of `lifecycle/notation.rs`, a line `---` and
//! what the core says of it: steps, findings, totals that are not zero. A new expectation is written
//! by running with `ENDIOD_UPDATE=1`, and read before it is kept.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "lifecycle/allocation.rs"]
mod allocation;
#[path = "lifecycle/back_ends.rs"]
mod back_ends;
#[path = "lifecycle/bounds.rs"]
mod bounds;
#[path = "support/cores.rs"]
mod cores;
#[path = "lifecycle/crimes.rs"]
mod crimes;
#[path = "lifecycle/late_frees.rs"]
mod late_frees;
#[path = "lifecycle/notation.rs"]
mod notation;
#[path = "lifecycle/world.rs"]
mod world;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use endiod::detect::{DETECTORS, Detectors, Fact, Facts, Rule, Suppressed};
use endiod::event::{Backend, Event, IoEndAddr, IocbAddr, Nanos};
use endiod::finding::{AddressKey, Finding};
use endiod::lifecycle::{
    Capacities, Gap, IoEnd, IoEndStep, Lifecycle, Orphan, Phases, State, Step, Table,
};
use endiod::oracle::in_step::Oracle;
use endiod::probes::{PROBES, Witness};
use endiod::witnesses::Witnesses;

use notation::Line;

/// The core, and what it said.
struct Core {
    lifecycle: Lifecycle,
    witnesses: Witnesses,
    facts: Facts,
    detectors: Detectors,
    /// Where the trace names a kernel.
    oracle: Option<Oracle>,
    text: String,
    findings: Vec<Finding>,
    last: Nanos,
}

impl Core {
    fn new(io_ends: usize, bios: usize) -> Self {
        let capacities = Capacities { io_ends, bios, direct_ios: 64, fsyncs: 64, evictions: 64 };
        let lifecycle = Lifecycle::new(capacities);
        let mut witnesses = Witnesses::all_by(Backend::Fentry);
        witnesses.set(Witness::Claim, None);
        Core {
            lifecycle,
            witnesses,
            facts: Facts::ALL,
            detectors: Detectors::new(),
            oracle: None,
            text: String::new(),
            findings: Vec::new(),
            last: Nanos(0),
        }
    }

    fn observe(&mut self, event: &Event) {
        let Core { lifecycle, detectors, oracle, text, findings, last, .. } = self;
        *last = event.stamp.at;
        if let Some(oracle) = oracle {
            oracle.observe(event);
            detectors.hear(oracle.said());
        }
        lifecycle.observe(event, &mut |step| {
            detectors.step(&step);
            tell(text, event.stamp.at, &step);
        });
        detectors.observe(event, &mut |verdict| {
            let finding = Finding::new(verdict, AddressKey(0), None);
            writeln!(text, "FINDING {finding}").unwrap();
            findings.push(finding);
        });
    }

    fn direct(&mut self, directive: &[&str]) {
        match directive {
            ["claim_probe"] => self.witnesses.set(Witness::Claim, Some(Backend::Fentry)),
            ["witnesses", name] => {
                self.witnesses = Witnesses::all_by(backend(name).expect("a back end"));
            }
            ["witness", witness, name] => {
                let row = PROBES.iter().find(|row| format!("{:?}", row.witness) == *witness);
                self.witnesses.set(row.expect("a witness").witness, backend(name));
            }
            ["kernel", release] => {
                let has_claim = self.witnesses.sees(Witness::Claim);
                self.oracle = Some(cores::cores(release, has_claim));
            }
            ["unknown", fact] => {
                let known = Fact::ALL.into_iter().filter(|it| format!("{it:?}") != *fact);
                assert_eq!(known.clone().count() + 1, Fact::ALL.len(), "no fact {fact}");
                let before = self.facts;
                self.facts = known.fold(Facts::NONE, |facts, it| facts.with(it, before.hold(it)));
            }
            ["note_loss"] => self.detectors.note_loss(),
            ["finish"] => self.detectors.finish(),
            ["io_ends" | "bios", _] => {}
            other => panic!("unknown directive {other:?}"),
        }
        self.lifecycle.set_witnesses(&self.witnesses);
        self.detectors.arm(&self.witnesses);
        let described = self.oracle.as_ref().is_none_or(Oracle::is_described);
        let facts = Fact::ALL.into_iter().fold(Facts::NONE, |facts, fact| {
            let holds = fact != Fact::CoreDescribed || described;
            facts.with(fact, holds && self.facts.hold(fact))
        });
        self.detectors.know(facts);
    }

    /// Totals that are not zero, and what is in flight.
    fn close(mut self) -> String {
        let summary = *self.lifecycle.summary();
        let text = &mut self.text;
        let mut say = |what: &str, label: &str, count: u64| {
            if count > 0 {
                writeln!(text, "{what} {label} {count}").unwrap();
            }
        };
        for gap in Gap::ALL {
            say("incomplete", gap.label(), summary.incomplete[*gap as usize]);
        }
        for orphan in Orphan::ALL {
            say("orphan", orphan.label(), summary.orphan(*orphan));
        }
        for table in Table::ALL {
            say("table_full", table.label(), summary.full(*table));
        }
        say("total", "bios_done", summary.bios_done);
        say("total", "bios_failed", summary.bios_failed);
        say("total", "batches_queued", summary.batches_queued);
        say("total", "listed", summary.listed);
        say("total", "open_bios", self.lifecycle.open_bios());
        for rule in Rule::ALL {
            say("repeated", rule.label(), self.detectors.tally().repeated[*rule as usize]);
            for reason in Suppressed::ALL {
                let label = format!("{} {}", rule.label(), reason.label());
                say("suppressed", &label, self.detectors.tally().suppressed(*rule, reason));
            }
        }
        let levels = self.lifecycle.in_flight(self.last);
        for state in State::live() {
            let level = levels.io_ends_in(state);
            if let Some(Nanos(age)) = level.oldest_age {
                writeln!(self.text, "live {} {} age {age}", state.label(), level.count).unwrap();
            }
        }
        self.text
    }
}

fn backend(name: &str) -> Option<Backend> {
    let all = [Backend::Fentry, Backend::RawTracepoint, Backend::Kprobe, Backend::Watchpoint];
    let found = all.into_iter().find(|it| it.label() == name);
    assert!(found.is_some() || name == "nobody", "no back end {name}");
    found
}

fn name(object: &IoEnd) -> String {
    let IoEndAddr(addr) = object.id().addr;
    format!("a{}@{}", addr / notation::address(1), object.id().born.0)
}

fn tell(text: &mut String, Nanos(at): Nanos, step: &Step<'_>) {
    match step {
        Step::IoEndBorn(object) => writeln!(text, "{at} {} born", name(object)),
        Step::IoEndAdopted(object) => writeln!(text, "{at} {} adopted", name(object)),
        Step::IoEndIdentified(object) => {
            let inode = object.inode().map(|inode| inode.ino.0);
            writeln!(text, "{at} {} is of inode {inode:?}", name(object))
        }
        Step::IoEndLost(object) => writeln!(text, "{at} {} lost", name(object)),
        Step::IoEndMoved(moved) => tell_move(text, at, moved),
        Step::IoEndReleased(object) => {
            let complete = if object.complete() { "complete" } else { "incomplete" };
            writeln!(text, "{at} {} {complete}{}", name(object), phases(&object.phases()))
        }
        Step::DirectIoDone(done) => {
            let (ns, bytes) = (done.duration.0, done.done_bytes);
            writeln!(text, "{at} direct_io {ns} bytes={bytes:?} errno={:?}", done.errno)
        }
        Step::DirectIoRefused(refused) => writeln!(text, "{at} refused ret={}", refused.ret),
        Step::DirectIoBroken(broken) => {
            let (IocbAddr(iocb), begun) = (broken.write.id().iocb, broken.write.id().begun.0);
            let iocb = iocb / notation::address(1);
            writeln!(
                text,
                "{at} direct_write a{iocb}@{begun} {} !{:?}",
                broken.act.label(),
                broken.how
            )
        }
        Step::FsyncDone(done) => {
            let phases = done.phases.map(|phase| phase.map(|Nanos(ns)| ns));
            let (op, ns, errno) = (done.range.op(), done.duration.0, done.errno);
            writeln!(text, "{at} {op} {ns} phases={phases:?} errno={errno:?}")
        }
        Step::EvictionDone(done) => {
            let (Nanos(ns), inode) = (done.duration, done.inode.map(|inode| inode.ino.0));
            writeln!(text, "{at} evicted {ns} inode={inode:?} by {}", done.task.tid)
        }
    }
    .unwrap();
}

fn tell_move(text: &mut String, at: u64, step: &IoEndStep<'_>) -> std::fmt::Result {
    let (object, before, after) = (step.object, step.before.label(), step.object.state().label());
    let irregular = step.irregular.map(|it| format!(" !{}", it.label())).unwrap_or_default();
    let refs = object.references();
    writeln!(
        text,
        "{at} {} {} {before}>{after} refs={refs}{irregular}",
        name(object),
        step.action.label()
    )
}

fn phases(phases: &Phases) -> String {
    let Phases { submit, device, queue, convert, total } = *phases;
    let named = [
        ("submit", submit),
        ("device", device),
        ("queue", queue),
        ("convert", convert),
        ("total", total),
    ];
    let mut text = String::new();
    for (label, phase) in named {
        if let Some(Nanos(ns)) = phase {
            write!(text, " {label}={ns}").unwrap();
        }
    }
    text
}

/// Runs the trace part of a file.
fn run(text: &str) -> String {
    core(text).close()
}

fn core(text: &str) -> Core {
    let lines = notation::parse(text);
    let capacity = |table: &str| {
        let given = lines.iter().find_map(|line| match line {
            Line::Directive(words) if words[0] == table => Some(words[1].parse().unwrap()),
            _ => None,
        });
        given.unwrap_or(64)
    };
    let mut core = Core::new(capacity("io_ends"), capacity("bios"));
    for line in &lines {
        match line {
            Line::Event(event) => core.observe(event),
            Line::Directive(words) => {
                core.direct(&words.iter().map(String::as_str).collect::<Vec<_>>());
            }
        }
    }
    core
}

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// Compares one file with what the core says; `Err` is the difference.
fn check(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"))?;
    let (trace, expected) = text.split_once("---\n").unwrap_or((&text, ""));
    let told = run(trace);
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        let written = std::fs::write(path, format!("{trace}---\n{told}"));
        return written.map_err(|error| format!("{path:?}: {error}"));
    }
    let file = path.display();
    (told == expected)
        .then_some(())
        .ok_or(format!("{file}\n--- expected\n{expected}--- told\n{told}"))
}

fn traces() -> Vec<PathBuf> {
    let files = std::fs::read_dir(data()).unwrap().map(|file| file.unwrap().path());
    let mut traces: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "trace")).collect();
    traces.sort();
    traces
}

#[test]
fn every_trace_is_told_as_its_file_says() {
    let traces = traces();
    assert!(traces.len() >= 30, "only {} traces", traces.len());
    let failures: Vec<String> = traces.iter().filter_map(|path| check(path).err()).collect();
    assert!(
        failures.is_empty(),
        "{}\nafter reading the difference: ENDIOD_UPDATE=1 cargo test -p endiod --test lifecycle",
        failures.join("\n")
    );
}

#[test]
fn every_way_of_every_rule_fires_in_its_named_fixture() {
    for (detector, way) in DETECTORS.iter().flat_map(|it| it.ways.iter().map(move |way| (it, way)))
    {
        let path = data().join(way.fixture);
        let text =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        let core = core(text.split_once("---\n").map_or(text.as_str(), |(trace, _)| trace));
        assert!(way.is_open(&core.witnesses), "{path:?} does not witness what the way needs");
        let told = core.close();
        let fired = told.lines().any(|line| {
            line.starts_with("FINDING") && line.contains(&format!(" {} (", detector.rule.label()))
        });
        assert!(fired, "{} does not fire in {path:?}:\n{told}", detector.rule.label());
    }
}

#[test]
fn a_trace_named_legal_has_neither_finding_nor_suppression_nor_irregular_step() {
    let legal = |path: &&PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("legal_"))
    };
    let mut seen = 0;
    for path in traces().iter().filter(legal) {
        let text = std::fs::read_to_string(path).unwrap();
        let told = run(text.split_once("---\n").map_or(text.as_str(), |(trace, _)| trace));
        for bad in ["FINDING", "suppressed", " !", "lost", "orphan"] {
            assert!(!told.contains(bad), "{} has {bad}:\n{told}", path.display());
        }
        seen += 1;
    }
    assert!(seen >= 12, "only {seen} legal traces");
}

#[test]
fn a_finding_is_the_published_json() {
    let name = "oracle_divergence_of_another_crime.trace";
    let text = std::fs::read_to_string(data().join(name)).unwrap();
    let core = core(text.split_once("---\n").unwrap().0);
    let [finding, divergence] = core.findings.as_slice() else { panic!("two findings") };
    assert_eq!((finding.rule, divergence.rule), ("double_process", "oracle_divergence"));
    let told = serde_json::to_string_pretty(finding).unwrap() + "\n";
    let path = data().join("finding.json");
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        std::fs::write(&path, &told).unwrap();
    }
    assert_eq!(told, std::fs::read_to_string(&path).unwrap());
}
