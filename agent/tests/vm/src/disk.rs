//! File systems on the guest's raw disks: made, mounted, frozen, shut down, and gone again.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// `_IOWR('X', 119, int)` and `_IOWR('X', 120, int)` of linux/fs.h.
const FIFREEZE: u64 = 0xc004_5877;
const FITHAW: u64 = 0xc004_5878;
/// `_IOR('X', 125, __u32)` of fs/ext4/ext4.h, and its "do not flush the journal".
const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
const GOING_FLAGS_NOLOGFLUSH: u32 = 2;

/// A mounted file system; unmounted when dropped, if it was not before.
pub(crate) struct Mounted {
    dir: PathBuf,
    is_mounted: bool,
}

/// Makes a file system; `options` are mke2fs's, in one line.
pub(crate) fn make(device: &Path, options: &str) -> Result<()> {
    // By its path: busybox has a small one of that name.
    let output = Command::new("/sbin/mke2fs")
        .args(["-q", "-F"])
        .args(options.split_whitespace())
        .arg(device)
        .output()
        .context("cannot start mke2fs")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "mke2fs {options}: {}: {said}", output.status);
    Ok(())
}

/// Mounts it on a directory of that name under `/tmp`.
pub(crate) fn mount(device: &Path, name: &str, kind: &str, options: &str) -> Result<Mounted> {
    let dir = Path::new("/tmp").join(name);
    std::fs::create_dir_all(&dir)?;
    call_mount(Some(device), &dir, kind, 0, options)?;
    Ok(Mounted { dir, is_mounted: true })
}

impl Mounted {
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Changes the options of a mounted file system; `MS_RDONLY` or 0.
    pub(crate) fn remount(&self, flags: libc::c_ulong, options: &str) -> Result<()> {
        call_mount(None, &self.dir, "", flags | libc::MS_REMOUNT, options)
    }

    /// Lets no write through until [`Mounted::thaw`].
    pub(crate) fn freeze(&self) -> Result<()> {
        ioctl(&File::open(&self.dir)?, FIFREEZE, &mut 0_u32).context("cannot freeze")
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        ioctl(&File::open(&self.dir)?, FITHAW, &mut 0_u32).context("cannot thaw")
    }

    /// From here on everything fails, without a last flush.
    pub(crate) fn shut_down(&self) -> Result<()> {
        let mut flags = GOING_FLAGS_NOLOGFLUSH;
        ioctl(&File::open(&self.dir)?, EXT4_IOC_SHUTDOWN, &mut flags).context("cannot shut down")
    }

    pub(crate) fn unmount(mut self) -> Result<()> {
        self.is_mounted = false;
        call_unmount(&self.dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted
            && let Err(error) = call_unmount(&self.dir)
        {
            eprintln!("{error:#}");
        }
    }
}

/// An ioctl that takes a pointer to plain data.
pub(crate) fn ioctl<T>(file: &File, request: u64, argument: &mut T) -> Result<()> {
    let pointer = std::ptr::from_mut(argument);
    // SAFETY: every caller passes the structure that the request is defined for, alive and writable
    // through the call.
    let status = unsafe { libc::ioctl(file.as_raw_fd(), request as libc::Ioctl, pointer) };
    ensure!(status >= 0, "ioctl {request:#x}: {}", io::Error::last_os_error());
    Ok(())
}

fn call_mount(
    device: Option<&Path>,
    dir: &Path,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> Result<()> {
    let source = CString::new(device.unwrap_or(Path::new("none")).to_string_lossy().as_bytes())?;
    let target = CString::new(dir.to_string_lossy().as_bytes())?;
    let (kind, data) = (CString::new(kind)?, CString::new(options)?);
    // SAFETY: all four strings are NUL-terminated and live through the call.
    let status = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast())
    };
    let error = io::Error::last_os_error();
    ensure!(status == 0, "cannot mount {source:?} with flags {flags:#x}, {options:?}: {error}");
    Ok(())
}

fn call_unmount(dir: &Path) -> Result<()> {
    let target = CString::new(dir.to_string_lossy().as_bytes())?;
    // SAFETY: the string is NUL-terminated and lives through the call.
    let status = unsafe { libc::umount(target.as_ptr()) };
    let error = io::Error::last_os_error();
    ensure!(status == 0, "cannot unmount {}: {error}", dir.display());
    Ok(())
}
