//! Which cores describe what is watched: a kernel's ext4, by its release, or the replica of 2012's.
//!
//! It must never guess: a release that it does not know is judged by nobody.

use endiod_wire::wire::subject;

use super::{Judge, Mutant};

/// What a kernel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// No core describes it.
    Unknown,
    /// 3.2 to 3.6: per io_end a work, a claim is the removal from the list.
    CompletedList,
    /// 5.5 to 7.3; from 6.15 on FAILED, and a claim of its own.
    Refcounted {
        /// 6.15 or later.
        claims: bool,
    },
}

/// What differs between the refcounted kernels, as far as an event can show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// `ext4_end_io_end` is the claim, and its probe is attached.
    pub(super) claim_seen: bool,
    /// A failed bio sets FAILED for certain, and FAILED may defer (6.15 on). Before, stable series
    /// may have it or not.
    pub(super) failed_known: bool,
    /// A bio may be attached that no probe sees.
    pub(super) bios_unseen: bool,
    /// What is wrong on purpose.
    pub(super) mutant: Option<Mutant>,
}

impl Rules {
    /// Is this wrong on purpose?
    pub(super) fn are(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

impl Protocol {
    /// By `uname -r`.
    pub fn of(release: &[u8]) -> Protocol {
        let text = release.split(|byte| *byte == 0).next().unwrap_or(&[]);
        let mut numbers = text.split(|byte| !byte.is_ascii_digit()).map(|digits| {
            std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u32>().ok())
        });
        match (numbers.next().flatten(), numbers.next().flatten()) {
            (Some(3), Some(2..=6)) => Protocol::CompletedList,
            (Some(5), Some(5..)) | (Some(6), Some(..=14)) => Protocol::Refcounted { claims: false },
            (Some(6), Some(15..)) | (Some(7), Some(..=3)) => Protocol::Refcounted { claims: true },
            _ => Protocol::Unknown,
        }
    }

    /// Does a core describe a kernel of it that has `ext4_end_io_end`, or has it not? It is a function
    /// from 6.15 on: a kernel that has it earlier, or has it not later, is a vendor's whose steps no
    /// core describes.
    pub fn is_described(self, has_claim: bool) -> bool {
        match self {
            Protocol::Refcounted { claims } => claims == has_claim,
            Protocol::CompletedList => true,
            Protocol::Unknown => false,
        }
    }

    /// What it is where not the kernel's ext4 is watched, by the stream's word for it.
    pub fn watching(self, subject: u64) -> Protocol {
        match subject {
            subject::EXT4 => self,
            subject::REPLICA => Protocol::CompletedList,
            _ => Protocol::Unknown,
        }
    }

    /// Who can judge it.
    pub fn judges(self) -> &'static [Judge] {
        match self {
            Protocol::Unknown => &[],
            Protocol::CompletedList => &[Judge::CompletedList],
            Protocol::Refcounted { .. } => &Judge::ALL,
        }
    }

    /// Where every bio is seen attached.
    pub(super) fn rules(self, claim_probe: bool) -> Rules {
        let claims = self == Protocol::Refcounted { claims: true };
        Rules { claim_seen: claim_probe, failed_known: claims, bios_unseen: false, mutant: None }
    }
}

#[cfg(test)]
mod tests {
    use super::{Protocol, subject};

    #[test]
    fn only_described_kernels_are_judged() {
        let known = Protocol::Refcounted { claims: false };
        let claims = Protocol::Refcounted { claims: true };
        for (release, protocol) in [
            ("3.2.0", Protocol::CompletedList),
            ("3.7.1", Protocol::Unknown),
            ("4.19.0-27-amd64", Protocol::Unknown),
            ("5.4.0", Protocol::Unknown),
            ("5.10.0-46-cloud-amd64", known),
            ("6.12.107", known),
            ("6.15.0", claims),
            ("7.3.4+deb14", claims),
            ("7.4.0-rc1", Protocol::Unknown),
            ("8.0", Protocol::Unknown),
            ("", Protocol::Unknown),
            ("seven", Protocol::Unknown),
        ] {
            assert_eq!(Protocol::of(release.as_bytes()), protocol, "{release}");
        }
    }

    #[test]
    fn the_replica_is_of_2012_on_whatever_kernel_and_what_nobody_knows_is_not_judged() {
        let kernel = Protocol::of(b"6.1.0");
        assert_eq!(kernel.watching(subject::EXT4), kernel);
        assert_eq!(kernel.watching(subject::REPLICA), Protocol::CompletedList);
        assert_eq!(kernel.watching(9), Protocol::Unknown);
    }
}
