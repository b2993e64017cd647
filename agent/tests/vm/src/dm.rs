//! A device-mapper device of parts that work and parts that fail, which can change, by the control device's own ioctls
//! (linux/dm-ioctl.h, version 4; the layout has not changed since).

use std::{
    fs::{self, File, OpenOptions},
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};

use crate::disk::ioctl;

/// Where the kernel listens.
const CONTROL: &str = "/dev/mapper/control";

/// `_IOWR(0xfd, N, struct dm_ioctl)`.
const fn request(number: u64) -> u64 {
    0xc138_fd00 | number
}

const DEV_CREATE: u64 = request(3);
const DEV_REMOVE: u64 = request(4);
/// Also "resume", which makes a loaded table live.
const DEV_SUSPEND: u64 = request(6);
const TABLE_LOAD: u64 = request(9);

/// What makes a "suspend" of it, which does not freeze the file system.
const SUSPEND: u32 = 1 << 1 | 1 << 10;
const NO_FLAGS: u32 = 0;

/// `struct dm_ioctl`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

/// `struct dm_target_spec`, and behind it the text of its parameters.
#[repr(C)]
#[derive(Clone, Copy)]
struct Target {
    sector_start: u64,
    length: u64,
    status: i32,
    /// From this target to the next.
    next: u32,
    target_type: [u8; 16],
    parameters: [u8; PARAMETERS_LEN],
}

const PARAMETERS_LEN: usize = 24;
/// Parts of a table.
const TARGETS_MAX: usize = 64;

/// What an ioctl is given.
#[repr(C)]
struct Request {
    header: Header,
    targets: [Target; TARGETS_MAX],
}

/// One part: so many sectors of a block device (`major:minor`) from that sector on.
pub(crate) struct Part {
    pub(crate) device: String,
    pub(crate) from: u64,
    pub(crate) sectors: u64,
    /// Whether everything on it fails, in place of the device's.
    pub(crate) fails: bool,
}

/// A device that is there until dropped.
pub(crate) struct Linear {
    control: File,
    name: &'static str,
    path: PathBuf,
}

impl Linear {
    /// Makes a device of these parts, one behind the other.
    pub(crate) fn create(name: &'static str, parts: &[Part]) -> Result<Linear> {
        let control = OpenOptions::new().read(true).write(true).open(CONTROL);
        let control = control.with_context(|| format!("{CONTROL} (module dm-mod)"))?;
        call(&control, DEV_CREATE, name, NO_FLAGS, &[])?;
        let mut made = Linear { control, name, path: PathBuf::new() };
        made.load(parts)?;
        made.resume()?;
        made.path = node(name)?;
        Ok(made)
    }

    /// Gives it other parts, which it has from the next [`Linear::resume`] on.
    pub(crate) fn load(&self, parts: &[Part]) -> Result<()> {
        ensure!(parts.len() <= TARGETS_MAX, "a table of {} parts is too long", parts.len());
        call(&self.control, TABLE_LOAD, self.name, NO_FLAGS, &targets(parts)?)
    }

    /// Waits for what is under way and holds back what comes, flushes too.
    pub(crate) fn suspend(&self) -> Result<()> {
        call(&self.control, DEV_SUSPEND, self.name, SUSPEND, &[])
    }

    /// Lets go what was held back, to the parts that were loaded last.
    pub(crate) fn resume(&self) -> Result<()> {
        call(&self.control, DEV_SUSPEND, self.name, NO_FLAGS, &[])
    }

    /// Its name among the kernel's disks.
    pub(crate) fn disk_name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).expect("node() made it of a name")
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }
}

impl Drop for Linear {
    fn drop(&mut self) {
        if let Err(error) = call(&self.control, DEV_REMOVE, self.name, NO_FLAGS, &[]) {
            eprintln!("{error:#}");
        }
    }
}

/// `major:minor` and the sectors of a disk.
pub(crate) fn disk(name: &str) -> Result<(String, u64)> {
    let read = |file: &str| fs::read_to_string(format!("/sys/block/{name}/{file}"));
    Ok((read("dev")?.trim().to_owned(), read("size")?.trim().parse()?))
}

fn targets(parts: &[Part]) -> Result<Vec<Target>> {
    let mut sector_start = 0;
    let mut targets = Vec::new();
    for Part { device, from, sectors, fails } in parts {
        let mut target_type = [0; 16];
        let kind: &[u8] = if *fails { b"error" } else { b"linear" };
        target_type[..kind.len()].copy_from_slice(kind);
        let text = if *fails { String::new() } else { format!("{device} {from}") };
        ensure!(text.len() < PARAMETERS_LEN, "parameters {text} are too long");
        let mut parameters = [0; PARAMETERS_LEN];
        parameters[..text.len()].copy_from_slice(text.as_bytes());
        let next = u32::try_from(size_of::<Target>())?;
        let length = *sectors;
        targets.push(Target { sector_start, length, status: 0, next, target_type, parameters });
        sector_start += sectors;
    }
    Ok(targets)
}

fn call(control: &File, request: u64, name: &str, flags: u32, targets: &[Target]) -> Result<()> {
    const NONE: Target = Target {
        sector_start: 0,
        length: 0,
        status: 0,
        next: 0,
        target_type: [0; 16],
        parameters: [0; PARAMETERS_LEN],
    };
    let mut header = Header {
        version: [4, 0, 0],
        data_size: u32::try_from(size_of::<Request>())?,
        data_start: u32::try_from(size_of::<Header>())?,
        target_count: u32::try_from(targets.len())?,
        open_count: 0,
        flags,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    header.name[..name.len()].copy_from_slice(name.as_bytes());
    let mut given = Box::new(Request { header, targets: [NONE; TARGETS_MAX] });
    given.targets[..targets.len()].copy_from_slice(targets);
    ioctl(control, request, &mut *given).with_context(|| format!("device mapper, {name}"))
}

/// The device's node, by its name in `/sys`.
fn node(name: &str) -> Result<PathBuf> {
    for entry in fs::read_dir("/sys/block")?.flatten() {
        let named = fs::read_to_string(entry.path().join("dm/name")).unwrap_or_default();
        if named.trim() == name {
            return Ok(PathBuf::from("/dev").join(entry.file_name()));
        }
    }
    anyhow::bail!("no device is named {name}")
}
