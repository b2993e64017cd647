//! Debian's package archive, read through apt with a configuration of our own: other releases
//! than the machine's are reached without changing what the machine installs from.
//!
//! Nothing here needs root, nothing is installed: packages are downloaded and unpacked.
//! Where the archive is comes from the machine's own sources (`sources`).

mod sources;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};

use self::sources::Mirrors;
use crate::{
    command::{output, remove_dir_all},
    progress::step,
    workspace::Workspace,
};

/// Package lists younger than this are used as they are.
const LISTS_AGE_MAX: Duration = Duration::from_secs(3600);

/// The releases of Debian that packages are taken from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Release {
    Bullseye,
    Bookworm,
    Trixie,
}

impl Release {
    /// The machine's own release, or the oldest that the tool chain is known to work from.
    pub(crate) fn of_this_machine() -> Self {
        let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = os_release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
        match codename {
            Some("trixie") => Self::Trixie,
            _ => Self::Bookworm,
        }
    }

    pub(crate) fn codename(self) -> &'static str {
        match self {
            Self::Bullseye => "bullseye",
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The suites after the release's own; bullseye's backports are closed.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Bullseye => &["bullseye-updates", "bullseye-security"],
            Self::Bookworm => &["bookworm-updates", "bookworm-security", "bookworm-backports"],
            Self::Trixie => &["trixie-updates", "trixie-security", "trixie-backports"],
        }
    }
}

/// A package that no suite of its release has any more. A verdict of its own: not a failure of
/// what was to be tested, and not a success.
#[derive(Debug)]
pub(crate) struct Gone(pub(crate) String);

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "gone from the archive: {}", self.0)
    }
}

impl std::error::Error for Gone {}

/// The architecture of this harness and of its guests, as Debian calls it.
const AMD64: &str = "amd64";

/// The archive of one release, its lists read.
#[derive(Debug)]
pub(crate) struct Archive {
    release: Release,
    arch: &'static str,
    dir: PathBuf,
}

impl Archive {
    /// Reads the lists of a release unless that was done within the hour.
    pub(crate) fn open(workspace: &Workspace, release: Release) -> Result<Self> {
        Self::open_for(workspace, release, AMD64)
    }

    /// The same of another architecture's packages.
    pub(crate) fn open_for(
        workspace: &Workspace,
        release: Release,
        arch: &'static str,
    ) -> Result<Self> {
        let codename = release.codename();
        let lists = if arch == AMD64 { codename.to_owned() } else { format!("{codename}-{arch}") };
        let archive = Self { release, arch, dir: workspace.store().join("apt").join(lists) };
        let fresh = archive.dir.join("fresh");
        let age = fs::metadata(&fresh).and_then(|meta| meta.modified()).ok();
        let age = age.and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_none_or(|age| age > LISTS_AGE_MAX) {
            step(&format!("package lists of {codename} for {arch}"), || archive.update())?;
            fs::write(&fresh, "").with_context(|| format!("cannot write {}", fresh.display()))?;
        }
        Ok(archive)
    }

    /// The names of all packages that begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = output(self.apt("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    /// The names in a package's `Depends`, alternatives and versions dropped.
    pub(crate) fn depends(&self, package: &str) -> Result<Vec<String>> {
        let shown = output(self.apt("apt-cache").args(["show", "--no-all-versions", package]))
            .with_context(|| Gone(format!("{package} in {}", self.release.codename())))?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
        let first_word = |entry: &str| entry.split_whitespace().next().map(str::to_owned);
        Ok(depends.unwrap_or_default().split(',').filter_map(first_word).collect())
    }

    /// The packages and all they depend on, as `name=version`.
    pub(crate) fn closure(&self, packages: &[&str], backports: bool) -> Result<Vec<String>> {
        let target = format!("{}-backports", self.release.codename());
        let mut command = self.apt("apt-get");
        command.args(["install", "--print-uris", "-qq", "-y", "--no-install-recommends"]);
        command.args(["-o", "Debug::NoLocking=true"]);
        if backports {
            command.args(["-t", &target]);
        }
        let uris = output(command.args(packages))?;
        // 'uri' file size hash
        let files = uris.lines().filter_map(|line| line.split_whitespace().nth(1));
        Ok(files.filter_map(name_and_version).map(|(name, ver)| format!("{name}={ver}")).collect())
    }

    /// Downloads packages, unpacks them into a directory and says which versions they were.
    pub(crate) fn unpack(&self, packages: &[String], into: &Path) -> Result<Vec<String>> {
        let dir = into.with_extension("debs");
        let debs = self.download(packages, &dir)?;
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        for deb in &debs {
            output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(into))?;
        }
        remove_dir_all(&dir)?;
        Ok(versions(&debs))
    }

    /// Downloads packages into an empty directory.
    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<Vec<PathBuf>> {
        remove_dir_all(into)?;
        fs::create_dir_all(into).with_context(|| format!("cannot create {}", into.display()))?;
        output(self.apt("apt-get").current_dir(into).arg("download").args(packages))?;
        let entries = fs::read_dir(into).context("cannot list the downloaded packages")?;
        let debs = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>();
        debs.context("cannot list the downloaded packages")
    }

    fn update(&self) -> Result<()> {
        for dir in ["lists/partial", "cache/archives/partial"] {
            let dir = self.dir.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        }
        let mirrors = Mirrors::of_this_machine()?;
        let list = mirrors.list(self.release.codename(), self.release.suites());
        fs::write(self.dir.join("sources.list"), list).context("cannot write our sources.list")?;
        // What is installed here must not decide what a closure contains.
        fs::write(self.dir.join("status"), "").context("cannot write an empty status file")?;
        let updated = output(self.apt("apt-get").arg("update"));
        let has_lists = fs::read_dir(self.dir.join("lists")).is_ok_and(|list| {
            list.flatten().any(|e| e.file_name().to_string_lossy().contains('_'))
        });
        match updated {
            // One suite of an old release may be gone while the others still answer.
            Err(error) if has_lists => eprintln!("setup: some lists could not be read: {error:#}"),
            Err(error) => return Err(error.context("cannot read any package list: no network?")),
            Ok(_) => {}
        }
        Ok(())
    }

    /// An apt that reads and writes nothing but our own directory.
    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = |key: &str, path: &str| format!("{key}={}", self.dir.join(path).display());
        for option in [
            own("Dir::Etc::sourcelist", "sources.list"),
            own("Dir::State::lists", "lists"),
            own("Dir::State::status", "status"),
            own("Dir::Cache", "cache"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("APT::Architecture={}", self.arch),
            format!("APT::Architectures::={}", self.arch),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // The directory is ours, also when we are root: no user `_apt` could write there.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// What packages are there, by their files, as `name version`.
pub(crate) fn versions(debs: &[PathBuf]) -> Vec<String> {
    let files = debs.iter().map(|deb| deb.file_name().unwrap_or_default().to_string_lossy());
    let named = files.filter_map(|file| name_and_version(&file));
    let mut versions: Vec<_> = named.map(|(name, version)| format!("{name} {version}")).collect();
    versions.sort();
    versions
}

/// Of a package's file name, `name_version_arch.deb` with the epoch's colon escaped.
fn name_and_version(file: &str) -> Option<(String, String)> {
    let mut parts = file.strip_suffix(".deb")?.split('_');
    let name = parts.next()?.to_owned();
    Some((name, parts.next()?.replace("%3a", ":")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_file_names_its_package_and_version() {
        let file = "qemu-system-x86_1%3a10.0.2+ds-2_amd64.deb";
        let expected = ("qemu-system-x86".to_owned(), "1:10.0.2+ds-2".to_owned());
        assert_eq!(name_and_version(file), Some(expected));
        assert_eq!(name_and_version("Packages"), None);
    }
}
