//! The kernels that guests boot: one table, and which package of the archive each name means.
//!
//! A name stands for the newest package of its series at the time it was first fetched.
//! Delete `target/endiod/kernels/<name>` to fetch a newer one.

use clap::builder::PossibleValuesParser;

use crate::archive::Release;

/// One kernel that a guest can boot.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// The release of Debian whose archive has it.
    pub(crate) release: Release,
    /// The package is `linux-image-<prefix><version><suffix>`, the version without a hyphen.
    prefix: &'static str,
    suffix: &'static str,
}

const fn kernel(
    name: &'static str,
    release: Release,
    prefix: &'static str,
    suffix: &'static str,
) -> Kernel {
    Kernel { name, release, prefix, suffix }
}

/// Every kernel; which tests run on which, the table of guests says.
pub(crate) const KERNELS: &[Kernel] = &[
    kernel("6.1", Release::Bookworm, "6.1.0-", "-cloud-amd64"),
    kernel("5.10", Release::Bullseye, "5.10.0-", "-cloud-amd64"),
    kernel("6.18", Release::Trixie, "6.18.", "+deb13-cloud-amd64"),
    // The kernel for real hardware: ext4, jbd2 and mbcache are modules here.
    kernel("6.1-modular", Release::Bookworm, "6.1.0-", "-amd64"),
    // The same, from before modules had BTF (5.11).
    kernel("5.10-modular", Release::Bullseye, "5.10.0-", "-amd64"),
    kernel("6.12", Release::Bookworm, "6.12.", "-cloud-amd64"),
    kernel("6.16", Release::Trixie, "6.16.", "+deb13-cloud-amd64"),
    kernel("7.2", Release::Trixie, "7.2.", "+deb13-cloud-amd64"),
    kernel("7.3", Release::Trixie, "7.3.", "+deb13-cloud-amd64"),
    kernel("latest", Release::Trixie, "", "+deb13-cloud-amd64"),
];

/// The names, for the command line.
pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(KERNELS.iter().map(|kernel| kernel.name))
}

pub(crate) fn find(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

impl Kernel {
    /// What the names of this kernel's packages begin with.
    pub(crate) fn package_prefix(&self) -> String {
        format!("linux-image-{}", self.prefix)
    }

    /// The newest of this kernel's packages among the names of an archive.
    pub(crate) fn newest<'a>(&self, packages: impl Iterator<Item = &'a str>) -> Option<&'a str> {
        let version = |package: &'a str| {
            let rest = package.strip_prefix(&self.package_prefix())?.strip_suffix(self.suffix)?;
            let is_version = rest.starts_with(|first: char| first.is_ascii_digit());
            (is_version && !rest.contains('-')).then(|| (numbers(rest), package))
        };
        packages.filter_map(version).max().map(|(_, package)| package)
    }
}

/// The numbers in a version, which order the packages of one series as dpkg would.
fn numbers(version: &str) -> Vec<u64> {
    let digits = version.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    digits.filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `apt-cache pkgnames` of three releases gives them, in one list.
    const ARCHIVE: &[&str] = &[
        "linux-image-5.10.0-9-cloud-amd64",
        "linux-image-5.10.0-46-cloud-amd64",
        "linux-image-5.10.0-46-cloud-amd64-dbg",
        "linux-image-5.10.0-46-amd64",
        "linux-image-5.10.0-46-rt-amd64",
        "linux-image-6.1.0-55-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64",
        "linux-image-6.1.0-56-cloud-amd64-unsigned",
        "linux-image-6.1.0-56-amd64",
        "linux-image-6.1.0-56-rt-amd64",
        "linux-image-6.12.90+deb12-cloud-amd64",
        "linux-image-6.12.90+deb12.1-cloud-amd64",
        "linux-image-6.18.9+deb13-cloud-amd64",
        "linux-image-6.18.15+deb13-cloud-amd64",
        "linux-image-7.2.12+deb13-cloud-amd64",
        "linux-image-7.3.4+deb13-cloud-amd64",
        "linux-image-unsigned-7.3.4+deb13-cloud-amd64",
        "linux-image-cloud-amd64",
    ];

    #[track_caller]
    fn check(name: &str, package: Option<&str>) {
        let found = find(name).unwrap().newest(ARCHIVE.iter().copied());
        assert_eq!(found, package, "{name}");
    }

    #[test]
    fn the_newest_package_of_the_series_is_chosen() {
        check("5.10", Some("linux-image-5.10.0-46-cloud-amd64"));
        check("6.1", Some("linux-image-6.1.0-56-cloud-amd64"));
        check("6.1-modular", Some("linux-image-6.1.0-56-amd64"));
        check("5.10-modular", Some("linux-image-5.10.0-46-amd64"));
        check("6.12", Some("linux-image-6.12.90+deb12.1-cloud-amd64"));
        check("6.18", Some("linux-image-6.18.15+deb13-cloud-amd64"));
        check("7.2", Some("linux-image-7.2.12+deb13-cloud-amd64"));
        check("latest", Some("linux-image-7.3.4+deb13-cloud-amd64"));
    }

    #[test]
    fn a_series_that_is_gone_has_no_package() {
        check("6.16", None);
    }

    #[test]
    fn names_are_those_that_readers_know_and_differ() {
        let mut names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.name).collect();
        names.sort_unstable();
        let known = ["5.10", "5.10-modular", "6.1", "6.1-modular", "6.12", "6.16", "6.18"];
        assert_eq!(names, [known.as_slice(), &["7.2", "7.3", "latest"]].concat());
    }
}
