//! A browser and what drives it: Debian's Chromium without a screen, Puppeteer, and axe, which knows barriers.
//!
//! Chromium starts itself again for each of its processes, so it is started by a script, which has the loader
//! and its own name in it: where it lies is part of its recipe.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{debian, install, lock, node};
use crate::{command::shell_word, workspace::Workspace};

const PACKAGES: [&str; 2] = ["puppeteer-core@25.16.0", "axe-core@4.14.1"];
/// The script.
const CHROMIUM: &str = "chromium";
/// Which fonts there are: its own.
const FONTS: &str = "fonts.conf";

#[derive(Clone, Debug)]
pub(crate) struct Browser {
    root: PathBuf,
}

/// Fetched if it is missing.
pub(crate) fn browser(workspace: &Workspace) -> Result<Browser> {
    let programs = debian::programs(workspace, &debian::CHROMIUM)?;
    let _lock = lock(workspace)?;
    let root = workspace.store().join("browser");
    let recipe = format!("browser 1 in {}", root.display());
    install(&root, &recipe, "what drives the browser", |into| {
        let versions = node::install(workspace, &PACKAGES, into)?;
        let write = |name: &str, text: String| {
            let file = into.join(name);
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
            let mode = Permissions::from_mode(0o755);
            fs::set_permissions(&file, mode).context("cannot make a script of it")
        };
        write(FONTS, fonts(&programs, &root))?;
        write(CHROMIUM, script(&programs, &root))?;
        Ok(versions)
    })?;
    Ok(Browser { root })
}

impl Browser {
    /// Runs a script of node's with the browser and the packages as its arguments.
    pub(crate) fn drive(&self, script: &Path, url: &str, out: &Path) -> Command {
        let mut command = Command::new(node::program(&self.root));
        command.arg(script).arg(url).arg(self.root.join(CHROMIUM)).arg(&self.root).arg(out);
        // Whatever it wants to keep it keeps there.
        command.env("HOME", out);
        command
    }
}

fn script(programs: &Path, root: &Path) -> String {
    let word = |path: &Path| shell_word(&path.to_string_lossy());
    format!(
        "#!/bin/sh\nexport FONTCONFIG_FILE={}\nexec {} --library-path {} {} \
         --browser-subprocess-path={} \"$@\"\n",
        word(&root.join(FONTS)),
        word(&programs.join("ld-linux-x86-64.so.2")),
        word(programs),
        word(&programs.join("chromium-headless-shell")),
        word(&root.join(CHROMIUM)),
    )
}

fn fonts(programs: &Path, root: &Path) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE fontconfig SYSTEM \"fonts.dtd\">\n<fontconfig>\n\
         <dir>{}</dir>\n<cachedir>{}</cachedir>\n</fontconfig>\n",
        programs.display(),
        root.join("fonts-cache").display(),
    )
}
