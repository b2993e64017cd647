//! What the lifecycle counted: every object and span that entered is somewhere in these totals.
//!
//! Conservation, at any moment:
//!
//! ```text
//!   io_ends_born + io_ends_adopted = io_ends_released + io_ends_lost + live
//!   direct_ios_begun = completed + refused + lost + open
//!   fsyncs_begun     = completed + lost + open
//!   evictions_begun  = completed + lost + open
//! ```
//!
//! where what a full table refused is in `table_full` and nowhere else. This module must never
//! decide anything.

use super::act::Act;
use super::gap::{Gap, Gaps};
use super::state::State;
use crate::event::Nanos;

macro_rules! labels {
    ($( #[$doc:meta] $Enum:ident { $( #[$vdoc:meta] $name:ident = $label:literal, )* } )*) => { $(
        #[$doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $Enum { $( #[$vdoc] $name, )* }

        impl $Enum {
            /// All values.
            pub const ALL: &[$Enum] = &[ $( $Enum::$name, )* ];

            /// The label.
            pub fn label(self) -> &'static str {
                match self { $( $Enum::$name => $label, )* }
            }
        }
    )* };
}

labels! {
    /// An event whose other half was never seen.
    Orphan {
        /// An event of a NULL io_end (`ext4_end_bio` warns of it, 5.10 to 7.3).
        NullIoEnd = "null_io_end",
        /// A conversion returned on an io_end that is not known.
        ConvertEnd = "convert_end",
        /// An io_end was released that is not known.
        Release = "release",
        /// A release was seen late, when no object at its address could be the one.
        ReleaseLate = "release_late",
        /// A worker run returned that was not seen to begin.
        WorkerEnd = "worker_end",
        /// The device was done with a bio, or a part of one, that was not seen attached.
        BioDone = "bio_done",
        /// A bio was attached while the last one at its address was not done.
        BioSuperseded = "bio_superseded",
        /// A direct write completed that was not seen to begin.
        DirectIoComplete = "direct_io_complete",
        /// A direct write returned that was not seen to begin.
        DirectIoReturn = "direct_io_return",
        /// A direct write's kiocb was used again before it completed.
        DirectIoSuperseded = "direct_io_superseded",
        /// An fsync returned that was not seen to begin.
        FsyncEnd = "fsync_end",
        /// A phase outside of any known fsync, or one that ended without having begun.
        FsyncPhase = "fsync_phase",
        /// A task began an fsync while its last one had not returned.
        FsyncSuperseded = "fsync_superseded",
        /// An eviction returned that was not seen to begin.
        EvictionEnd = "eviction_end",
        /// A task began an eviction while its last one had not returned.
        EvictionSuperseded = "eviction_superseded",
    }
    /// A table of fixed capacity.
    Table {
        /// io_ends, tombstones included.
        IoEnds = "io_ends",
        /// Direct writes in flight.
        DirectIos = "direct_ios",
        /// Open fsyncs.
        Fsyncs = "fsyncs",
        /// Open worker runs.
        Workers = "workers",
        /// Bios that the device has not done.
        Bios = "bios",
        /// Open evictions.
        Evictions = "evictions",
    }
}

/// The totals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Births taken into the table.
    pub io_ends_born: u64,
    /// Objects taken into the table at a later event than their birth.
    pub io_ends_adopted: u64,
    /// Releases of objects in the table.
    pub io_ends_released: u64,
    /// Objects that are over though their release was not seen.
    pub io_ends_lost: u64,
    /// Lives seen from birth to release without a gap or an irregular step.
    pub lives_complete: u64,
    /// Bios attached to objects in the table.
    pub bios_attached: u64,
    /// Bios ended.
    pub bios_ended: u64,
    /// Bios that the device was done with, where their ends are not seen.
    pub bios_done: u64,
    /// Of the bios ended or done, those that failed, in part or in whole.
    pub bios_failed: u64,
    /// References dropped.
    pub puts: u64,
    /// `ext4_end_io_end` entered (6.15 on).
    pub claims: u64,
    /// Conversions that returned.
    pub conversions: u64,
    /// Conversions that returned an error.
    pub conversion_errors: u64,
    /// Steps that departed from the protocol, of objects whose birth was seen.
    pub irregular_steps: u64,
    /// Batches that were handed to a worker, where that is seen.
    pub batches_queued: u64,
    /// Objects seen on the list of a worker that starts.
    pub listed: u64,
    /// Worker runs that began.
    pub worker_runs: u64,
    /// Direct writes begun.
    pub direct_ios_begun: u64,
    /// Direct writes completed.
    pub direct_ios_completed: u64,
    /// Direct writes that returned without a completion.
    pub direct_ios_refused: u64,
    /// Direct writes whose end was not seen: their kiocb was used again, or they were forgotten.
    pub direct_ios_lost: u64,
    /// Direct writes that completed with an error.
    pub direct_io_errors: u64,
    /// fsyncs begun.
    pub fsyncs_begun: u64,
    /// fsyncs returned.
    pub fsyncs_completed: u64,
    /// fsyncs whose return was not seen: their task began another, or they were forgotten.
    pub fsyncs_lost: u64,
    /// fsyncs that returned an error.
    pub fsync_errors: u64,
    /// Evictions of inodes with pages begun.
    pub evictions_begun: u64,
    /// Evictions returned.
    pub evictions_completed: u64,
    /// Evictions whose return was not seen: their task began another, or they were forgotten.
    pub evictions_lost: u64,
    /// By [`Orphan`].
    pub orphans: [u64; Orphan::ALL.len()],
    /// By [`Table`].
    pub table_full: [u64; Table::ALL.len()],
    /// Incarnations by [`Gap`]; one may have several.
    pub incomplete: [u64; Gap::ALL.len()],
}

impl Summary {
    /// Events of this kind of orphan.
    pub fn orphan(&self, orphan: Orphan) -> u64 {
        self.orphans[orphan as usize]
    }

    /// Refusals of this table.
    pub fn full(&self, table: Table) -> u64 {
        self.table_full[table as usize]
    }

    /// Something happened to a live object.
    pub(super) fn note_act(&mut self, act: Act, ret: i64) {
        match act {
            Act::Attach => self.bios_attached += 1,
            Act::BioEnd => self.bios_ended += 1,
            Act::Put | Act::PutDefer => self.puts += 1,
            Act::Claim => self.claims += 1,
            Act::ConvertEnd => {
                self.conversions += 1;
                self.conversion_errors += u64::from(ret < 0);
            }
            Act::Release => self.io_ends_released += 1,
            Act::PartDone | Act::BioDone => self.bios_done += u64::from(ret != 0),
            Act::Listed => self.listed += 1,
            Act::Birth
            | Act::Range
            | Act::ConvertBegin
            | Act::FsyncReturned
            | Act::InodeDestroyed
            | Act::Lingers
            | Act::FlagWrite
            | Act::Requeue => {}
        }
    }

    pub(super) fn note_orphan(&mut self, orphan: Orphan) {
        self.orphans[orphan as usize] += 1;
    }

    pub(super) fn note_full(&mut self, table: Table) {
        self.table_full[table as usize] += 1;
    }

    pub(super) fn note_gaps(&mut self, gaps: Gaps) {
        for gap in gaps.iter() {
            self.incomplete[gap as usize] += 1;
        }
    }
}

/// Live objects of one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// How many.
    pub count: u64,
    /// Longest time in this state; `None` without an object.
    pub oldest_age: Option<Nanos>,
}

/// What is in flight at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// io_ends by [`State`]; `Released` stays empty.
    pub io_ends: [Level; State::ALL.len()],
    /// Direct writes.
    pub direct_ios: Level,
    /// fsyncs.
    pub fsyncs: Level,
    /// Evictions of inodes with pages.
    pub evictions: Level,
}

impl InFlight {
    /// io_ends in `state`.
    pub fn io_ends_in(&self, state: State) -> Level {
        self.io_ends[state as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::{Orphan, Table};

    #[test]
    fn labels_are_unique_and_listed_by_their_number() {
        assert!(Orphan::ALL.iter().enumerate().all(|(at, orphan)| *orphan as usize == at));
        assert!(Table::ALL.iter().enumerate().all(|(at, table)| *table as usize == at));
        for (at, orphan) in Orphan::ALL.iter().enumerate() {
            assert!(Orphan::ALL[..at].iter().all(|other| other.label() != orphan.label()));
        }
    }
}
