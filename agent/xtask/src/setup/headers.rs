//! A kernel's headers and kbuild, unpacked, with the paths in them set to where they are: what a
//! module for this very kernel is built against.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{install, toolbox, toolbox::Toolbox};
use crate::{archive::Archive, command::output, kernels::Kernel, workspace::Workspace};

#[derive(Clone, Debug)]
pub(crate) struct Headers {
    root: PathBuf,
    release: String,
    pub(super) toolbox: Toolbox,
}

pub(super) fn ensure(workspace: &Workspace, kernel: &Kernel, release: &str) -> Result<Headers> {
    let toolbox = toolbox::ensure(workspace, kernel.release)?;
    let root = workspace.store().join("headers").join(kernel.name);
    let recipe = format!("headers 2 of {release} in {}", root.display());
    install(&root, &recipe, &format!("headers of kernel {}", kernel.name), |into| {
        let archive = Archive::open(workspace, kernel.release)?;
        let versions = archive.unpack(&packages(&archive, release)?, into)?;
        toolbox.wrap(into, &root)?;
        let makefile = build_dir(into, release).join("Makefile");
        let text = fs::read_to_string(&makefile)
            .with_context(|| format!("cannot read {}", makefile.display()))?;
        fs::write(&makefile, at(&root, &text)).context("cannot write the headers' Makefile")?;
        Ok(versions)
    })?;
    Ok(Headers { root, release: release.to_owned(), toolbox })
}

impl Headers {
    /// The kernel's types, for modules and for us: Debian has them with the headers from 6.12 on.
    pub(crate) fn btf(&self) -> PathBuf {
        build_dir(&self.root, &self.release).join("vmlinux")
    }

    /// The types of ext4 where it is a module.
    pub(crate) fn ext4_btf(&self) -> PathBuf {
        self.root.join("ext4.btf")
    }

    /// The kernel's release, as `uname -r` says it.
    pub(crate) fn release(&self) -> &str {
        &self.release
    }

    /// Builds the module in a directory, BTF included, and strips what only debuggers read.
    pub(super) fn build(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        let mut make = self.toolbox.command("make");
        make.arg("-C").arg(build_dir(&self.root, &self.release));
        make.arg(format!("M={}", dir.display())).arg("modules");
        let resolver = self.resolver();
        if !resolver.exists() {
            // 6.1's packages lack it, and our modules have no BTF ids that it would resolve.
            make.arg("RESOLVE_BTFIDS=true");
        }
        output(&mut make)?;
        let module = dir.join(format!("{name}.ko"));
        output(self.toolbox.command("strip").arg("-g").arg(&module))?;
        Ok(module)
    }

    fn resolver(&self) -> PathBuf {
        build_dir(&self.root, &self.release).join("tools/bpf/resolve_btfids/resolve_btfids")
    }
}

fn build_dir(root: &Path, release: &str) -> PathBuf {
    root.join(format!("usr/src/linux-headers-{release}"))
}

/// The headers, what they share with the other flavours of this kernel, and kbuild. (They may depend
/// on the kernel and its compiler too, which we have.)
fn packages(archive: &Archive, release: &str) -> Result<Vec<String>> {
    let headers = format!("linux-headers-{release}");
    let depends = archive.depends(&headers)?;
    let is_part = |name: &String| {
        name.starts_with("linux-kbuild-")
            || name.starts_with("linux-headers-") && name.ends_with("-common")
    };
    Ok(std::iter::once(headers).chain(depends.into_iter().filter(is_part)).collect())
}

/// The text with the packages' absolute paths moved below a directory.
fn at(root: &Path, text: &str) -> String {
    text.replace("/usr/src/", &format!("{}/usr/src/", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_makefile_includes_the_unpacked_one() {
        let text = "KBUILD_OUTPUT=/usr/src/a\ninclude /usr/src/b/Makefile\n";
        let moved = "KBUILD_OUTPUT=/x/h/usr/src/a\ninclude /x/h/usr/src/b/Makefile\n";
        assert_eq!(at(Path::new("/x/h"), text), moved);
    }
}
