//! Every recording under `tests/data/recordings`, of stock kernels' defects too, and of the replica's bugs under `tests/data/replica`, replays
//! to the summary beside it, byte for byte.
//!
//! `ENDIOD_UPDATE=1` writes the summaries anew; read the difference before it is kept.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use endiod::{report::Summary, source::trace::Reader};

/// Largest recording, bytes: this is a source tree.
const RECORDING_BYTES_MAX: u64 = 400 << 10;

fn recordings() -> Vec<PathBuf> {
    recordings_in("recordings")
}

fn recordings_in(dir: &str) -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(dir);
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let mut recordings: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "endiod")).collect();
    recordings.sort();
    recordings
}

/// Exit code and stdout.
fn replay(path: &Path) -> (Option<i32>, String) {
    let endiod = env!("CARGO_BIN_EXE_endiod");
    let output =
        Command::new(endiod).args(["replay", "--format", "json"]).arg(path).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, "", "{}", path.display());
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn check(path: &Path) -> Result<(), String> {
    let (_, told) = replay(path);
    let golden = path.with_extension("json");
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        return fs::write(&golden, &told).map_err(|error| format!("{golden:?}: {error}"));
    }
    let expected =
        fs::read_to_string(&golden).map_err(|error| format!("{}: {error}", golden.display()))?;
    let file = path.display();
    (told == expected)
        .then_some(())
        .ok_or(format!("{file}\n--- expected\n{expected}--- told\n{told}"))
}

#[test]
fn every_recording_replays_to_the_summary_beside_it() {
    let all = recordings().into_iter();
    let all = all.chain(recordings_in("recordings/stock")).chain(recordings_in("replica"));
    let failures: Vec<String> = all.filter_map(|it| check(&it).err()).collect();
    assert!(
        failures.is_empty(),
        "{}\nafter reading the difference: ENDIOD_UPDATE=1 cargo test -p endiod --test replay_golden",
        failures.join("\n")
    );
}

/// Each workload on each kernel, and what makes it worth replaying.
#[test]
fn the_corpus_holds_both_workloads_on_three_kernels() {
    let summary = |name: &str| -> Summary {
        let path = recordings().into_iter().find(|path| path.ends_with(format!("{name}.endiod")));
        let path = path.unwrap_or_else(|| panic!("no recording {name}"));
        assert!(fs::metadata(&path).unwrap().len() <= RECORDING_BYTES_MAX, "{name} is large");
        let (exit, told) = replay(&path);
        assert_eq!(exit, Some(0), "{name}: {told}");
        serde_json::from_str(&told).unwrap()
    };
    for kernel in ["5.10", "6.1", "6.18"] {
        let direct = summary(&format!("direct-{kernel}"));
        let buffered = summary(&format!("buffered-{kernel}"));
        for (name, told) in [("direct", &direct), ("buffered", &buffered)] {
            assert!(told.kernel.starts_with(kernel), "{name}-{kernel} is of {}", told.kernel);
            assert!(told.fsyncs.started > 0, "{name}-{kernel} has no fsync");
            assert_eq!((told.stream.malformed, told.dropped()), (0, 0), "{name}-{kernel}");
        }
        assert!(direct.direct_ios.completed > 50, "{kernel}: {:?}", direct.direct_ios);
        assert!(buffered.io_ends.released > 50, "{kernel}: {:?}", buffered.io_ends);
        assert!(buffered.io_ends.queued > 0, "{kernel}: {:?}", buffered.io_ends);
    }
}

/// `v1.endiod` was written when version 1 was new and is never written again.
#[test]
fn a_file_of_format_version_1_is_still_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings/v1.endiod");
    let bytes = fs::read(&path).unwrap();
    assert_eq!(bytes[8..10], [1, 0], "its head says version 1");
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut records = 0;
    while reader.next_record().unwrap().is_some() {
        records += 1;
    }
    assert!(records > 100, "only {records} records");
    let (exit, told) = replay(&path);
    assert_eq!(exit, Some(1), "it holds a crime: {told}");
    assert!(told.contains("\"rule\":\"double_process\""), "{told}");
}

/// What stock kernels do when a device fails, as the guests saw it.
#[test]
fn stock_kernels_recordings_hold_what_their_names_say() {
    let (mut hidden, mut bared) = (0, 0);
    for path in recordings_in("recordings/stock") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let (_, told) = replay(&path);
        let summary: Summary = serde_json::from_str(&told).unwrap();
        let (what, kernel) = name.rsplit_once('-').unwrap();
        assert!(summary.kernel.starts_with(kernel), "{name} is of {}", summary.kernel);
        assert_eq!((summary.stream.malformed, summary.dropped()), (0, 0), "{name}");
        let of = |rule: &str| summary.findings.iter().filter(|it| it["rule"] == rule).count();
        let (converted, untold) = (of("convert_after_failed_write"), of("conversion_error_hidden"));
        let expected = match (what, kernel) {
            ("failed-at-once", "6.1" | "6.12") | ("failed-later", "6.1") => (4, 0),
            ("failed-at-once" | "failed-later", _) => (0, 0),
            _ => (0, 1),
        };
        assert_eq!((converted, untold), expected, "{name}: {told}");
        bared += converted;
        hidden += untold;
    }
    assert!(bared > 8 && hidden > 5, "the corpus has {bared} and {hidden}");
}

/// Both bugs of 2012, as the agent saw them on a real kernel.
#[test]
fn the_replicas_recordings_hold_what_their_names_say() {
    let of = |name: &str| -> Summary {
        let path = recordings_in("replica").into_iter().find(|path| path.ends_with(name));
        let (exit, told) = replay(&path.unwrap_or_else(|| panic!("no recording {name}")));
        assert_eq!(exit, Some(1), "{name}: {told}");
        serde_json::from_str(&told).unwrap()
    };
    let rules = |summary: &Summary| -> Vec<String> {
        let rules = summary.findings.iter().map(|finding| finding["rule"].as_str().unwrap());
        rules.map(str::to_owned).collect()
    };
    let has = |summary: &Summary, rule: &str| rules(summary).iter().any(|it| it == rule);
    let [bug_1, bug_2] = ["bug-1.endiod", "bug-2.endiod"].map(of);
    for summary in [&bug_1, &bug_2] {
        assert!(summary.subject.is_some() && summary.kernel.starts_with("6.1."), "{summary}");
        assert_eq!(summary.oracle.keys().collect::<Vec<_>>(), ["completed_list"]);
        assert!(has(summary, "worker_freed_in_use"), "{:?}", rules(summary));
    }
    assert!(!has(&bug_1, "unlocked_flag_write"), "{:?}", rules(&bug_1));
    assert!(has(&bug_2, "unlocked_flag_write"), "{:?}", rules(&bug_2));
}
