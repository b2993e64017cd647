//! The programs' own bounds: tables and walks in the kernel that end somewhere.
//!
//! What is beyond one is left out by the program and counted; PROGRAM_LOSS tells the totals. This
//! module must never say what that means for a verdict.

use serde::{Deserialize, Serialize};

use endiod_wire::wire::{BOUNDS, bound};

/// One bound, by its index on the wire; [`bound`] says what is left out beyond it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum ProgramBound {
    /// Tasks inside `ext4_sync_file` or `ext4_evict_inode`.
    OpenFsyncs = bound::OPEN_FSYNCS,
    /// Tasks inside a direct write.
    OpenDirectIos = bound::OPEN_DIRECT_IOS,
    /// Live io_ends, where the slab tracepoints tell releases.
    LiveIoEnds = bound::LIVE_IO_ENDS,
    /// Bios of a completed request.
    RequestWalk = bound::REQUEST_WALK,
    /// io_ends on the list of a worker that starts.
    ListWalk = bound::LIST_WALK,
}

impl ProgramBound {
    /// All of them, by their index.
    pub const ALL: [ProgramBound; BOUNDS] = [
        ProgramBound::OpenFsyncs,
        ProgramBound::OpenDirectIos,
        ProgramBound::LiveIoEnds,
        ProgramBound::RequestWalk,
        ProgramBound::ListWalk,
    ];

    /// The `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            ProgramBound::OpenFsyncs => "open_fsyncs",
            ProgramBound::OpenDirectIos => "open_direct_ios",
            ProgramBound::LiveIoEnds => "live_io_ends",
            ProgramBound::RequestWalk => "request_walk",
            ProgramBound::ListWalk => "list_walk",
        }
    }
}

/// Totals by [`ProgramBound`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut(pub [u64; BOUNDS]);

impl LeftOut {
    /// What was left out at that bound.
    pub fn at(&self, bound: ProgramBound) -> u64 {
        self.0[bound as usize]
    }

    /// How much more that is than `before`, bound by bound.
    pub fn since(&self, before: LeftOut) -> LeftOut {
        LeftOut(std::array::from_fn(|at| self.0[at].saturating_sub(before.0[at])))
    }

    /// Both together.
    pub fn and(&self, other: LeftOut) -> LeftOut {
        LeftOut(std::array::from_fn(|at| self.0[at].saturating_add(other.0[at])))
    }
}

#[cfg(test)]
mod tests {
    use super::{LeftOut, ProgramBound};

    #[test]
    fn bounds_are_listed_by_their_index_and_each_has_its_own_label() {
        for (at, bound) in ProgramBound::ALL.into_iter().enumerate() {
            assert_eq!(bound as usize, at);
            assert!(ProgramBound::ALL[..at].iter().all(|other| other.label() != bound.label()));
        }
    }

    #[test]
    fn a_total_that_fell_is_no_rise() {
        let (less, more) = (LeftOut([1, 2, 3, 4, 5]), LeftOut([1, 3, 3, 3, 9]));
        assert_eq!(more.since(less), LeftOut([0, 1, 0, 0, 4]));
        assert_eq!(more.and(less), LeftOut([2, 5, 6, 7, 14]));
        assert_eq!(more.at(ProgramBound::ListWalk), 9);
    }
}
