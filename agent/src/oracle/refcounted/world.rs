//! Which core, and what there is for it to do.

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

    /// Is the claim, `ext4_end_io_end`, the same for the submitter and the worker?
    pub(super) fn has_one_claim(self) -> bool {
        matches!(self, Generation::G5 | Generation::G6)
    }
}

/// What one io_end is used for: a round of writeback by a task of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write {
    /// Its bios, at most 3.
    pub bios: u8,
    /// So many of them are submitted before UNWRITTEN is set: blocks that were mapped already.
    pub early: u8,
    /// Those that fail, a bit each.
    pub failing: u8,
    /// A range is unwritten; else every block is mapped and written.
    pub unwritten: bool,
    /// The submitter drops its reference through `ext4_put_io_end_defer`, else `ext4_put_io_end`.
    pub defers: bool,
}

impl Write {
    /// One unwritten range, written by so many bios.
    pub const fn of(bios: u8) -> Write {
        Write { bios, early: 0, failing: 0, unwritten: true, defers: true }
    }
}

/// What there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// io_ends, one or two; the rest of `writes` is not looked at.
    pub io_ends: u8,
    /// What each io_end is used for.
    pub writes: [Write; 2],
    /// Inodes of the one superblock: one, or one for each of two io_ends.
    pub inodes: u8,
    /// Mounted with data_err=abort.
    pub data_err_abort: bool,
    /// A task calls fsync on each inode.
    pub fsync: bool,
    /// The worker's conversion of the first io_end may never return.
    pub hangs: bool,
}

impl World {
    /// One io_end, and an fsync.
    pub const fn one(write: Write) -> World {
        let writes = [write; 2];
        World { io_ends: 1, writes, inodes: 1, data_err_abort: false, fsync: true, hangs: false }
    }

    /// Two io_ends of one inode, and an fsync.
    pub const fn two(a: Write, b: Write) -> World {
        World { io_ends: 2, writes: [a, b], ..World::one(a) }
    }

    /// The inode of an io_end.
    pub(super) fn inode(&self, io: u8) -> u8 {
        if self.inodes == 2 { io } else { 0 }
    }

    /// The io_ends of an inode.
    pub(super) fn of_inode(&self, inode: u8) -> impl Iterator<Item = u8> {
        (0..self.io_ends).filter(move |io| self.inode(*io) == inode)
    }

    pub(super) fn write(&self, io: u8) -> Write {
        self.writes[usize::from(io)]
    }
}
