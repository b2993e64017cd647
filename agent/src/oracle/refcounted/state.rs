//! A state of the refcounted core: two io_ends, their inodes, and where each actor is.
//!
//! It must never decide what may happen: that is in the actors' own files.

use super::world::World;
use crate::oracle::fifo::Fifo;

/// `io_end->flag`.
pub(super) type Flag = u8;

/// Bits of it.
pub(super) mod flag {
    /// Ranges wait for their conversion.
    pub(in super::super) const UNWRITTEN: u8 = 1;
    /// A write failed.
    pub(in super::super) const FAILED: u8 = 2;
}

/// Where the writeback task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Submitter {
    /// So many bios are submitted, and the range is still to be mapped.
    Mapping(u8),
    /// It loaded flag and will store it with UNWRITTEN.
    Marking(Flag),
    /// So many bios are submitted; after the last it puts.
    Attaching(u8),
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
    Marking(Flag),
    /// It will decide whether its writeback waits for the release.
    Deciding,
    /// The put is next; whether it was chained.
    Putting(bool),
    Closing(bool, Closing),
    /// The mutant sets FAILED after its put.
    LateFailing(bool),
    LateMarking(bool, Flag),
    /// Its put is over; it clears writeback itself.
    Finishing,
    Done,
}

/// From the last reference to the free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Closing {
    /// The mutant's decrement is made, its test is to come.
    Testing,
    /// The count is 0: defer, process in place or release?
    Final,
    /// The mutant gave the lock back and will list it now.
    Listing,
    Claimed,
    /// The conversion is running.
    Converting,
    /// UNWRITTEN is to be cleared: load, then store.
    Clearing,
    ClearingWith(Flag),
    /// At the entry of `ext4_release_io_end`.
    Releasing,
    /// The next of the chained bios is to be finished.
    Finishing,
    /// The mutant looks at the inode once more.
    Looking,
    Freeing,
    Over,
}

/// Where the worker of the superblock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Worker {
    Idle,
    /// It began the work of an inode, which may be queued again from now on.
    Begun(u8),
    /// The mutant copied the list of an inode and will empty it.
    Copied(u8, Private),
    /// What is left of its private list.
    Draining(Private),
    /// The same, and the io_end that it claimed.
    Closing(Private, u8, Closing),
    /// Its conversion hangs.
    Hung(Private),
}

/// io_ends on the worker's own list.
pub(super) type Private = Fifo<2>;

/// Where fsync is: the bios it waits for, by io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fsync {
    Outside,
    Waiting([u8; 2]),
    Returned,
}

/// One io_end; the masks have a bit per bio.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct IoEnd {
    pub(super) count: i8,
    pub(super) flag: Flag,
    pub(super) handle: bool,
    /// Lanes whose claim is open, a bit each.
    pub(super) claims: u16,
    /// Conversions, 2 for more.
    pub(super) conversions: u8,
    /// Frees, 2 for more.
    pub(super) freed: u8,
    /// `io_end->bio`: bios whose writeback waits for the release, the last one first.
    pub(super) chain: Fifo<3>,
    /// Bios whose folios are under writeback.
    pub(super) writeback: u8,
    /// Bios that ended with an error.
    pub(super) failed: u8,
    pub(super) submitter: Submitter,
    pub(super) bios: [Bio; 3],
}

impl IoEnd {
    /// Bios that were submitted, a bit each.
    pub(super) fn submitted(&self) -> u8 {
        let bits = self.bios.iter().zip([1, 2, 4]);
        bits.filter(|(bio, _)| **bio != Bio::Unborn).map(|(_, bit)| bit).sum()
    }

    /// Its tasks are through and it is freed.
    pub(super) fn is_over(&self) -> bool {
        let bios = self.bios.iter().all(|bio| matches!(bio, Bio::Unborn | Bio::Done));
        self.submitter == Submitter::Done && bios && self.freed > 0
    }
}

/// One inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Inode {
    /// `i_rsv_conversion_list`.
    pub(super) list: Fifo<2>,
    pub(super) fsync: Fsync,
    /// Eviction returned.
    pub(super) freed: bool,
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) io: [IoEnd; 2],
    pub(super) inodes: [Inode; 2],
    /// `rsv_conversion_wq`: inodes whose work is queued and not begun.
    pub(super) works: Fifo<2>,
    pub(super) worker: Worker,
}

impl State {
    pub(super) fn new(world: &World) -> Self {
        let io_end = |io: u8| IoEnd {
            count: 1,
            flag: 0,
            handle: false,
            claims: 0,
            conversions: 0,
            freed: 0,
            chain: Fifo::default(),
            writeback: 0,
            failed: 0,
            submitter: match (io < world.io_ends, world.write(io).unwritten) {
                (false, _) => Submitter::Done,
                (true, false) => Submitter::Attaching(0),
                (true, true) => Submitter::Mapping(0),
            },
            bios: [Bio::Unborn; 3],
        };
        let inode = Inode { list: Fifo::default(), fsync: Fsync::Outside, freed: false };
        State {
            io: [io_end(0), io_end(1)],
            inodes: [inode; 2],
            works: Fifo::default(),
            worker: Worker::Idle,
        }
    }

    pub(super) fn io(&self, io: u8) -> &IoEnd {
        &self.io[usize::from(io)]
    }

    pub(super) fn io_mut(&mut self, io: u8) -> &mut IoEnd {
        &mut self.io[usize::from(io)]
    }

    pub(super) fn inode(&self, inode: u8) -> &Inode {
        &self.inodes[usize::from(inode)]
    }

    pub(super) fn inode_mut(&mut self, inode: u8) -> &mut Inode {
        &mut self.inodes[usize::from(inode)]
    }

    /// Is it linked, to its inode's list or to the worker's own?
    pub(super) fn is_listed(&self, io: u8) -> bool {
        let private = match &self.worker {
            Worker::Draining(rest) | Worker::Closing(rest, ..) | Worker::Hung(rest) => {
                rest.contains(io)
            }
            Worker::Idle | Worker::Begun(_) | Worker::Copied(..) => false,
        };
        private || self.inodes.iter().any(|inode| inode.list.contains(io))
    }

    pub(super) fn view(&self, world: &World) -> String {
        let io_ends = (0..world.io_ends).map(|io| self.view_io_end(io, world));
        let mut text = io_ends.collect::<Vec<_>>().join("  ");
        for inode in self.works.iter() {
            text += &format!("  {} queued", ["work", "b's work"][usize::from(inode)]);
        }
        for inode in (0..world.inodes).filter(|inode| self.inode(*inode).freed) {
            text += ["  INODE FREED", "  b's INODE FREED"][usize::from(inode)];
        }
        text
    }

    fn view_io_end(&self, at: u8, world: &World) -> String {
        let io = self.io(at);
        let words = [
            (io.flag & flag::UNWRITTEN != 0, "UNWRITTEN"),
            (io.flag & flag::FAILED != 0, "FAILED"),
            (io.handle, "handle"),
            (self.is_listed(at), "listed"),
            (io.claims != 0, "claimed"),
            (io.conversions > 0, "converted"),
            (io.freed > 0, "FREED"),
        ];
        let words = words.iter().filter(|(shown, _)| *shown).map(|(_, word)| *word);
        let bios = usize::from(world.write(at).bios);
        let start = format!(
            "{}: n={} writeback={:0bios$b}",
            ["a", "b"][usize::from(at)],
            io.count,
            io.writeback
        );
        [start].into_iter().chain(words.map(str::to_owned)).collect::<Vec<_>>().join(" ")
    }
}
