//! The table is whole, and rules are armed by what is witnessed and known.

use super::{DETECTORS, Detectors, Fact, Facts, Lack, Rule, Suppressed};
use crate::event::Backend;
use crate::limits;
use crate::probes::Witness;
use crate::witnesses::Witnesses;

#[test]
fn every_rule_has_its_row_and_every_row_its_reasons() {
    let rules: Vec<Rule> = DETECTORS.iter().map(|detector| detector.rule).collect();
    assert_eq!(rules, Rule::ALL);
    assert!(Rule::ALL.iter().enumerate().all(|(at, rule)| *rule as usize == at));
    assert!(Rule::ALL.len() <= u32::BITS as usize, "a bit for each in Accused");
    for detector in DETECTORS {
        let name = detector.rule.label();
        for text in [detector.claim, detector.sound, detector.misses] {
            assert!(!text.is_empty(), "{name}");
        }
        assert!(!detector.ways.is_empty() && detector.ways.len() <= 8, "{name}");
        for way in detector.ways {
            let birth = match detector.rule {
                Rule::DirectIoOrder => "ext4_file_write_iter",
                _ => "ext4_init_io_end",
            };
            assert_eq!(way.needs[0].name(), birth, "{name}: births come first");
            assert!(way.needs.iter().all(|need| !need.name().is_empty()), "{name}");
        }
    }
    assert!(Suppressed::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
}

fn armed(witnesses: &Witnesses) -> Vec<&'static str> {
    let mut detectors = Detectors::new();
    detectors.arm(witnesses);
    let armed = Rule::ALL.iter().filter(|rule| detectors.is_armed(**rule));
    armed.map(|rule| rule.label()).collect()
}

#[test]
fn each_back_end_arms_the_rules_that_it_can_serve() {
    let all: Vec<_> = Rule::ALL.iter().map(|rule| rule.label()).collect();
    assert_eq!(armed(&Witnesses::all_by(Backend::Fentry)), all);
    let raw = armed(&Witnesses::all_by(Backend::RawTracepoint));
    let of_bytes = ["double_process", "use_after_release", "bad_reference", "unknown_flag_bits"];
    assert_eq!(raw, [&of_bytes[..], &["unpinned_inode", "stuck"]].concat());
    assert!(armed(&Witnesses::all_by(Backend::Kprobe)).is_empty());
    assert!(armed(&Witnesses::NONE).is_empty());
}

#[test]
fn back_ends_are_mixed_witness_by_witness() {
    let mut mixed = Witnesses::all_by(Backend::Fentry);
    mixed.set(Witness::Claim, None);
    mixed.set(Witness::Birth, Some(Backend::RawTracepoint));
    // Inodes are known by fentry's births, and the cores take nothing from a raw tracepoint.
    let tied_to_inodes =
        ["fsync_before_conversion", "conversion_error_hidden", "oracle_divergence"];
    let others = Rule::ALL.iter().map(|rule| rule.label());
    let others: Vec<_> = others.filter(|rule| !tied_to_inodes.contains(rule)).collect();
    assert_eq!(armed(&mixed), others);
    mixed.set(Witness::Birth, Some(Backend::Kprobe));
    assert_eq!(armed(&mixed), ["direct_io_order"], "a direct write has no io_end");
    mixed = Witnesses::all_by(Backend::Fentry);
    mixed.set(Witness::Put, Some(Backend::Kprobe));
    // No kernel's: a rule that another way serves on the fixture is not served here.
    mixed.set(Witness::Requeue, None);
    let resting_on_puts = [
        "double_process",
        "bad_linkage",
        "lost_flag_update",
        "unlocked_flag_write",
        "leaked_handle",
        "missing_bio",
        "oracle_divergence",
        "fsync_before_conversion",
        "conversion_error_hidden",
        "unpinned_inode",
        "stuck",
    ];
    let others = Rule::ALL.iter().map(|rule| rule.label());
    let others: Vec<_> = others.filter(|rule| !resting_on_puts.contains(rule)).collect();
    assert_eq!(armed(&mixed), others);
}

#[test]
fn a_rule_tells_why_it_is_off_or_watches_in_part() {
    let lacks = |witnesses: &Witnesses, rule| {
        let mut detectors = Detectors::new();
        detectors.arm(witnesses);
        let lacks = Lack::ALL.into_iter().filter(|lack| detectors.lacks(rule, *lack));
        lacks.map(Lack::label).collect::<Vec<_>>()
    };
    let fentry = Witnesses::all_by(Backend::Fentry);
    assert!(Rule::ALL.iter().all(|rule| lacks(&fentry, *rule).is_empty()));
    let raw = Witnesses::all_by(Backend::RawTracepoint);
    assert_eq!(lacks(&raw, Rule::ReleaseTwice), ["backend"]);
    assert_eq!(lacks(&raw, Rule::BadReference), ["backend"]);
    assert_eq!(lacks(&Witnesses::NONE, Rule::BadReference), ["probe_missing"]);
    let mut detectors = Detectors::new();
    detectors.believe_layout(false);
    detectors.arm(&fentry);
    assert!(Rule::ALL.iter().all(|rule| !detectors.is_armed(*rule)));
    assert!(Rule::ALL.iter().all(|rule| detectors.lacks(*rule, Lack::Layout)));
    let mut some = fentry;
    some.set(Witness::Release, None);
    some.set(Witness::Put, Some(Backend::Kprobe));
    assert_eq!(lacks(&some, Rule::DoubleProcess), ["probe_missing", "kprobe"]);
}

#[test]
fn a_fact_that_is_not_known_costs_what_rests_on_it_and_says_so() {
    let without = |fact| {
        let mut detectors = Detectors::new();
        let known = Fact::ALL.into_iter().filter(|it| *it != fact);
        detectors.know(known.fold(Facts::NONE, |facts, it| facts.with(it, true)));
        detectors
    };
    let lacking = |detectors: &Detectors, lack| {
        let rules = Rule::ALL.iter().filter(|rule| detectors.lacks(**rule, lack));
        rules.map(|rule| rule.label()).collect::<Vec<_>>()
    };
    let failed = without(Fact::FailedFlag);
    let in_part = ["lost_flag_update", "convert_after_failed_write"];
    assert_eq!(lacking(&failed, Lack::Generation), in_part);
    assert!(Rule::ALL.iter().all(|rule| failed.is_armed(*rule)), "the rest of them is armed");
    let flags = without(Fact::NoOtherFlags);
    let resting_on_flags = ["unknown_flag_bits", "unlocked_flag_write"];
    assert_eq!(lacking(&flags, Lack::Generation), resting_on_flags);
    let chained = without(Fact::BiosChained);
    assert_eq!(lacking(&chained, Lack::Generation), ["unpinned_inode"]);
    assert!(chained.is_armed(Rule::UnpinnedInode), "the end of an inode is seen all the same");
    assert!(!flags.is_armed(Rule::UnknownFlagBits));
    let bios = without(Fact::AllBiosSeen);
    assert_eq!(lacking(&bios, Lack::ProbeMissing), ["missing_bio"]);
    assert!(!bios.is_armed(Rule::MissingBio));
    let core = without(Fact::CoreDescribed);
    assert_eq!(lacking(&core, Lack::Generation), ["oracle_divergence"]);
    assert!(!core.is_armed(Rule::OracleDivergence));
}

/// The pages say it in words.
#[test]
fn what_is_kept_of_direct_writes_is_as_the_rule_says() {
    let misses = DETECTORS[Rule::DirectIoOrder as usize].misses;
    assert!(misses.contains("after 1,024 other") && limits::DIRECT_IOS_ENDED_MAX == 1_024);
}
