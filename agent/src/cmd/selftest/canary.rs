//! The canary: a file without a name (`O_TMPFILE`, ext4 has it from 3.11), so that it is gone with its
//! descriptor, however the test ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use endiod::{
    devices::DeviceReader,
    event::{DevId, Ino, InodeId},
    host::Host,
};

/// Bytes of a round: more than an inode holds inline, more than one block of any size up to 64 KiB.
const ROUND_BYTES: usize = 128 << 10;

/// An open canary.
pub(super) struct Canary {
    file: File,
    dir: PathBuf,
    inode: InodeId,
}

impl Canary {
    /// Makes one in a directory.
    pub(super) fn create(dir: &Path) -> Result<Canary> {
        let file = open(dir).with_context(|| {
            format!(
                "cannot make a canary file in {}: give --dir, a writable directory on an ext4",
                dir.display()
            )
        })?;
        if !is_ext(&file)? {
            bail!("{} is not on an ext4: give --dir, a directory on one", dir.display());
        }
        let metadata = file.metadata().context("cannot stat the canary file")?;
        let dev = kernel_dev(metadata.dev());
        let inode = InodeId { ino: Ino(metadata.ino()), dev };
        Ok(Canary { file, dir: dir.to_owned(), inode })
    }

    /// Makes one on the first mounted ext4 that takes it.
    pub(super) fn on_first_writable(host: &Host) -> Result<Canary> {
        let found = DeviceReader::under(host.root()).read()?;
        let mut refused = Vec::new();
        for device in &found.devices {
            match Canary::create(Path::new(&device.mountpoint)) {
                Ok(canary) => return Ok(canary),
                Err(error) => refused.push(format!("{}: {:#}", device.mountpoint, error)),
            }
        }
        match &refused[..] {
            [] => bail!("no ext4 is mounted here: mount one, or give --dir, a directory on one"),
            _ => bail!("no mounted ext4 is writable, give --dir: {}", refused.join("; ")),
        }
    }

    /// Which inode it is, as the kernel's own probes name it.
    pub(super) fn inode(&self) -> InodeId {
        self.inode
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The work of a round: fresh blocks, then fsync. It may block for as long as the device does.
    pub(super) fn write_and_sync(
        &self,
        round: u32,
    ) -> Result<impl FnOnce() -> Result<()> + Send + 'static> {
        let file = self.file.try_clone().context("cannot duplicate the canary's descriptor")?;
        Ok(move || {
            let block = vec![0xca; ROUND_BYTES];
            let at = u64::from(round - 1) * ROUND_BYTES as u64;
            file.write_all_at(&block, at).context("cannot write the canary file")?;
            file.sync_all().context("cannot fsync the canary file")
        })
    }
}

fn open(dir: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(libc::O_TMPFILE).mode(0o600).open(dir)
}

/// ext2, ext3 and ext4 have one magic number, and one driver since 4.3 but for ext2's own; there the
/// test says that nothing was seen.
fn is_ext(file: &File) -> Result<bool> {
    // SAFETY: statfs is plain integers, for which zeroes are valid.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and `facts` is a statfs that the call may write.
    let status = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut facts) };
    if status != 0 {
        return Err(io::Error::last_os_error()).context("cannot ask for the canary's file system");
    }
    Ok(facts.f_type == libc::EXT4_SUPER_MAGIC)
}

/// The kernel's own encoding (`MKDEV`, include/linux/kdev_t.h) of what `stat(2)` shows.
fn kernel_dev(dev: u64) -> DevId {
    DevId(libc::major(dev) << 20 | libc::minor(dev) & 0xf_ffff)
}
