//! Findings on disk, read: which there are, what each says, and which slice goes with it.
//!
//! Only names that a [`FindingId`] makes are opened, so that no request reaches another file. A file
//! that is no finding, or too large for one, is passed over: it never makes the others unreadable.

use std::{
    cmp::Reverse,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::{FINDING, FINDING_PREFIX, RECORDING, finding_name};

/// Files of the directory that are looked at: twenty times as many as are kept unless somebody says
/// otherwise.
pub const FILES_SEEN_MAX: usize = 4_096;
/// Bytes of a finding that are read: it has ten steps and four waiters, 4 KiB.
pub const FINDING_BYTES_MAX: u64 = 64 << 10;

/// The id of a finding: 16 lower-case hexadecimal digits and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingId(String);

impl FindingId {
    /// `None` for what no finding is called.
    pub fn parse(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        (text.len() == 16 && text.bytes().all(is_digit)).then(|| FindingId(text.to_owned()))
    }

    /// Its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn of_file(path: &Path) -> Option<Self> {
        if path.extension()? != FINDING {
            return None;
        }
        FindingId::parse(path.file_stem()?.to_str()?.strip_prefix(FINDING_PREFIX)?)
    }
}

/// A finding that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its id.
    pub id: FindingId,
    /// When it was written.
    pub written: SystemTime,
}

/// The slice of the stream around a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The recording.
    pub path: PathBuf,
    /// When it was written.
    pub written: SystemTime,
}

/// A directory of findings, to be read.
#[derive(Clone, Debug)]
pub struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// Of that directory, which need not be there.
    pub fn new(dir: &Path) -> Self {
        Shelf { dir: dir.to_owned() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The findings, newest first, of the first [`FILES_SEEN_MAX`] files.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn findings(&self) -> io::Result<Vec<Kept>> {
        let mut kept: Vec<Kept> = self
            .files()?
            .into_iter()
            .filter_map(|(path, written)| Some(Kept { id: FindingId::of_file(&path)?, written }))
            .collect();
        kept.sort_by_key(|it| Reverse((it.written, it.id.0.clone())));
        Ok(kept)
    }

    /// What a finding says, as JSON.
    ///
    /// # Errors
    /// It is not there, cannot be read, or is too large for a finding.
    pub fn finding(&self, id: &FindingId) -> io::Result<Vec<u8>> {
        let mut json = Vec::new();
        File::open(self.file(id, FINDING))?.take(FINDING_BYTES_MAX + 1).read_to_end(&mut json)?;
        if json.len() as u64 > FINDING_BYTES_MAX {
            return Err(io::Error::other("it is too large for a finding"));
        }
        Ok(json)
    }

    /// The slice of a finding: its own, else the first that was written after it, for findings of one
    /// second share one. Whether that holds the finding a replay tells.
    pub fn slice(&self, id: &FindingId) -> Option<Slice> {
        let written = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let own = self.file(id, RECORDING);
        if let Some(written) = written(&own) {
            return Some(Slice { path: own, written });
        }
        let since = written(&self.file(id, FINDING))?;
        let recordings = self.files().ok()?.into_iter().filter(|(path, written)| {
            *written >= since && path.extension().is_some_and(|it| it == RECORDING)
        });
        let (path, written) = recordings.min_by_key(|(_, written)| *written)?;
        Some(Slice { path, written })
    }

    fn file(&self, id: &FindingId, extension: &str) -> PathBuf {
        self.dir.join(format!("{}.{extension}", finding_name(&id.0)))
    }

    /// Regular files of ours, and when each was written.
    fn files(&self) -> io::Result<Vec<(PathBuf, SystemTime)>> {
        let of_entry = |entry: fs::DirEntry| {
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let path = entry.path();
            path.file_name()?.to_str()?.starts_with(FINDING_PREFIX).then_some(())?;
            Some((path, meta.modified().ok()?))
        };
        let entries = fs::read_dir(&self.dir)?.take(FILES_SEEN_MAX).flatten();
        Ok(entries.filter_map(of_entry).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_id_is_sixteen_lower_case_digits_and_no_path() {
        assert!(FindingId::parse("00f1a5c0ffee0042").is_some());
        for wrong in [
            "",
            "00f1a5c0ffee004",
            "00f1a5c0ffee00420",
            "00F1A5C0FFEE0042",
            "../../etc/passwd",
            "..............//",
            "00f1a5c0ffee004\0",
            "00f1a5c0ffee004\n",
            "٠٠٠٠٠٠٠٠",
        ] {
            assert_eq!(FindingId::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn findings_come_newest_first_and_one_without_a_slice_takes_the_next() {
        let dir = std::env::temp_dir().join(format!("endiod-shelf-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let start = SystemTime::now() - Duration::from_secs(100);
        for (second, name, bytes) in [
            (0, "finding-0000000000000001.json", 10),
            (1, "finding-0000000000000001.endiod", 10),
            (2, "finding-0000000000000002.json", 10),
            (3, "finding-0000000000000003.json", 10),
            (4, "finding-0000000000000002.endiod", 10),
            (5, "finding-0000000000000004.json", FINDING_BYTES_MAX + 1),
            (6, "finding-XYZ.json", 10),
            (7, "notes.endiod", 10),
        ] {
            let path = dir.join(name);
            fs::write(&path, vec![b' '; usize::try_from(bytes).unwrap()]).unwrap();
            let written = start + Duration::from_secs(second);
            File::options().write(true).open(path).unwrap().set_modified(written).unwrap();
        }
        let shelf = Shelf::new(&dir);
        let ids: Vec<_> = shelf.findings().unwrap().into_iter().map(|kept| kept.id).collect();
        let [four, three, two, one] = &ids[..] else { panic!("{ids:?}") };
        let slice = |id| shelf.slice(id).map(|slice| slice.path);
        assert_eq!(slice(one), Some(dir.join("finding-0000000000000001.endiod")));
        assert_eq!(slice(two), Some(dir.join("finding-0000000000000002.endiod")));
        assert_eq!(slice(three), slice(two));
        assert_eq!(slice(four), None);
        assert_eq!(shelf.finding(one).unwrap().len(), 10);
        assert!(shelf.finding(four).is_err());
        fs::remove_dir_all(&dir).unwrap();
        assert!(shelf.findings().is_err());
    }
}
