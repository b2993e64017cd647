//! What a rule must know of the kernel beside what is witnessed.
//!
//! A rule that rests on a fact watches only while that fact is known to hold. This module must never
//! tell them: the pipeline does, from records (`pipeline/kernel_facts.rs`).

/// Something that must hold of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fact {
    /// `ext4_end_bio` sets `EXT4_IO_END_FAILED` for a bio that failed.
    FailedFlag,
    /// `flag` has no bits but UNWRITTEN and FAILED, written by whom 5.5 to 7.3 let write them.
    NoOtherFlags,
    /// No bio is attached unseen: each has a probe on its way, and the stream has shown that it is hit.
    AllBiosSeen,
    /// A reference core describes it.
    CoreDescribed,
    /// A bio that ends is chained to an io_end that will be converted.
    BiosChained,
}

impl Fact {
    /// All facts.
    pub const ALL: [Fact; 5] = [
        Fact::FailedFlag,
        Fact::NoOtherFlags,
        Fact::AllBiosSeen,
        Fact::CoreDescribed,
        Fact::BiosChained,
    ];

    /// What it is called on pages.
    pub fn name(self) -> &'static str {
        match self {
            Fact::FailedFlag => "EXT4_IO_END_FAILED",
            Fact::NoOtherFlags => "the flags of 5.5 to 7.3",
            Fact::AllBiosSeen => "__blk_crypto_submit_bio",
            Fact::CoreDescribed => "a reference core that fits what this kernel shows",
            Fact::BiosChained => "a bio seen chained to an io_end",
        }
    }
}

/// The facts that are known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts(u8);

impl Facts {
    /// None.
    pub const NONE: Facts = Facts(0);
    /// All of them.
    pub const ALL: Facts = Facts(u8::MAX);

    /// These and that one, if it holds.
    #[must_use]
    pub fn with(self, fact: Fact, holds: bool) -> Facts {
        Facts(self.0 | u8::from(holds) << fact as u8)
    }

    /// Is it known to hold?
    pub fn hold(self, fact: Fact) -> bool {
        self.0 & (1 << fact as u8) != 0
    }
}
