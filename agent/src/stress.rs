//! The reproducer of kernel commit 491caa43639a: many threads, Linux AIO, random synchronous writes
//! into files that nobody preallocated.
//!
//! ```text
//!  Options ─Plan::new─► Plan ─run─► file i ─► worker i mod threads ─► stages ─► Report
//!                                                                      │
//!   stage:  all start together ─► rounds of io_submit ─► drain ─► fsync each file ─► all wait
//! ```
//!
//! Flags mean what they mean in aio-stress 0.21 (see `Options`); the code is our own. The commit's
//! line, `-t 20 -s 10 -O -S -o 2 -I 1000` and 20 files, makes up to 160 writes of 64 KiB per file:
//! `-I` counts rounds of each thread, and the file's size ends the stage first.
//!
//! The report says what was issued, exactly, because tests hold it against what the kernel was seen
//! to do. **When the kernel calls `ext4_sync_file` for a write:** `generic_write_sync` runs it once
//! for each write call on an O_SYNC file that returned more than 0 bytes, and never for one that
//! failed or wrote nothing. Buffered: in `ext4_buffered_write_iter`, by the submitter, inside
//! `io_submit`. Direct: in `iomap_dio_complete` (5.5 and later; `dio_complete` from 3.12), by the
//! submitter if the write extends the file and by a kworker otherwise; O_SYNC, unlike O_DSYNC alone,
//! never takes the FUA short cut that leaves it out. Before 3.12 the submitter called it right after
//! queueing the write: the race of the commit. So `ext4_sync_file` runs `sync_writes + fsyncs`
//! times, if `errors` is 0 (a failed sync turns a write into an error although it ran) and files
//! have extents (on ext2 and ext3 layouts a direct write into a hole may be finished buffered, with
//! a second sync).
//!
//! This module must never print, never touch a file that it was not given, and never truncate one:
//! a second run over the same files meets no holes. Units: bytes, nanoseconds inside, seconds in
//! the report.

mod aio;
mod context;
mod error;
mod gate;
mod options;
mod pattern;
mod plan;
mod report;
mod size;
mod worker;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use self::context::Context;
pub use self::error::StressError;
use self::gate::Gate;
pub use self::options::{Op, Options};
pub use self::pattern::Seed;
pub use self::plan::{Adjustment, Plan};
use self::report::{Circumstances, Tally};
pub use self::report::{Latency, LatencyBucket, Report, StageReport};
pub use self::size::Bytes;
use self::worker::{Shared, Worker};

/// Runs the plan to its end, or until `stop` is set: then what is in flight is waited for, nothing
/// new is issued, and the report says so.
///
/// Errors are what keeps the run from being what was asked; I/O that fails is counted instead.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Report, StressError> {
    let workers = prepare(plan)?;
    let files_not_empty = workers.iter().map(Worker::files_not_empty).sum();
    let abort = AtomicBool::new(false);
    let gate = Gate::new(workers.len());
    let ended = plan.stages().iter().map(|_| AtomicBool::new(false)).collect::<Vec<_>>();
    let shared = Shared { stop, abort: &abort, gate: &gate, ended: &ended };
    let started = Instant::now();
    let results = run_workers(workers, &shared);
    let elapsed = started.elapsed();
    let interrupted = stop.load(Ordering::Relaxed);
    let tallies = results.into_iter().collect::<Result<Vec<_>, _>>()?;
    let of = Circumstances { elapsed, interrupted, files_not_empty };
    let mut report = Report::new(plan, of, &tallies);
    if plan.options().unlink {
        unlink(plan, &mut report);
    }
    Ok(report)
}

/// One thread for each worker, until all have ended.
fn run_workers(
    workers: Vec<Worker<'_>>,
    shared: &Shared<'_>,
) -> Vec<Result<Vec<Tally>, StressError>> {
    thread::scope(|scope| {
        let mut results = Vec::with_capacity(workers.len());
        let mut threads = Vec::with_capacity(workers.len());
        for (index, worker) in workers.into_iter().enumerate() {
            let builder = thread::Builder::new().name(format!("stress-{index}"));
            match builder.spawn_scoped(scope, move || worker.run(shared)) {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    shared.give_up();
                    results.push(Err(StressError::Spawn { started: index, source }));
                    break;
                }
            }
        }
        for thread in threads {
            results.push(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        results
    })
}

/// Opens every file and gives each worker its share: files, and their parts, are dealt out in turn.
fn prepare(plan: &Plan) -> Result<Vec<Worker<'_>>, StressError> {
    let options = plan.options();
    let mut shares: Vec<Vec<Context>> = (0..options.threads).map(|_| Vec::new()).collect();
    for (index, file_index, part) in contexts(plan) {
        let file = open(plan, &options.files[file_index])?;
        let context = Context::new(plan, file, (index, file_index, part))?;
        shares[worker_of(plan, index)].push(context);
    }
    shares.into_iter().map(|contexts| Worker::new(plan, contexts)).collect()
}

/// Every context of the run: its number, its file, its part of that file.
fn contexts(plan: &Plan) -> impl Iterator<Item = (u32, usize, u32)> {
    let parts = plan.options().contexts;
    let files = 0..plan.options().files.len();
    let places = files.flat_map(move |file| (0..parts).map(move |part| (file, part)));
    (0..).zip(places).map(|(index, (file, part))| (index, file, part))
}

fn worker_of(plan: &Plan, context: u32) -> usize {
    context as usize % plan.options().threads as usize
}

fn open(plan: &Plan, path: &Path) -> Result<File, StressError> {
    let options = plan.options();
    let mut flags = 0;
    if options.direct {
        flags |= libc::O_DIRECT;
    }
    if options.sync {
        flags |= libc::O_SYNC;
    }
    let failed = |source| StressError::Open { path: path.to_owned(), source };
    // Refused before opening: opening a fifo blocks and opening a tape rewinds it.
    match path.metadata() {
        Ok(metadata) if !metadata.is_file() => {
            return Err(StressError::NotAFile { path: path.to_owned() });
        }
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut open = OpenOptions::new();
    // Never truncated: aio-stress writes into what is there.
    open.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    open.open(path).map_err(|source| match source.raw_os_error() {
        Some(libc::EINVAL) if options.direct => {
            StressError::DirectRefused { path: path.to_owned() }
        }
        _ => failed(source),
    })
}

fn unlink(plan: &Plan, report: &mut Report) {
    for path in &plan.options().files {
        if let Err(source) = std::fs::remove_file(path) {
            report.errors += 1;
            let text = format!("unlink {}: {source}", path.display());
            report.first_error.get_or_insert(text);
        }
    }
}

#[cfg(test)]
mod tests;
