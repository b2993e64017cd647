//! Recordings: what goes in comes out, a cut is told, damage is named, memory is bounded.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "trace/command.rs"]
mod command;
#[path = "trace/memory.rs"]
mod memory;
#[path = "trace/stream.rs"]
mod stream;

use std::{
    fs,
    io::Cursor,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use endiod::{
    decode::header,
    event::Nanos,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    report::Summary,
    source::trace::{Existing, Reader, TraceError, VERSIONS, Writer},
};

use stream::{SECOND, Stream};

/// A recording of these records, a block for each `per_block` of them.
fn recorded(records: &[Vec<u8>], per_block: usize) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new()).unwrap();
    for block in records.chunks(per_block) {
        block.iter().for_each(|record| writer.push(record).unwrap());
        writer.flush().unwrap();
    }
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!((written.bytes, written.records), (bytes.len() as u64, records.len() as u64));
    bytes
}

/// Reads as far as it goes, and why no further.
fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Option<TraceError>) {
    let mut records = Vec::new();
    let mut reader = match Reader::new(bytes) {
        Ok(reader) => reader,
        Err(error) => return (records, Some(error)),
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => records.push(record.to_vec()),
            Ok(None) => return (records, None),
            Err(error) => {
                assert!(matches!(reader.next_record(), Ok(None)), "more came after {error}");
                return (records, Some(error));
            }
        }
    }
}

fn summary(mut pipeline: Pipeline, records: &[Vec<u8>]) -> Summary {
    records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    pipeline.summary()
}

fn metrics() -> Metrics {
    Metrics::new(names()).unwrap()
}

/// A directory of its own, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("endiod-trace-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn what_goes_in_comes_out_malformed_records_too() {
    let mut records = Stream::with(3, 40, false).records;
    records.insert(5, Vec::new());
    records.insert(9, vec![0xff; 300]);
    // Its header tells of another length.
    records.insert(12, records[0][..40].to_vec());
    for per_block in [1, 7, records.len()] {
        assert_eq!(read(&recorded(&records, per_block)).0, records, "{per_block} records a block");
        assert!(read(&recorded(&records, per_block)).1.is_none());
    }
    let (none, end) = read(&recorded(&[], 1));
    assert!(none.is_empty() && end.is_none());
}

#[test]
fn a_block_that_is_full_is_followed_by_another() {
    let records = Stream::with(2, 2_000, false).records;
    let mut writer = Writer::new(Vec::new()).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    let (bytes, written) = writer.finish().unwrap();
    assert!(written.blocks > 5, "{written:?}");
    assert_eq!(read(&bytes).0, records);
}

#[test]
fn a_recording_tells_what_the_live_stream_told() {
    let records = Stream::with(4, 30, true).records;
    let live = summary(Pipeline::new(metrics()), &records);
    let replayed = summary(Pipeline::new(metrics()), &read(&recorded(&records, 50)).0);
    assert_eq!(live.to_string(), replayed.to_string());
    assert_eq!(serde_json::to_string(&live).unwrap(), serde_json::to_string(&replayed).unwrap());
    let rules: Vec<_> = live.findings.iter().map(|finding| &finding["rule"]).collect();
    assert_eq!(rules, ["double_process", "oracle_divergence"], "{live}");
    assert_eq!(live.findings[0]["device_name"], "vda");
    assert_eq!(
        (live.probes.absent, live.probes.failed.as_slice()),
        (1, &["ext4_fc_commit".to_owned()][..])
    );
    // From the HOST at 10 ns to the last TICK.
    assert!((live.seconds - 4.999_999_981).abs() < 1e-9, "{}", live.seconds);
    assert_eq!((live.io_ends.born, live.io_ends.released), (120, 120));
}

#[test]
fn a_verdict_that_no_tick_closed_is_suppressed() {
    let mut records = Stream::with(2, 3, true).records;
    records.pop();
    let summary = summary(Pipeline::new(metrics()), &records);
    assert!(summary.findings.is_empty());
    assert_eq!(summary.suppressed.get("double_process: stream_end"), Some(&1), "{summary}");
}

#[test]
fn a_file_that_is_cut_anywhere_reads_up_to_its_last_whole_block_and_says_so() {
    let records = Stream::with(1, 3, false).records;
    let per_block = 20;
    let bytes = recorded(&records, per_block);
    let mut ends = std::collections::BTreeSet::new();
    for cut in 0..bytes.len() {
        let (found, end) = read(&bytes[..cut]);
        assert_eq!(found, records[..found.len()], "cut at {cut}");
        assert!(found.len() % per_block == 0 || found.len() == records.len(), "cut at {cut}");
        let Some(TraceError::Truncated { at }) = end else { panic!("cut at {cut}: {end:?}") };
        assert!(at <= cut as u64, "cut at {cut}, whole up to {at}?");
        ends.insert((at, found.len()));
    }
    // Each block's end was once where the file was whole up to; so was the head's, and byte 0.
    assert_eq!(ends.len(), records.len().div_ceil(per_block) + 2, "{ends:?}");
}

#[test]
fn a_flipped_bit_is_an_error_and_never_a_wrong_record() {
    let records = Stream::with(1, 2, false).records;
    let bytes = recorded(&records, 25);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let (found, end) = read(&damaged);
            assert_eq!(found, records[..found.len()], "bit {bit} of byte {at}");
            let error = end.unwrap_or_else(|| panic!("bit {bit} of byte {at} went unseen"));
            assert!(!matches!(error, TraceError::Truncated { .. }), "bit {bit} of {at}: {error}");
            let names = matches!(at, 0..8) || error.to_string().contains("byte ");
            assert!(
                names || matches!(error, TraceError::Newer { .. }),
                "bit {bit} of {at}: {error}"
            );
        }
    }
}

#[test]
fn other_files_and_other_versions_are_named() {
    let told = |bytes: &[u8]| read(bytes).1.unwrap().to_string();
    assert!(told(b"\x7fELF and more of the kind").contains("not a recording"));
    assert!(told(b"short").contains("not a recording"));
    let bytes = recorded(&Stream::with(1, 1, false).records, 10);
    let mut newer = bytes.clone();
    newer[8..10].copy_from_slice(&(VERSIONS.last().unwrap().number + 1).to_le_bytes());
    assert!(told(&newer).contains("format version 2, this endiod reads up to version 1"));
    let mut wire = bytes.clone();
    wire[10] = 9;
    let crc = crc32fast::hash(&wire[..16]).to_le_bytes();
    wire[16..20].copy_from_slice(&crc);
    assert!(told(&wire).contains("wire version 9"));
    let garbage = [&bytes[..], b"more"].concat();
    assert!(told(&garbage).contains(&format!("byte {}: bytes after the end", bytes.len())));
}

#[test]
fn a_moment_is_found_by_the_index_and_without_it() {
    let records = Stream::with(50, 20, false).records;
    let bytes = recorded(&records, 100);
    let no_index = &bytes[..bytes.len() - 10];
    for bytes in [&bytes[..], no_index] {
        for second in [0, 1, 25, 50] {
            let mut reader = Reader::new(Cursor::new(bytes)).unwrap();
            reader.skip_to(Nanos(second * SECOND)).unwrap();
            let first = reader.next_record().unwrap().unwrap().to_vec();
            let at = records.iter().position(|record| *record == first).unwrap();
            let late = records[..at].iter().all(|it| header(it).unwrap().time_ns < second * SECOND);
            assert!(late && at % 100 == 0, "second {second} begins with record {at}");
            let near = header(&records[(at + 99).min(records.len() - 1)]).unwrap().time_ns;
            assert!(near >= second * SECOND, "second {second} is not in the block of record {at}");
        }
    }
    let mut reader = Reader::new(Cursor::new(&bytes)).unwrap();
    reader.skip_to(Nanos(u64::MAX)).unwrap();
    assert!(reader.next_record().unwrap().is_none());
}

#[test]
fn a_recording_is_for_its_owner_and_a_file_that_is_there_is_kept() {
    let scratch = Scratch::new("files");
    let path = scratch.path().join("a.endiod");
    let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    Writer::create(&path, Existing::Keep).unwrap().finish().unwrap();
    assert_eq!(mode(), 0o600);
    assert!(matches!(Writer::create(&path, Existing::Keep), Err(TraceError::Io { .. })));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    Writer::create(&path, Existing::Replace).unwrap().finish().unwrap();
    assert_eq!(mode(), 0o600);
    let before = fs::metadata("/dev/null").unwrap().permissions().mode();
    let refused = Writer::create(Path::new("/dev/null"), Existing::Replace).err().unwrap();
    assert!(refused.to_string().contains("not a regular file"), "{refused}");
    assert_eq!(fs::metadata("/dev/null").unwrap().permissions().mode(), before);
}
