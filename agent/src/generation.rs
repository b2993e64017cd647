//! Which shape of ext4's completion protocol this kernel speaks.
//!
//! ```text
//!   5.5 ────────── G4c ──────────┬─ 6.15 ─ G5 ─┬─ 6.15.10, 6.16.1 ── G6 ──► 7.3
//!    6.6.93 6.12.31 6.14.9 ─ G4d ┘             └ 6.16.0 is G5 again
//! ```
//!
//! Two witnesses: the release, by a table of upstream versions, and the functions that the kernel's
//! BTF describes. A vendor may have backported: what neither witness settles stays open, as a list of
//! more than one generation. This module must never guess and never do I/O. A third witness, what the
//! stream shows (a FAILED bit that was seen set), comes later.

use std::fmt;

/// A shape of the completion protocol, in the order they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Generation {
    /// Before 5.5: direct I/O uses io_ends, and an io_end has one range.
    Old,
    /// From 5.5: a list of ranges, direct I/O goes its own way.
    G4c,
    /// G4c with the FAILED flag, backported to three stable series.
    G4d,
    /// 6.15: FAILED, deferred for data_err=abort; the inode may be freed under the worker.
    G5,
    /// G5 with that use after free fixed.
    G6,
}

impl Generation {
    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Generation::Old => "before G4c",
            Generation::G4c => "G4c",
            Generation::G4d => "G4d",
            Generation::G5 => "G5",
            Generation::G6 => "G6",
        }
    }

    /// What sets it apart.
    pub fn meaning(self) -> &'static str {
        match self {
            Generation::Old => "direct I/O uses io_ends, one range each",
            Generation::G4c => "list of ranges, no FAILED flag, the conversion is the claim",
            Generation::G4d => "as G4c, with the FAILED flag of failed writes",
            Generation::G5 => "FAILED flag, claim of its own, inode use after free unfixed",
            Generation::G6 => "FAILED flag, claim of its own, one decision to defer",
        }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// An upstream version: major, minor, patch level of the stable series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Above every version.
pub const NO_END: Version = Version(u32::MAX, 0, 0);

/// Newest series whose completion core this version was checked against.
const CHECKED_MAX: (u32, u32) = (7, 3);

/// What the release tells of the upstream version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Major and minor.
    pub series: (u32, u32),
    /// Patch level; `None` where the vendor's release does not show it (Debian's 6.1.0-56, Ubuntu's
    /// 6.8.0-45, Red Hat's 5.14.0-503).
    pub patch: Option<u32>,
    /// Whether something follows the numbers: a vendor's or a local build, which may differ.
    pub vendor: bool,
    /// Ubuntu's own count of builds (98 of 6.8.0-98.98), where its signature was read.
    pub ubuntu_build: Option<u32>,
}

impl Upstream {
    /// Reads `uname -r`; `None` if it does not begin with `N.N`.
    pub fn parse(release: &str) -> Option<Upstream> {
        let (major, rest) = number(release)?;
        let (minor, rest) = number(rest.strip_prefix('.')?)?;
        let third = rest.strip_prefix('.').and_then(number);
        let (patch, rest) = third.map_or((0, rest), |(patch, rest)| (patch, rest));
        let suffix = match rest.strip_prefix("-rc").and_then(number) {
            Some((_, rest)) => rest,
            None => rest,
        };
        let vendor = !suffix.is_empty();
        // A vendor that keeps the patch level at 0 counts its own builds instead.
        let patch = (patch > 0 || !vendor).then_some(patch);
        Some(Upstream { series: (major, minor), patch, vendor, ubuntu_build: None })
    }

    /// Fills an unknown patch level from `/proc/version` (`… Debian 6.1.192-1 …`) or Ubuntu's
    /// `/proc/version_signature` (`Ubuntu 6.8.0-45.45-generic 6.8.12`).
    #[must_use]
    pub fn refined(mut self, version: Option<&str>, signature: Option<&str>) -> Upstream {
        self.ubuntu_build = signature.and_then(|text| {
            let release = text.strip_prefix("Ubuntu ")?;
            let (_, build) = release.split_ascii_whitespace().next()?.split_once('-')?;
            number(build).map(|(build, _)| build)
        });
        if self.patch.is_none() {
            // The compiler's version comes first in that text, also after "Debian ".
            let debian = version.into_iter().flat_map(|text| text.split("Debian ").skip(1));
            let ubuntu = signature.and_then(|text| text.split_ascii_whitespace().next_back());
            self.patch = debian.chain(ubuntu).find_map(|text| {
                let (major, rest) = number(text)?;
                let (minor, rest) = number(rest.strip_prefix('.')?)?;
                let (patch, _) = number(rest.strip_prefix('.')?)?;
                ((major, minor) == self.series && patch > 0).then_some(patch)
            });
        }
        self
    }

    /// The versions it may be: from the first to, but not including, the second.
    pub fn span(&self) -> (Version, Version) {
        let (major, minor) = self.series;
        match self.patch {
            Some(patch) => {
                (Version(major, minor, patch), Version(major, minor, patch.saturating_add(1)))
            }
            None => (Version(major, minor, 0), Version(major, minor.saturating_add(1), 0)),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.series;
        match self.patch {
            Some(patch) => write!(f, "{major}.{minor}.{patch}"),
            None => write!(f, "{major}.{minor}, patch level unknown"),
        }
    }
}

fn number(text: &str) -> Option<(u32, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// First upstream version of each run of releases; a run ends where the next begins.
///
/// FAILED (e856f93e0fb2, 6.15) went to 6.6.93, 6.12.31 and 6.14.9; the fix of the inode's use after
/// free (c678bdc99875, 6.17) to 6.15.10 and 6.16.1. 5.10 and 6.1 never got FAILED (up to 5.10.262 and
/// 6.1.192).
const RELEASES: &[(Version, Generation)] = &[
    (Version(0, 0, 0), Generation::Old),
    (Version(5, 5, 0), Generation::G4c),
    (Version(6, 6, 93), Generation::G4d),
    (Version(6, 7, 0), Generation::G4c),
    (Version(6, 12, 31), Generation::G4d),
    (Version(6, 13, 0), Generation::G4c),
    (Version(6, 14, 9), Generation::G4d),
    (Version(6, 15, 0), Generation::G5),
    (Version(6, 15, 10), Generation::G6),
    (Version(6, 16, 0), Generation::G5),
    (Version(6, 16, 1), Generation::G6),
];

/// Ubuntu takes fixes of 6.6.y and 6.12.y into its 6.8 while the version stays 6.8.12. FAILED is in
/// the changelog of 6.8.0-98.98 and not in 6.8.0-90.91; which of the builds between has it first was
/// not to be had.
const UBUNTU_WITH_FAILED: ((u32, u32), u32, u32) = ((6, 8), 90, 98);

/// Functions that tell generations apart, where the kernel's BTF describes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions {
    /// `ext4_end_io_end`: inlined into the worker until 2f94b537c48d (6.15) called it twice.
    pub end_io_end: bool,
    /// `ext4_io_end_defer_completion`: from 6.15; called once, so inlined, until c678bdc99875.
    pub defer_completion: bool,
}

/// The functions' names, in the order of [`Functions`].
pub const FUNCTIONS: [&str; 2] = ["ext4_end_io_end", "ext4_io_end_defer_completion"];

/// What the witnesses agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The generations that are possible; more than one where it could not be told.
    pub generations: Vec<Generation>,
    /// How it was told, one sentence each.
    pub evidence: Vec<String>,
}

/// Tells the generation.
pub fn tell(upstream: &Upstream, functions: Option<Functions>) -> Told {
    let (built, mut generations) = match by_ubuntu_build(upstream) {
        Some((build, told)) => (format!("Ubuntu's build {build} of {upstream}"), told),
        None => (format!("upstream {upstream}"), by_release(upstream)),
    };
    let mut evidence = vec![format!("release table: {built} is {}", join(&generations))];
    if !is_checked(upstream) {
        let (major, minor) = CHECKED_MAX;
        evidence.push(format!("newer than {major}.{minor}, the newest that was checked"));
    }
    match functions {
        None => evidence.push("functions: no BTF describes those of ext4".to_owned()),
        Some(functions) => by_functions(functions, &mut generations, &mut evidence),
    }
    if upstream.vendor {
        evidence.push("not a plain upstream release: its builder may have backported".to_owned());
    }
    Told { generations, evidence }
}

/// Is it of a series whose completion core was looked at, or of an older one?
pub fn is_checked(upstream: &Upstream) -> bool {
    upstream.series <= CHECKED_MAX
}

/// The generations as one text, `G4c or G4d`.
pub fn join(generations: &[Generation]) -> String {
    let labels: Vec<_> = generations.iter().map(|generation| generation.label()).collect();
    labels.join(" or ")
}

fn by_ubuntu_build(upstream: &Upstream) -> Option<(u32, Vec<Generation>)> {
    let (series, last_without, first_seen_with) = UBUNTU_WITH_FAILED;
    let build = upstream.ubuntu_build.filter(|_| upstream.series == series)?;
    let told = match build {
        _ if build <= last_without => vec![Generation::G4c],
        _ if build >= first_seen_with => vec![Generation::G4d],
        _ => vec![Generation::G4c, Generation::G4d],
    };
    Some((build, told))
}

fn by_release(upstream: &Upstream) -> Vec<Generation> {
    let (from, until) = upstream.span();
    let ends = RELEASES.iter().skip(1).map(|(begin, _)| *begin).chain([NO_END]);
    let mut found: Vec<_> = RELEASES
        .iter()
        .zip(ends)
        .filter(|((begin, _), end)| *begin < until && from < *end)
        .map(|((_, generation), _)| *generation)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn by_functions(functions: Functions, told: &mut Vec<Generation>, evidence: &mut Vec<String>) {
    let [claim, defer] = FUNCTIONS;
    let is_new = |told: &[Generation]| told.iter().all(|generation| *generation >= Generation::G5);
    match (functions.end_io_end, is_new(told)) {
        (true, true) => evidence.push(format!("{claim} is a function of its own, as from 6.15")),
        (true, false) => {
            evidence.push(format!("{claim} is a function of its own, as from 6.15: backported"));
            *told = vec![Generation::G5, Generation::G6];
        }
        (false, false) => evidence.push(format!("{claim} is inlined, as before 6.15")),
        (false, true) => evidence.push(format!(
            "{claim} is inlined, as before 6.15: this contradicts the release, which is believed"
        )),
    }
    if !functions.defer_completion {
        return;
    }
    evidence.push(format!("{defer} is a function of its own, as from 6.15.10 and 6.16.1"));
    match told[..] {
        [Generation::G5, Generation::G6] => *told = vec![Generation::G6],
        [Generation::G5] => *told = vec![Generation::G5, Generation::G6],
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(release: &str, expected: &str) {
        let upstream = Upstream::parse(release).unwrap();
        assert_eq!(join(&tell(&upstream, None).generations), expected, "{release}");
    }

    #[test]
    fn releases_tell_generations_as_far_as_they_show_the_patch_level() {
        check("6.1.0-56-cloud-amd64", "G4c");
        check("5.14.0-503.el9", "G4c");
        check("5.10.0-46-cloud-amd64", "G4c");
        check("6.8.0-45-generic", "G4c");
        check("6.6.92", "G4c");
        check("6.6.93", "G4d");
        check("6.12.30", "G4c");
        check("6.12.107", "G4d");
        check("6.12.0-1-amd64", "G4c or G4d");
        check("6.12.117+deb12-cloud-amd64", "G4d");
        check("6.14.8", "G4c");
        check("6.14.9", "G4d");
        check("6.15-rc2", "G5");
        check("6.15.9", "G5");
        check("6.15.10", "G6");
        check("6.15.0-3-amd64", "G5 or G6");
        check("6.16.0", "G5");
        check("6.16.1", "G6");
        check("6.17.0-5-generic", "G6");
        check("7.3.4", "G6");
        check("5.4.0", "before G4c");
    }

    #[test]
    fn vendors_show_the_patch_level_elsewhere() {
        let debian = "Linux version 6.12.0-1-amd64 (gcc-12 (Debian 12.2.0-14) 12.2.0, \
                      GNU ld (GNU Binutils for Debian) 2.40) #1 SMP PREEMPT_DYNAMIC Debian 6.12.95-1 (d)";
        let upstream = Upstream::parse("6.12.0-1-amd64").unwrap();
        assert_eq!(upstream.clone().refined(Some(debian), None).patch, Some(95));
        let other = debian.replace("6.12.95", "6.13.2");
        assert_eq!(upstream.refined(Some(&other), None).patch, None, "another series");
        let upstream = Upstream::parse("6.8.0-45-generic").unwrap();
        let signature = Some("Ubuntu 6.8.0-45.45-generic 6.8.12\n");
        assert_eq!(upstream.refined(None, signature).patch, Some(12));
        assert_eq!(Upstream::parse("linux"), None);
    }

    #[test]
    fn ubuntu_has_backported_without_a_new_version() {
        let check = |build: u32, expected: &str| {
            let signature = format!("Ubuntu 6.8.0-{build}.{build}-generic 6.8.12");
            let upstream = Upstream::parse(&format!("6.8.0-{build}-generic")).unwrap();
            let told = tell(&upstream.refined(None, Some(&signature)), None);
            assert_eq!(join(&told.generations), expected, "{signature}");
        };
        check(49, "G4c");
        check(90, "G4c");
        check(94, "G4c or G4d");
        check(98, "G4d");
        check(132, "G4d");
    }

    #[test]
    fn functions_correct_a_release_and_narrow_it() {
        let told = |release: &str, end_io_end, defer_completion| {
            let upstream = Upstream::parse(release).unwrap();
            join(&tell(&upstream, Some(Functions { end_io_end, defer_completion })).generations)
        };
        assert_eq!(told("5.14.0-503.el9", false, false), "G4c");
        assert_eq!(told("5.14.0-900.el9", true, false), "G5 or G6", "backported");
        assert_eq!(told("5.14.0-900.el9", true, true), "G6");
        assert_eq!(told("6.15.0-3-amd64", true, true), "G6");
        assert_eq!(told("6.15.9", true, false), "G5");
        assert_eq!(told("6.15.9", true, true), "G5 or G6", "the fix may be backported");
        assert_eq!(told("7.3.4", true, true), "G6");
        assert_eq!(told("6.18.3", false, false), "G6", "a contradiction is shown, not followed");
    }

    #[test]
    fn the_release_table_is_in_order() {
        assert!(RELEASES.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 != pair[1].1));
    }
}
