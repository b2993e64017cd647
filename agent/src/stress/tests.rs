//! Runs on the local file system: what the report says was issued must add up and be on disk.

use std::path::PathBuf;
use std::sync::atomic::AtomicU32;

use super::*;

/// A directory of its own for each test, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("endiod-stress-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn files(&self, count: usize) -> Vec<PathBuf> {
        (0..count).map(|n| self.0.join(format!("f{n}"))).collect()
    }

    /// 16 records of 4 KiB per file, every thread finishing, so that all counts are fixed.
    fn options(&self, files: usize) -> Options {
        Options {
            files: self.files(files),
            threads: 4,
            size: Bytes(16 * 4096),
            record: Bytes(4096),
            depth: 8,
            turn: 3,
            ops: vec![Op::RandomWrite],
            stonewall: false,
            ..Options::default()
        }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn run_to_end(options: Options) -> Report {
    let report = run(&Plan::new(options).unwrap(), &AtomicBool::new(false)).unwrap();
    let Report { planned, writes, reads, io_errors, unissued, .. } = report;
    assert_eq!(planned, writes + reads + io_errors + unissued, "{report}");
    assert_eq!(writes, report.direct_writes + report.buffered_writes, "{report}");
    assert_eq!(report.first_error, None);
    assert_eq!(report.errors, 0);
    report
}

/// Whether the temporary directory can do direct I/O; says so if not.
fn has_direct(dir: &Dir) -> bool {
    let plan = Plan::new(Options { direct: true, ..dir.options(1) }).unwrap();
    let refused =
        matches!(open(&plan, &dir.0.join("probe")), Err(StressError::DirectRefused { .. }));
    if refused {
        eprintln!("not run: {} refuses O_DIRECT", dir.0.display());
    }
    !refused
}

#[test]
fn files_are_dealt_out_to_threads_in_turn() {
    let dealt = |files: usize, threads: u32, parts: u32| {
        let files = vec!["f".into(); files];
        let options = Options { files, threads, contexts: parts, ..Options::default() };
        let plan = Plan::new(options).unwrap();
        let mut shares = vec![Vec::new(); threads as usize];
        for (index, file, part) in contexts(&plan) {
            shares[worker_of(&plan, index)].push((file, part));
        }
        shares
    };
    let one_each = dealt(20, 20, 1);
    assert!(one_each.iter().enumerate().all(|(n, share)| *share == [(n, 0)]));
    assert_eq!(dealt(5, 2, 1), [vec![(0, 0), (2, 0), (4, 0)], vec![(1, 0), (3, 0)]]);
    assert_eq!(dealt(2, 2, 2), [vec![(0, 0), (1, 0)], vec![(0, 1), (1, 1)]]);
}

#[test]
fn direct_synchronous_writes_are_all_counted() {
    let dir = Dir::new();
    if !has_direct(&dir) {
        return;
    }
    let options = Options { direct: true, sync: true, ..dir.options(4) };
    let report = run_to_end(options);
    assert_eq!((report.threads, report.files), (4, 4));
    assert_eq!((report.writes, report.bytes_written, report.unissued), (64, 64 * 4096, 0));
    assert_eq!((report.direct_writes, report.sync_writes), (64, 64));
    assert_eq!((report.fsyncs, report.fdatasyncs, report.sync_file_calls()), (4, 0, 68));
    for file in dir.files(4) {
        let len = file.metadata().unwrap().len();
        assert!(len > 0 && len <= 16 * 4096 && len.is_multiple_of(4096), "{len}");
    }
}

#[test]
fn buffered_writes_are_synced_one_by_one() {
    let dir = Dir::new();
    let options = Options { buffered: true, direct: true, ..dir.options(2) };
    let report = run_to_end(options.clone());
    assert_eq!((report.writes, report.buffered_writes, report.sync_writes), (32, 32, 0));
    // One for each write and one for each file at the end of the stage.
    assert_eq!((report.fsyncs, report.fdatasyncs), (32 + 2, 0));
    let fdatasync = Options { fdatasync: true, stage_sync: false, ..options.clone() };
    let report = run_to_end(fdatasync);
    assert_eq!((report.fsyncs, report.fdatasyncs, report.files_not_empty), (32, 32, 2));
    let report = run_to_end(Options { sync: true, ..options });
    assert_eq!((report.sync_writes, report.fsyncs, report.sync_file_calls()), (32, 2, 34));
}

#[test]
fn what_was_written_is_read_back() {
    let dir = Dir::new();
    for direct in [false, true] {
        if direct && !has_direct(&dir) {
            continue;
        }
        let options = Options { ops: vec![], verify: true, direct, ..dir.options(3) };
        let report = run_to_end(options);
        assert_eq!((report.threads, report.writes, report.reads), (3, 3 * 32, 3 * 32));
        assert_eq!(report.verified_bytes, report.bytes_read);
        assert_eq!(report.bytes_read, 3 * 32 * 4096);
        let ops = report.stages.iter().map(|stage| stage.op.as_str()).collect::<Vec<_>>();
        assert_eq!(ops, ["write", "read", "random write", "random read"]);
    }
}

#[test]
fn a_seed_repeats_the_run() {
    let dir = Dir::new();
    let mut contents = Vec::new();
    for seed in [1, 1, 2] {
        let options = Options { verify: true, seed: Seed(seed), unlink: false, ..dir.options(2) };
        run_to_end(options);
        contents.push(dir.files(2).iter().map(|file| std::fs::read(file).unwrap()).collect());
        dir.files(2).iter().for_each(|file| std::fs::remove_file(file).unwrap());
    }
    let contents: &[Vec<Vec<u8>>] = &contents;
    assert_eq!(contents[0], contents[1]);
    assert_ne!(contents[0], contents[2]);
    // Random places leave holes: otherwise the run would not be the commit's.
    assert!(contents[0][0].chunks(4096).any(|record| record.iter().all(|&byte| byte == 0)));
}

#[test]
fn alignment_makes_random_offsets_finer() {
    let dir = Dir::new();
    let options = Options { alignment: Some(Bytes(512)), verify: true, ..dir.options(1) };
    run_to_end(options);
    let content = std::fs::read(&dir.files(1)[0]).unwrap();
    assert!(!content.len().is_multiple_of(4096) && content.len().is_multiple_of(512));
}

#[test]
fn rounds_end_a_stage_early() {
    let dir = Dir::new();
    // Two files for one thread: a round is a turn of 3 for each.
    let options = Options { threads: 1, rounds_max: Some(2), ..dir.options(2) };
    let report = run_to_end(options.clone());
    assert_eq!((report.writes, report.unissued, report.planned), (12, 20, 32));
    // With room for one turn only, the files take the rounds in turn.
    let report = run_to_end(Options { submit_max: Some(3), rounds_max: Some(3), ..options });
    assert_eq!((report.writes, report.unissued), (9, 23));
}

#[test]
fn stonewalling_loses_no_count() {
    let dir = Dir::new();
    let report = run_to_end(Options { stonewall: true, ops: vec![], ..dir.options(7) });
    // The thread that ended the stage had issued all of its own.
    assert!(report.writes >= 16, "{report}");
}

#[test]
fn a_stopped_run_reports_what_it_did() {
    let dir = Dir::new();
    let plan = Plan::new(dir.options(2)).unwrap();
    let report = run(&plan, &AtomicBool::new(true)).unwrap();
    assert!(report.interrupted);
    assert_eq!((report.writes, report.fsyncs, report.errors, report.unissued), (0, 0, 0, 32));
}

#[test]
fn reads_behind_the_end_are_no_errors() {
    let dir = Dir::new();
    let report = run_to_end(Options { ops: vec![Op::RandomRead], unlink: true, ..dir.options(1) });
    assert_eq!((report.reads, report.bytes_read, report.short_reads), (16, 0, 0));
    assert!(!dir.files(1)[0].exists());
}

#[test]
fn parts_of_a_file_are_worked_on_apart() {
    let dir = Dir::new();
    let contexts = Options { contexts: 3, context_offset: Bytes(2 * 4096), ..dir.options(1) };
    let report = run_to_end(contexts);
    assert_eq!((report.threads, report.writes, report.fsyncs), (3, 16 + 12 + 8, 3));
}

#[test]
fn failed_writes_are_counted_with_their_place() {
    let dir = Dir::new();
    // Beyond the largest file of ext4 with 4 KiB blocks (16 TiB) and of tmpfs on few hosts.
    let size = Bytes(i64::MAX as u64 / 4096 * 4096);
    let record = Bytes(1 << 20);
    let options = Options { size, record, rounds_max: Some(1), ..dir.options(1) };
    let report = run(&Plan::new(options).unwrap(), &AtomicBool::new(false)).unwrap();
    assert_eq!((report.writes, report.io_errors, report.errors), (0, 3, 3), "{report}");
    let error = report.first_error.unwrap();
    assert!(error.starts_with("random write of 1m at ") && error.contains("f0: "), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let refused = |path: &str, direct| {
        let options = Options { files: vec![path.into()], direct, ..Options::default() };
        let error = run(&Plan::new(options).unwrap(), &AtomicBool::new(false)).unwrap_err();
        error.to_string()
    };
    assert_eq!(refused("/no/such/directory/f", false), "open /no/such/directory/f");
    assert!(refused("/dev/null", false).contains("/dev/null: not a regular file"));
    let direct = refused("/proc/self/comm", true);
    assert!(
        direct.starts_with("open /proc/self/comm: its file system refuses O_DIRECT"),
        "{direct}"
    );
}

#[test]
fn the_report_is_json_of_numbers() {
    let dir = Dir::new();
    let options = Options { submit_latency: true, completion_latency: true, ..dir.options(1) };
    let report = run_to_end(options);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["writes"], 16);
    assert_eq!(json["seed"], 0x491c_aa43_639a_u64);
    assert_eq!(json["stages"][0]["completion_latency"]["count"], 16);
    assert!(report.to_string().contains("writes 16 (0 direct, 16 buffered), reads 0"));
}
