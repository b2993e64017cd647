//! Mounted ext4 file systems and the block devices below them.
//!
//! ```text
//!  /proc/self/mountinfo ──► Mount ─┐
//!  /sys/dev/block/M:m (link) ──────┼─► Device { dev, name, disk, mountpoint, uuid }
//!  /dev/disk/by-uuid (links) ──────┘
//! ```
//!
//! The parsers are pure; [`DeviceReader`] reads below a root. It never opens a device and never reads
//! a file system. Only ext4's own mounts count: ext2 and ext3 file systems when the ext4 driver has
//! mounted them. One `Device` per block device, however often it is mounted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use crate::event::DevId;

/// Lines of mountinfo that are looked at. The kernel's own limit is 100,000 mounts per name space
/// (`fs.mount-max`); container hosts have thousands.
pub const MOUNTS_MAX: usize = 100_000;
/// Devices that are reported: four times as many as have a label in the metrics.
pub const DEVICES_MAX: usize = 256;
/// Links in `/dev/disk/by-uuid` that are looked at.
pub const UUIDS_MAX: usize = 4096;

/// A block device with a mounted ext4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// `s_dev` of its file system.
    pub dev: DevId,
    /// The kernel's name, as in `/proc/diskstats`.
    pub name: String,
    /// The whole disk of a partition, else the device itself.
    pub disk: String,
    /// Where the root of the file system is mounted, the first place if there are several; the first
    /// bind mount if there is none.
    pub mountpoint: String,
    /// UUID of the file system, if `/dev/disk/by-uuid` has it.
    pub uuid: Option<String>,
}

/// A line of mountinfo about a file system of the ext family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `s_dev`.
    pub dev: DevId,
    /// What is mounted, within the file system: `/`, or else a bind mount.
    pub root: String,
    /// Where.
    pub mountpoint: String,
    /// `ext2`, `ext3` or `ext4`.
    pub fs_type: String,
}

/// Why devices could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum DevicesError {
    /// mountinfo could not be read.
    #[error("cannot read {path} for the mounted ext4 file systems: {source}")]
    Mountinfo {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The devices found, and what was left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// One per block device, in the order of mounting.
    pub devices: Vec<Device>,
    /// Devices beyond [`DEVICES_MAX`].
    pub left_out: usize,
}

/// Tells when something was mounted or unmounted in this mount name space, without reading the list
/// (proc(5): a change makes a poll of mountinfo return with POLLPRI, once per open file).
#[derive(Debug, Default)]
pub struct Mounts {
    mountinfo: Option<fs::File>,
}

impl Mounts {
    /// Whether it was since the last call; `true` at the first, and where it cannot be told.
    pub fn changed(&mut self) -> bool {
        let Some(mountinfo) = &self.mountinfo else {
            self.mountinfo = fs::File::open("/proc/self/mountinfo").ok();
            return true;
        };
        let mut poll =
            libc::pollfd { fd: mountinfo.as_raw_fd(), events: libc::POLLPRI, revents: 0 };
        // SAFETY: `poll` is one valid pollfd; a time-out of 0 returns at once.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
        ready != 0
    }
}

/// Reads `proc`, `sys` and `dev` below a root.
#[derive(Clone, Debug)]
pub struct DeviceReader {
    root: PathBuf,
}

impl Default for DeviceReader {
    fn default() -> Self {
        DeviceReader::under(Path::new("/"))
    }
}

impl DeviceReader {
    /// Below `root`: `/`, or a directory of a test.
    pub fn under(root: &Path) -> Self {
        DeviceReader { root: root.to_owned() }
    }

    /// The devices of this mount name space.
    ///
    /// # Errors
    /// If mountinfo cannot be read. What `/sys` or `/dev` do not tell is absent or falls back.
    pub fn read(&self) -> Result<Found, DevicesError> {
        let path = self.root.join("proc/self/mountinfo");
        let bytes = fs::read(&path).map_err(|source| DevicesError::Mountinfo { path, source })?;
        let uuids = self.uuids();
        let mut found = Found::default();
        for mount in one_per_device(parse_mountinfo(&String::from_utf8_lossy(&bytes))) {
            let (name, disk) = self.block_device(mount.dev);
            if !self.is_ext4_driver(&mount.fs_type, &name) {
                continue;
            }
            if found.devices.len() == DEVICES_MAX {
                found.left_out += 1;
                continue;
            }
            let uuid = uuids.iter().find(|(of, _)| *of == name).map(|(_, uuid)| uuid.clone());
            let Mount { dev, mountpoint, .. } = mount;
            found.devices.push(Device { dev, name, disk, mountpoint, uuid });
        }
        Ok(found)
    }

    /// Name and disk of a block device; `major:minor` for both if `/sys` does not know it.
    fn block_device(&self, dev: DevId) -> (String, String) {
        let link = self.root.join("sys/dev/block").join(dev.to_string());
        let target = fs::read_link(&link).ok();
        let is_partition = link.join("partition").exists();
        target
            .and_then(|target| parse_block_link(target.to_str()?, is_partition))
            .unwrap_or_else(|| (dev.to_string(), dev.to_string()))
    }

    /// ext2 may also be mounted by the driver of that name; ext4's driver has a directory in sysfs
    /// for each file system it has mounted (`ext4_register_sysfs`). ext3's own driver went in 4.3.
    fn is_ext4_driver(&self, fs_type: &str, name: &str) -> bool {
        fs_type != "ext2" || self.root.join("sys/fs/ext4").join(name.replace('/', "!")).exists()
    }

    /// (device name, uuid) of every link that points into `/dev`.
    fn uuids(&self) -> Vec<(String, String)> {
        let Ok(entries) = fs::read_dir(self.root.join("dev/disk/by-uuid")) else {
            return Vec::new();
        };
        let pair = |entry: io::Result<fs::DirEntry>| {
            let entry = entry.ok()?;
            let target = fs::read_link(entry.path()).ok()?;
            let name = target.to_str()?.trim_start_matches("../").to_owned();
            Some((name, entry.file_name().into_string().ok()?))
        };
        entries.take(UUIDS_MAX).filter_map(pair).collect()
    }
}

/// The ext2, ext3 and ext4 mounts of a mountinfo text, in its order; other lines, and lines that do
/// not parse, are skipped.
pub fn parse_mountinfo(text: &str) -> impl Iterator<Item = Mount> {
    text.lines().take(MOUNTS_MAX).filter_map(parse_mount)
}

/// A line as `show_mountinfo` (fs/proc_namespace.c, 5.10 to 7.3) writes it:
/// `id parent major:minor root mountpoint options [optional fields…] - type source options`.
fn parse_mount(line: &str) -> Option<Mount> {
    // A field holds no space (it is written as \040), so this separator is the first one.
    let (mount, file_system) = line.split_once(" - ")?;
    let fs_type = file_system.split(' ').next()?;
    if !matches!(fs_type, "ext2" | "ext3" | "ext4") {
        return None;
    }
    let mut fields = mount.split(' ').skip(2);
    let (major, minor) = fields.next()?.split_once(':')?;
    Some(Mount {
        dev: dev_id(major.parse().ok()?, minor.parse().ok()?)?,
        root: unescape(fields.next()?),
        mountpoint: unescape(fields.next()?),
        fs_type: fs_type.to_owned(),
    })
}

/// The kernel's own encoding of a device (`MKDEV`, include/linux/kdev_t.h): 12 bits of major over 20
/// of minor. `stat(2)` shows another one to user space.
fn dev_id(major: u32, minor: u32) -> Option<DevId> {
    (major < 1 << 12 && minor < 1 << 20).then_some(DevId(major << 20 | minor))
}

/// Undoes `mangle_path`: `\` and three octal digits stand for a byte.
fn unescape(field: &str) -> String {
    let bytes = field.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).filter(|_| bytes[at] == b'\\').and_then(octal_byte);
        plain.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

fn octal_byte(digits: &[u8]) -> Option<u8> {
    let digits = digits.iter().map(|digit| char::from(*digit).to_digit(8));
    let value = digits.reduce(|sum, digit| Some(sum? * 8 + digit?))??;
    u8::try_from(value).ok()
}

/// Name and disk from the target of a `/sys/dev/block` link: the last part names the device, and for
/// a partition the part before it the disk. sysfs writes a `/` within a name as `!`.
fn parse_block_link(target: &str, is_partition: bool) -> Option<(String, String)> {
    let mut parts = target.rsplit('/').filter(|part| !part.is_empty());
    let name = parts.next()?.replace('!', "/");
    let disk = if is_partition { parts.next()?.replace('!', "/") } else { name.clone() };
    Some((name, disk))
}

/// The best mount of each device, at the place of its first one: the first that shows the root of the
/// file system, else the first.
fn one_per_device(mounts: impl Iterator<Item = Mount>) -> Vec<Mount> {
    let mut chosen: Vec<Mount> = Vec::new();
    let mut places: HashMap<DevId, usize> = HashMap::new();
    for mount in mounts {
        match places.entry(mount.dev) {
            Entry::Vacant(place) => {
                place.insert(chosen.len());
                chosen.push(mount);
            }
            Entry::Occupied(place) => {
                let known = &mut chosen[*place.get()];
                if known.root != "/" && mount.root == "/" {
                    *known = mount;
                }
            }
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use super::*;

    fn mounts(text: &str) -> Vec<Mount> {
        parse_mountinfo(text).collect()
    }

    #[test]
    fn optional_fields_escapes_and_hyphens_do_not_shift_the_fields() {
        let text = "\
            36 35 98:0 /mnt1 /mnt\\0402\\134x rw,noatime master:1 shared:7 - ext4 /dev/root rw\n\
            37 35 8:1 / /a-b rw - ext3 /dev/sda1 rw\n\
            38 35 8:2 / /x rw - xfs /dev/sda2 rw\n\
            39 35 0:22 / /sys rw - sysfs sysfs rw\n";
        let mounts = mounts(text);
        assert_eq!(mounts.len(), 2);
        assert_eq!(mounts[0].dev, DevId(98 << 20));
        assert_eq!(
            (mounts[0].root.as_str(), mounts[0].mountpoint.as_str()),
            ("/mnt1", "/mnt 2\\x")
        );
        assert_eq!((mounts[1].mountpoint.as_str(), mounts[1].fs_type.as_str()), ("/a-b", "ext3"));
    }

    #[test]
    fn broken_lines_are_skipped() {
        let text = "\n - \n1 2\n1 2 8 / / rw - ext4 x rw\n1 2 8:x / / rw - ext4 x rw\n\
                    1 2 4096:0 / / rw - ext4 x rw\n1 2 8:1048576 / / rw - ext4 x rw\n\
                    1 2 8:1 / - ext4\n";
        assert!(mounts(text).is_empty());
        assert_eq!(unescape("a\\9\\04"), "a\\9\\04");
        assert_eq!(unescape("\\777"), "\\777", "not a byte");
        assert_eq!(unescape("\\303\\251"), "é");
    }

    #[test]
    fn device_numbers_are_the_kernels_own() {
        assert_eq!(dev_id(259, 1_048_575), Some(DevId(259 << 20 | 0xf_ffff)));
        assert_eq!(DevId(259 << 20 | 7).to_string(), "259:7");
    }

    #[test]
    fn link_gives_name_and_disk() {
        let link = "../../devices/pci0000:00/virtio1/block/vda/vda1";
        assert_eq!(parse_block_link(link, true), Some(("vda1".into(), "vda".into())));
        let link = "../../devices/virtual/block/dm-0";
        assert_eq!(parse_block_link(link, false), Some(("dm-0".into(), "dm-0".into())));
        let link = "../../devices/x/block/cciss!c0d0/cciss!c0d0p1";
        let expected = Some(("cciss/c0d0p1".into(), "cciss/c0d0".into()));
        assert_eq!(parse_block_link(link, true), expected);
        assert_eq!(parse_block_link("", false), None);
    }

    #[test]
    fn whole_file_system_wins_over_an_earlier_bind_mount() {
        let text = "1 0 8:1 /srv /bind rw - ext4 a rw\n2 0 8:2 / /b rw - ext4 b rw\n\
                    3 0 8:1 / /whole rw - ext4 a rw\n4 0 8:1 / /again rw - ext4 a rw\n";
        let chosen = one_per_device(parse_mountinfo(text));
        let places: Vec<_> = chosen.iter().map(|mount| mount.mountpoint.as_str()).collect();
        assert_eq!(places, ["/whole", "/b"]);
    }

    /// A directory that looks like `/`, removed at the end.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, mountinfo: &str) -> Root {
            let path = std::env::temp_dir().join(format!("endiod-{name}-{}", std::process::id()));
            let root = Root(path);
            let _ = fs::remove_dir_all(&root.0);
            root.dir("proc/self");
            fs::write(root.0.join("proc/self/mountinfo"), mountinfo)
                .expect("the directory is ours");
            root
        }

        fn dir(&self, path: &str) {
            fs::create_dir_all(self.0.join(path)).expect("the directory is ours");
        }

        fn link(&self, path: &str, target: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the root"))
                .expect("the directory is ours");
            symlink(target, path).expect("the directory is ours");
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn reader_joins_mounts_disks_and_uuids() {
        let root = Root::new(
            "devices-join",
            "1 0 254:1 / / rw - ext4 /dev/root rw\n2 0 253:0 / /lv rw - ext2 /dev/mapper/x rw\n\
             3 0 7:0 / /old rw - ext2 /dev/loop0 rw\n4 0 9:0 / /md rw - ext4 /dev/md0 rw\n",
        );
        root.dir("sys/devices/virtio1/block/vda/vda1");
        fs::write(root.0.join("sys/devices/virtio1/block/vda/vda1/partition"), "1\n")
            .expect("the directory is ours");
        root.link("sys/dev/block/254:1", "../../devices/virtio1/block/vda/vda1");
        root.link("sys/dev/block/253:0", "../../devices/virtual/block/dm-0");
        root.link("sys/dev/block/7:0", "../../devices/virtual/block/loop0");
        root.dir("sys/fs/ext4/dm-0");
        root.link("dev/disk/by-uuid/1234-abcd", "../../vda1");
        let found = DeviceReader::under(&root.0).read().expect("mountinfo is there");
        let lines: Vec<_> = found
            .devices
            .iter()
            .map(|d| format!("{} {} {} {} {:?}", d.dev, d.name, d.disk, d.mountpoint, d.uuid))
            .collect();
        assert_eq!(
            lines,
            [
                "254:1 vda1 vda / Some(\"1234-abcd\")",
                "253:0 dm-0 dm-0 /lv None",
                "9:0 9:0 9:0 /md None",
            ]
        );
        assert_eq!(found.left_out, 0);
    }

    #[test]
    fn devices_beyond_the_bound_are_counted() {
        let line = |minor| format!("1 0 8:{minor} / /m{minor} rw - ext4 x rw\n");
        let text: String = (0..DEVICES_MAX + 3).map(line).collect();
        let root = Root::new("devices-bound", &text);
        let found = DeviceReader::under(&root.0).read().expect("mountinfo is there");
        assert_eq!((found.devices.len(), found.left_out), (DEVICES_MAX, 3));
    }

    #[test]
    fn missing_mountinfo_is_an_error_that_names_it() {
        let error = DeviceReader::under(Path::new("/nonexistent"))
            .read()
            .expect_err("there is no such file")
            .to_string();
        assert!(error.contains("/nonexistent/proc/self/mountinfo"), "{error}");
    }
}
