//! Whose io_end it is, told with its first bio where its birth could not: by the inode that the io_end
//! itself names.
//!
//! Where the layout of io_ends is assumed, it says besides whether this one has it.

use endiod_wire::{
    layout::Sample,
    wire::{IO_END_INODE_OFFSET, IoEndImage, IoEndInode, valid},
};

use super::{
    seen::bio_attached,
    slab::{NO_EXIST, TOLD},
};
use crate::{
    emit::{count_untracked, emit},
    kernel::{inode_id, layout_is_assumed, read_at, read_image},
    maps::{LIVE_IO_ENDS, SLAB},
};

/// `submit_bio` of a bio, of whatever file system. Births are seen by their function as a rule, and
/// tell the inode; in a module without BTF they are not.
#[inline(always)]
pub(super) fn bio_submitted(bio: u64) {
    let Some(io_end) = bio_attached(bio) else { return };
    if layout_is_assumed() {
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
            Some(state) if unsafe { *state } & TOLD != 0 => return,
            // SAFETY: as above.
            Some(state) => unsafe { *state |= TOLD },
            // Born before we looked.
            None if LIVE_IO_ENDS.insert(io_end, TOLD, NO_EXIST).is_err() => count_untracked(),
            None => {}
        }
    }
    emit(|record: &mut IoEndInode| {
        let inode = read_at::<u64>(io_end + IO_END_INODE_OFFSET).unwrap_or(0);
        let id = inode_id(inode);
        let (ino, dev) = id.unwrap_or((0, 0));
        record.io_end = io_end;
        record.inode = inode;
        record.ino = ino;
        record.dev = dev;
        record.valid = if id.is_some() { valid::INODE } else { 0 };
        if layout_is_assumed() {
            record.valid |= layout_sign(io_end, id.is_some());
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
