//! Findings on disk: the slice of the stream around each, and the finding itself, in one directory
//! bounded by count and bytes.
//!
//! ```text
//!   .NAME.partial ──write, fsync──► rename ──► NAME          whole or not there, at any moment
//!   oldest first ──► removed until count and bytes are within their bounds
//! ```
//!
//! Files are 0600 in a directory of 0700: they hold kernel addresses. A disk that is full, a
//! directory that is gone or a process that is killed costs the file that was being written and
//! nothing else. This module must never touch a file that it did not name. What is kept is read by
//! [`shelf`].

pub mod shelf;

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Extension of a recording.
pub const RECORDING: &str = "endiod";
/// Extension of a finding.
pub const FINDING: &str = "json";
/// What files of findings are called before their id.
const FINDING_PREFIX: &str = "finding-";
/// What a file is called until it is whole.
const PARTIAL: &str = "partial";

/// Bounds of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Files.
    pub files_max: usize,
    /// Bytes of all files together.
    pub bytes_max: u64,
}

/// What the files of a finding are called, before their extensions.
pub fn finding_name(id: &str) -> String {
    format!("{FINDING_PREFIX}{id}")
}

/// Why a file is not there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be used.
    #[error("cannot use the directory {dir} for findings: {source}")]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file could not be written; nothing of it is left.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// A directory of findings.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    bounds: Bounds,
}

impl Store {
    /// Uses `dir`, made if it is missing; what an earlier process left half written is removed.
    ///
    /// # Errors
    /// The directory cannot be made or listed.
    pub fn open(dir: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        let store = Store { dir: dir.to_owned(), bounds };
        store.make_dir()?;
        for path in store.files(|extension| extension == PARTIAL)? {
            // One that cannot be removed is overwritten or stays: it never counts as a file.
            let _ = fs::remove_file(path);
        }
        Ok(store)
    }

    /// Other bounds, from the next file on.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Writes `NAME.EXTENSION` as `write` fills it, then brings the directory within its bounds.
    ///
    /// # Errors
    /// Why it could not be written; files that were there are still whole.
    pub fn save(
        &self,
        name: &str,
        extension: &str,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<PathBuf, StoreError> {
        // It may have been removed since.
        self.make_dir()?;
        let path = self.dir.join(format!("{name}.{extension}"));
        let partial = self.dir.join(format!(".{name}.{extension}.{PARTIAL}"));
        let written = write_whole(&partial, &path, write);
        if let Err(source) = written {
            // Best effort: the next `open` removes it too.
            let _ = fs::remove_file(&partial);
            return Err(StoreError::Write { path, source });
        }
        self.prune(&path)?;
        Ok(path)
    }

    fn make_dir(&self) -> Result<(), StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| self.directory(source))
    }

    fn directory(&self, source: io::Error) -> StoreError {
        StoreError::Directory { dir: self.dir.clone(), source }
    }

    /// Files of ours whose extension is wanted.
    fn files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, StoreError> {
        let entries = fs::read_dir(&self.dir).map_err(|source| self.directory(source))?;
        let of_ours = |path: &PathBuf| {
            path.extension().and_then(|extension| extension.to_str()).is_some_and(&wanted)
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(of_ours).collect())
    }

    /// Removes the oldest files until the bounds hold; `newest` stays, whatever its size.
    fn prune(&self, newest: &Path) -> Result<(), StoreError> {
        let paths = self.files(|extension| extension == RECORDING || extension == FINDING)?;
        let mut files: Vec<(SystemTime, u64, PathBuf)> = paths
            .into_iter()
            .filter_map(|path| {
                let meta = fs::metadata(&path).ok()?;
                Some((meta.modified().ok()?, meta.len(), path))
            })
            .collect();
        files.sort();
        let mut count = files.len();
        let mut bytes: u64 = files.iter().map(|(_, len, _)| len).sum();
        for (_, len, path) in files {
            if count <= self.bounds.files_max && bytes <= self.bounds.bytes_max {
                break;
            }
            if path == newest || fs::remove_file(&path).is_err() {
                continue;
            }
            count -= 1;
            bytes -= len;
        }
        Ok(())
    }
}

fn write_whole(
    partial: &Path,
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(partial)?;
    write(&mut file)?;
    file.sync_all()?;
    fs::rename(partial, path)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Self {
            Dir(std::env::temp_dir().join(format!("endiod-store-{name}-{}", std::process::id())))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const WIDE: Bounds = Bounds { files_max: 100, bytes_max: 1 << 20 };

    fn save(store: &Store, name: &str, bytes: &[u8]) -> Result<PathBuf, StoreError> {
        store.save(name, RECORDING, |file| file.write_all(bytes))
    }

    #[test]
    fn files_are_private_and_whole() {
        let dir = Dir::new("private");
        let store = Store::open(&dir.0, WIDE).unwrap();
        let path = save(&store, "a", b"all of it").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"all of it");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir.0).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(dir.names(), ["a.endiod"]);
    }

    #[test]
    fn a_failed_write_leaves_what_was_there_and_nothing_else() {
        let dir = Dir::new("failed");
        let store = Store::open(&dir.0, WIDE).unwrap();
        save(&store, "a", b"first").unwrap();
        let error = store
            .save("a", RECORDING, |file| {
                file.write_all(b"half of the sec")?;
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            })
            .unwrap_err();
        assert!(error.to_string().contains("a.endiod"), "{error}");
        assert_eq!(fs::read(dir.0.join("a.endiod")).unwrap(), b"first");
        assert_eq!(dir.names(), ["a.endiod"]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_whole_files_stay() {
        let dir = Dir::new("killed");
        save(&Store::open(&dir.0, WIDE).unwrap(), "a", b"whole").unwrap();
        fs::write(dir.0.join(".b.endiod.partial"), b"hal").unwrap();
        fs::write(dir.0.join("notes.txt"), b"not ours").unwrap();
        Store::open(&dir.0, WIDE).unwrap();
        assert_eq!(dir.names(), ["a.endiod", "notes.txt"]);
    }

    #[test]
    fn a_directory_that_went_away_is_made_again() {
        let dir = Dir::new("gone");
        let store = Store::open(&dir.0, WIDE).unwrap();
        fs::remove_dir_all(&dir.0).unwrap();
        save(&store, "a", b"x").unwrap();
        assert_eq!(dir.names(), ["a.endiod"]);
    }

    #[test]
    fn a_directory_that_is_a_file_is_named() {
        let dir = Dir::new("file");
        fs::write(&dir.0, b"").unwrap();
        let error = Store::open(&dir.0, WIDE).unwrap_err();
        assert!(error.to_string().contains("endiod-store-file"), "{error}");
        fs::remove_file(&dir.0).unwrap();
    }

    #[test]
    fn the_oldest_go_first_and_others_files_are_left_alone() {
        let dir = Dir::new("bounds");
        let bounds = Bounds { files_max: 3, bytes_max: 25 };
        let store = Store::open(&dir.0, bounds).unwrap();
        fs::write(dir.0.join("notes.txt"), [0; 100]).unwrap();
        let mut age = SystemTime::now() - std::time::Duration::from_secs(100);
        for name in ["a", "b", "c", "d"] {
            let path = save(&store, name, &[0; 5]).unwrap();
            age += std::time::Duration::from_secs(1);
            File::options().write(true).open(path).unwrap().set_modified(age).unwrap();
        }
        assert_eq!(dir.names(), ["b.endiod", "c.endiod", "d.endiod", "notes.txt"]);
        save(&store, "e", &[0; 18]).unwrap();
        assert_eq!(dir.names(), ["d.endiod", "e.endiod", "notes.txt"]);
        save(&store, "f", &[0; 99]).unwrap();
        assert_eq!(dir.names(), ["f.endiod", "notes.txt"]);
    }
}
