//! Simulator, oracle and detectors agree, over many seeds, modulo what was declared lost.
//!
//! ```text
//!   world ──► records, and who broke the protocol ─────────────┐
//!               └─► pipeline ──► findings, what the cores said ─┴─► agrees: Ok, or what does not
//! ```
//!
//! Each world is a stream of wire bytes through the whole pipeline. A failure ends with the command that
//! shows it. That the check can fail is shown as well: with a simulator that hides what it did
//! (`agreement/mutants.rs`), and with every mutant of the oracle.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "agreement/mutants.rs"]
mod mutants;
#[path = "agreement/told.rs"]
mod told;

use std::{collections::BTreeSet, mem::offset_of};

use endiod::{
    detect::Rule,
    metrics::Metrics,
    oracle::in_step::Oracle,
    pipeline::{Pipeline, names},
    probes::PROBES,
    source::sim::{Chosen, Faults, Half, Options, Release, Slip, World, simulate},
};
use endiod_wire::wire::{
    AGENT_CPU, Attach, Config, Header, Host, Record as _, backend, bytes_of, config_key, context,
    subject,
};

use told::{LIVES, Told, run_chosen};

const SEEDS: u64 = 24;

const NONE: Faults = Faults { lost: 0, cut: 0, doubled: 0, exchanged: 0 };
const EXCHANGED: Faults = Faults { exchanged: 500, ..NONE };
const LOSSY: [Faults; 5] = [
    Faults { lost: 2, ..NONE },
    Faults { lost: 50, exchanged: 500, ..NONE },
    Faults { lost: 500, ..NONE },
    Faults { cut: 5, doubled: 5, exchanged: 500, ..NONE },
    Faults { lost: 20, cut: 20, doubled: 20, exchanged: 1000 },
];

const SOUND: [World; 2] = [World::CompletedList(Half::FIXED), World::Refcounted(None)];

/// Runs a world and fails with its command if oracle, detectors and simulator do not agree.
#[track_caller]
fn check(world: World, seed: u64, faults: Faults) -> Told {
    check_chosen(world, seed, faults, Chosen::default())
}

#[track_caller]
fn check_chosen(world: World, seed: u64, faults: Faults, chosen: Chosen) -> Told {
    let told = run_chosen(world, seed, faults, Oracle::default(), chosen);
    if let Err(why) = told.agrees(&told.breached()) {
        panic!("{why}\n{}", told.command);
    }
    told
}

#[test]
fn nothing_is_said_of_a_kernel_that_keeps_its_protocol_at_any_loss() {
    let mut judged = 0;
    for seed in 0..SEEDS {
        for world in SOUND {
            for faults in [NONE, EXCHANGED].into_iter().chain(LOSSY) {
                let told = check(world, seed, faults);
                assert!(told.breached().is_empty());
                judged += told.summary.oracle.values().map(|core| core.allowed).sum::<u64>();
            }
        }
    }
    assert!(judged > 50_000, "only {judged} events were judged");
}

#[test]
fn both_bugs_of_the_unfixed_core_are_found_by_oracle_and_detectors() {
    let (mut breaches, mut freed_in_use, mut requeued) = (0, 0, 0);
    for seed in 0..SEEDS {
        for faults in [NONE, EXCHANGED] {
            let told = check(World::CompletedList(Half::UNFIXED), seed, faults);
            // It is the crime that no run has, not what the flusher does afterwards.
            for divergence in &told.summary.divergences {
                let crime = ["no run with release", "no run with requeue"];
                assert!(crime.iter().any(|crime| divergence.contains(crime)), "{divergence}");
            }
            let found = told.found();
            let by = |rule: &str| found.iter().filter(|(by, _)| by == rule).count();
            freed_in_use += by("worker_freed_in_use");
            requeued += by("unlocked_flag_write");
            let freed = |rule: &str| !["oracle_divergence", "unlocked_flag_write"].contains(&rule);
            let freed = found.iter().filter(|(rule, _)| freed(rule));
            breaches += freed.map(|(_, object)| object).collect::<BTreeSet<_>>().len();
        }
    }
    assert!(requeued > 80, "only {requeued} were put back outside of the lock");
    // The others were freed before the claim itself, which then comes to the dead.
    println!("{freed_in_use} of {breaches} while the claim was seen");
    assert!(freed_in_use * 2 > breaches, "{freed_in_use} of {breaches}");
    assert!(breaches > 80, "only {breaches} breaches");
}

/// Bug 1 without the mark; bug 2, where QUEUED is set outside of the lock and may take IN_FSYNC away.
#[test]
fn with_either_half_of_the_fix_alone_its_bug_stays_and_is_found() {
    let without_mark = Half { in_fsync: false, ..Half::FIXED };
    let unlocked = Half { queued_in_lock: false, ..Half::FIXED };
    for (half, breaches_min) in [(without_mark, 50), (unlocked, 50)] {
        let mut breaches = 0;
        for seed in 0..SEEDS {
            breaches += check(World::CompletedList(half), seed, NONE).breached().len();
        }
        assert!(breaches >= breaches_min, "{half:?}: only {breaches} breaches");
    }
}

/// What a slip needs to happen in most seeds.
fn chosen_for(slip: Slip) -> Chosen {
    match slip {
        Slip::FailedLost => {
            Chosen { release: Some(Release::V6_18), failing: Some(300), ..Chosen::default() }
        }
        _ => Chosen::default(),
    }
}

/// `check` compares by object what the rules found with what was done, and what a core found, but for
/// `UNSEEN_BY_CORES`; the two crimes that are no slip fire in worlds of their own.
#[test]
fn every_slip_is_found_and_each_detector_fires() {
    let mut rules = BTreeSet::new();
    for slip in Slip::ALL {
        let mut breaches = 0;
        for seed in 0..SEEDS / 2 {
            let told = check_chosen(World::Refcounted(Some(slip)), seed, NONE, chosen_for(slip));
            rules.extend(told.rules());
            breaches += told.breached().len();
        }
        assert!(breaches > 10, "{slip:?}: only {breaches} breaches");
    }
    rules.extend(check(World::CompletedList(Half::UNFIXED), 1, NONE).rules());
    // Without FAILED a kernel converts after a failed write: a defect that is known, and no slip.
    let chosen = Chosen { release: Some(Release::V5_10), failing: Some(300), ..Chosen::default() };
    let told = run_chosen(World::Refcounted(None), 1, NONE, Oracle::default(), chosen);
    rules.extend(told.rules());
    // The worlds have io_ends and no direct writes.
    let all = Rule::ALL.iter().filter(|rule| **rule != Rule::DirectIoOrder);
    let all: BTreeSet<_> = all.map(|rule| rule.label().to_owned()).collect();
    assert!(rules == all, "never fired: {:?}", all.difference(&rules));
}

/// CVE-2025-38580, which the kernel of 6.16.0 has by itself: the inode that nothing pins is found once a
/// chained bio was seen, and nothing else of it is wrong.
#[test]
fn what_6_16_0_leaves_to_its_worker_unchained_is_found() {
    let (mut found, mut breached) = (0, 0);
    let release = Some(Release::V6_16);
    for seed in 0..SEEDS / 2 {
        for data_err_abort in [false, true] {
            let (failing, data_err_abort) = (Some(300), Some(data_err_abort));
            let chosen = Chosen { release, failing, data_err_abort, ..Chosen::default() };
            let told = run_chosen(World::Refcounted(None), seed, NONE, Oracle::default(), chosen);
            let rules = BTreeSet::from(["unpinned_inode".to_owned()]);
            assert!(told.rules().is_subset(&rules), "{:?}\n{}", told.rules(), told.command);
            assert!(told.objects().is_subset(&told.breached()), "{}", told.command);
            assert!(data_err_abort == Some(false) || told.breached().is_empty());
            found += told.objects().len();
            breached += told.breached().len();
        }
    }
    println!("{found} of {breached} were found");
    assert!(found > 50 && 2 * found > breached, "{found} of {breached}");
}

/// Under loss what is said is true and of whole records only; and something is said.
#[test]
fn with_losses_nothing_is_said_that_did_not_happen_or_of_a_record_with_a_gap() {
    let (mut breached, mut found) = (0, 0);
    for seed in 0..SEEDS / 2 {
        for faults in LOSSY {
            for world in
                [World::CompletedList(Half::UNFIXED), World::Refcounted(Some(Slip::SecondClaim))]
            {
                let told = check(world, seed, faults);
                breached += told.breached().len();
                found += told.objects().len();
            }
        }
    }
    assert!(found > 0 && found < breached, "{found} of {breached} were found under loss");
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
        faults: NONE,
    };
    let simulated = simulate(&options);
    assert!(!simulated.breached.is_empty());
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
    assert_eq!(summary.oracle["completed_list"].diverged, simulated.breached.len() as u64);
    assert!(!simulated.breached.is_empty());
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
