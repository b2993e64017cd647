//! Field offsets and addresses of the running kernel, handed to the programs before they load.
//!
//! Offsets come from the kernel's own BTF, addresses from kallsyms: the programs carry no generated
//! structure and fit every kernel whose fields have these names. It must never guess: a field that
//! is not found is an error that names it.

use std::collections::HashMap;

use endiod_wire::wire::{IO_END_LIST_VEC_OFFSET, IO_END_SIZE};

use super::btf::{Btf, BtfError};

/// Constant in the programs, structure, member.
const OFFSETS: &[(&str, &str, &str)] = &[
    ("INODE_I_INO", "inode", "i_ino"),
    ("INODE_I_SB", "inode", "i_sb"),
    ("SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("EXT4_INODE_VFS_INODE", "ext4_inode_info", "vfs_inode"),
    ("EXT4_INODE_RSV_WORK", "ext4_inode_info", "i_rsv_conversion_work"),
    ("BIO_BI_END_IO", "bio", "bi_end_io"),
    ("BIO_BI_PRIVATE", "bio", "bi_private"),
    ("BIO_BI_STATUS", "bio", "bi_status"),
    ("BIO_BI_OPF", "bio", "bi_opf"),
    ("BIO_BI_SECTOR", "bio", "bi_iter.bi_sector"),
    ("BIO_BI_SIZE", "bio", "bi_iter.bi_size"),
    ("FILE_F_INODE", "file", "f_inode"),
    ("KIOCB_KI_FILP", "kiocb", "ki_filp"),
    ("KIOCB_KI_POS", "kiocb", "ki_pos"),
    ("KIOCB_KI_FLAGS", "kiocb", "ki_flags"),
    ("IOV_ITER_COUNT", "iov_iter", "count"),
];

/// The members of `ext4_io_end` where the wire's image has them (5.5 to 7.3).
const IO_END_LAYOUT: &[(&str, u64)] = &[
    ("list", 0),
    ("handle", 16),
    ("inode", 24),
    ("bio", 32),
    ("flag", 40),
    ("count", 44),
    ("list_vec", IO_END_LIST_VEC_OFFSET),
];

/// Symbols that the programs compare with or read through.
pub const SYMBOLS: &[&str] = &["ext4_end_bio", "__per_cpu_offset", "__preempt_count", "pcpu_hot"];

/// Why the constants cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OffsetsError {
    /// The kernel's BTF lacks what is needed.
    #[error("cannot find {structure}.{member} in the kernel's BTF: {source}")]
    Field {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
        /// Why.
        source: BtfError,
    },
    /// `struct ext4_io_end` is not the one this version reads.
    #[error(
        "ext4_io_end.{member} is at byte {found}, this version of endiod reads it at {expected}: \
         the kernel is outside 5.5 to 7.3 or patched"
    )]
    Layout {
        /// The member.
        member: &'static str,
        /// Where BTF says it is.
        found: u64,
        /// Where the image has it.
        expected: u64,
    },
    /// kallsyms does not show the address.
    #[error(
        "kallsyms shows no address for ext4_end_bio: run as root, and with \
         kernel.kptr_restrict below 2 (sysctl kernel.kptr_restrict=1)"
    )]
    EndBio,
}

/// The programs' constants for this kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Constants {
    /// 32-bit constants by name.
    pub(super) words: Vec<(&'static str, u32)>,
    /// 64-bit constants by name.
    pub(super) addresses: Vec<(&'static str, u64)>,
}

/// Finds every constant.
///
/// # Errors
/// What is missing, and the fix where we know it.
pub(super) fn find(
    btf: &Btf<'_>,
    symbols: &HashMap<String, u64>,
    version: (u32, u32),
) -> Result<Constants, OffsetsError> {
    check_io_end(btf)?;
    let mut constants = Constants::default();
    for &(name, structure, member) in OFFSETS {
        constants.words.push((name, offset(btf, structure, member)?));
    }
    let flush_args = btf.function_params("blkdev_issue_flush").map_or(1, |params| params.len());
    constants.words.push(("FLUSH_ARGS", u32::try_from(flush_args).unwrap_or(1)));
    let (hardirq_mask, nmi_mask) = context_masks(version);
    constants.words.push(("HARDIRQ_MASK", hardirq_mask));
    constants.words.push(("NMI_MASK", nmi_mask));

    let end_bio = symbols.get("ext4_end_bio").copied().ok_or(OffsetsError::EndBio)?;
    constants.addresses.push(("EXT4_END_BIO", end_bio));
    // Without these two the context of an event is "unknown", nothing else is lost.
    let array = symbols.get("__per_cpu_offset").copied().unwrap_or(0);
    constants.addresses.push(("PER_CPU_OFFSET", array));
    constants.addresses.push(("PREEMPT_COUNT", preempt_count(btf, symbols).unwrap_or(0)));
    Ok(constants)
}

/// Bits of the preempt count that say hard interrupt and NMI (include/linux/preempt.h). From 7.3 on
/// bits 16-23 count nested disabling of interrupts, and both moved up by eight.
fn context_masks(version: (u32, u32)) -> (u32, u32) {
    if version >= (7, 3) { (0x0f00_0000, 0xf000_0000) } else { (0x000f_0000, 0x00f0_0000) }
}

/// x86: a variable of its own, or a member of `pcpu_hot` (6.2 to 6.14).
fn preempt_count(btf: &Btf<'_>, symbols: &HashMap<String, u64>) -> Option<u64> {
    if let Some(address) = symbols.get("__preempt_count") {
        return Some(*address);
    }
    let hot = symbols.get("pcpu_hot")?;
    let field = btf.struct_field("pcpu_hot", "preempt_count").ok()?;
    Some(hot + u64::from(field.offset_bytes))
}

fn offset(
    btf: &Btf<'_>,
    structure: &'static str,
    member: &'static str,
) -> Result<u32, OffsetsError> {
    btf.struct_field(structure, member)
        .map(|field| field.offset_bytes)
        .map_err(|source| OffsetsError::Field { structure, member, source })
}

fn check_io_end(btf: &Btf<'_>) -> Result<(), OffsetsError> {
    for &(member, expected) in IO_END_LAYOUT {
        let found = u64::from(offset(btf, "ext4_io_end", member)?);
        if found != expected || found >= IO_END_SIZE as u64 {
            return Err(OffsetsError::Layout { member, found, expected });
        }
    }
    Ok(())
}
