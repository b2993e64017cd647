//! The `KNOWN_DEFECTS` table: defects of ext4's completion and fsync paths, by upstream version.
//!
//! A row says which upstream versions have the defect; whether this host's build has it too, only its
//! vendor knows. A range is *certain* if the code or the stable log of both ends was looked at, else
//! the kernel *may* have it. Only what a kernel that endiod runs on (5.10 and later) can have is here.

use crate::{
    detect::Rule,
    generation::{NO_END, Upstream, Version},
};

/// Versions from the first to, but not including, the last.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// First with the defect.
    pub from: Version,
    /// First without.
    pub until: Version,
    /// Whether both ends were looked at.
    pub certain: bool,
}

/// Who would see it happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenBy {
    /// That rule of this version.
    Rule(Rule),
    /// None, and why not.
    Nothing(&'static str),
}

/// A defect.
#[derive(Clone, Copy, Debug)]
pub struct Defect {
    /// The commit that fixed it upstream; `None` if nothing has.
    pub fix: Option<&'static str>,
    /// The fix's subject, or what is wrong.
    pub title: &'static str,
    /// CVE number.
    pub cve: Option<&'static str>,
    /// Upstream versions that have it.
    pub affected: &'static [Range],
    /// Who would see it.
    pub seen_by: SeenBy,
}

/// Whether a kernel has a defect, as far as its version tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affected {
    /// Its upstream version has it.
    Yes,
    /// Its patch level is unknown, or the range was not looked at to the end.
    Perhaps,
}

const fn certain(from: Version, until: Version) -> Range {
    Range { from, until, certain: true }
}

const fn perhaps(from: Version, until: Version) -> Range {
    Range { from, until, certain: false }
}

/// Every known defect.
pub const KNOWN_DEFECTS: &[Defect] = &[
    Defect {
        fix: Some("c678bdc99875"),
        title: "ext4: fix inode use after free in ext4_end_io_rsv_work()",
        cve: Some("CVE-2025-38580"),
        affected: &[
            certain(Version(6, 15, 0), Version(6, 15, 10)),
            certain(Version(6, 16, 0), Version(6, 16, 1)),
        ],
        seen_by: SeenBy::Rule(Rule::UnpinnedInode),
    },
    Defect {
        fix: Some("e856f93e0fb2"),
        title: "ext4: do not convert the unwritten extents if data writeback fails",
        cve: None,
        affected: &[
            certain(Version(5, 5, 0), Version(6, 6, 93)),
            certain(Version(6, 7, 0), Version(6, 12, 31)),
            certain(Version(6, 13, 0), Version(6, 14, 9)),
        ],
        seen_by: SeenBy::Rule(Rule::ConvertAfterFailedWrite),
    },
    Defect {
        fix: Some("2f94b537c48d"),
        title: "ext4: replace opencoded ext4_end_io_end() in ext4_put_io_end(): without it, a last \
                put by the writeback task converts after a failed write",
        cve: None,
        // Seen on 6.12.117 (agent/docs/stock-kernels.md), read in the source of 6.12.107.
        affected: &[
            perhaps(Version(6, 6, 93), Version(6, 7, 0)),
            certain(Version(6, 12, 31), Version(6, 12, 118)),
            perhaps(Version(6, 12, 118), Version(6, 13, 0)),
            perhaps(Version(6, 14, 9), Version(6, 15, 0)),
        ],
        seen_by: SeenBy::Rule(Rule::ConvertAfterFailedWrite),
    },
    Defect {
        fix: None,
        title: "ext4_end_bio sets FAILED without a lock while the submitter sets UNWRITTEN: either \
                may be lost when a write fails at that moment",
        cve: None,
        // Read in source and binaries up to 7.3.4; not seen happening.
        affected: &[
            perhaps(Version(6, 6, 93), Version(6, 7, 0)),
            perhaps(Version(6, 12, 31), Version(6, 13, 0)),
            perhaps(Version(6, 14, 9), NO_END),
        ],
        seen_by: SeenBy::Rule(Rule::LostFlagUpdate),
    },
    Defect {
        fix: None,
        title: "a conversion that fails is told to no fsync: ext4_end_io_end sets no error on the mapping, \
                so fsync returns 0 and the file reads zeros",
        cve: None,
        // Seen on 5.10 to 7.3 (agent/docs/stock-kernels.md).
        affected: &[
            perhaps(Version(5, 5, 0), Version(5, 10, 0)),
            certain(Version(5, 10, 0), Version(7, 4, 0)),
            perhaps(Version(7, 4, 0), NO_END),
        ],
        seen_by: SeenBy::Rule(Rule::ConversionErrorHidden),
    },
    Defect {
        fix: Some("745f17a4166e"),
        title: "ext4: fix race between writepages and remount",
        cve: None,
        affected: &[
            // Went to stable in November 2023; of those only 6.6.3 was looked at.
            perhaps(Version(5, 5, 0), Version(6, 6, 0)),
            certain(Version(6, 6, 0), Version(6, 6, 3)),
        ],
        seen_by: SeenBy::Nothing(
            "one that never had a handle is not told from one on a file system without a journal",
        ),
    },
    Defect {
        fix: Some("1308255bbf84"),
        title: "ext4: fix fsync(2) for nojournal mode",
        cve: None,
        affected: &[
            perhaps(Version(5, 5, 0), Version(6, 18, 0)),
            certain(Version(6, 18, 0), Version(6, 18, 16)),
            perhaps(Version(6, 18, 16), Version(7, 0, 0)),
        ],
        seen_by: SeenBy::Nothing("what fsync did not write shows after a crash only"),
    },
    Defect {
        fix: Some("f4a2b42e7891"),
        title: "ext4: fix stale xarray tags after writeback",
        cve: None,
        affected: &[
            perhaps(Version(5, 5, 0), Version(6, 18, 0)),
            certain(Version(6, 18, 0), Version(6, 18, 16)),
            perhaps(Version(6, 18, 16), Version(7, 0, 0)),
        ],
        seen_by: SeenBy::Nothing("the tags are the page cache's, no io_end is wrong"),
    },
];

/// Whether that kernel has that defect; `None`: not by its version.
pub fn affects(defect: &Defect, upstream: &Upstream) -> Option<Affected> {
    let (from, until) = upstream.span();
    let touching = defect.affected.iter().filter(|range| range.from < until && from < range.until);
    touching
        .map(|range| {
            let whole = range.from <= from && until <= range.until;
            if range.certain && whole { Affected::Yes } else { Affected::Perhaps }
        })
        .max_by_key(|affected| *affected == Affected::Yes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(fix: &str, release: &str, expected: Option<Affected>) {
        let defect = KNOWN_DEFECTS.iter().find(|defect| defect.fix == Some(fix)).unwrap();
        let upstream = Upstream::parse(release).unwrap();
        assert_eq!(affects(defect, &upstream), expected, "{fix} on {release}");
    }

    #[test]
    fn ranges_end_where_the_fix_begins() {
        let yes = Some(Affected::Yes);
        check("c678bdc99875", "6.14.11", None);
        check("c678bdc99875", "6.15.0", yes);
        check("c678bdc99875", "6.15.9", yes);
        check("c678bdc99875", "6.15.10", None);
        check("c678bdc99875", "6.16.0", yes);
        check("c678bdc99875", "6.16.1", None);
        check("c678bdc99875", "6.17.0", None);
        check("e856f93e0fb2", "6.6.92", yes);
        check("e856f93e0fb2", "6.6.93", None);
        check("e856f93e0fb2", "6.12.31", None);
        check("e856f93e0fb2", "6.15.0", None);
        check("e856f93e0fb2", "6.1.192", yes);
        check("2f94b537c48d", "6.12.117", yes);
        check("2f94b537c48d", "6.12.118", Some(Affected::Perhaps));
        check("2f94b537c48d", "6.6.93", Some(Affected::Perhaps));
        check("2f94b537c48d", "6.12.30", None);
        check("745f17a4166e", "6.6.2", yes);
        check("745f17a4166e", "6.6.3", None);
        check("1308255bbf84", "6.18.15", yes);
        check("1308255bbf84", "7.0.0", None);
    }

    #[test]
    fn an_unknown_patch_level_is_perhaps_unless_the_whole_series_has_it() {
        check("c678bdc99875", "6.16.0-1-amd64", Some(Affected::Perhaps));
        check("e856f93e0fb2", "6.1.0-56-cloud-amd64", Some(Affected::Yes));
        check("e856f93e0fb2", "6.12.0-1-amd64", Some(Affected::Perhaps));
    }

    #[test]
    fn every_row_names_itself_and_its_ranges_are_in_order() {
        for (at, defect) in KNOWN_DEFECTS.iter().enumerate() {
            assert!(KNOWN_DEFECTS[..at].iter().all(|other| other.title != defect.title));
            assert!(defect.fix.is_none_or(|fix| fix.len() == 12), "{}", defect.title);
            assert!(defect.affected.iter().all(|range| range.from < range.until));
            assert!(defect.affected.windows(2).all(|pair| pair[0].until <= pair[1].from));
        }
    }
}
