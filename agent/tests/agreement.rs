//! Simulator, oracle and detectors agree, over many seeds, modulo what was declared lost.
//!
//! Each world is a stream of wire bytes through the whole pipeline. A failure ends with the command
//! that shows it. The simulator's mutants ([`Slip`], the unfixed core) must be found: a mutant of the
//! oracle or of a detector that lets them through fails here as well.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{collections::BTreeSet, mem::offset_of};

use endiod::{
    metrics::Metrics,
    pipeline::{Pipeline, names},
    probes::PROBES,
    report::Summary,
    source::sim::{Chosen, Faults, Half, Options, Release, Simulated, Slip, World, simulate},
};
use endiod_wire::wire::{
    AGENT_CPU, Attach, Config, Header, Host, Record as _, backend, bytes_of, config_key, context,
    subject,
};

const SEEDS: u64 = 30;
const LIVES: u32 = 120;

const LOSSY: [Faults; 5] = [
    Faults { lost: 2, cut: 0, doubled: 0, exchanged: 0 },
    Faults { lost: 50, cut: 0, doubled: 0, exchanged: 500 },
    Faults { lost: 500, cut: 0, doubled: 0, exchanged: 0 },
    Faults { lost: 0, cut: 5, doubled: 5, exchanged: 500 },
    Faults { lost: 20, cut: 20, doubled: 20, exchanged: 1000 },
];

/// Rules that no slip breaks: the traces under `tests/data` do, and the saboteur in guests.
const NO_SLIP: [&str; 9] = [
    "bad_linkage",
    "unknown_flag_bits",
    "lost_flag_update",
    "unlocked_flag_write",
    "convert_after_failed_write",
    "leaked_handle",
    "missing_bio",
    "convert_in_irq",
    "worker_freed_in_use",
];

struct Told {
    summary: Summary,
    simulated: Simulated,
    command: String,
}

fn run(world: World, seed: u64, faults: Faults) -> Told {
    let chosen = Chosen::default();
    let simulated = simulate(&Options { world, seed, lives: LIVES, chosen, faults });
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    simulated.records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    let command = format!("{}; {}\n  {}", simulated.derived, simulated.done, simulated.command());
    Told { summary: pipeline.summary(), simulated, command }
}

impl Told {
    /// What the detectors found: (rule, object). Kernels without FAILED convert after a failed write: a
    /// known defect of theirs and no breach of this world's.
    fn found(&self) -> BTreeSet<(String, String)> {
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let without_failed = self.simulated.derived.release == Release::V5_10;
        let findings = self.summary.findings.iter();
        findings
            .map(|finding| (text(finding, "rule"), text(finding, "object")))
            .filter(|(rule, _)| !without_failed || rule != "convert_after_failed_write")
            .collect()
    }

    fn objects(&self) -> usize {
        self.found().into_iter().map(|(_, object)| object).collect::<BTreeSet<_>>().len()
    }

    fn diverged(&self, core: &str) -> u64 {
        self.summary.oracle.get(core).map_or(0, |core| core.diverged)
    }

    fn is_silent(&self) -> bool {
        self.found().is_empty() && self.summary.diverged() == 0
    }

    /// Every event of an io_end was judged, or told as one that was not.
    fn conserves(&self) -> bool {
        let kinds = ["io_end_birth", "range_added", "bio_attach", "bio_end", "put", "put_defer"];
        let more = ["claim", "convert_begin", "convert_end", "release"];
        let events =
            kinds.iter().chain(&more).filter_map(|kind| self.summary.stream.events.get(*kind));
        let events: u64 = events.sum();
        let judged =
            |core: &endiod::report::Core| core.allowed + core.diverged + core.could_not_tell;
        self.summary.oracle.values().all(|core| judged(core) == events)
    }
}

#[test]
fn nothing_is_said_of_a_kernel_that_keeps_its_protocol_at_any_loss() {
    let mut judged = 0;
    for seed in 0..SEEDS {
        for world in [World::CompletedList(Half::FIXED), World::Refcounted(None)] {
            let exchanged = Faults { exchanged: 500, ..Faults::default() };
            for faults in [Faults::default(), exchanged].into_iter().chain(LOSSY) {
                let told = run(world, seed, faults);
                let diverged = &told.summary.divergences;
                assert!(told.is_silent(), "{:?} {diverged:?}\n{}", told.found(), told.command);
                assert!(told.conserves(), "{:?}\n{}", told.summary.oracle, told.command);
                judged += told.summary.oracle.values().map(|core| core.allowed).sum::<u64>();
                if faults.lost + faults.cut + faults.doubled == 0 {
                    let missing = told.summary.oracle.values().any(|core| core.could_not_tell > 0);
                    assert!(!missing, "all was there to judge\n{}", told.command);
                }
            }
        }
    }
    assert!(judged > 50_000, "only {judged} events were judged");
}

#[test]
fn every_free_in_use_of_the_unfixed_core_is_found_by_oracle_and_detectors() {
    let (mut breaches, mut freed_in_use) = (0, 0);
    for seed in 0..SEEDS {
        let told = run(World::CompletedList(Half::UNFIXED), seed, Faults::default());
        let expected = told.simulated.breaches;
        assert_eq!(told.diverged("completed_list"), expected, "{}", told.command);
        assert_eq!(told.objects() as u64, expected, "{:?}\n{}", told.found(), told.command);
        freed_in_use +=
            told.found().iter().filter(|(rule, _)| rule == "worker_freed_in_use").count();
        // It is the free that no run has, not what the flusher does afterwards.
        for divergence in &told.summary.divergences {
            assert!(divergence.contains("no run with release"), "{divergence}\n{}", told.command);
        }
        breaches += expected;
    }
    // The others were freed before the claim itself, which then comes to the dead.
    println!("{freed_in_use} of {breaches} while the claim was seen");
    assert!(freed_in_use as u64 * 2 > breaches, "{freed_in_use} of {breaches}");
    assert!(breaches > 50, "only {breaches} breaches");
}

#[test]
fn without_the_mark_alone_bug_1_stays_and_is_found() {
    let half = Half { in_fsync: false, ..Half::FIXED };
    let mut breaches = 0;
    for seed in 0..SEEDS {
        let told = run(World::CompletedList(half), seed, Faults::default());
        assert_eq!(told.diverged("completed_list"), told.simulated.breaches, "{}", told.command);
        breaches += told.simulated.breaches;
    }
    assert!(breaches > 50, "only {breaches} breaches");
}

/// Bug 2: a store of QUEUED outside of the lock takes IN_FSYNC away.
#[test]
fn with_queued_set_outside_of_the_lock_a_free_in_use_is_found() {
    let half = Half { queued_in_lock: false, ..Half::FIXED };
    let mut breaches = 0;
    for seed in 0..SEEDS {
        let told = run(World::CompletedList(half), seed, Faults::default());
        assert_eq!(told.diverged("completed_list"), told.simulated.breaches, "{}", told.command);
        breaches += told.simulated.breaches;
    }
    assert!(breaches > 0, "no schedule lost the mark");
}

#[test]
fn every_slip_is_found_by_the_oracle_and_each_detector_fires() {
    let mut rules = BTreeSet::new();
    for slip in Slip::ALL {
        let mut breaches = 0;
        for seed in 0..SEEDS / 2 {
            let told = run(World::Refcounted(Some(slip)), seed, Faults::default());
            let expected = told.simulated.breaches;
            assert_eq!(told.diverged("refcounted"), expected, "{}", told.command);
            assert_eq!(told.objects() as u64, expected, "{:?}\n{}", told.found(), told.command);
            rules.extend(told.found().into_iter().map(|(rule, _)| rule));
            breaches += expected;
        }
        assert!(breaches > 10, "{slip:?}: only {breaches} breaches");
    }
    let broken = |rule: &&str| !NO_SLIP.contains(rule);
    let all = endiod::detect::Rule::ALL.iter().map(|rule| rule.label()).filter(broken);
    let all: BTreeSet<_> = all.map(str::to_owned).collect();
    assert_eq!(rules, all, "a rule never fired, or one that no slip breaks");
}

/// What is told under loss is true: of no more objects than broke the protocol.
#[test]
fn with_losses_nothing_is_said_that_did_not_happen() {
    for seed in 0..SEEDS / 2 {
        for faults in LOSSY {
            for world in
                [World::CompletedList(Half::UNFIXED), World::Refcounted(Some(Slip::SecondClaim))]
            {
                let told = run(world, seed, faults);
                let breaches = told.simulated.breaches;
                assert!(told.objects() as u64 <= breaches, "{:?}\n{}", told.found(), told.command);
                for core in ["completed_list", "refcounted"] {
                    assert!(told.diverged(core) <= breaches, "{core}\n{}", told.command);
                }
            }
        }
    }
}

/// One program of another back end beside those of fentry, and the oracle does not judge: a stream in
/// which it finds breaches otherwise.
#[test]
fn one_probe_by_another_back_end_and_the_oracle_cannot_tell() {
    let options = Options {
        world: World::CompletedList(Half::UNFIXED),
        seed: 1,
        lives: LIVES,
        chosen: Chosen::default(),
        faults: Faults::default(),
    };
    let simulated = simulate(&options);
    assert!(simulated.breaches > 0);
    for (program, by) in [
        ("tp_kmem_cache_free", backend::RAW_TRACEPOINT),
        ("kprobe_ext4_put_io_end", backend::KPROBE),
    ] {
        let row = PROBES.iter().position(|probe| probe.program == program).unwrap();
        let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
        let mut attached = 0;
        for record in &simulated.records {
            let mut record = record.clone();
            let probe = offset_of!(Attach, probe);
            if record[..2] == Attach::KIND.to_ne_bytes()
                && record[probe..probe + 4] == u32::try_from(row).unwrap().to_ne_bytes()
            {
                record[offset_of!(Attach, backend)] = by;
                attached += 1;
            }
            pipeline.feed(&record);
        }
        pipeline.finish();
        assert_eq!(attached, 1, "{program}");
        let core = pipeline.summary().oracle["completed_list"];
        assert_eq!((core.allowed, core.diverged), (0, 0), "{program}");
        assert!(core.could_not_tell > 0, "{program}");
    }
}

/// The replica runs on a kernel of today, and its stream says what it is: the core of 2012 judges it alone.
#[test]
fn a_stream_that_says_replica_is_judged_by_the_core_of_2012_on_whatever_kernel() {
    let faults = Faults::default();
    let world = World::CompletedList(Half::UNFIXED);
    let simulated =
        simulate(&Options { world, seed: 1, lives: LIVES, chosen: Chosen::default(), faults });
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    for record in &simulated.records {
        let mut record = record.clone();
        let is_host = record[..2] == Host::KIND.to_ne_bytes();
        if is_host {
            let release = offset_of!(Host, release);
            record[release..release + 6].copy_from_slice(b"6.1.0-");
        }
        pipeline.feed(&record);
        if is_host {
            let header = Header { kind: Config::KIND, len: 48, ..header_of(&record) };
            let (key, value) = (config_key::SUBJECT, subject::REPLICA);
            pipeline.feed(bytes_of(&Config { header, key, pad: 0, value }));
        }
    }
    pipeline.finish();
    let summary = pipeline.summary();
    assert!(summary.kernel.starts_with("6.1.0-"), "{}", summary.kernel);
    assert!(summary.subject.as_deref().is_some_and(|subject| subject.contains("2012")));
    assert_eq!(summary.oracle.keys().collect::<Vec<_>>(), ["completed_list"]);
    assert_eq!(summary.oracle["completed_list"].diverged, simulated.breaches);
    assert!(simulated.breaches > 0);
}

/// The agent's own records are one task's.
fn header_of(record: &[u8]) -> Header {
    let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
    Header {
        kind: 0,
        len: 0,
        cpu: AGENT_CPU,
        lane: 0,
        context: context::TASK,
        seq: word(offset_of!(Header, seq)) + 1000,
        time_ns: word(offset_of!(Header, time_ns)),
        tid: 0,
        tgid: 0,
    }
}
