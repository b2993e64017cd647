//! A conversion fails, the write itself does not: fsync returns 0, and the file reads zeros.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    process::Command,
    thread::scope,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{super::conservation::check_stream, FILE_BYTES, NEW, Rig, accused, open};
use crate::{Facts, Guest, agent::Recorder, workload::sync};

/// What makes the conversion fail while the data is under way.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// The journal cannot be written and is aborted; the allocation was committed before.
    JournalAborted,
    /// The same over preallocated blocks, and fdatasync.
    Preallocated,
    /// The file system is shut down.
    ShutDown,
}

const WAYS: [(Way, &str); 3] = [
    (Way::JournalAborted, "journal-aborted"),
    (Way::Preallocated, "preallocated"),
    (Way::ShutDown, "shut-down"),
];

/// In each way: fsync says that all is well, what was written is lost, and the agent accuses that fsync.
pub(crate) fn hidden(guest: &Guest, facts: &mut Facts) -> Result<()> {
    for (way, name) in WAYS {
        hide(guest, facts, way, name).with_context(|| name.to_owned())?;
    }
    Ok(())
}

fn hide(guest: &Guest, facts: &mut Facts, way: Way, name: &str) -> Result<()> {
    let rig = Rig::new()?;
    let dir = rig.mounted.dir().to_owned();
    let other = open(&dir, "other")?;
    let file = open(&dir, "file")?;
    if way == Way::Preallocated {
        preallocate(&file)?;
    }
    sync();
    let recorder = Recorder::start(guest, &format!("hidden-{name}-{}", guest.kernel))?;
    let said_before = said()?;
    file.write_all_at(&[NEW; FILE_BYTES], 0).context("cannot write to the cache")?;
    rig.hold_data()?;
    let told = scope(|scope| {
        let told = scope.spawn(|| match way {
            Way::Preallocated => file.sync_data(),
            _ => file.sync_all(),
        });
        rig.until_a_write_waits()?;
        other.set_len(1)?;
        other.sync_all().context("what was allocated is committed, the data is under way")?;
        befall(&rig, &other, way)?;
        rig.release_data(false)?;
        told.join().map_err(|_| anyhow!("the syncing thread panicked"))
    })?;
    let said = said()? - said_before;
    let summary = recorder.stop()?;
    check_stream(&summary)?;
    drop((file, other));
    let disk = rig.mount_the_disk()?;
    let bytes = fs::read(disk.dir().join("file"))?;
    let kept = bytes.iter().filter(|byte| **byte == NEW).count();
    disk.unmount()?;
    facts.insert(format!("{name}: bytes kept"), kept.into());
    facts.insert(format!("{name}: the kernel's log tells"), (said > 0).into());
    told.context("fsync told")?;
    ensure!(kept == 0, "{kept} bytes were kept");
    let accused = accused(&summary, "conversion_error_hidden")?;
    ensure!(
        accused.len() == 1,
        "one fsync hid an error, of {} io_ends: {accused:?}",
        accused.len()
    );
    Ok(())
}

fn preallocate(file: &File) -> Result<()> {
    // SAFETY: fallocate(2) takes plain integers; the file is open.
    let done = unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, i64::try_from(FILE_BYTES)?) };
    ensure!(done == 0, "cannot preallocate: {}", std::io::Error::last_os_error());
    Ok(())
}

fn befall(rig: &Rig, other: &File, way: Way) -> Result<()> {
    match way {
        Way::ShutDown => rig.mounted.shut_down(),
        Way::JournalAborted | Way::Preallocated => {
            rig.fail_metadata()?;
            other.set_len(2)?;
            ensure!(other.sync_all().is_err(), "the journal took what cannot be written");
            Ok(())
        }
    }
}

/// How often the kernel's log has said that a conversion failed.
fn said() -> Result<usize> {
    let log = Command::new("dmesg").output().context("cannot start dmesg")?;
    Ok(String::from_utf8_lossy(&log.stdout).matches("potential data loss").count())
}
