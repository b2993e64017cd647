//! What a run did: counts that add up, as text or JSON.
//!
//! ```text
//!  planned = writes + reads + io_errors + unissued          ext4_sync_file calls = sync_writes + fsyncs
//!  writes  = direct_writes + buffered_writes                errors = io_errors + sync_errors + short_reads
//!  fsyncs  ⊇ fdatasyncs                                              + verify_errors + failed unlinks
//! ```
//!
//! Must never count what the kernel was not asked to do. Units: bytes, seconds.

use std::fmt;
use std::time::Duration;

use super::pattern::Seed;
use super::plan::Plan;

/// Upper edges of the latency buckets in milliseconds, as aio-stress prints them.
const EDGES_MS: [u64; 6] = [100, 250, 500, 1000, 5000, 10_000];

/// What one worker counted in one stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) writes: u64,
    pub(super) reads: u64,
    pub(super) bytes_written: u64,
    pub(super) bytes_read: u64,
    pub(super) short_writes: u64,
    pub(super) short_reads: u64,
    pub(super) io_errors: u64,
    pub(super) fsyncs: u64,
    pub(super) sync_errors: u64,
    pub(super) unissued: u64,
    pub(super) verified_bytes: u64,
    pub(super) verify_errors: u64,
    pub(super) first_error: Option<String>,
    pub(super) elapsed: Duration,
    pub(super) submit: LatencyTally,
    pub(super) completion: LatencyTally,
}

impl Tally {
    /// Adds what another worker, or another stage, counted.
    fn add(&mut self, other: &Tally) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.bytes_written += other.bytes_written;
        self.bytes_read += other.bytes_read;
        self.short_writes += other.short_writes;
        self.short_reads += other.short_reads;
        self.io_errors += other.io_errors;
        self.fsyncs += other.fsyncs;
        self.sync_errors += other.sync_errors;
        self.unissued += other.unissued;
        self.verified_bytes += other.verified_bytes;
        self.verify_errors += other.verify_errors;
        if let Some(error) = &other.first_error {
            self.note(|| error.clone());
        }
        self.elapsed = self.elapsed.max(other.elapsed);
        self.submit.add(&other.submit);
        self.completion.add(&other.completion);
    }

    /// Keeps the first error's text; the counts are the caller's.
    pub(super) fn note(&mut self, text: impl FnOnce() -> String) {
        self.first_error.get_or_insert_with(text);
    }
}

/// Latencies while they are counted.
#[derive(Clone, Debug, Default)]
pub(super) struct LatencyTally {
    count: u64,
    total: Duration,
    range: Option<(Duration, Duration)>,
    buckets: [u64; EDGES_MS.len() + 1],
}

impl LatencyTally {
    pub(super) fn record(&mut self, latency: Duration) {
        let (min, max) = self.range.unwrap_or((latency, latency));
        self.range = Some((min.min(latency), max.max(latency)));
        self.count += 1;
        self.total += latency;
        let below = |&edge: &u64| latency < Duration::from_millis(edge);
        let bucket = EDGES_MS.iter().position(below);
        self.buckets[bucket.unwrap_or(EDGES_MS.len())] += 1;
    }

    fn add(&mut self, other: &LatencyTally) {
        let (Some((min, max)), self_range) = (other.range, self.range) else { return };
        let (own_min, own_max) = self_range.unwrap_or((min, max));
        self.range = Some((own_min.min(min), own_max.max(max)));
        self.count += other.count;
        self.total += other.total;
        for (own, other) in self.buckets.iter_mut().zip(other.buckets) {
            *own += other;
        }
    }

    fn report(&self) -> Option<Latency> {
        let (min, max) = self.range?;
        let edges = EDGES_MS.iter().copied().map(Some).chain([None]);
        Some(Latency {
            count: self.count,
            min_seconds: min.as_secs_f64(),
            mean_seconds: self.total.as_secs_f64() / self.count as f64,
            max_seconds: max.as_secs_f64(),
            buckets: edges
                .zip(self.buckets)
                .map(|(below_ms, count)| LatencyBucket { below_ms, count })
                .collect(),
        })
    }
}

/// A distribution of times.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Latency {
    /// How many.
    pub count: u64,
    /// The shortest.
    pub min_seconds: f64,
    /// Their mean.
    pub mean_seconds: f64,
    /// The longest.
    pub max_seconds: f64,
    /// How many lie between the previous edge and this one.
    pub buckets: Vec<LatencyBucket>,
}

/// One bucket of a `Latency`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LatencyBucket {
    /// Upper edge in milliseconds, exclusive; none for the last bucket.
    pub below_ms: Option<u64>,
    /// Times in the bucket.
    pub count: u64,
}

/// One stage, over all threads.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct StageReport {
    /// `write`, `read`, `random write` or `random read`.
    pub op: String,
    /// I/Os that succeeded.
    pub ios: u64,
    /// Bytes they moved.
    pub bytes: u64,
    /// Planned I/Os that were not issued.
    pub unissued: u64,
    /// Time of the slowest thread, its syncs included.
    pub seconds: f64,
    /// `-l`: time inside `io_submit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub submit_latency: Option<Latency>,
    /// `-L`: time from before `io_submit` to the I/O's event being read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completion_latency: Option<Latency>,
}

/// What a run did.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Report {
    /// Threads that issued I/O.
    pub threads: u32,
    /// Files given.
    pub files: usize,
    /// Write calls that returned more than 0 bytes.
    pub writes: u64,
    /// Read calls that succeeded, those that met the end of the file included.
    pub reads: u64,
    /// Bytes of all writes.
    pub bytes_written: u64,
    /// Writes on descriptors with O_DIRECT.
    pub direct_writes: u64,
    /// Writes on descriptors without it.
    pub buffered_writes: u64,
    /// Writes on descriptors with O_SYNC: the kernel runs `ext4_sync_file` once for each.
    pub sync_writes: u64,
    /// Calls of fsync or fdatasync, failed ones included: `ext4_sync_file` once for each.
    pub fsyncs: u64,
    /// How many of `fsyncs` were fdatasync.
    pub fdatasyncs: u64,
    /// Everything that went wrong; the module's doc has the sum.
    pub errors: u64,
    /// The seed that repeats the run.
    pub seed: Seed,
    /// From the first thread's start to the last one's end.
    pub seconds: f64,
    /// I/Os of a run that nothing cuts short.
    pub planned: u64,
    /// Planned I/Os not issued: another thread ended the stage (no `-x`), `-I`, or a stop.
    pub unissued: u64,
    /// Whether the run was stopped from outside.
    pub interrupted: bool,
    /// Bytes of all reads.
    pub bytes_read: u64,
    /// Writes that moved less than a record; what is missing is not retried.
    pub short_writes: u64,
    /// Reads that moved less than a record although the file goes on.
    pub short_reads: u64,
    /// Reads and writes that failed, or writes of 0 bytes.
    pub io_errors: u64,
    /// Calls of fsync or fdatasync that failed.
    pub sync_errors: u64,
    /// `-v`: bytes read that this run had written, and compared.
    pub verified_bytes: u64,
    /// `-v`: reads that returned something else.
    pub verify_errors: u64,
    /// Files that were not empty before: no holes and no growth where they have data.
    pub files_not_empty: usize,
    /// The first error's text, of one of the threads that had any.
    pub first_error: Option<String>,
    /// Each stage.
    pub stages: Vec<StageReport>,
}

/// What is known of a run besides its counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    pub(super) elapsed: Duration,
    pub(super) interrupted: bool,
    pub(super) files_not_empty: usize,
}

impl Report {
    /// Sums up the workers' tallies, one list per worker with one tally per stage.
    pub(super) fn new(plan: &Plan, of: Circumstances, workers: &[Vec<Tally>]) -> Report {
        let options = plan.options();
        let mut all = Tally::default();
        let mut stages = Vec::new();
        for (index, &op) in plan.stages().iter().enumerate() {
            let mut stage = Tally::default();
            workers.iter().filter_map(|tallies| tallies.get(index)).for_each(|one| stage.add(one));
            stages.push(StageReport {
                op: op.to_string(),
                ios: stage.writes + stage.reads,
                bytes: stage.bytes_written + stage.bytes_read,
                unissued: stage.unissued,
                seconds: stage.elapsed.as_secs_f64(),
                submit_latency: stage.submit.report().filter(|_| options.submit_latency),
                completion_latency: stage
                    .completion
                    .report()
                    .filter(|_| options.completion_latency),
            });
            all.add(&stage);
        }
        let if_so = |so: bool, count: u64| if so { count } else { 0 };
        Report {
            threads: options.threads,
            files: options.files.len(),
            writes: all.writes,
            reads: all.reads,
            bytes_written: all.bytes_written,
            direct_writes: if_so(options.direct, all.writes),
            buffered_writes: if_so(!options.direct, all.writes),
            sync_writes: if_so(options.sync, all.writes),
            fsyncs: all.fsyncs,
            fdatasyncs: if_so(options.fdatasync, all.fsyncs),
            errors: all.io_errors + all.sync_errors + all.short_reads + all.verify_errors,
            seed: options.seed,
            seconds: of.elapsed.as_secs_f64(),
            planned: plan.planned_ios(),
            unissued: all.unissued,
            interrupted: of.interrupted,
            bytes_read: all.bytes_read,
            short_writes: all.short_writes,
            short_reads: all.short_reads,
            io_errors: all.io_errors,
            sync_errors: all.sync_errors,
            verified_bytes: all.verified_bytes,
            verify_errors: all.verify_errors,
            files_not_empty: of.files_not_empty,
            first_error: all.first_error,
            stages,
        }
    }

    /// How often the run made the kernel call `ext4_sync_file`; exact if `errors` is 0.
    pub fn sync_file_calls(&self) -> u64 {
        self.sync_writes + self.fsyncs
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { threads, files, seed, seconds, .. } = self;
        writeln!(f, "{threads} threads, {files} files, seed {seed}, {seconds:.3} s")?;
        let (direct, buffered) = (self.direct_writes, self.buffered_writes);
        let (writes, reads) = (self.writes, self.reads);
        writeln!(f, "writes {writes} ({direct} direct, {buffered} buffered), reads {reads}")?;
        writeln!(f, "bytes written {}, bytes read {}", self.bytes_written, self.bytes_read)?;
        let (sync_writes, calls) = (self.sync_writes, self.sync_file_calls());
        write!(f, "O_SYNC writes {sync_writes}, fsyncs {} ", self.fsyncs)?;
        writeln!(f, "(of them fdatasync {}): ext4_sync_file runs {calls} times", self.fdatasyncs)?;
        write!(f, "planned {}, not issued {}", self.planned, self.unissued)?;
        writeln!(f, "{}", if self.interrupted { " (stopped)" } else { "" })?;
        if self.verified_bytes != 0 {
            writeln!(f, "verified {} bytes", self.verified_bytes)?;
        }
        if self.files_not_empty != 0 {
            writeln!(f, "files that were not empty before: {}", self.files_not_empty)?;
        }
        writeln!(
            f,
            "errors {} (I/O {}, sync {}, short reads {}, verify {}), short writes {}",
            self.errors,
            self.io_errors,
            self.sync_errors,
            self.short_reads,
            self.verify_errors,
            self.short_writes
        )?;
        if let Some(error) = &self.first_error {
            writeln!(f, "first error: {error}")?;
        }
        self.stages.iter().try_for_each(|stage| write!(f, "{stage}"))
    }
}

impl fmt::Display for StageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StageReport { op, ios, bytes, unissued, seconds, .. } = self;
        let mib_per_s = if *seconds > 0.0 { *bytes as f64 / 1048576.0 / seconds } else { 0.0 };
        write!(f, "{op}: {ios} I/Os, {bytes} bytes in {seconds:.3} s ({mib_per_s:.2} MiB/s)")?;
        writeln!(f, ", not issued {unissued}")?;
        let latencies =
            [("io_submit", &self.submit_latency), ("completion", &self.completion_latency)];
        for (name, latency) in latencies {
            let Some(latency) = latency else { continue };
            let ms = |seconds: f64| seconds * 1000.0;
            let (min, mean) = (ms(latency.min_seconds), ms(latency.mean_seconds));
            let max = ms(latency.max_seconds);
            write!(f, "  {name} ms: min {min:.3} mean {mean:.3} max {max:.3};")?;
            for bucket in &latency.buckets {
                match bucket.below_ms {
                    Some(edge) => write!(f, " {} < {edge}", bucket.count)?,
                    None => writeln!(f, " < {}", bucket.count)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_workers_add_up() {
        let (mut one, mut other) = (LatencyTally::default(), LatencyTally::default());
        assert_eq!(one.report(), None);
        other.record(Duration::from_millis(99));
        other.record(Duration::from_millis(100));
        one.add(&other);
        one.record(Duration::from_secs(20));
        let latency = one.report().unwrap();
        assert_eq!((latency.count, latency.min_seconds, latency.max_seconds), (3, 0.099, 20.0));
        let counts = latency.buckets.iter().map(|bucket| bucket.count).collect::<Vec<_>>();
        assert_eq!(counts, [1, 1, 0, 0, 0, 0, 1]);
    }
}
