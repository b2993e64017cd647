//! The workloads: `endiod stress`, which says exactly what it issued.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

/// What `endiod stress --format json` reports, as far as the cases need it.
#[derive(Debug, Deserialize)]
pub(crate) struct Issued {
    pub(crate) direct_writes: u64,
    pub(crate) buffered_writes: u64,
    /// Writes with O_SYNC: the kernel calls `ext4_sync_file` once for each.
    pub(crate) sync_writes: u64,
    /// fsync(2) and fdatasync(2).
    pub(crate) fsyncs: u64,
    pub(crate) errors: u64,
    /// What a run that nothing cuts short issues.
    pub(crate) planned: u64,
    /// What of it was not: the first thread to end its file ends the run for all (no `-x`).
    pub(crate) unissued: u64,
}

impl Issued {
    /// Calls of `ext4_sync_file` that the workload caused.
    pub(crate) fn sync_file_calls(&self) -> u64 {
        self.sync_writes + self.fsyncs
    }
}

/// Files of a workload, one for each thread of the commit's line.
const FILES: u64 = 20;
/// Records of 64 KiB in the 10 MiB that the line gives a file.
const RECORDS: u64 = 10 * 16;

/// Every write of the line was issued or counted as cut off, and at least one thread got to the end of
/// its file: how far the others got by then hangs on the scheduler.
pub(crate) fn ran_the_line(issued: &Issued) -> Result<()> {
    let writes = issued.direct_writes + issued.buffered_writes;
    ensure!(
        issued.planned == FILES * RECORDS && writes + issued.unissued == issued.planned,
        "the line is {FILES} files of {RECORDS} writes, of which each is issued or not: {issued:?}"
    );
    ensure!(writes >= RECORDS, "no thread got to the end of its file: {issued:?}");
    Ok(())
}

/// The line of commit 491caa43639a, on fresh files. Without `-x` it is cut off where aio-stress cuts it
/// off: [`ran_the_line`].
pub(crate) const COMMIT_LINE: [&str; 10] =
    ["-t", "20", "-s", "10", "-O", "-S", "-o", "2", "-I", "1000"];

/// Runs `endiod stress` on 20 fresh files in a directory of that name.
pub(crate) fn stress(name: &str, args: &[&str]) -> Result<Issued> {
    let dir = Path::new("/mnt").join(name);
    std::fs::create_dir_all(&dir)?;
    stress_in(&dir, usize::try_from(FILES)?, args)
}

/// Runs `endiod stress` on that many files of a directory.
pub(crate) fn stress_in(dir: &Path, files: usize, args: &[&str]) -> Result<Issued> {
    let files = (1..=files).map(|file| dir.join(format!("f{file}")));
    let output = Command::new("endiod")
        .args(["stress", "--format", "json"])
        .args(args)
        .args(files)
        .output()
        .context("cannot start endiod stress")?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "stress ended with {}: {stderr}", output.status);
    let issued: Issued = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("stress wrote {:?}", String::from_utf8_lossy(&output.stdout)))?;
    ensure!(issued.errors == 0, "the workload itself failed: {issued:?}");
    Ok(issued)
}

/// Removes what earlier cases wrote: the disk of 1 GiB holds five workloads, not nine.
pub(crate) fn make_room() -> Result<()> {
    for entry in std::fs::read_dir("/mnt")? {
        let path = entry?.path();
        if path.is_dir() && !path.ends_with("lost+found") {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    // The blocks of removed files are free once the journal has committed.
    sync();
    Ok(())
}

/// sync(2): when it returns, every io_end that was alive is released (`ext4_sync_fs` flushes the
/// conversion workqueue, 3.11 to 7.3).
pub(crate) fn sync() {
    // SAFETY: sync(2) takes nothing and cannot fail.
    unsafe { libc::sync() };
}
