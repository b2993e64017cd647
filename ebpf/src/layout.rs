//! Whether an io_end is laid out as [`IoEndImage`] says, where no BTF tells: the check that programs
//! make of an io_end whose bio is being submitted.
//!
//! ```text
//!   0      16       24      32    40     44      48
//!   | list | handle | inode | bio | flag | count | list_vec |      5.5 to 7.3
//! ```
//!
//! At its first bio (`ext4_io_submit`) every member has one value or few: `list` links to itself, since
//! only an io_end without references is on a list; `inode` is that of an ext4; no bio has completed,
//! so `bio` is null and `flag` has no FAILED; two references are held, the submitter's and the bio's;
//! `list_vec` is a list that leads back. No other place of `list`, `inode`, `count` and `list_vec` has all
//! of that. At a later bio, or at one that was throttled and whose submitter is gone, the count is another
//! and a bio may have completed: that proves neither. This must never take what an insertion in
//! progress can look like for another layout.

use crate::wire::{IO_END_LIST_VEC_OFFSET, IoEndImage, valid};

/// `EXT4_SUPER_MAGIC`, `super_block.s_magic` of every ext4.
pub const EXT4_MAGIC: u64 = 0xef53;

/// How far the first member of an inode's list of finished io_ends lies before its conversion work:
/// `i_rsv_conversion_list`, then `i_rsv_conversion_work` (5.5 to 7.3).
pub const LIST_BEFORE_WORK: u64 = 16;

/// Most references that are believed: a round of writeback submits far fewer bios.
const COUNT_MAX: u32 = 1 << 16;

/// UNWRITTEN and, from 6.15 and in some stable series, FAILED.
const FLAGS: u32 = 3;

/// What an io_end shows while a bio of it is submitted.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its address.
    pub io_end: u64,
    /// Its bytes.
    pub image: IoEndImage,
    /// Whether the super block of the inode that the image names has [`EXT4_MAGIC`].
    pub inode_is_ext4: bool,
    /// `image.vec_next->prev`, if it could be read.
    pub vec_next_prev: Option<u64>,
}

impl Sample {
    /// The bits of [`valid`] that it gives: one of the two of the layout, or none.
    #[inline(always)]
    pub fn sign(&self) -> u32 {
        if self.is_misfit() {
            valid::LAYOUT_MISFIT
        } else if self.is_first_bio() {
            valid::LAYOUT_FITS
        } else {
            0
        }
    }

    /// No bio's io_end looks like this.
    #[inline(always)]
    fn is_misfit(&self) -> bool {
        let Sample { io_end, image, inode_is_ext4, .. } = self;
        image.list_next != *io_end
            || image.list_prev != *io_end
            || !inode_is_ext4
            || image.count == 0
            || image.count > COUNT_MAX
            || image.flag & !FLAGS != 0
    }

    /// An io_end at its first bio looks like this, and bytes of another meaning do not.
    #[inline(always)]
    fn is_first_bio(&self) -> bool {
        let Sample { io_end, image, vec_next_prev, .. } = self;
        image.count == 2
            && image.flag < 2
            && image.bio == 0
            && (image.handle == 0 || is_kernel_address(image.handle))
            && is_kernel_address(image.vec_prev)
            && *vec_next_prev == Some(io_end + IO_END_LIST_VEC_OFFSET)
    }
}

/// The upper half of the address space is the kernel's.
#[inline(always)]
fn is_kernel_address(address: u64) -> bool {
    address >> 63 == 1
}
