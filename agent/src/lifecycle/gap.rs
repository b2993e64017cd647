//! What can be wrong with the record of an object, and with a step of it.
//!
//! A [`Gap`] says that we missed something: the incarnation is timed where possible and never
//! accused. An [`Irregular`] says that the kernel did something that the protocol does not have: it
//! is handed to the detectors, which alone may accuse.
//!
//! What a program left out at a bound of its own is no gap by itself: nobody knows of which object. It
//! shows where it can be told apart from a crime. An io_end that its release left behind unseen is
//! [`Gap::ReleaseMissed`] when its address is born again; one of whose bios the device is not seen done
//! is not complete (`IoEnd::complete`); a list that is not seen costs the state it tells of. The rest is
//! for the detectors, which date it.

macro_rules! gaps {
    ($( $(#[$doc:meta])* $name:ident = $label:literal; )*) => {
        /// Why an incarnation's record is incomplete.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Gap { $( $(#[$doc])* $name, )* }

        impl Gap {
            /// All reasons.
            pub const ALL: &[Gap] = &[ $( Gap::$name, )* ];

            /// The `reason` label.
            pub fn label(self) -> &'static str {
                match self { $( Gap::$name => $label, )* }
            }
        }
    };
}

gaps! {
    /// It was first seen after its birth.
    BirthUnseen = "birth_unseen";
    /// More bios completed, or more references were held, than were seen attached. Encrypted files
    /// on 7.3 can submit through `__blk_crypto_submit_bio`, which is not probed.
    AttachMissed = "attach_missed";
    /// Its count was 0 while the model still held references.
    PutMissed = "put_missed";
    /// A conversion was entered without the claim that precedes it on this kernel.
    ClaimMissed = "claim_missed";
    /// Its release was skipped, or no room was left to follow it: it returned without an entry, or the
    /// address was born again.
    ReleaseMissed = "release_missed";
    /// A probe was attached or detached during its life.
    ProbesChanged = "probes_changed";
    /// Its address was born again before a release was seen there, and up to 5.15 (without "mm: emit the
    /// "free" trace report before freeing memory in kmem_cache_free()", 5.16) that tracepoint comes
    /// after the memory is free: its predecessor's release can be taken for its own.
    ReleaseDoubtful = "release_doubtful";
}

/// A set of [`Gap`]s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps(u8);

impl Gaps {
    /// Is nothing missing?
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Is `gap` in it?
    pub fn contains(self, gap: Gap) -> bool {
        self.0 & (1 << gap as u8) != 0
    }

    /// The reasons in it.
    pub fn iter(self) -> impl Iterator<Item = Gap> {
        Gap::ALL.iter().copied().filter(move |gap| self.contains(*gap))
    }

    pub(super) fn insert(&mut self, gap: Gap) {
        self.0 |= 1 << gap as u8;
    }

    pub(crate) fn without(self, other: Gaps) -> Gaps {
        Gaps(self.0 & !other.0)
    }
}

impl FromIterator<Gap> for Gaps {
    fn from_iter<I: IntoIterator<Item = Gap>>(gaps: I) -> Self {
        let mut all = Gaps::default();
        gaps.into_iter().for_each(|gap| all.insert(gap));
        all
    }
}

/// How a step departs from the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Irregular {
    /// The table has no such move from this state.
    NoTransition,
    /// The submitter dropped its one reference a second time.
    SecondSubmitterPut,
    /// The inode's worker claimed what was never queued.
    NotQueued,
    /// A second conversion under one claim.
    SecondConversion,
    /// Another task than the claim's works on it.
    ForeignClaim,
    /// It is on the list in a second run of the worker.
    ListedAgain,
    /// A bio of it ends that had ended before.
    EndedBefore,
    /// Its work puts it back, and writes its flag, without the lock (2012).
    Unlocked,
}

impl Irregular {
    /// Short name.
    pub fn label(self) -> &'static str {
        match self {
            Irregular::NoTransition => "no_transition",
            Irregular::SecondSubmitterPut => "second_submitter_put",
            Irregular::NotQueued => "not_queued",
            Irregular::SecondConversion => "second_conversion",
            Irregular::ForeignClaim => "foreign_claim",
            Irregular::ListedAgain => "listed_again",
            Irregular::Unlocked => "unlocked",
            Irregular::EndedBefore => "ended_before",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Gap;

    #[test]
    fn gaps_are_listed_by_their_number_and_fit_a_byte() {
        assert!(Gap::ALL.iter().enumerate().all(|(at, gap)| *gap as usize == at));
        assert!(Gap::ALL.len() <= 8);
    }
}
