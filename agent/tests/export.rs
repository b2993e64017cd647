//! `endiod export`: what it writes is what the summary counted, documented, and refused for bad input.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "explain/streams.rs"]
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use endiod::{
    export::{Chronicle, Item, Perfetto},
    metrics::Metrics,
    pipeline::{Pipeline, names},
    report::Summary,
    source::{
        sim::{Faults, Half, Slip, World},
        trace::Reader,
    },
};
use serde_json::Value;

use streams::{NAMES, NO_FAULTS, Scratch, records, renamed};

fn recording(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    dir.join(format!("{name}.endiod"))
}

fn export(args: &[&str], file: &Path) -> (Option<i32>, Vec<u8>, String) {
    let endiod = env!("CARGO_BIN_EXE_endiod");
    let output = Command::new(endiod).arg("export").args(args).arg(file).output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8(output.stderr).unwrap())
}

fn lines(file: &Path) -> Vec<Value> {
    let (exit, out, err) = export(&["--format", "json"], file);
    assert_eq!((exit, err.as_str()), (Some(0), ""));
    String::from_utf8(out)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn of_kind<'a>(lines: &'a [Value], kind: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["kind"] == kind).collect()
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.to_vec());
    }
    records
}

fn items(records: &[Vec<u8>]) -> (Vec<Item>, Summary) {
    let mut chronicle = Chronicle::default();
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    let mut items = Vec::new();
    for record in records {
        pipeline.feed_before(record, &mut chronicle);
        chronicle.findings(pipeline.findings());
        items.extend(chronicle.take());
    }
    pipeline.finish();
    chronicle.finish(0, false);
    items.extend(chronicle.take());
    (items, pipeline.summary())
}

const RECORDINGS: [&str; 6] =
    ["buffered-5.10", "buffered-6.1", "buffered-6.18", "direct-6.1", "direct-6.18", "v1"];

#[test]
fn as_many_spans_are_told_as_the_summary_counts() {
    for name in RECORDINGS {
        let (items, summary) = items(&read(&recording(name)));
        let count = |is: fn(&Item) -> bool| items.iter().filter(|it| is(it)).count() as u64;
        let io_ends = &summary.io_ends;
        let lives = count(|it| matches!(it, Item::IoEnd(_)));
        assert_eq!(lives, io_ends.born + io_ends.adopted, "{name}");
        let open = count(|it| matches!(it, Item::IoEnd(life) if life.end_ns.is_none()));
        assert_eq!(open, io_ends.in_flight, "{name}");
        let complete = count(
            |it| matches!(it, Item::IoEnd(life) if life.complete && life.state == "released"),
        );
        assert_eq!(complete, io_ends.complete, "{name}");
        let fsyncs = count(|it| matches!(it, Item::Fsync(call) if call.end_ns.is_some()));
        assert_eq!(fsyncs, summary.fsyncs.completed, "{name}");
        let direct = count(|it| matches!(it, Item::DirectIo(call) if call.end_ns.is_some()));
        assert_eq!(direct, summary.direct_ios.completed, "{name}");
        let findings = count(|it| matches!(it, Item::Finding(_)));
        assert_eq!(findings, summary.findings.len() as u64, "{name}");
        let runs = count(|it| matches!(it, Item::WorkerRun(_)));
        assert_eq!(runs, io_ends.worker_runs, "{name}");
    }
}

#[test]
fn phases_add_up_to_the_durations_of_the_summary() {
    for name in RECORDINGS {
        let (items, summary) = items(&read(&recording(name)));
        let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for item in &items {
            let (what, phases) = match item {
                Item::IoEnd(life) if life.complete && life.end_ns.is_some() => {
                    ("io_end", &life.phases)
                }
                Item::Fsync(call) if call.end_ns.is_some() => ("fsync phase", &call.phases),
                _ => continue,
            };
            for phase in phases {
                let took = phase.end_ns.unwrap() - phase.begin_ns;
                let (count, longest) = counts.entry(format!("{what} {}", phase.phase)).or_default();
                (*count, *longest) = (*count + 1, (*longest).max(took));
            }
        }
        for (phase, (count, longest)) in counts.iter().filter(|it| it.0.starts_with("io_end")) {
            let told = summary.durations[phase];
            assert_eq!(told.count, *count, "{name} {phase}");
            assert!((told.max_seconds - *longest as f64 / 1e9).abs() < 1e-9, "{name} {phase}");
        }
        // A phase that a call enters more than once is one duration of the summary.
        for (phase, (count, _)) in counts.iter().filter(|it| it.0.starts_with("fsync")) {
            assert!(*count >= summary.durations[phase].count, "{name} {phase}");
        }
    }
}

/// Every field that is written has its row in the page, and every row is written somewhere.
#[test]
fn the_page_documents_every_field_and_no_other() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/export.md");
    let page = fs::read_to_string(page).unwrap();
    let row = |line: &str| {
        let mut cells =
            line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
        Some((cells.next()?, cells.next()?))
            .filter(|(kind, field)| !kind.is_empty() && !field.is_empty())
    };
    let (_, table) = page.split_once("| kind | field |").unwrap();
    let documented: BTreeSet<(String, String)> = table.lines().skip(2).filter_map(row).collect();
    let scratch = Scratch::new("fields");
    let lossy = Faults { lost: 100, cut: 10, ..NO_FAULTS };
    let sim = renamed(&records(World::CompletedList(Half::UNFIXED), 3, 40, lossy), 1, &NAMES);
    let sim = scratch.file("sim.endiod", &streams::recorded(&sim));
    let names = ["v1", "direct-6.1", "buffered-6.1", "evicting-6.1"];
    let files: Vec<PathBuf> = names.map(recording).into_iter().chain([sim]).collect();
    let mut written = BTreeSet::new();
    for line in files.iter().flat_map(|file| lines(file)) {
        let kind = line["kind"].as_str().unwrap().to_owned();
        for field in line.as_object().unwrap().keys().filter(|field| *field != "kind") {
            // The other fields of a finding are its schema's, those of other calls as of an fsync.
            let of_fsync = ["direct_io", "eviction", "worker_run"].contains(&kind.as_str())
                && !(field == "op" || (field == "bytes" && kind == "direct_io"));
            if kind == "finding" && field != "rule" {
                continue;
            }
            let kind = if of_fsync { "fsync".to_owned() } else { kind.clone() };
            written.insert((kind, field.clone()));
        }
    }
    let missing: Vec<_> = written.difference(&documented).collect();
    let surplus: Vec<_> = documented.difference(&written).collect();
    assert!(missing.is_empty() && surplus.is_empty(), "missing {missing:?}, surplus {surplus:?}");
}

#[test]
fn no_export_holds_a_kernel_address_and_each_is_the_same_every_time() {
    let file = recording("buffered-6.1");
    let addresses: BTreeSet<u64> = read(&file)
        .iter()
        .filter_map(|record| endiod::decode::decode(record).ok())
        .filter_map(|event| match event.body {
            endiod::event::Body::IoEndBirth { io_end, .. } => Some(io_end.0),
            _ => None,
        })
        .collect();
    assert!(addresses.len() > 5);
    for format in ["json", "perfetto"] {
        let (_, out, _) = export(&["--format", format], &file);
        assert_eq!(export(&["--format", format], &file).1, out, "{format}");
        for address in &addresses {
            let texts = [format!("{address:x}"), address.to_string()];
            let holds = |needle: &[u8]| out.windows(needle.len()).any(|it| it == needle);
            assert!(!texts.iter().any(|text| holds(text.as_bytes())), "{format}: {address:x}");
            assert!(!holds(&address.to_le_bytes()), "{format}: {address:x}");
        }
    }
}

/// What is open at the end is told without an end, and so is what a new stream cuts off.
#[test]
fn open_spans_have_no_end() {
    let mut stream = read(&recording("buffered-6.1"));
    let cut = stream.len() / 2;
    stream.truncate(cut);
    let (items, summary) = items(&stream);
    let open = items.iter().filter(|it| matches!(it, Item::IoEnd(life) if life.end_ns.is_none()));
    assert_eq!(open.count() as u64, summary.io_ends.in_flight);
    let open = items.iter().filter(|it| matches!(it, Item::Fsync(call) if call.end_ns.is_none()));
    assert_eq!(open.count() as u64, summary.fsyncs.in_flight);
    assert!(summary.io_ends.in_flight + summary.fsyncs.in_flight > 0);
}

/// A trace is written for every world, whatever was lost and however tasks are called.
#[test]
fn every_world_gives_a_trace() {
    for seed in 0..10 {
        for world in
            [World::CompletedList(Half::UNFIXED), World::Refcounted(Some(Slip::SecondClaim))]
        {
            for faults in [NO_FAULTS, Faults { lost: 100, cut: 20, doubled: 20, exchanged: 500 }] {
                let stream = renamed(&records(world, seed, 30, faults), seed, &NAMES);
                let (items, summary) = items(&stream);
                let mut perfetto = Perfetto::default();
                items.iter().for_each(|item| perfetto.item(item));
                let lives = items.iter().filter(|it| matches!(it, Item::IoEnd(_))).count() as u64;
                assert_eq!(
                    lives,
                    summary.io_ends.born + summary.io_ends.adopted,
                    "{world:?} {seed}"
                );
                assert!(perfetto.take().len() > 1000, "{world:?} {seed}");
            }
        }
    }
}

#[test]
fn what_is_no_recording_is_refused_and_costs_no_output_that_is_there() {
    let scratch = Scratch::new("refused-export");
    let out = scratch.file("out", b"precious");
    let out_arg = out.to_str().unwrap();
    for (name, bytes, why) in [
        ("empty", &b""[..], "cut off"),
        ("text", b"this is no recording at all", "not a recording"),
    ] {
        let file = scratch.file(name, bytes);
        let (exit, told, err) = export(&["--format", "json", "-o", out_arg], &file);
        assert_eq!((exit, told.len()), (Some(2), 0), "{err}");
        assert!(err.contains("cannot export") && err.contains(why), "{err}");
        assert_eq!(fs::read(&out).unwrap(), b"precious");
    }
    let whole = fs::read(recording("v1")).unwrap();
    let cut = scratch.file("cut", &whole[..whole.len() - 7]);
    let (exit, _, err) = export(&["--format", "json", "-o", out_arg], &cut);
    assert_eq!(exit, Some(0));
    assert!(err.contains("cut off"), "{err}");
    let told = fs::read_to_string(&out).unwrap();
    let last: Value = serde_json::from_str(told.lines().last().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["cut"]), (&Value::from("end"), &Value::from(true)));
    let told = lines(&recording("v1"));
    let findings = of_kind(&told, "finding");
    assert!(findings.iter().any(|finding| finding["rule"] == "double_process"), "{findings:?}");
    let (exit, _, err) = export(&["--format", "perfetto", "-o", "/proc/nothing"], &recording("v1"));
    assert_eq!(exit, Some(2));
    assert!(err.contains("/proc/nothing"), "{err}");
    let (exit, _, err) = export(&[], &recording("v1"));
    assert_eq!(exit, Some(2));
    assert!(err.contains("--format"), "{err}");
}
