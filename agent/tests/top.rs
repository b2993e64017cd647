//! `endiod top`: frames over recordings, and what it says of bad input.
//!
//! `ENDIOD_UPDATE=1` writes the frames anew; read the difference before it is kept.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/page.rs"]
mod page;

use std::{
    fs::{self, File},
    io::BufReader,
    mem::offset_of,
    path::{Path, PathBuf},
    process::Command,
};

use endiod::{
    host::Cgroup,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    source::{own::OwnRecords, trace::Reader},
    top::{Key, Mode, Model, Screen, Snapshot, draw},
};
use endiod_wire::wire::Header;
use ratatui::{Terminal, backend::TestBackend, style::Color};

/// The frame that the page shows, 80 by 24.
const PAGE_FRAME: &str = "overview";
/// Who wrote the buffered recordings.
const STRESS: u32 = 281;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn records(name: &str) -> Vec<Vec<u8>> {
    let file = File::open(data("recordings").join(name)).unwrap();
    let mut reader = Reader::new(BufReader::new(file)).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.to_vec());
    }
    records
}

/// Name and cgroup of the one who wrote, as an agent of today records them.
fn with_names(mut records: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let text = "0::/system.slice/docker-0123456789abcdef0123456789abcdef.scope";
    let cgroup = Cgroup::parse(text).unwrap();
    let mut named = Vec::new();
    let mut own = OwnRecords::default();
    own.task_name(STRESS, *b"aio-stress\0\0\0\0\0\0", &mut |it| named.push(it.to_vec()));
    own.task_cgroup(STRESS, &cgroup, &mut |it| named.push(it.to_vec()));
    let time = offset_of!(Header, time_ns);
    for record in &mut named {
        let at = records[0][time..][..8].to_vec();
        record[time..][..8].copy_from_slice(&at);
    }
    records.splice(1..1, named);
    records
}

/// What there is to show after so many TICKs, or at the end.
fn snapshot(records: &[Vec<u8>], ticks: usize) -> Snapshot {
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    let mut model = Model::default();
    let mut left = ticks;
    for record in records {
        pipeline.feed_before(record, &mut model);
        if model.ticked() {
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    model.snapshot(&pipeline)
}

fn screen(keys: &str, snapshot: &Snapshot) -> Screen {
    let mut screen = Screen::new(Mode::Recording { speed: 1.0, over: false });
    for key in keys.chars() {
        let key = match key {
            'v' => Key::Down,
            key => Key::Char(key),
        };
        screen.press(key, snapshot);
    }
    screen
}

fn drawn(screen: &Screen, snapshot: &Snapshot, size: (u16, u16)) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    terminal.draw(|frame| draw(frame, screen, snapshot)).unwrap();
    terminal
}

fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let columns = usize::from(buffer.area.width);
    let rows = buffer.content.chunks(columns);
    let rows = rows.map(|row| row.iter().map(|cell| cell.symbol()).collect::<String>());
    rows.map(|row| row.trim_end().to_owned() + "\n").collect()
}

/// Is the frame as it is kept?
#[track_caller]
fn check(name: &str, recording: Vec<Vec<u8>>, ticks: usize, keys: &str, size: (u16, u16)) {
    let snapshot = snapshot(&recording, ticks);
    let frame = text(&drawn(&screen(keys, &snapshot), &snapshot, size));
    let golden = data("top").join(format!("{name}.txt"));
    if std::env::var_os("ENDIOD_UPDATE").is_some() {
        fs::write(&golden, &frame).unwrap();
    }
    let kept = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        frame == kept,
        "{name}\n--- kept\n{kept}--- drawn\n{frame}after reading the difference: ENDIOD_UPDATE=1 \
         cargo test -p endiod --test top"
    );
    if name == PAGE_FRAME {
        page::check_block("top.md", name, &frame, str::to_owned);
    }
}

const FAILING: &str = "failing/6.1.endiod";
const BUFFERED: &str = "buffered-6.1.endiod";
const WHOLE: (u16, u16) = (80, 24);

#[test]
fn frames_are_those_that_are_kept() {
    check(PAGE_FRAME, records(FAILING), 2, "", WHOLE);
    check("at_the_start", records(FAILING), 1, "", WHOLE);
    check("processes", with_names(records(BUFFERED)), 2, "2", WHOLE);
    check("cgroups", with_names(records(BUFFERED)), 2, "3ss", WHOLE);
    check("unknown_cgroup", records(BUFFERED), 2, "3", WHOLE);
    check("devices", records(FAILING), 2, "4v", WHOLE);
    check("findings", records(FAILING), usize::MAX, "5v", WHOLE);
    check("direct", records("direct-6.18.endiod"), usize::MAX, "d", WHOLE);
    check("help", records(BUFFERED), 1, "?", WHOLE);
    check("paused", records(BUFFERED), 1, "p", WHOLE);
    check("cut_to_60_by_15", records(FAILING), 2, "", (60, 15));
    check("too_small", records(FAILING), 2, "", (30, 5));
    check("wide", with_names(records(BUFFERED)), 2, "2", (120, 10));
}

#[test]
fn no_line_of_80_columns_is_cut() {
    for (recording, keys) in [(FAILING, "1"), (FAILING, "4"), (FAILING, "?"), (BUFFERED, "2")] {
        let snapshot = snapshot(&with_names(records(recording)), 2);
        let screen = screen(keys, &snapshot);
        let (whole, wider) =
            (drawn(&screen, &snapshot, WHOLE), drawn(&screen, &snapshot, (200, 24)));
        // The first line is as wide as the terminal, a cgroup may be.
        for (whole, wider) in text(&whole).lines().zip(text(&wider).lines()).skip(1) {
            assert!(whole == wider || wider.contains(".scope"), "{wider}");
        }
    }
}

#[test]
fn every_size_can_be_drawn() {
    let snapshot = snapshot(&records(FAILING), 2);
    for keys in ["1", "2", "3", "4", "5vvvvvvvvvvvv", "?"] {
        let screen = screen(keys, &snapshot);
        for width in [1, 2, 39, 40, 41, 79, 300] {
            for height in [1, 2, 9, 10, 11, 23, 100] {
                drawn(&screen, &snapshot, (width, height));
            }
        }
    }
}

#[test]
fn colour_says_nothing_that_the_text_does_not_and_can_be_had_without() {
    let snapshot = snapshot(&records(FAILING), usize::MAX);
    let mut screen = screen("5", &snapshot);
    let colours = |screen: &Screen| {
        let terminal = drawn(screen, &snapshot, WHOLE);
        let cells = terminal.backend().buffer().content.iter();
        cells.filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    let with = text(&drawn(&screen, &snapshot, WHOLE));
    assert!(colours(&screen) > 0);
    screen.plain = true;
    assert_eq!(colours(&screen), 0);
    assert_eq!(text(&drawn(&screen, &snapshot, WHOLE)), with);
    assert!(with.contains("\n! probes") && with.contains("\n> convert"), "{with}");
}

/// Exit code, stdout, stderr.
fn endiod(args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_endiod")).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn frames_of_text_and_json_are_printed_without_a_terminal() {
    let file = data("recordings").join(BUFFERED);
    let file = file.to_str().unwrap();
    let (exit, told, err) = endiod(&["top", file, "--once"]);
    assert_eq!((exit, err.as_str()), (Some(0), ""));
    for part in ["at its end", "io_end, total", "fsync by process", "281 unknown", "none yet"] {
        assert!(told.contains(part), "no {part} in\n{told}");
    }
    let (exit, told, _) = endiod(&["top", file, "-n", "2", "--format", "json"]);
    assert_eq!((exit, told.lines().count()), (Some(0), 2));
    let frames: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(frames[0]["processes"].as_array().unwrap().len(), 0);
    assert_eq!(frames[1]["processes"][0]["fsyncs"]["count"], 68);
    let (_, all, _) = endiod(&["top", file, "--format", "json"]);
    assert!(all.starts_with(&told) && all.lines().count() > 2);
    let (_, at, _) = endiod(&["top", file, "--once", "--at", "1.5", "--format", "json"]);
    assert!(at.lines().eq(told.lines().skip(1)), "not the second one");
}

#[test]
fn without_a_terminal_the_flag_is_named() {
    let file = data("recordings").join(BUFFERED);
    let (exit, told, err) = endiod(&["top", file.to_str().unwrap()]);
    assert_eq!((exit, told.as_str()), (Some(2), ""));
    assert!(err.contains("--once") && err.contains("not a terminal"), "{err}");
}

#[test]
fn bad_recordings_are_told_as_replay_tells_them() {
    let dir = std::env::temp_dir().join(format!("endiod-top-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let whole = fs::read(data("recordings").join(BUFFERED)).unwrap();
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0xff;
    for (name, bytes) in [
        ("damaged", &*damaged),
        ("empty", b"".as_slice()),
        ("other", b"not a recording at all, but longer than its head"),
        ("cut", &whole[..whole.len() - 9000]),
    ] {
        let file = dir.join(name);
        fs::write(&file, bytes).unwrap();
        let file = file.to_str().unwrap();
        let (replay, _, replay_err) = endiod(&["replay", file]);
        let (top, _, top_err) = endiod(&["top", file, "--once"]);
        // Whether a core describes its kernel is replay's to tell.
        let first = replay_err.lines().next();
        assert_eq!((top, top_err.lines().next()), (replay, first), "{name}");
        assert!(top == Some(2) && top_err.lines().count() == 1, "{name}: {top_err}");
    }
    let missing = dir.join("missing");
    let (exit, _, err) = endiod(&["top", missing.to_str().unwrap(), "--once"]);
    assert!(exit == Some(2) && err.contains("missing"), "{err}");
    fs::remove_dir_all(&dir).unwrap();
}
