//! What earlier snapshots of an io_end's words showed, in three bytes (5.10 to 7.3).
//!
//! ```text
//!   ext4_end_bio, puts, claim, conversion ──► bits of flag ever seen set, a handle, a failed bio
//!   put that reads 1, claim, conversion ────► flag as it was when one party was left
//! ```
//!
//! **Alone.** `flag` and `count` share eight aligned bytes, which `copy_from_kernel_nofault` reads at
//! once (5.10 to 7.3). A put that reads 1 holds the last reference: everyone else who was seen to hold
//! one has read and written before, and nobody but the claimer may write from here on.
//!
//! Bits of a flag above the sixth are one bit here. This module must never say what is legal.

use super::act::Act;
use super::model::Input;
use crate::event::IoEndImage;

/// What was seen of one incarnation so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Snapshots {
    set: u8,
    alone: u8,
    marks: u8,
}

const ALONE: u8 = 1;
const HANDLE: u8 = 1 << 1;
const BIO_FAILED: u8 = 1 << 2;

/// Bits of a flag that are kept one by one.
const KEPT: u32 = 0x3f;
/// Stands for all others.
const OTHERS: u8 = 1 << 6;

impl Snapshots {
    /// Was this bit of `flag`, one of the low six, seen set?
    pub fn saw_set(self, bit: u32) -> bool {
        u32::from(self.set) & bit & KEPT != 0
    }

    /// `flag` as it was when one party was left, if that was seen.
    pub fn alone(self) -> Option<Flag> {
        (self.marks & ALONE != 0).then_some(Flag(self.alone))
    }

    /// Was it seen with a handle?
    pub fn saw_handle(self) -> bool {
        self.marks & HANDLE != 0
    }

    /// Was a bio of it seen to fail?
    pub fn saw_bio_fail(self) -> bool {
        self.marks & BIO_FAILED != 0
    }

    /// Takes what an event shows of a live object.
    pub(super) fn take(&mut self, input: &Input<'_>) {
        if input.act == Act::BioEnd && input.ret != 0 {
            self.marks |= BIO_FAILED;
        }
        let Some(image) = input.image else { return };
        let claims = matches!(input.act, Act::Claim | Act::ConvertBegin);
        let puts = matches!(input.act, Act::Put | Act::PutDefer);
        if !claims && !puts && input.act != Act::BioEnd {
            return;
        }
        self.set |= Flag::of(image).0;
        self.marks |= if image.handle != 0 { HANDLE } else { 0 };
        if claims || (puts && image.count == 1) {
            self.alone = Flag::of(image).0;
            self.marks |= ALONE;
        }
    }
}

/// A `flag`, the bits above the sixth taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag(u8);

impl Flag {
    /// Of an image.
    pub fn of(image: &IoEndImage) -> Self {
        let others = if image.flag & !KEPT != 0 { OTHERS } else { 0 };
        Flag((image.flag & KEPT) as u8 | others)
    }

    /// Is this bit, one of the low six, set?
    pub fn has(self, bit: u32) -> bool {
        u32::from(self.0) & bit & KEPT != 0
    }

    /// Without this bit.
    #[must_use]
    pub fn without(self, bit: u32) -> Self {
        Flag(self.0 & !((bit & KEPT) as u8))
    }
}

#[cfg(test)]
mod tests {
    use super::Flag;
    use crate::event::IoEndImage;

    #[test]
    fn high_bits_of_a_flag_are_one_and_none_is_taken_for_a_low_one() {
        let flag = |flag| Flag::of(&IoEndImage { flag, ..IoEndImage::default() });
        assert_eq!(flag(0x4000_0001), flag(0x8000_0001));
        assert_ne!(flag(0x4000_0001), flag(1));
        assert!(flag(0x4000_0002).has(2) && !flag(0x4000_0001).has(2));
        assert_eq!(flag(3).without(1), flag(2));
    }
}
