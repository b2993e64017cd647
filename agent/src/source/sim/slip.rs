//! What the simulated kernel of 5.5 to 7.3 does wrong, now and then: one crime per world.
//!
//! Each is the simulator's own word for what it did; no rule's name is in here, for what sees a crime is
//! not the criminal's business.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// The worker claims it again.
    SecondClaim,
    /// It is released again.
    SecondRelease,
    /// A reference is put that nobody holds.
    SurplusPut,
    /// It is claimed while a reference is held.
    ClaimedWhileHeld,
    /// It is converted after its release.
    UsedAfterRelease,
    /// UNWRITTEN is cleared before the last put.
    UnwrittenLost,
    /// FAILED is cleared before the last put (6.15 and later).
    FailedLost,
    /// A bit is set that means nothing.
    UnknownBit,
    /// FAILED is set while it is on its list, though no bio of it failed.
    WrittenWhileListed,
    /// It is released with a journal handle.
    HandleLeaked,
    /// It is on a list while a reference is held.
    LinkedWhileHeld,
    /// A bio drops its reference, and its end is not told.
    BioSwallowed,
    /// The interrupt that drops the last reference converts it.
    ConvertedInIrq,
    /// An fsync that has to wait for it returns 0 while a bio of it is in flight.
    FsyncTooEarly,
    /// Its conversion fails, and the fsync that has to tell returns 0.
    ErrorHidden,
    /// It is left to the worker without a bio chained to it.
    BioUnchained,
    /// The worker takes it off its list and forgets it: once in a world, for of those that are stuck in one
    /// way the oldest alone is told.
    WorkLost,
}

impl Slip {
    /// All of them.
    pub const ALL: [Slip; 17] = [
        Slip::SecondClaim,
        Slip::SecondRelease,
        Slip::SurplusPut,
        Slip::ClaimedWhileHeld,
        Slip::UsedAfterRelease,
        Slip::UnwrittenLost,
        Slip::FailedLost,
        Slip::UnknownBit,
        Slip::WrittenWhileListed,
        Slip::HandleLeaked,
        Slip::LinkedWhileHeld,
        Slip::BioSwallowed,
        Slip::ConvertedInIrq,
        Slip::FsyncTooEarly,
        Slip::ErrorHidden,
        Slip::BioUnchained,
        Slip::WorkLost,
    ];

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Slip::SecondClaim => "second_claim",
            Slip::SecondRelease => "second_release",
            Slip::SurplusPut => "surplus_put",
            Slip::ClaimedWhileHeld => "claimed_while_held",
            Slip::UsedAfterRelease => "used_after_release",
            Slip::UnwrittenLost => "unwritten_lost",
            Slip::FailedLost => "failed_lost",
            Slip::UnknownBit => "unknown_bit",
            Slip::WrittenWhileListed => "written_while_listed",
            Slip::HandleLeaked => "handle_leaked",
            Slip::LinkedWhileHeld => "linked_while_held",
            Slip::BioSwallowed => "bio_swallowed",
            Slip::ConvertedInIrq => "converted_in_irq",
            Slip::FsyncTooEarly => "fsync_too_early",
            Slip::ErrorHidden => "error_hidden",
            Slip::BioUnchained => "bio_unchained",
            Slip::WorkLost => "work_lost",
        }
    }

    /// Is it the worker's, or is it known from its birth on which io_end it will be of?
    pub(super) fn is_of_worker(self) -> bool {
        matches!(
            self,
            Slip::SecondClaim
                | Slip::SecondRelease
                | Slip::SurplusPut
                | Slip::ClaimedWhileHeld
                | Slip::UsedAfterRelease
                | Slip::WrittenWhileListed
                | Slip::HandleLeaked
                | Slip::WorkLost
        )
    }

    /// Is it of an io_end that is synced by its submitter?
    pub(super) fn is_of_fsync(self) -> bool {
        matches!(self, Slip::FsyncTooEarly | Slip::ErrorHidden)
    }
}
