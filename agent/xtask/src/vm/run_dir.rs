//! The directory of one run: disks, initramfs, logs. It goes when the run's outcome goes; what a
//! killed run left is removed by the next one.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use crate::workspace::Workspace;

#[derive(Debug)]
pub(super) struct RunDir(PathBuf);

impl RunDir {
    /// `<kernel>.<number>.<process>`.
    pub(super) fn create(workspace: &Workspace, kernel: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let runs = workspace.store().join("runs");
        remove_abandoned(&runs);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = runs.join(format!("{kernel}.{number}.{}", process::id()));
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self(dir))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        // Best effort: the next run tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove_abandoned(runs: &Path) {
    let Ok(entries) = fs::read_dir(runs) else { return };
    for dir in entries.flatten().map(|entry| entry.path()) {
        let owner = dir.extension().and_then(|pid| pid.to_str());
        let is_alive = owner.is_some_and(|pid| Path::new("/proc").join(pid).exists());
        if !is_alive {
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
