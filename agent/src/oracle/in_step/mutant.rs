//! The oracle made wrong on purpose, one rule at a time: what shows that its agreement with a simulator
//! can fail.
//!
//! It must never be on but by [`super::Oracle::wrong`], which tests alone call.

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// 2012: anybody frees what another party's claim is open on, and that party goes on.
    FreesWhatOthersClaim,
    /// 2012: the last put never lists.
    ListsNothing,
    /// 2012: the work puts it back while nobody holds the lock.
    RequeuesUnlocked,
    /// Today: what is claimed is claimed again.
    ClaimsTwice,
    /// Today: what is freed is freed again.
    ReleasesTwice,
    /// Today: a reference is put that nobody holds.
    PutsWhatNobodyHolds,
    /// Today: the count is not looked at when it is claimed.
    ClaimsWhileHeld,
    /// Today: what is freed is converted.
    ConvertsWhatIsFreed,
    /// Today: the last put never leaves it to the worker.
    NeverDefers,
    /// Today: the last put never frees.
    NeverFreesDirectly,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 10] = [
        Mutant::FreesWhatOthersClaim,
        Mutant::ListsNothing,
        Mutant::RequeuesUnlocked,
        Mutant::ClaimsTwice,
        Mutant::ReleasesTwice,
        Mutant::PutsWhatNobodyHolds,
        Mutant::ClaimsWhileHeld,
        Mutant::ConvertsWhatIsFreed,
        Mutant::NeverDefers,
        Mutant::NeverFreesDirectly,
    ];
}
