//! A host that is a directory which looks like `/proc` and `/sys`, for the tests of what is read there.

use std::{
    fs,
    path::{Path, PathBuf},
};

use endiod::host::Host;

pub(crate) struct FakeHost {
    root: PathBuf,
}

impl FakeHost {
    /// A host of that release whose process has every capability; nothing else is there.
    pub(crate) fn new(name: &str, release: &str) -> Self {
        let root = std::env::temp_dir().join(format!("endiod-fake-{name}-{}", std::process::id()));
        let fake = FakeHost { root };
        fake.write("proc/sys/kernel/osrelease", release);
        fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t000001ffffffffff\n");
        fake
    }

    /// Writes a file of the host.
    pub(crate) fn write(&self, path: &str, contents: impl AsRef<[u8]>) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
            .expect("the temporary directory is ours");
        fs::write(path, contents).expect("the temporary directory is ours");
    }

    /// The host.
    pub(crate) fn host(&self) -> Host {
        Host::at(&self.root)
    }
}

impl Drop for FakeHost {
    fn drop(&mut self) {
        // A directory that stays behind in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.root);
    }
}
