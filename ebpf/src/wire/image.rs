//! The io_end itself, as records carry it. This file must never depend on a kernel header or on a crate.

use core::mem::size_of;

/// The first 64 bytes of `struct ext4_io_end`, verbatim.
///
/// Same layout in every kernel from 5.5 to 7.3 (list@0, handle@16, inode@24, bio@32, flag@40,
/// count@44, list_vec@48); the agent checks it against the running kernel's BTF before it attaches. Where
/// ext4 is a module without BTF the programs check it at each first bio ([`crate::layout`]).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoEndImage {
    /// `list.next`: the io_end's own address when it is on no list.
    pub list_next: u64,
    /// `list.prev`.
    pub list_prev: u64,
    /// `handle`: the reserved journal handle.
    pub handle: u64,
    /// `inode`.
    pub inode: u64,
    /// `bio`: head of the bios whose completion waits for the conversion.
    pub bio: u64,
    /// `flag`.
    pub flag: u32,
    /// `count`: references.
    pub count: u32,
    /// `list_vec.next`: the address of `list_vec` itself when no range is attached.
    pub vec_next: u64,
    /// `list_vec.prev`.
    pub vec_prev: u64,
}

/// Size of the image and of the kernel's object, bytes.
pub const IO_END_SIZE: usize = size_of::<IoEndImage>();

/// Offset of `inode` in `struct ext4_io_end`, bytes.
pub const IO_END_INODE_OFFSET: u64 = 24;

/// Offset of `flag` in `struct ext4_io_end`, bytes.
pub const IO_END_FLAG_OFFSET: u64 = 40;

/// Offset of `list_vec` in `struct ext4_io_end`, bytes.
pub const IO_END_LIST_VEC_OFFSET: u64 = 48;
