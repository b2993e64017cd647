//! What a sight of an io_end is made into, whichever back end saw it.

use endiod_wire::wire::{
    BioAttach, BioEnd, Claim, ConvertBegin, IoEndBirth, IoEndImage, IoEndInode, Listed, Put,
    PutDefer, Record, Release, valid,
};

use crate::{
    emit::emit,
    kernel::{
        BIO_BI_CRYPT_CONTEXT, BIO_BI_END_IO, BIO_BI_OPF, BIO_BI_PRIVATE, BIO_BI_SECTOR,
        BIO_BI_SIZE, BIO_BI_STATUS, EXT4_END_BIO, inode_id, read, read_image,
    },
};

/// Rounds of a walk: the verifier of kernels before 5.12 (feature `lanes`) takes minutes for as many as
/// later ones take in its stride.
pub(crate) const fn rounds(rounds_max: u32) -> u32 {
    if cfg!(feature = "lanes") { rounds_max / 16 } else { rounds_max }
}

/// A record that is an io_end and its image.
pub(crate) trait Sight: Record + 'static {
    /// Sets all fields but the image, and returns the image.
    fn set(&mut self, io_end: u64) -> &mut IoEndImage;
    /// Sets the valid bits.
    fn set_valid(&mut self, valid: u32);
}

macro_rules! sights {
    ($( $Name:ident ),*) => { $(
        impl Sight for $Name {
            #[inline(always)]
            fn set(&mut self, io_end: u64) -> &mut IoEndImage {
                self.io_end = io_end;
                self.pad = 0;
                &mut self.image
            }

            #[inline(always)]
            fn set_valid(&mut self, valid: u32) {
                self.valid = valid;
            }
        }
    )* };
}

sights!(Put, PutDefer, Claim, ConvertBegin, Release, Listed);

/// Emits an io_end with its image.
#[inline(always)]
pub(crate) fn seen<S: Sight>(io_end: u64) {
    emit(|record: &mut S| fill(record, io_end));
}

/// Fills a record with an io_end and its image.
#[inline(always)]
pub(crate) fn fill<S: Sight>(record: &mut S, io_end: u64) {
    let valid = if read_image(io_end, record.set(io_end)) { valid::IMAGE } else { 0 };
    record.set_valid(valid);
}

/// A record that says whose an io_end is.
pub(crate) trait Identity: Record {
    /// Sets all fields: the inode's address, 0 if it is not known, and its number and device.
    fn set(&mut self, io_end: u64, inode: u64, id: Option<(u64, u32)>);
}

macro_rules! identities {
    ($( $Name:ident ),*) => { $(
        impl Identity for $Name {
            #[inline(always)]
            fn set(&mut self, io_end: u64, inode: u64, id: Option<(u64, u32)>) {
                let (ino, dev) = id.unwrap_or((0, 0));
                self.io_end = io_end;
                self.inode = inode;
                self.ino = ino;
                self.dev = dev;
                self.valid = if id.is_some() { valid::INODE } else { 0 };
            }
        }
    )* };
}

identities!(IoEndBirth, IoEndInode);

/// Fills a record with an io_end and the inode it belongs to, if that is known.
#[inline(always)]
pub(crate) fn identify<I: Identity>(record: &mut I, io_end: u64, inode: Option<u64>) {
    record.set(io_end, inode.unwrap_or(0), inode.and_then(inode_id));
}

/// Whether that bio ends in `ext4_end_bio`, which makes its `bi_private` an io_end.
#[inline(always)]
pub(crate) fn io_end_of(bio: u64) -> Option<u64> {
    if read::<u64>(bio, &BIO_BI_END_IO) != Some(EXT4_END_BIO.load()) {
        return None;
    }
    read::<u64>(bio, &BIO_BI_PRIVATE)
}

/// A bio, of whatever file system, is submitted; the io_end it belongs to, if to one.
#[inline(always)]
pub(crate) fn bio_attached(bio: u64) -> Option<u64> {
    let io_end = io_end_of(bio)?;
    attached(bio, io_end);
    Some(io_end)
}

/// A bio, of whatever file system, is submitted by `submit_bio`: that is the first word of it unless it
/// is to be enciphered and `__blk_crypto_submit_bio`, where there is one, left it to the device.
#[inline(always)]
pub(crate) fn bio_attached_unless_told(bio: u64) -> Option<u64> {
    let io_end = io_end_of(bio)?;
    if was_told_enciphered(bio) {
        return None;
    }
    attached(bio, io_end);
    Some(io_end)
}

#[inline(always)]
fn was_told_enciphered(bio: u64) -> bool {
    BIO_BI_CRYPT_CONTEXT.load() != 0 && read::<u64>(bio, &BIO_BI_CRYPT_CONTEXT).unwrap_or(0) != 0
}

#[inline(always)]
fn attached(bio: u64, io_end: u64) {
    emit(|record: &mut BioAttach| {
        record.io_end = io_end;
        record.bio = bio;
        record.sector = read(bio, &BIO_BI_SECTOR).unwrap_or(u64::MAX);
        record.bytes = read(bio, &BIO_BI_SIZE).unwrap_or(0);
        record.opf = read(bio, &BIO_BI_OPF).unwrap_or(0);
    });
}

/// `ext4_end_bio` was entered.
#[inline(always)]
pub(crate) fn bio_ended(bio: u64) {
    let Some(io_end) = read::<u64>(bio, &BIO_BI_PRIVATE) else { return };
    emit(|record: &mut BioEnd| {
        let status = read::<u8>(bio, &BIO_BI_STATUS);
        record.io_end = io_end;
        record.bio = bio;
        record.status = u32::from(status.unwrap_or(0));
        record.valid = if status.is_some() { valid::BIO } else { 0 };
        if read::<u64>(bio, &BIO_BI_END_IO) == Some(0) {
            record.valid |= valid::ENDED_BEFORE;
        }
        if read_image(io_end, &mut record.image) {
            record.valid |= valid::IMAGE;
        }
    });
}
