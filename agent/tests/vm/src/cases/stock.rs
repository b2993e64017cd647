//! Defects that stock kernels have, provoked by nothing but a device that fails. What the agent finds is
//! held against what really befell the file, read from the disk afterwards (`agent/docs/stock-kernels.md`).

mod hidden;
pub(super) mod rig;

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt as _,
    path::Path,
    thread::scope,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use endiod::report::Summary;

use self::rig::{OLD, Rig};
use super::conservation::check_stream;
use crate::{Facts, Guest, agent::Recorder};

pub(crate) use hidden::hidden;

/// What is written.
const NEW: u8 = 0x5a;
const FILE_BYTES: usize = 64 << 10;
const FILES: usize = 4;

/// When a write fails.
#[derive(Clone, Copy, PartialEq)]
enum When {
    /// In the call that submits it: the submitter drops the last reference.
    AtOnce,
    /// Later: its bio does.
    Later,
}

/// Kernels without e856f93e0fb2 convert both; 6.12.31 and on, without 2f94b537c48d, the first.
fn converts(kernel: &str, when: When) -> bool {
    match kernel {
        "5.10" | "6.1" | "6.1-modular" => true,
        "6.12" => when == When::AtOnce,
        _ => false,
    }
}

/// A failed write. Where the kernel converts all the same each file reads what the disk held before, and
/// each of these conversions is accused; elsewhere the files read zeros and nobody is accused.
pub(crate) fn bared(guest: &Guest, facts: &mut Facts) -> Result<()> {
    for (when, name) in [(When::AtOnce, "at-once"), (When::Later, "later")] {
        let (bared, accused) = fail(guest, when, name).with_context(|| name.to_owned())?;
        facts.insert(format!("{name}: bytes bared"), bared.into());
        facts.insert(format!("{name}: conversions accused"), accused.into());
        let files = if converts(&guest.kernel, when) { FILES } else { 0 };
        ensure!(
            (bared, accused) == (files * FILE_BYTES, files),
            "{name}: {bared} bytes were bared and {accused} conversions accused, not those of {files} files"
        );
    }
    Ok(())
}

/// How many bytes of the files are not theirs, and of how many io_ends the conversion was accused.
fn fail(guest: &Guest, when: When, name: &str) -> Result<(usize, usize)> {
    let rig = Rig::new()?;
    let recorder = Recorder::start(guest, &format!("failed-{name}-{}", guest.kernel))?;
    for n in 0..FILES {
        let file = open(rig.mounted.dir(), &format!("f{n}"))?;
        file.write_all_at(&[NEW; FILE_BYTES], 0).context("cannot write to the cache")?;
        rig.hold_data()?;
        let told = match when {
            When::AtOnce => {
                rig.release_data(true)?;
                file.sync_data()
            }
            When::Later => scope(|scope| {
                let told = scope.spawn(|| file.sync_data());
                rig.until_a_write_waits()?;
                rig.release_data(true)?;
                told.join().map_err(|_| anyhow!("the syncing thread panicked"))
            })?,
        };
        ensure!(told.is_err(), "fdatasync did not tell that the write failed");
        rig.hold_data()?;
        rig.release_data(false)?;
    }
    let summary = recorder.stop()?;
    check_stream(&summary)?;
    let disk = rig.mount_the_disk()?;
    let mut bared = 0;
    for n in 0..FILES {
        let bytes = fs::read(disk.dir().join(format!("f{n}")))?;
        ensure!(bytes.iter().all(|byte| [0, OLD].contains(byte)), "the write did not fail");
        bared += bytes.iter().filter(|byte| **byte == OLD).count();
    }
    disk.unmount()?;
    Ok((bared, accused(&summary, "convert_after_failed_write")?.len()))
}

/// The io_ends that a rule accuses. A core of reference may have no run with the same; nothing else may
/// be found.
fn accused<'a>(summary: &'a Summary, rule: &str) -> Result<Vec<&'a str>> {
    let object = |it: &'a serde_json::Value| it["object"].as_str().unwrap_or_default();
    let (of_rule, others): (Vec<_>, Vec<_>) =
        summary.findings.iter().partition(|it| it["rule"] == rule);
    let accused: Vec<_> = of_rule.into_iter().map(object).collect();
    let stray = others
        .into_iter()
        .find(|it| it["rule"] != "oracle_divergence" || !accused.contains(&object(it)));
    ensure!(stray.is_none(), "accused: {stray:?}");
    Ok(accused)
}

fn open(dir: &Path, name: &str) -> Result<File> {
    let path = dir.join(name);
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
    file.with_context(|| format!("cannot make {}", path.display()))
}
