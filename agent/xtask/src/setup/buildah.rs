//! Debian's builder of containers, in a root of its own: it starts itself anew by name, so a loader beside it
//! will not do. That root is entered by a user name space, which takes no privileges.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{install, lock};
use crate::{
    archive::{Archive, Release},
    command::{output, remove_dir_all},
    workspace::Workspace,
};

const RECIPE: &str = "buildah 1";
/// What of its root is ours: removed when a build is over.
const DESK: &str = "desk";

/// The builder's root.
#[derive(Clone, Debug)]
pub(crate) struct Buildah {
    root: PathBuf,
}

/// Fetched if it is missing.
pub(crate) fn buildah(workspace: &Workspace) -> Result<Buildah> {
    let _lock = lock(workspace)?;
    let root = workspace.store().join("buildah");
    install(&root, RECIPE, "builder of containers", |into| {
        let archive = Archive::open(workspace, Release::Bookworm)?;
        let versions = archive.unpack(&archive.closure(&["buildah"], false)?, into)?;
        // What no package brings, and no script of one has made: it looks up who it is.
        fs::create_dir(into.join("proc"))?;
        fs::write(into.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
        fs::write(into.join("etc/group"), "root:x:0:\n")?;
        Ok(versions)
    })?;
    Ok(Buildah { root })
}

impl Buildah {
    /// Builds by a recipe from a directory, without network, and leaves the image as a directory in the
    /// format of the Open Container Initiative.
    pub(crate) fn build(&self, recipe: &Path, context: &Path, into: &Path) -> Result<()> {
        let desk = self.root.join(DESK);
        remove_dir_all(&desk)?;
        for dir in ["context", "tmp"] {
            fs::create_dir_all(desk.join(dir)).context("cannot make room for the builder")?;
        }
        output(Command::new("cp").arg("-r").arg(context.join(".")).arg(desk.join("context")))?;
        fs::copy(recipe, desk.join("recipe")).context("cannot copy the recipe")?;
        let mut build = Command::new("unshare");
        build.args(["--map-root-user", "--net", "--pid", "--fork", "--mount", "--mount-proc"]);
        build.arg("--root").arg(&self.root).arg("/usr/bin/buildah");
        build.args([
            "--storage-driver",
            "vfs",
            "--root",
            "/desk/storage",
            "--runroot",
            "/desk/run",
        ]);
        build.args(["build", "--isolation", "chroot", "--file", "/desk/recipe"]);
        build.args(["--tag", "oci:/desk/image", "/desk/context"]);
        build.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", "/desk");
        output(build.env("TMPDIR", "/desk/tmp"))?;
        remove_dir_all(into)?;
        fs::rename(desk.join("image"), into).context("the builder left no image")?;
        remove_dir_all(&desk)
    }
}
