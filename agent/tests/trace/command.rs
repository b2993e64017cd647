//! `endiod replay` and what `endiod record` refuses, as a user meets them.

use std::{
    path::Path,
    process::{Command, Output},
};

use crate::{Scratch, recorded, stream::Stream};

fn endiod(args: &[&str], file: &Path) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_endiod")).args(args).arg(file).output();
    output.expect("endiod can be run")
}

/// Exit code, stdout, stderr.
fn replay(file: &Path, format: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = endiod(&["replay", "--format", format], file);
    let text = |bytes| String::from_utf8(bytes).expect("endiod writes UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn the_exit_code_tells_findings_from_none_and_the_output_is_the_same_every_time() {
    let scratch = Scratch::new("exit");
    for (crime, exit) in [(false, 0), (true, 1)] {
        let bytes = recorded(&Stream::with(3, 5, crime).records, 50);
        let file = scratch.file("whole.endiod", &bytes);
        for format in ["text", "json"] {
            let first = replay(&file, format);
            assert_eq!((first.0, first.2.as_str()), (Some(exit), ""));
            assert_eq!(first.1.contains("double_process"), crime, "{}", first.1);
            assert_eq!(first, replay(&file, format));
        }
    }
}

#[test]
fn a_recording_that_is_cut_is_replayed_to_the_cut() {
    let scratch = Scratch::new("cut");
    let bytes = recorded(&Stream::with(5, 5, true).records, 50);
    let file = scratch.file("cut.endiod", &bytes[..bytes.len() / 2]);
    let (exit, stdout, stderr) = replay(&file, "text");
    assert_eq!(exit, Some(2), "the finding comes after the cut");
    assert!(stdout.contains("6.1.0-test") && stdout.contains("findings    none"), "{stdout}");
    assert!(stderr.contains("cut off") && stderr.contains("up to byte "), "{stderr}");
    // With the finding before the cut, it is what counts.
    let file = scratch.file("cut.endiod", &bytes[..bytes.len() - 1]);
    let (exit, _, stderr) = replay(&file, "json");
    assert_eq!(exit, Some(1));
    assert!(stderr.contains("cut off"), "{stderr}");
}

#[test]
fn what_is_no_recording_is_an_error_without_a_result() {
    let scratch = Scratch::new("garbage");
    let mut bytes = recorded(&Stream::with(2, 5, false).records, 50);
    bytes[100] ^= 1;
    for (name, bytes, says) in [
        ("damaged", bytes.as_slice(), "byte 20"),
        ("text", b"this is no recording at all".as_slice(), "not a recording"),
        ("empty", b"".as_slice(), "cut off"),
    ] {
        let file = scratch.file(name, bytes);
        let (exit, stdout, stderr) = replay(&file, "json");
        assert_eq!((exit, stdout.as_str()), (Some(2), ""), "{name}: {stderr}");
        assert!(stderr.contains(says) && stderr.contains(name), "{stderr}");
    }
    let (exit, _, stderr) = replay(&scratch.path().join("nothing"), "json");
    assert_eq!(exit, Some(2));
    assert!(stderr.contains("No such file"), "{stderr}");
}

#[test]
fn record_refuses_stdout_and_a_file_that_is_there_before_it_attaches() {
    let scratch = Scratch::new("refused");
    let file = scratch.file("there.endiod", b"mine");
    for (output, says) in [(file.as_path(), "--force"), (Path::new("-"), "give -o a file")] {
        let Output { status, stderr, .. } = endiod(&["record", "-o"], output);
        let stderr = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2));
        assert!(stderr.contains(says), "{stderr}");
    }
    assert_eq!(std::fs::read(&file).expect("it is still there"), b"mine");
}
