//! Whose io_end it is, told with its first bio where its birth could not: by the inode that the io_end
//! itself names.
//!
//! Where the layout of io_ends is assumed, it says besides whether this one has it.

use endiod_wire::{
    layout::Sample,
    wire::{IO_END_INODE_OFFSET, IoEndImage, IoEndInode, bound, valid},
};

use super::{
    seen::{bio_attached, bio_attached_unless_told, identify},
    slab::NO_EXIST,
};
use crate::{
    emit::{count_left_out, emit},
    kernel::{layout_is_assumed, read_at, read_image},
    maps::{LIVE_IO_ENDS, Live, SLAB},
};

/// Of an io_end that was not there when its inode was told.
const TOLD: Live = Live { told: 1, free_owed: 0 };

/// `submit_bio` of a bio, of whatever file system.
#[inline(always)]
pub(super) fn bio_submitted(bio: u64) {
    tell_if_unborn(bio_attached_unless_told(bio));
}

/// `__blk_crypto_submit_bio` of a bio, of whatever file system.
#[inline(always)]
pub(super) fn bio_enciphered(bio: u64) {
    tell_if_unborn(bio_attached(bio));
}

/// Births are seen by their function as a rule, and tell the inode; in a module without BTF they are not.
#[inline(always)]
fn tell_if_unborn(io_end: Option<u64>) {
    if let Some(io_end) = io_end
        && layout_is_assumed()
    {
        tell_inode(io_end);
    }
}

/// Tells once whose io_end it is; with every bio where nobody would strike it off the table.
#[inline(always)]
pub(super) fn tell_inode(io_end: u64) {
    // SAFETY: the map's value is live for ever.
    let watched = SLAB.get_ptr(0).is_some_and(|slab| unsafe { (*slab).frees_watched } != 0);
    if watched {
        match LIVE_IO_ENDS.get_ptr_mut(io_end) {
            // SAFETY: the value is live as long as the io_end; one task submits its bios.
            Some(live) if unsafe { (*live).told } != 0 => return,
            // SAFETY: as above.
            Some(live) => unsafe { (*live).told = 1 },
            // Born before we looked, or when there was no room.
            None if LIVE_IO_ENDS.insert(io_end, TOLD, NO_EXIST).is_ok() => {}
            None => count_left_out(bound::LIVE_IO_ENDS),
        }
    }
    emit(|record: &mut IoEndInode| {
        identify(record, io_end, read_at(io_end + IO_END_INODE_OFFSET));
        if layout_is_assumed() {
            record.valid |= layout_sign(io_end, record.valid & valid::INODE != 0);
        }
    });
}

/// What the io_end says of the assumed layout; nothing if it cannot be read.
#[inline(always)]
fn layout_sign(io_end: u64, inode_is_ext4: bool) -> u32 {
    let mut image = IoEndImage::default();
    if !read_image(io_end, &mut image) {
        return 0;
    }
    let vec_next_prev = read_at::<u64>(image.vec_next.wrapping_add(8));
    Sample { io_end, image, inode_is_ext4, vec_next_prev }.sign()
}
