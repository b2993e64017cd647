//! `endiod simulate` at the command line: every derived option has a flag, the recording that it keeps
//! replays to the same verdict, and its last word shows the same world again.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use endiod::source::sim::{Release, Slip, World};

fn endiod(args: &str) -> Output {
    let words = args.split_whitespace();
    Command::new(env!("CARGO_BIN_EXE_endiod")).args(words).output().unwrap()
}

fn simulate(args: &str) -> Told {
    let output = endiod(&format!("simulate {args}"));
    Told {
        exit: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[derive(Debug)]
struct Told {
    exit: i32,
    stdout: String,
    stderr: String,
}

impl Told {
    /// The command that shows it again, without its program and verb.
    fn again(&self) -> &str {
        let last = self.stderr.lines().last().unwrap();
        last.strip_prefix("endiod simulate ").unwrap_or_else(|| panic!("{}", self.stderr))
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("simulate-{name}.endiod"));
    // It is there after an earlier run of this test.
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn it_exits_as_replay_does_and_a_seed_gives_one_world() {
    for (core, exit) in [("fixed", 0), ("refcounted", 0), ("unfixed", 1), ("without_in_fsync", 1)] {
        let args = format!("--core {core} --seed 7 --lives 200");
        let told = simulate(&args);
        assert_eq!(told.exit, exit, "{core}: {}", told.stderr);
        assert!(told.stderr.contains("seed 7") && told.stderr.contains("CPUs"), "{}", told.stderr);
        assert_eq!(told.stdout, simulate(&args).stdout, "{core}");
        let names_the_command = told.stderr.contains("endiod simulate ");
        assert_eq!(names_the_command, exit != 0, "{}", told.stderr);
    }
}

#[test]
fn its_last_word_shows_the_same_again() {
    // With FAILED known and bios that fail, every slip finds its io_end.
    let slips = Slip::ALL.map(|slip| {
        // It is done once in a world, and a loss after it would excuse it.
        let lost = u32::from(slip != Slip::WorkLost);
        format!("--slip {} --release 6.18 --failing 300 --lost {lost}", slip.label())
    });
    let mut worlds = vec!["--core unfixed --exchanged 500 --cut 1".to_owned()];
    worlds.extend(slips);
    for world in worlds {
        let told = simulate(&format!("{world} --seed 11 --lives 300 --format json"));
        assert_eq!(told.exit, 1, "{world}: {}", told.stderr);
        for flag in [
            "core",
            "seed",
            "lives",
            "release",
            "cpus",
            "addresses",
            "reused",
            "failing",
            "data-err-abort",
            "lost",
            "cut",
            "doubled",
            "exchanged",
        ] {
            assert!(told.again().contains(&format!("--{flag} ")), "{flag}: {}", told.stderr);
        }
        let again = simulate(&format!("{} --format json", told.again()));
        assert_eq!((again.exit, &again.stdout), (told.exit, &told.stdout), "{}", told.stderr);
        assert_eq!(again.stderr, told.stderr);
    }
}

/// Every derived option, off its draw: what is printed is what was asked for.
#[test]
fn what_is_chosen_is_taken_and_printed() {
    for release in Release::ALL {
        let core = if release == Release::V3_2 { "fixed" } else { "refcounted" };
        let told = simulate(&format!(
            "--core {core} --lives 60 --release {} --cpus 1 --addresses 3 --reused 1000 \
             --failing 1000 --data-err-abort true",
            release.label()
        ));
        // Kernels without FAILED convert after a failed write, which is a finding.
        let exit = i32::from(release == Release::V5_10);
        assert_eq!(told.exit, exit, "{told:?}");
        assert_eq!(told.stdout.contains("convert_after_failed_write"), exit == 1, "{told:?}");
        let derived = told.stderr.lines().nth(1).unwrap();
        for word in ["1 CPUs", "3 addresses", "1000 of 1000 reused", "1000 of 1000 bios", "true"] {
            assert!(derived.contains(word), "{word}: {derived}");
        }
        let kernel = format!("kernel      {}.", release.label());
        assert!(told.stdout.starts_with(&kernel), "{}", told.stdout);
    }
    let calm = simulate("--lives 60 --failing 0 --format json");
    let stormy = simulate("--lives 60 --failing 500 --format json");
    let failed = |told: &Told| -> u64 {
        let summary: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
        summary["io_ends"]["bios_failed"].as_u64().unwrap()
    };
    assert_eq!(failed(&calm), 0);
    assert!(failed(&stormy) > 10);
}

#[test]
fn the_recording_that_it_keeps_replays_to_the_same() {
    for (name, world) in [
        ("sound", "--core refcounted"),
        ("unfixed", "--core unfixed"),
        ("faulty", "--slip second_claim --lost 5 --cut 5 --doubled 5 --exchanged 500"),
    ] {
        let path = scratch(name);
        let file = path.display();
        let told = simulate(&format!("{world} --seed 3 --lives 300 --format json -o {file}"));
        let replayed = endiod(&format!("replay --format json {file}"));
        assert_eq!(replayed.status.code(), Some(told.exit), "{name}: {}", told.stderr);
        assert_eq!(String::from_utf8(replayed.stdout).unwrap(), told.stdout, "{name}");
        let refused = simulate(&format!("{world} -o {file}"));
        assert_eq!(refused.exit, 2, "{name}: it is there already");
        assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
        assert!(!refused.again().is_empty());
        let exit = simulate(&format!("{world} --seed 3 --lives 300 -o {file} --force")).exit;
        assert_eq!(exit, told.exit, "{name}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    for (args, says) in [
        ("--core fixed --release 6.18", "--release 3.2"),
        ("--core refcounted --release 3.2", "--release 5.10, 6.12, 6.16, 6.18"),
        ("--core unfixed --slip second_claim", "--slip"),
        ("--release 4.19", "5.10"),
        ("--lost 1001", "1000"),
        ("--cpus 0", "1"),
        ("--force", "--output"),
    ] {
        let told = simulate(args);
        assert_eq!(told.exit, 2, "{args}: {}", told.stderr);
        assert!(told.stderr.contains(says), "{args}: {}", told.stderr);
        assert!(told.stdout.is_empty(), "{args}");
    }
    for (name, _) in World::CORES {
        assert!(simulate("--help").stdout.contains(name), "{name}");
    }
}
