//! What is known of the kernel that a stream comes from, beside what is witnessed.
//!
//! Three witnesses: the release that HOST tells, by the table of upstream versions; `ext4_end_io_end`,
//! which is a function of its own from 6.15 on (2f94b537c48d) and came with the FAILED flag; and what the
//! stream has shown. This module must never guess: what no witness settles is not known.

use crate::{
    detect::{Fact, Facts},
    generation::{self, Generation, Upstream},
    lifecycle::{Gap, Step, Summary},
};

/// What a stream has shown of its kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// One of which a bio failed was seen with FAILED.
    pub(crate) failed_flag: bool,
    /// One was seen with a bio chained to it.
    pub(crate) chained_bio: bool,
    /// Bios were seen attached again and again, and hardly ever not ([`attaches_shown`]).
    pub(crate) attaches: bool,
}

impl Shown {
    /// Learns from one step.
    pub(crate) fn take(&mut self, step: &Step<'_>) {
        self.failed_flag |= step.shows_failed_flag();
        self.chained_bio |= step.shows_chained_bio();
    }
}

/// What the facts are drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'a> {
    /// `uname -r`.
    pub(crate) release: Option<&'a str>,
    /// `ext4_end_io_end` is probed.
    pub(crate) claims_seen: bool,
    /// What the stream has shown.
    pub(crate) shown: Shown,
    /// A bio may be attached that no probe sees.
    pub(crate) bios_unseen: bool,
    /// A reference core says that it describes the kernel.
    pub(crate) core_described: bool,
}

/// So many bios must have ended before it is believed that all are seen attached.
const BIOS_ENDED_MIN: u64 = 64;
/// Of so many bios that ended, one at most may have been attached unseen.
const BIOS_PER_MISS_MIN: u64 = 64;

/// Has the stream shown that bios are seen attached? A build that inlines `submit_bio` would hide many;
/// a kernel that breaks the protocol hides few.
pub(crate) fn attaches_shown(summary: &Summary) -> bool {
    let missed = summary.incomplete[Gap::AttachMissed as usize];
    summary.bios_ended >= BIOS_ENDED_MIN && missed * BIOS_PER_MISS_MIN <= summary.bios_ended
}

/// The facts that hold.
pub(crate) fn known(evidence: Evidence<'_>) -> Facts {
    let Evidence { release, claims_seen, shown, bios_unseen, core_described } = evidence;
    let upstream = release.and_then(Upstream::parse);
    let told = upstream.as_ref().map(|upstream| generation::tell(upstream, None).generations);
    let by_release = |from: Generation| {
        told.as_ref().is_some_and(|told| told.iter().all(|generation| *generation >= from))
    };
    let is_new = claims_seen || shown.failed_flag;
    let failed_flag = by_release(Generation::G4d) || is_new && by_release(Generation::G4c);
    let checked = upstream.as_ref().is_some_and(generation::is_checked);
    Facts::NONE
        .with(Fact::FailedFlag, failed_flag)
        .with(Fact::NoOtherFlags, checked && by_release(Generation::G4c))
        .with(Fact::AllBiosSeen, !bios_unseen && shown.attaches)
        .with(Fact::CoreDescribed, core_described)
        .with(Fact::BiosChained, shown.chained_bio)
}

#[cfg(test)]
mod tests {
    use super::{Evidence, Shown, attaches_shown, known};
    use crate::{
        detect::Fact,
        lifecycle::{Gap, Summary},
    };

    fn evidence(release: &str) -> Evidence<'_> {
        Evidence {
            release: Some(release),
            claims_seen: false,
            shown: Shown { attaches: true, ..Shown::default() },
            bios_unseen: false,
            core_described: false,
        }
    }

    #[test]
    fn the_failed_flag_is_known_by_release_by_function_or_by_sight() {
        let knows = |evidence| known(evidence).hold(Fact::FailedFlag);
        let unknown = "6.12.0-1-amd64";
        assert!(!knows(evidence("6.1.0-56-cloud-amd64")) && !knows(evidence(unknown)));
        assert!(knows(evidence("6.12.95+deb12-cloud-amd64")) && knows(evidence("7.3.4")));
        assert!(knows(Evidence { claims_seen: true, ..evidence(unknown) }));
        let shown = Shown { failed_flag: true, ..Shown::default() };
        assert!(knows(Evidence { shown, ..evidence(unknown) }));
        assert!(!knows(Evidence { release: None, ..evidence(unknown) }));
        assert!(!knows(Evidence { claims_seen: true, ..evidence("3.2.0") }), "another protocol");
    }

    #[test]
    fn few_attaches_missed_are_a_crime_and_many_a_blind_probe() {
        let shown = |bios_ended, missed| {
            let mut summary = Summary { bios_ended, ..Summary::default() };
            summary.incomplete[Gap::AttachMissed as usize] = missed;
            attaches_shown(&summary)
        };
        assert!(!shown(63, 0) && shown(64, 0) && shown(64, 1) && !shown(64, 2));
        assert!(shown(2_792, 3) && !shown(10_000, 5_000));
    }

    #[test]
    fn the_flags_are_known_of_the_versions_that_were_looked_at() {
        let knows = |release| known(evidence(release)).hold(Fact::NoOtherFlags);
        assert!(knows("5.10.0-46-cloud-amd64") && knows("6.1.192") && knows("7.3.4"));
        assert!(!knows("3.2.0") && !knows("7.4.0") && !knows("strange"));
    }

    #[test]
    fn bios_are_all_seen_if_that_was_shown_unless_they_may_be_unseen() {
        let seen = evidence("7.3.4");
        let shown = Shown { attaches: false, ..seen.shown };
        assert!(!known(Evidence { shown, ..seen }).hold(Fact::AllBiosSeen));
        assert!(known(seen).hold(Fact::AllBiosSeen));
        assert!(!known(Evidence { bios_unseen: true, ..seen }).hold(Fact::AllBiosSeen));
    }

    #[test]
    fn that_bios_are_chained_is_known_once_one_was() {
        let seen = evidence("6.1.192");
        assert!(!known(seen).hold(Fact::BiosChained));
        let shown = Shown { chained_bio: true, ..Shown::default() };
        assert!(known(Evidence { shown, ..seen }).hold(Fact::BiosChained));
    }
}
