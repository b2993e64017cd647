//! Writes that the device refuses: their lives are followed to the end, both cores have a run for them,
//! and nothing is found but what these kernels do: before 6.15 they convert what failed, in part or all of
//! it (`detect/convert_after_failed_write.rs`). The recording of it is one of those that the tests on the host stand on.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use endiod::source::sim::Random;

use super::conservation::{check_io_ends, check_stream};
use crate::{
    Facts, Guest,
    agent::Recorder,
    disk::{self, Mounted},
    dm::{self, Linear, Part},
    workload::sync,
};

/// One block group, few inodes, a small journal: all metadata is before the first part that fails, or
/// behind the last one.
const SECTORS: u64 = 64 << 11;
const MKFS: &str = "-t ext4 -b 4096 -N 128 -J size=4";
const FIRST_SECTOR: u64 = 5 << 11;
/// Of each MiB of the data so much works and so much fails.
const WORKS_SECTORS: u64 = 1536;
const FAILS_SECTORS: u64 = 512;
const FAILING_PARTS: u64 = 28;

const FILES: usize = 12;
const ROUNDS: usize = 30;
const CHUNKS: usize = 3;
const CHUNK_BYTES: usize = 8 << 10;
/// Offsets of chunks within a file: some are written again, most lie in holes.
const PLACES: u64 = 64;

/// Before 6.15: convert what failed, or do so where the submitter puts the last reference (6.12).
const CONVERT_WHAT_FAILED: [&str; 4] = ["5.10", "6.1", "6.1-modular", "6.12"];
/// The rule that says so.
const CONVERTED: &str = "convert_after_failed_write";

/// Where the core of 5.5 to 7.3 has a run with what the kernel does.
pub(crate) fn only_where_the_core_has_a_run(kernel: &str) -> Option<&'static str> {
    (kernel == "6.12").then_some(
        "6.12 sets FAILED and converts all the same where the submitter puts the last reference: the cores \
         diverge with each, which blocks_of_a_failed_write_are_bared... counts",
    )
}

/// Writes, syncs and fails for a while under a recorder.
pub(crate) fn followed(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let device = device()?;
    disk::make(device.path(), MKFS)?;
    let mounted = disk::mount(device.path(), "failing", "ext4", "errors=continue")?;
    sync();
    let recorder = Recorder::start(guest, &format!("failing-{}", guest.kernel))?;
    let path = recorder.path.clone();
    let failed = write(&mounted)?;
    sync();
    let summary = recorder.stop()?;
    let io_ends = &summary.io_ends;
    for (name, count) in [
        ("io_ends", io_ends.born),
        ("bios", io_ends.bios_attached),
        ("bios_failed", io_ends.bios_failed),
        ("queued", io_ends.queued),
        ("fsyncs_failed", failed),
        ("missed", summary.missed()),
        ("bytes", fs::metadata(&path)?.len()),
    ] {
        facts.insert(name.into(), count.into());
    }
    check_stream(&summary)?;
    let is_known = CONVERT_WHAT_FAILED.contains(&guest.kernel.as_str());
    let other = summary.findings.iter().find(|it| !is_known || it["rule"] != CONVERTED);
    ensure!(other.is_none(), "accused: {other:?}");
    facts.insert("converted_after_failure".into(), summary.findings.len().into());
    ensure!(failed > 0 && io_ends.bios_failed > 20, "too few writes failed: {io_ends:?}");
    ensure!(io_ends.bios_attached > 2 * io_ends.bios_failed, "too few did not: {io_ends:?}");
    check_io_ends(&summary)?;
    mounted.unmount()
}

fn device() -> Result<Linear> {
    let (device, _) = dm::disk("vdb")?;
    let mut parts = vec![(FIRST_SECTOR, false)];
    for _ in 0..FAILING_PARTS {
        parts.extend([(FAILS_SECTORS, true), (WORKS_SECTORS, false)]);
    }
    let so_far: u64 = parts.iter().map(|(sectors, _)| sectors).sum();
    parts.push((SECTORS - so_far, false));
    let mut from = 0;
    let parts: Vec<_> = parts
        .into_iter()
        .map(|(sectors, fails)| {
            let part = Part { device: device.clone(), from, sectors, fails };
            from += sectors;
            part
        })
        .collect();
    Linear::create("failing", &parts)
}

/// Rounds of writes into holes and over what is there, each file synced; how many syncs failed.
fn write(mounted: &Mounted) -> Result<u64> {
    let mut random = Random::new(61);
    let files = (0..FILES).map(|n| open(mounted.dir(), n)).collect::<Result<Vec<_>>>()?;
    let mut failed = 0;
    for _ in 0..ROUNDS {
        for file in &files {
            for _ in 0..CHUNKS {
                let at = random.below(PLACES) * 2 * CHUNK_BYTES as u64;
                file.write_all_at(&[0x5a; CHUNK_BYTES], at).context("cannot write to the cache")?;
            }
        }
        // Two tasks sync at once, so that lives overlap.
        let (some, others) = files.split_at(FILES / 2);
        let count = |files: &[File]| files.iter().filter(|it| it.sync_data().is_err()).count();
        failed += std::thread::scope(|scope| {
            let other = scope.spawn(|| count(others));
            let mine = count(some);
            other.join().map(|theirs| mine + theirs)
        })
        .map_err(|_| anyhow::anyhow!("a syncing thread panicked"))?;
    }
    Ok(u64::try_from(failed)?)
}

fn open(dir: &Path, n: usize) -> Result<File> {
    let path = dir.join(format!("f{n}"));
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
    file.with_context(|| format!("cannot make {}", path.display()))
}
