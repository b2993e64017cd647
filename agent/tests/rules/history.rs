//! Defects of ext4's completion and fsync paths that are older than any kernel endiod runs on, and
//! which rule would have seen each. Later ones are in `KNOWN_DEFECTS`.

use endiod::detect::Rule;

/// A defect of the past.
pub(crate) struct Past {
    /// The commit that fixed it.
    pub(crate) fix: &'static str,
    /// The first upstream version with the fix.
    pub(crate) fixed_in: &'static str,
    /// What was wrong.
    pub(crate) wrong: &'static str,
    /// The rules that see it; none, and why not.
    pub(crate) seen_by: &'static [Rule],
    /// By what they see it, or why none does.
    pub(crate) how: &'static str,
}

/// A crime that has a name and no rule of its own.
pub(crate) struct ToldBy {
    /// Its name.
    pub(crate) name: &'static str,
    /// The rule that tells it.
    pub(crate) rule: Rule,
    /// How.
    pub(crate) why: &'static str,
    /// A trace that shows it, and what is then said.
    pub(crate) shown: (&'static str, &'static str),
}

/// Crimes without a rule of their own.
pub(crate) const TOLD_BY: &[ToldBy] = &[ToldBy {
    name: "requeue_livelock",
    rule: Rule::Stuck,
    why: "only the core of 2012 puts work back, and to put it back is its way to wait: what tells a \
              livelock from a wait is how long the io_end does not get on, which is an age. Its finding \
              says how often the work put it back, and since when",
    shown: ("stuck_put_back.trace", "its work put it back"),
}];

/// All of them, in the order of their fixes.
pub(crate) const HISTORY: &[Past] = &[
    Past {
        fix: "2581fdc81088",
        fixed_in: "3.1",
        wrong: "eviction waited for io_ends whose work waited for another inode's mutex",
        seen_by: &[Rule::Stuck],
        how: "an io_end stays queued",
    },
    Past {
        fix: "491caa43639a",
        fixed_in: "3.3",
        wrong: "the work freed an io_end that the fsync path was processing; QUEUED was set outside of \
                the lock",
        seen_by: &[
            Rule::WorkerFreedInUse,
            Rule::UseAfterRelease,
            Rule::UnlockedFlagWrite,
            Rule::OracleDivergence,
        ],
        how: "shown on the replica, which is that core as a kernel module",
    },
    Past {
        fix: "266991b13890",
        fixed_in: "3.3",
        wrong: "a direct write counted as over before its extents were converted, so truncate went on",
        seen_by: &[Rule::DirectIoOrder],
        how: "the inode counts no direct I/O while one completes, which is where the extents are converted",
    },
    Past {
        fix: "28a535f9a0df",
        fixed_in: "3.7",
        wrong: "truncate held the mutex that the work only tried, which then put itself back for ever",
        seen_by: &[Rule::Stuck],
        how: "an io_end stays queued, and its finding says how often its work put it back, and since when",
    },
    Past {
        fix: "c278531d39f3",
        fixed_in: "3.7",
        wrong: "the fsync path returned while another task was still converting",
        seen_by: &[Rule::FsyncBeforeConversion],
        how: "fsync returns 0 before an io_end of its inode is converted",
    },
    Past {
        fix: "60d4616f3dc6",
        fixed_in: "3.7",
        wrong: "a conversion raced with fallocate and converted more than had been written",
        seen_by: &[],
        how: "what was written and what is converted are not compared",
    },
    Past {
        fix: "1ada47d9468f",
        fixed_in: "3.9",
        wrong: "an inode was evicted while the worker still used it",
        seen_by: &[Rule::UnpinnedInode],
        how: "the inode is destroyed before its io_ends",
    },
    Past {
        fix: "d76a3a77113d",
        fixed_in: "3.10",
        wrong: "fsync waited for ever for a transaction that was long gone",
        seen_by: &[],
        how: "no io_end waits: fsync's journal phase begins and does not end",
    },
    Past {
        fix: "b0857d309fae",
        fixed_in: "3.11",
        wrong: "writeback was reported over before the conversion, so fsync needed to flush by itself",
        seen_by: &[Rule::FsyncBeforeConversion],
        how: "fsync returns 0 before an io_end of its inode is converted",
    },
    Past {
        fix: "74dae4278546",
        fixed_in: "4.5",
        wrong: "two direct writes shared one pointer, and a conversion ran in an interrupt",
        seen_by: &[Rule::ConvertInIrq],
        how: "the conversion's own context",
    },
    Past {
        fix: "646caa9c8e19",
        fixed_in: "4.7",
        wrong: "writeback waited for a commit while it held a reference that the commit waited for",
        seen_by: &[Rule::Stuck],
        how: "an io_end stays with its submitter",
    },
    Past {
        fix: "cb85f4d23f79",
        fixed_in: "5.6",
        wrong: "writeback raced with the switch to extents, so an io_end was queued without a handle",
        seen_by: &[],
        how: "one that never had a handle is not told from one on a file system without a journal",
    },
];
