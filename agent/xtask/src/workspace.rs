//! Where things are: the workspace and, in it, everything that set-up fetches.

use std::path::{Path, PathBuf};

#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The workspace this program was built from, wherever it is run.
    pub(crate) fn find() -> Self {
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package.ancestors().nth(2).unwrap_or(&package).to_owned();
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that set-up fetches; may be deleted at any time.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("target/endiod")
    }

    /// Target directory of the static binaries, apart so that the two kinds of build do not
    /// invalidate each other.
    pub(crate) fn static_target(&self) -> PathBuf {
        self.store().join("build")
    }
}
