//! The guest's disks, sparse files that live as long as the run:
//!
//! ```text
//! vda  1 GiB    ext4, 4 KiB blocks, on /mnt
//! vdb–vdd  256 MiB each, raw
//! vde  256 MiB  FAT, on /out: not of the file systems that are watched, and mounted so that what
//!               was written is on it even if the guest never gets to unmount it
//! vdf      a Debian root, if that is asked for: the image of the set-up, to which nothing of what the
//!          guest writes comes
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{command::output, setup::GuestFiles};

const MIB: u64 = 1 << 20;
const EXT4_BYTES: u64 = 1024 * MIB;
const RAW_BYTES: u64 = 256 * MIB;
/// Raw disks beside the ext4 one.
const RAW: &[&str] = &["vdb", "vdc", "vdd"];
const OUT: &str = "vde";
const ROOT: &str = "vdf";

#[derive(Debug)]
pub(super) struct Disks {
    dir: PathBuf,
    /// The image of a Debian root.
    root: Option<PathBuf>,
}

/// A disk as QEMU is to show it.
#[derive(Debug)]
pub(super) struct Drive {
    /// In the guest.
    pub(super) name: &'static str,
    pub(super) file: PathBuf,
    /// Whether the file stays as it is and what the guest writes is thrown away.
    pub(super) is_snapshot: bool,
}

impl Disks {
    /// Makes them anew, also where an earlier attempt of this run left some.
    pub(super) fn create(
        dir: &Path,
        guest: &GuestFiles,
        mkfs: Option<&str>,
        root: Option<&Path>,
    ) -> Result<Self> {
        let disks = Self { dir: dir.to_owned(), root: root.map(Path::to_owned) };
        for name in RAW {
            disks.sparse(name, RAW_BYTES)?;
        }
        disks.sparse("vda", EXT4_BYTES)?;
        let mut command = guest.mke2fs();
        command.args(["-q", "-F"]).args(mkfs_options(mkfs)).arg(disks.path("vda"));
        output(&mut command).context("cannot make the ext4 of /dev/vda")?;
        let out = disks.sparse(OUT, RAW_BYTES)?;
        fatfs::format_volume(out, fatfs::FormatVolumeOptions::new())
            .context("cannot make the FAT of /out")?;
        Ok(disks)
    }

    /// In the guest's order.
    pub(super) fn list(&self) -> Vec<Drive> {
        let names = std::iter::once("vda").chain(RAW.iter().copied()).chain([OUT]);
        let ours = names.map(|name| Drive { name, file: self.path(name), is_snapshot: false });
        let root = self.root.iter().cloned();
        let root = root.map(|file| Drive { name: ROOT, file, is_snapshot: true });
        ours.chain(root).collect()
    }

    /// Copies what is on /out into a directory of this machine.
    pub(super) fn copy_out(&self, into: &Path) -> Result<()> {
        let path = self.path(OUT);
        let image = OpenOptions::new().read(true).write(true).open(&path);
        let image = image.with_context(|| format!("cannot open {}", path.display()))?;
        let volume = fatfs::FileSystem::new(image, fatfs::FsOptions::new())
            .context("cannot read the guest's /out")?;
        copy_dir(&volume.root_dir(), into)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.img"))
    }

    fn sparse(&self, name: &str, bytes: u64) -> Result<File> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&path);
        let file = file.with_context(|| format!("cannot create {}", path.display()))?;
        file.set_len(bytes).with_context(|| format!("cannot size {}", path.display()))?;
        Ok(file)
    }
}

/// The caller's options, after ours for what they do not set. Without 4 KiB blocks nothing is
/// ever deferred; without lazy initialisation the guest's disk is quiet when the command begins.
fn mkfs_options(options: Option<&str>) -> Vec<String> {
    let theirs: Vec<&str> = options.unwrap_or_default().split_whitespace().collect();
    let sets = |flag: &str| theirs.iter().any(|word| word.starts_with(flag));
    let mut all = Vec::new();
    if !sets("-t") {
        all.extend(["-t", "ext4"]);
    }
    if !sets("-b") {
        all.extend(["-b", "4096"]);
    }
    if !sets("-E") {
        all.extend(["-E", "lazy_itable_init=0,lazy_journal_init=0"]);
    }
    all.into_iter().chain(theirs).map(str::to_owned).collect()
}

type FatDir<'a> = fatfs::Dir<'a, File>;

fn copy_dir(dir: &FatDir<'_>, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
    for entry in dir.iter() {
        let entry = entry.context("cannot list the guest's /out")?;
        let name = entry.file_name();
        if name == "." || name == ".." {
            continue;
        }
        // A name comes from the guest: it must not lead out of the directory.
        if name.contains('/') {
            bail!("a file in the guest's /out is named `{name}`");
        }
        let path = into.join(&name);
        if entry.is_dir() {
            copy_dir(&entry.to_dir(), &path)?;
            continue;
        }
        let mut content = Vec::new();
        let mut file = entry.to_file();
        // A guest that was killed may leave a chain that ends early: keep what is there.
        if let Err(error) = file.read_to_end(&mut content) {
            eprintln!("vm: {name} of the guest's /out is cut short: {error}");
        }
        let written = File::create(&path).and_then(|mut file| file.write_all(&content));
        written.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(options: Option<&str>, expected: &str) {
        assert_eq!(mkfs_options(options).join(" "), expected);
    }

    #[test]
    fn options_of_the_caller_replace_ours() {
        check(None, "-t ext4 -b 4096 -E lazy_itable_init=0,lazy_journal_init=0");
        check(Some("-b 1024"), "-t ext4 -E lazy_itable_init=0,lazy_journal_init=0 -b 1024");
        check(
            Some("-O ^has_journal"),
            "-t ext4 -b 4096 -E lazy_itable_init=0,lazy_journal_init=0 -O ^has_journal",
        );
        check(Some("-t ext3 -E stride=2 -b4096"), "-t ext3 -E stride=2 -b4096");
    }

    #[test]
    fn files_and_directories_of_a_volume_come_back() {
        let dir = std::env::temp_dir().join(format!("xtask-disks-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let disks = Disks { dir: dir.clone(), root: None };
        let out = disks.sparse(OUT, RAW_BYTES).unwrap();
        fatfs::format_volume(&out, fatfs::FormatVolumeOptions::new()).unwrap();
        {
            let volume = fatfs::FileSystem::new(&out, fatfs::FsOptions::new()).unwrap();
            let sub = volume.root_dir().create_dir("findings").unwrap();
            let mut file = sub.create_file("a long name@1.json").unwrap();
            file.write_all(&[7; 100_000]).unwrap();
        }
        disks.copy_out(&dir.join("out")).unwrap();
        let content = fs::read(dir.join("out/findings/a long name@1.json")).unwrap();
        assert_eq!(content, [7; 100_000]);
        fs::remove_dir_all(&dir).unwrap();
    }
}
