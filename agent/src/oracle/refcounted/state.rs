//! A state of the refcounted core: one io_end, its inode, and where each actor is.
//!
//! It must never decide what may happen: that is in the actors' own files.

/// `io_end->flag`.
pub(super) type Flag = u8;

/// Bits of it.
pub(super) mod flag {
    /// Ranges wait for their conversion.
    pub(in super::super) const UNWRITTEN: u8 = 1;
    /// A write failed.
    pub(in super::super) const FAILED: u8 = 2;
}

/// Which core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// 5.5 to 6.14: no FAILED.
    G4c,
    /// Stable 6.6, 6.12 and 6.14 since mid 2025: FAILED, which the submitter's put ignores.
    G4d,
    /// 6.15.0 to 6.15.9 and 6.16.0: FAILED always defers, but pins the inode only with `data_err=abort`.
    G5,
    /// 6.15.10, 6.16.1 and later: one decision to defer.
    G6,
}

impl Generation {
    /// Does a failed bio set FAILED?
    pub(super) fn marks_failures(self) -> bool {
        self != Generation::G4c
    }
}

/// The bios of an io_end; the masks have a bit per bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bios {
    /// At most 3.
    pub count: u8,
    /// Submitted before UNWRITTEN is set: blocks that were mapped already.
    pub early: u8,
    /// Those that fail.
    pub failing: u8,
}

impl Bios {
    pub(super) fn all(self) -> u8 {
        (1 << self.count) - 1
    }
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// The bios.
    pub bios: Bios,
    /// A range is unwritten; else every block is mapped and written.
    pub unwritten: bool,
    /// The submitter drops its reference through `ext4_put_io_end_defer`, else `ext4_put_io_end`.
    pub submitter_defers: bool,
    /// Mounted with data_err=abort.
    pub data_err_abort: bool,
    /// A task calls fsync.
    pub fsync: bool,
}

impl World {
    /// One unwritten range without bios, and an fsync.
    pub const PLAIN: World = World {
        bios: Bios { count: 0, early: 0, failing: 0 },
        unwritten: true,
        submitter_defers: true,
        data_err_abort: false,
        fsync: true,
    };
}

/// Where the writeback task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Submitter {
    /// So many bios are submitted.
    Attaching(u8),
    /// It loaded flag and will store it with UNWRITTEN.
    Marking(u8),
    /// Only its put is left.
    Putting,
    Closing(Closing),
    Done,
}

/// Where a bio is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Bio {
    Unborn,
    InFlight,
    /// It failed: it will load flag, and store it with FAILED.
    Failing,
    Marking(u8),
    /// It will decide whether its writeback waits for the release.
    Deciding,
    /// The put is next; whether it was chained.
    Putting(bool),
    Closing(bool, Closing),
    /// The mutant sets FAILED after its put.
    LateFailing(bool),
    LateMarking(bool, u8),
    /// Its put is over; it clears writeback itself.
    Finishing,
    Done,
}

/// From the last reference to the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Closing {
    /// The mutant's decrement is made, its test is to come.
    Testing,
    /// The count is 0: defer, process in place or release?
    Final,
    Claimed,
    /// The conversion is running.
    Converting,
    /// UNWRITTEN is to be cleared: load, then store.
    Clearing,
    ClearingWith(u8),
    Releasing,
    Over,
}

/// Where the inode's worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Worker {
    Idle,
    Closing(Closing),
}

/// Where fsync is: the bios it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fsync {
    Outside,
    Waiting(u8),
    Returned,
}

/// Where eviction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Evict {
    Waiting,
    Returned,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) count: i8,
    pub(super) flag: Flag,
    pub(super) handle: bool,
    pub(super) listed: bool,
    pub(super) work_queued: bool,
    /// Lanes whose claim is open, a bit each.
    pub(super) claims: u8,
    /// Conversions, 2 for more.
    pub(super) conversions: u8,
    /// Frees, 2 for more.
    pub(super) freed: u8,
    /// Bios on `io_end->bio`.
    pub(super) chained: u8,
    /// Bios whose folios are under writeback.
    pub(super) writeback: u8,
    /// Bios that ended with an error.
    pub(super) failed: u8,
    pub(super) inode_freed: bool,
    pub(super) submitter: Submitter,
    pub(super) bios: [Bio; 3],
    pub(super) worker: Worker,
    pub(super) fsync: Fsync,
    pub(super) evict: Evict,
}

impl State {
    pub(super) fn new() -> Self {
        State {
            count: 1,
            flag: 0,
            handle: false,
            listed: false,
            work_queued: false,
            claims: 0,
            conversions: 0,
            freed: 0,
            chained: 0,
            writeback: 0,
            failed: 0,
            inode_freed: false,
            submitter: Submitter::Attaching(0),
            bios: [Bio::Unborn; 3],
            worker: Worker::Idle,
            fsync: Fsync::Outside,
            evict: Evict::Waiting,
        }
    }

    /// Bios that are through, a bit each.
    pub(super) fn bios_done(&self) -> u8 {
        let bits = self.bios.iter().zip([1, 2, 4]);
        bits.filter(|(bio, _)| **bio == Bio::Done).map(|(_, bit)| bit).sum()
    }

    /// Bios that were submitted, a bit each.
    pub(super) fn submitted(&self) -> u8 {
        let bits = self.bios.iter().zip([1, 2, 4]);
        bits.filter(|(bio, _)| **bio != Bio::Unborn).map(|(_, bit)| bit).sum()
    }

    pub(super) fn view(&self) -> String {
        let words = [
            (self.flag & flag::UNWRITTEN != 0, "UNWRITTEN"),
            (self.flag & flag::FAILED != 0, "FAILED"),
            (self.handle, "handle"),
            (self.listed, "listed"),
            (self.work_queued, "work queued"),
            (self.claims != 0, "claimed"),
            (self.conversions > 0, "converted"),
            (self.freed > 0, "FREED"),
            (self.inode_freed, "INODE FREED"),
        ];
        let words: Vec<_> =
            words.iter().filter(|(shown, _)| *shown).map(|(_, word)| *word).collect();
        format!("n={} writeback={:03b} {}", self.count, self.writeback, words.join(", "))
    }
}
