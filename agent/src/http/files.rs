//! The files that a web configuration is made of, and whether one has changed since it was read.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Largest file: a bundle of authorities has a quarter of it.
const BYTES_MAX: u64 = 1 << 20;
/// Files at most: the configuration, a certificate, its key, authorities.
const FILES_MAX: usize = 4;

/// What tells two versions of a file apart: device, inode, size, and both times in ns. `None`: there is none.
type Stamp = Option<(u64, u64, u64, [i64; 4])>;

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(PathBuf, Stamp)>);

impl Files {
    /// Reads a file, and remembers which.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        assert!(self.0.len() < FILES_MAX, "a configuration has no more files");
        // Before it is read: what is written meanwhile is a change.
        self.0.push((path.to_owned(), stamp(path)));
        let mut bytes = Vec::new();
        File::open(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(io::Error::other(format!("it has more than {BYTES_MAX} bytes")));
        }
        Ok(bytes)
    }

    /// Whether one is another than was read.
    pub(super) fn changed(&self) -> bool {
        self.0.iter().any(|(path, read)| stamp(path) != *read)
    }
}

fn stamp(path: &Path) -> Stamp {
    let meta = fs::metadata(path).ok()?;
    let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
    Some((meta.dev(), meta.ino(), meta.size(), times))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_changes_or_goes_has_changed() {
        let path = std::env::temp_dir().join(format!("endiod-files-{}", std::process::id()));
        let read = |text: Option<&str>| {
            let _ = fs::remove_file(&path);
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let mut files = Files::default();
            assert_eq!(files.read(&path).ok(), text.map(|text| text.as_bytes().to_vec()));
            files
        };
        let missing = read(None);
        assert!(!missing.changed());
        let there = read(Some("a"));
        assert!(missing.changed() && !there.changed());
        let longer = read(Some("ab"));
        assert!(there.changed());
        fs::remove_file(&path).unwrap();
        assert!(longer.changed());
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let error = Files::default().read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.contains("more than 1048576 bytes"), "{error}");
    }
}
