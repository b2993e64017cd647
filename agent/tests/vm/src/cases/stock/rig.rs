//! A file system on a disk whose data can be held back and can fail, and whose metadata can fail.
//!
//! ```text
//!   ext4 ─► "stock" ─┬─ blocks 0 to 1042: inodes, journal ─► "stock-meta" ─┬─► vdb
//!                    └─ blocks 1043 to 4095: data ─────────► "stock-data" ─┘
//! ```
//!
//! The blocks lie as on the disk: without the device mapper `vdb` is the same file system. What is held
//! back holds flushes too, so it is mounted without barriers.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    ops::Range,
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    disk::{self, Mounted},
    dm::{self, Linear, Part},
    patience::until,
    workload::sync,
};

const SECTORS: u64 = 16 << 11;
const BLOCK_SECTORS: u64 = 8;
const META: Range<u64> = 0..1043 * BLOCK_SECTORS;
/// Small files have their extents in the inode, and the root directory has room: data and nothing else.
const DATA: Range<u64> = META.end..SECTORS;
const MKFS: &str = "-t ext4 -b 4096 -N 128 -J size=4 \
                    -E nodiscard,lazy_itable_init=0,packed_meta_blocks=1";
const MOUNT: &str = "errors=continue,barrier=0";
const DISK: &str = "vdb";

/// What the disk holds before there is a file system, as if it were someone else's.
pub(super) const OLD: u8 = 0xee;

const PATIENCE: Duration = Duration::from_secs(60);

/// Dropped from the top.
pub(in super::super) struct Rig {
    pub(in super::super) mounted: Mounted,
    top: Linear,
    data: Linear,
    meta: Linear,
}

impl Rig {
    /// Fills the disk with [`OLD`], makes a file system on it and mounts it; what can be held is its data.
    pub(in super::super) fn new() -> Result<Rig> {
        let path = Path::new("/dev").join(DISK);
        let mut file = OpenOptions::new().write(true).open(&path)?;
        file.write_all(&vec![OLD; usize::try_from(SECTORS << 9)?])
            .context("cannot fill the disk")?;
        file.sync_all()?;
        drop(file);
        let meta = Linear::create("stock-meta", &of_the_disk(&META, false)?)?;
        let data = Linear::create("stock-data", &of_the_disk(&DATA, false)?)?;
        let top = Linear::create("stock", &[whole(&meta, &META)?, whole(&data, &DATA)?])?;
        disk::make(top.path(), MKFS)?;
        let mounted = disk::mount(top.path(), "stock", "ext4", MOUNT)?;
        sync();
        Ok(Rig { mounted, top, data, meta })
    }

    /// From here on data waits, and so do flushes.
    pub(in super::super) fn hold_data(&self) -> Result<()> {
        self.data.suspend()
    }

    /// Lets it go; from here on it fails, if so said.
    pub(in super::super) fn release_data(&self, fails: bool) -> Result<()> {
        self.data.load(&of_the_disk(&DATA, fails)?)?;
        self.data.resume()
    }

    /// From here on neither inodes nor journal can be read or written.
    pub(super) fn fail_metadata(&self) -> Result<()> {
        self.meta.load(&of_the_disk(&META, true)?)?;
        self.meta.suspend()?;
        self.meta.resume()
    }

    /// Returns when a write waits for the device.
    pub(in super::super) fn until_a_write_waits(&self) -> Result<()> {
        let file = format!("/sys/block/{}/inflight", self.top.disk_name());
        until(PATIENCE, "no write is under way", || {
            let told = fs::read_to_string(&file)?;
            let writes = told.split_ascii_whitespace().nth(1).context("reads and writes")?;
            Ok((writes != "0").then_some(()))
        })
    }

    /// Takes everything away that fails and mounts the disk itself, as after a change of cables.
    pub(in super::super) fn mount_the_disk(self) -> Result<Mounted> {
        self.mounted.unmount()?;
        drop((self.top, self.data, self.meta));
        disk::mount(&Path::new("/dev").join(DISK), "stock", "ext4", "errors=continue")
    }
}

fn of_the_disk(range: &Range<u64>, fails: bool) -> Result<[Part; 1]> {
    let (device, _) = dm::disk(DISK)?;
    Ok([Part { device, from: range.start, sectors: range.end - range.start, fails }])
}

fn whole(device: &Linear, range: &Range<u64>) -> Result<Part> {
    let (device, _) = dm::disk(device.disk_name())?;
    Ok(Part { device, from: 0, sectors: range.end - range.start, fails: false })
}
