//! `endiod explain` as a user meets it: pictures, lists, refusals.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::streams::{Scratch, recorded};
use endiod::source::sim::World;

pub(crate) fn data(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let below = if name.contains('/') { name.to_owned() } else { format!("explain/{name}") };
    dir.join(below)
}

/// Exit code, stdout, stderr.
pub(crate) fn explain(file: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let endiod = env!("CARGO_BIN_EXE_endiod");
    let output = Command::new(endiod).arg("explain").arg(file).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Pictures that are kept: recording, flags, golden.
const PICTURES: [(&str, &[&str], &str); 10] = [
    ("bug_1.endiod", &[], "bug_1.txt"),
    ("bug_1.endiod", &["--format", "json"], "bug_1.json"),
    ("bug_2_freed.endiod", &[], "bug_2_freed.txt"),
    ("bug_2_hang.endiod", &["--io-end", "5d5ff6fb29828db4@2000"], "bug_2_hang.txt"),
    ("recordings/v1.endiod", &[], "v1.txt"),
    (
        "recordings/buffered-6.1.endiod",
        &["--io-end", "ae11ba8f4028df03@18478102291"],
        "buffered-6.1.txt",
    ),
    (
        "recordings/direct-order-6.1.endiod",
        &["--finding", "08ca1a5ce7a441bb"],
        "direct_write_uncounted.txt",
    ),
    ("recordings/evicting-6.1.endiod", &[], "evicting-6.1.txt"),
    ("recordings/stock/failed-at-once-6.12.endiod", &[], "stock_failed_6.12.txt"),
    ("recordings/stock/hidden-journal-aborted-7.3.endiod", &[], "stock_hidden_7.3.txt"),
];

/// Pages, and how the pictures that they show begin.
const PAGES: [(&str, &str); 3] =
    [("explain.md", "bug_"), ("explain.md", "direct_"), ("stock-kernels.md", "stock_")];

#[test]
fn every_kept_picture_is_what_the_program_draws() {
    let mut wrong = Vec::new();
    for (recording, args, golden) in PICTURES {
        let (exit, told, err) = explain(&data(recording), args);
        assert_eq!((exit, err.as_str()), (Some(0), ""), "{recording}");
        if std::env::var_os("ENDIOD_UPDATE").is_some() {
            fs::write(data(golden), &told).unwrap();
        }
        let expected = fs::read_to_string(data(golden)).unwrap_or_default();
        if told != expected {
            wrong.push(format!("{golden}\n--- expected\n{expected}--- told\n{told}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{}\nafter reading the difference: ENDIOD_UPDATE=1 cargo test -p endiod --test explain",
        wrong.join("\n")
    );
}

#[test]
fn pages_show_what_the_program_draws() {
    for (name, prefix) in PAGES {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name);
        let mut page = fs::read_to_string(&path).unwrap();
        for (recording, args, golden) in
            PICTURES.iter().filter(|it| it.2.starts_with(prefix) && it.2.ends_with("txt"))
        {
            let (_, told, _) = explain(&data(recording), args);
            let begin = page
                .find(&format!("<!-- {golden} -->\n```text\n"))
                .unwrap_or_else(|| panic!("{golden} is not in {name}"));
            let begin = begin + format!("<!-- {golden} -->\n```text\n").len();
            let end = begin + page[begin..].find("```\n").unwrap();
            if std::env::var_os("ENDIOD_UPDATE").is_some() {
                page.replace_range(begin..end, &told);
                fs::write(&path, &page).unwrap();
                continue;
            }
            assert_eq!(page[begin..end], told, "{golden} in {name}");
        }
    }
}

#[test]
fn what_is_not_there_is_refused_with_the_nearest() {
    let file = data("bug_1.endiod");
    let (_, json, _) = explain(&file, &["--format", "json"]);
    let story: serde_json::Value = serde_json::from_str(&json).unwrap();
    let id = story["findings"][0]["id"].as_str().unwrap();
    let object = story["object"].as_str().unwrap();
    assert_eq!(explain(&file, &["--finding", id, "--format", "json"]).1, json);
    let mistyped = format!("{}0", &id[..15]);
    let nearest = |args: &[&str], nearest: &str| {
        let (exit, out, err) = explain(&file, args);
        assert_eq!((exit, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(nearest), "{args:?}: {err}");
    };
    if mistyped != id {
        nearest(&["--finding", &mistyped], id);
    }
    nearest(&["--finding", ""], "the nearest is");
    nearest(&["--io-end", &format!("x{object}")], object);
    nearest(&["--io-end", ""], "2 io_ends begin with");
    nearest(&["--io-end", id, "--finding", id], "cannot be used with");
    let hang = data("bug_2_hang.endiod");
    assert!(
        explain(&data("recordings/buffered-6.1.endiod"), &["--finding", id])
            .2
            .contains("holds none")
    );
    let (exit, list, _) = explain(&data("recordings/buffered-6.1.endiod"), &[]);
    assert_eq!(exit, Some(0));
    assert!(list.contains("110 io_ends") && list.contains("--io-end"), "{list}");
    let first = list.lines().nth(1).unwrap().split_ascii_whitespace().nth(1).unwrap();
    let (exit, told, _) = explain(&data("recordings/buffered-6.1.endiod"), &["--io-end", first]);
    assert_eq!(exit, Some(0));
    assert!(told.contains("Nothing in this life departs"), "{told}");
    let listed = explain(&hang, &["--io-end", "5d5ff6fb29828db4", "--format", "json"]).1;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert!(listed["empty_runs_left_out"].as_u64() > Some(50), "{listed}");
}

#[test]
fn what_is_no_recording_is_refused_and_a_cut_one_is_told_as_far_as_it_goes() {
    let scratch = Scratch::new("refused");
    let refused = |path: &Path, why: &str| {
        let (exit, out, err) = explain(path, &[]);
        assert_eq!((exit, out.as_str()), (Some(2), ""), "{err}");
        assert!(err.contains("cannot explain") && err.contains(why), "{err}");
    };
    refused(&scratch.path().join("absent"), "No such file");
    refused(&scratch.file("empty", b""), "cut off");
    refused(&scratch.file("text", b"this is no recording at all\n"), "not a recording");
    refused(
        &scratch.file("finding.json", b"{\"schema\":1,\"id\":\"0\"}        "),
        "beside a finding",
    );
    let bytes = fs::read(data("recordings/v1.endiod")).unwrap();
    let mut damaged = bytes.clone();
    damaged[100] ^= 1;
    refused(&scratch.file("damaged", &damaged), "damaged at byte");
    let (exit, told, err) = explain(&scratch.file("cut", &bytes[..bytes.len() - 7]), &[]);
    assert_eq!(exit, Some(0));
    assert!(told.contains("double_process") && err.contains("cut off"), "{told}{err}");
    let none = recorded(&crate::streams::records(
        World::Refcounted(None),
        1,
        0,
        crate::streams::NO_FAULTS,
    ));
    let (exit, told, _) = explain(&scratch.file("none", &none), &[]);
    assert_eq!(exit, Some(0));
    assert!(told.contains("of 0 io_ends"), "{told}");
    let (exit, _, err) = explain(&scratch.path().join("none"), &["--io-end", "1"]);
    assert_eq!(exit, Some(2));
    assert!(err.contains("it holds none"), "{err}");
}
