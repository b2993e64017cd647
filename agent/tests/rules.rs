//! The page of the rules, `docs/rules.md`, made from `DETECTORS`, the crimes of the saboteur and what is
//! known of ext4's past.

#[path = "support/crimes.rs"]
mod crimes;
#[path = "rules/history.rs"]
mod history;

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use endiod::{
    detect::{DETECTORS, Detector, Rule},
    known_defects::{KNOWN_DEFECTS, SeenBy},
};

use crimes::crimes_of_the_table;
use history::{HISTORY, TOLD_BY, ToldBy};

/// Rules that a crime of the saboteur cannot show, and what does on a real kernel.
const BY_THE_REPLICA: &[Rule] = &[Rule::WorkerFreedInUse];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// By rule, the crimes of the saboteur.
fn crimes_by_rule() -> BTreeMap<String, Vec<String>> {
    let source = fs::read_to_string(file("tests/fixtures/saboteur/table.c")).expect("the crimes");
    let mut by_rule = BTreeMap::<String, Vec<String>>::new();
    for (name, (rule, ..)) in crimes_of_the_table(&source) {
        by_rule.entry(rule).or_default().push(format!("`{name}`"));
    }
    by_rule
}

/// The crimes or the replica that show a rule on a real kernel; `None`: nothing does, it is unproven.
fn proof(rule: Rule) -> Option<String> {
    let crimes = crimes_by_rule().remove(rule.label());
    let replica = BY_THE_REPLICA.contains(&rule).then(|| "the replica".to_owned());
    crimes.map(|crimes| format!("the saboteur's {}", crimes.join(", "))).or(replica)
}

fn line(page: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(page, "{line}").expect("a string takes all text");
}

fn entry(page: &mut String, detector: &Detector) {
    let Detector { rule, claim, ways, sound, misses, .. } = detector;
    let sentence = |text: &str| text.trim_end_matches('.').to_owned();
    line(page, format_args!("\n### `{}`\n\nClaims: {}.\n", rule.label(), sentence(claim)));
    for (at, way) in ways.iter().enumerate() {
        let mut needs: Vec<_> = way.needs.iter().map(|need| format!("`{}`", need.name())).collect();
        needs.dedup();
        let part = if at == 0 { "Needs" } else { "In part by" };
        line(page, format_args!("- {part} {}; fires in `{}`.", needs.join(", "), way.fixture));
    }
    let proof = proof(*rule).unwrap_or_else(|| "nothing yet: unproven".to_owned());
    line(page, format_args!("- Shown on a real kernel by {proof}."));
    line(page, format_args!("\nWhy it cannot cry wolf: {}.\n", sentence(sound)));
    line(page, format_args!("What it can miss: {}.", sentence(misses)));
}

fn past(page: &mut String) {
    let rules = |rules: &[Rule], otherwise: &str| match rules {
        [] => format!("not seen: {otherwise}"),
        _ => rules.iter().map(|rule| format!("`{}`", rule.label())).collect::<Vec<_>>().join(", "),
    };
    for row in HISTORY {
        let seen = rules(row.seen_by, row.how);
        let how = if row.seen_by.is_empty() { "" } else { row.how };
        line(
            page,
            format_args!("| {} | {} | {} | {seen} | {how} |", row.fix, row.fixed_in, row.wrong),
        );
    }
    for defect in KNOWN_DEFECTS {
        let seen = match defect.seen_by {
            SeenBy::Rule(rule) => rules(&[rule], ""),
            SeenBy::Nothing(why) => rules(&[], why),
        };
        let fix = defect.fix.unwrap_or("none");
        line(page, format_args!("| {fix} | after 5.10 | {} | {seen} | |", defect.title));
    }
}

fn page() -> String {
    let mut page = "# Rules\n\n\
        Made from `DETECTORS` in `agent/src/detect.rs` by `ENDIOD_UPDATE=1 cargo test -p endiod --test \
        rules`.\n\n\
        A rule watches where all that it needs is witnessed (kernel functions, by fentry; or tracepoints) \
        and known; else it is off or watches in part, and `endiod doctor` and \
        `endiod_detector_degraded` say why. A charge is held until the second is over and is dropped, and \
        counted, where anything that was lost could explain it. The traces are under \
        `agent/tests/data`. How often each crime was found, by kernel: \
        [the truth table](truth-table.md).\n"
        .to_owned();
    DETECTORS.iter().for_each(|detector| entry(&mut page, detector));
    page += "\n## Crimes without a rule of their own\n\n\
        | crime | told by | why |\n| --- | --- | --- |\n";
    for ToldBy { name, rule, why, shown: (trace, _) } in TOLD_BY {
        let by = rule.label();
        line(&mut page, format_args!("| `{name}` | `{by}` | {why}; shown in `{trace}` |"));
    }
    page += "\n## Defects of ext4, and who sees them\n\n\
        What became of the completion and fsync paths from 3.1 on. Of those after 5.10 `endiod doctor` \
        says whether the host's version has them.\n\n\
        | fix | fixed in | what was wrong | seen by | how |\n| --- | --- | --- | --- | --- |\n";
    past(&mut page);
    page
}

#[test]
fn the_page_is_that_of_the_tables() {
    let (path, made) = (file("docs/rules.md"), page());
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        return fs::write(path, made).expect("the page can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    let hint = "ENDIOD_UPDATE=1 cargo test -p endiod --test rules";
    assert_eq!(found, made, "docs/rules.md is out of date: {hint}");
}

#[test]
fn every_rule_is_shown_by_a_fixture_on_a_real_kernel() {
    let unproven: Vec<_> =
        Rule::ALL.iter().filter(|rule| proof(**rule).is_none()).map(|rule| rule.label()).collect();
    assert!(unproven.is_empty(), "no fixture commits what these accuse of: {unproven:?}");
}

#[test]
fn what_has_no_rule_of_its_own_is_told_by_the_one_that_is_named() {
    for ToldBy { name, rule, why, shown: (trace, words) } in TOLD_BY {
        assert!(Rule::ALL.iter().all(|rule| rule.label() != *name), "{name} has a rule");
        assert!(!why.is_empty(), "{name}");
        let text = fs::read_to_string(file("tests/data").join(trace)).expect("the trace");
        let expected = text.split_once("---\n").expect("what is expected").1;
        let mut findings = expected.split("FINDING ").skip(1);
        let told =
            findings.any(|it| it.contains(&format!(" {} ", rule.label())) && it.contains(words));
        assert!(told, "{name}: {trace} does not show it");
    }
}

#[test]
fn every_defect_of_the_past_has_one_row() {
    let mut fixes: Vec<_> = HISTORY.iter().map(|row| row.fix).collect();
    fixes.extend(KNOWN_DEFECTS.iter().filter_map(|defect| defect.fix));
    let all = fixes.len();
    fixes.sort_unstable();
    fixes.dedup();
    assert_eq!(fixes.len(), all, "a fix has two rows");
    assert!(fixes.iter().all(|fix| fix.len() == 12 && fix.bytes().all(|b| b.is_ascii_hexdigit())));
    assert!(HISTORY.iter().all(|row| !row.how.is_empty() && !row.wrong.is_empty()));
}
