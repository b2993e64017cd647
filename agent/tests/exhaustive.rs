//! The core of 2012 in its largest world, and what `replay` says of kernels that no core describes.
//!
//! `endiod verify` explores every world of every core; here only the fixed one in all of its worlds,
//! because a debug build is slow.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/page.rs"]
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use endiod::{
    oracle::{
        claims::{CLAIMS, Subject},
        completed_list::Variant,
    },
    report::Summary,
    source::trace::{Reader, Writer},
};
use endiod_wire::wire::{self, Record};

fn endiod(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_endiod")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_fixed_core_holds_in_all_its_worlds() {
    let mut states = 0;
    for claim in CLAIMS {
        let Subject::CompletedList(core) = claim.subject else { continue };
        if core.variant != Variant::FIXED {
            continue;
        }
        let told = claim.subject.explore();
        assert!(claim.is_met_by(&told), "{}: {} states", claim.world, told.states);
        assert!(told.broken().is_empty() && told.doomed == 0);
        states += told.states;
    }
    assert!(states > 60_000, "{states} states");
}

/// Every world, state count, mutant and counterexample on the page is what `endiod verify` prints; times
/// are those of another build and machine.
#[test]
fn the_page_is_what_verify_prints() {
    let output = endiod(&["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    page::check_block("oracle.md", "verify", &text(&output.stdout), |block| {
        block.lines().map(without_time).collect::<Vec<_>>().join("\n")
    });
}

/// Without the `ms` of a row of the table of worlds.
fn without_time(line: &str) -> String {
    // Core, world, states, steps.
    const MS_AT: usize = 26 + 31 + 8 + 9;
    const MS_LEN: usize = 8;
    let chars: Vec<char> = line.chars().collect();
    let is_row = chars.len() > MS_AT + MS_LEN
        && chars[57..MS_AT].iter().all(|it| it.is_ascii_digit() || *it == ' ')
        && chars[MS_AT..MS_AT + MS_LEN].iter().all(|it| it.is_ascii_digit() || *it == ' ');
    let kept = |(at, _): &(usize, &char)| !is_row || !(MS_AT..MS_AT + MS_LEN).contains(at);
    chars.iter().enumerate().filter(kept).map(|(_, it)| it).collect()
}

/// A recording as if another kernel had made it.
fn of_kernel(name: &str, recording: &Path, release: &str) -> PathBuf {
    let bytes = fs::read(recording).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut writer = Writer::new(Vec::new()).unwrap();
    // Header, version, pad, CPUs; then the release.
    const RELEASE_AT: usize = 32 + 8;
    while let Some(record) = reader.next_record().unwrap() {
        let mut record = record.to_vec();
        if record[..2] == wire::Host::KIND.to_ne_bytes() {
            record[RELEASE_AT..RELEASE_AT + 64].fill(0);
            record[RELEASE_AT..RELEASE_AT + release.len()].copy_from_slice(release.as_bytes());
        }
        writer.push(&record).unwrap();
    }
    let (bytes, _) = writer.finish().unwrap();
    let path = scratch(&format!("{name}-of-{release}"));
    fs::write(&path, bytes).unwrap();
    path
}

fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.endiod"))
}

/// The recording of a simulated world.
fn simulated(name: &str, flags: &[&str]) -> PathBuf {
    let path = scratch(name);
    let output = ["-o", path.to_str().unwrap(), "--force", "--lives", "200"];
    let output = endiod(&[&["simulate"], flags, &output[..]].concat());
    assert!(output.status.code() < Some(2), "{}", text(&output.stderr));
    path
}

/// No core describes any of these.
const UNKNOWN: [&str; 5] = ["3.9.0", "4.19.0", "5.4.0", "7.4.0-rc2", "next-20270101"];

#[test]
fn a_kernel_that_no_core_describes_could_not_be_told() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let real = dir.join("buffered-6.18.endiod");
    let sound = simulated("sound", &["--release", "6.18"]);
    for release in UNKNOWN {
        for (name, recording) in [("real", &real), ("sound", &sound)] {
            let path = of_kernel(name, recording, release);
            let output = endiod(&["replay", path.to_str().unwrap()]);
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(2), "{release}: {stderr}");
            assert!(stderr.contains("no reference core") && stderr.contains(release), "{stderr}");
            assert!(!stdout.contains("diverge") && stdout.contains("findings    none"), "{stdout}");
        }
    }
    let known = of_kernel("real", &real, "7.3.9-some-vendor");
    assert_eq!(endiod(&["replay", known.to_str().unwrap()]).status.code(), Some(0));
}

/// What the rules find by themselves stays a finding; the cores have no word in it, and none of their own.
#[test]
fn a_crime_on_a_kernel_that_no_core_describes_is_found_without_them() {
    let crime = simulated("crime", &["--release", "6.18", "--slip", "second_claim"]);
    for release in UNKNOWN.iter().chain(&["6.18.0"]) {
        let path = of_kernel("crime", &crime, release);
        let output = endiod(&["replay", "--format", "json", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{release}: {}", text(&output.stderr));
        let told: Summary = serde_json::from_slice(&output.stdout).unwrap();
        let (of_cores, of_rules): (Vec<_>, Vec<_>) =
            told.findings.iter().partition(|finding| finding["rule"] == "oracle_divergence");
        let is_known = *release == "6.18.0";
        assert!(!of_rules.is_empty() && of_cores.is_empty() != is_known, "{release}: {told}");
        let words = |finding: &&serde_json::Value| finding["oracle"].as_object().unwrap().len();
        let words_expected = if is_known { 2 } else { 0 };
        assert!(of_rules.iter().all(|it| words(it) == words_expected), "{release}: {told}");
    }
}
