//! A root of Debian 12 for guests, with systemd as its first process: the disk image that they boot from.
//!
//! Its packages are configured as on any machine, by their own scripts, in a root of their own; that takes
//! root here, and nothing outside of that root is touched. Nothing is started there, for no systemd runs.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{guest, install, is_root};
use crate::{
    archive::{self, Archive, Release},
    command::{output, remove_dir_all},
    workspace::Workspace,
};

const RECIPE: &str = "root 1";

/// What every Debian has, by apt's own pattern, and what makes it boot.
const PACKAGES: &[&str] = &["?essential", "usr-is-merged", "systemd-sysv", "e2fsprogs"];

/// Directories that are one with those below /usr.
const MERGED: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// Units that guests do without: log-ins, which wait for devices that nothing announces here or for a bus,
/// and what would reach for the network or for volumes from time to time.
const MASKED: &[&str] =
    &["getty.target", "systemd-logind.service", "timers.target", "e2scrub_reap.service"];

/// A guest's journal goes with it.
const JOURNAL: &str = "[Journal]\nStorage=volatile\n";

/// Room for what guests install; the image is sparse.
const BYTES: u64 = 1 << 30;

/// The image, built if it is missing.
pub(super) fn ensure(workspace: &Workspace) -> Result<PathBuf> {
    let guest = guest::ensure(workspace)?;
    let dir = workspace.store().join("debian");
    install(&dir, RECIPE, "Debian root of guests", |into| {
        ensure!(
            is_root(),
            "only root can unpack a Debian root for guests; once, as root: cargo xtask vm --root debian -- true"
        );
        let tree = into.join("tree");
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let debs = archive.download(&archive.closure(PACKAGES, false)?, &into.join("debs"))?;
        prepare(&tree, &debs)?;
        let dpkg = |arguments: &[&str], debs: &[PathBuf]| {
            let mut dpkg = Command::new("dpkg");
            dpkg.arg("--root").arg(&tree).arg("--force-unsafe-io").args(arguments).args(debs);
            dpkg.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
            output(dpkg.env("DEBIAN_FRONTEND", "noninteractive"))
        };
        // In whatever order: all that their scripts may call is there.
        dpkg(&["--force-depends", "--unpack"], &debs)?;
        dpkg(&["--configure", "--pending"], &[])?;
        settle(&tree)?;
        let image = image(into);
        File::create(&image)?.set_len(BYTES)?;
        output(
            guest
                .mke2fs()
                .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-d"])
                .arg(&tree)
                .arg(&image),
        )?;
        remove_dir_all(&tree)?;
        remove_dir_all(&into.join("debs"))?;
        Ok(archive::versions(&debs))
    })?;
    Ok(image(&dir))
}

fn image(dir: &Path) -> PathBuf {
    dir.join("root.img")
}

/// Unpacks everything, so that the packages' scripts find what they call.
fn prepare(tree: &Path, debs: &[PathBuf]) -> Result<()> {
    for dir in MERGED {
        fs::create_dir_all(tree.join("usr").join(dir))?;
        symlink(Path::new("usr").join(dir), tree.join(dir))?;
    }
    for deb in debs {
        let mut read = Command::new("dpkg-deb");
        read.arg("--fsys-tarfile").arg(deb).stdout(Stdio::piped());
        let mut read = read.spawn().context("cannot start dpkg-deb")?;
        let files = read.stdout.take().context("dpkg-deb has no output")?;
        // dpkg-deb itself would put directories in the place of the links.
        let mut unpack = Command::new("tar");
        unpack.args(["--extract", "--keep-directory-symlink", "--directory"]).arg(tree);
        let unpacked = unpack.stdin(files).status().context("cannot start tar")?;
        if !(unpacked.success() && read.wait()?.success()) {
            bail!("cannot unpack {}", deb.display());
        }
    }
    Ok(())
}

/// What guests need to boot fast and alone.
fn settle(tree: &Path) -> Result<()> {
    for unit in MASKED {
        symlink("/dev/null", tree.join("etc/systemd/system").join(unit))?;
    }
    // All of them run whenever units are read again, seconds under emulation, and none has a say here.
    let generators = tree.join("etc/systemd/system-generators");
    fs::create_dir_all(&generators)?;
    for generator in fs::read_dir(tree.join("usr/lib/systemd/system-generators"))? {
        symlink("/dev/null", generators.join(generator?.file_name()))?;
    }
    let journal = tree.join("etc/systemd/journald.conf.d");
    fs::create_dir_all(&journal)?;
    fs::write(journal.join("guest.conf"), JOURNAL)?;
    fs::write(tree.join("etc/hosts"), "127.0.0.1 localhost\n")?;
    // Without devices there, what scripts threw away is in files.
    remove_dir_all(&tree.join("dev"))?;
    fs::create_dir(tree.join("dev"))?;
    Ok(())
}
