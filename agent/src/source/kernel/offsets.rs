//! Field offsets and addresses of the running kernel, handed to the programs before they load.
//!
//! Offsets come from the kernel's own BTF, addresses from kallsyms: the programs carry no generated
//! structure and fit every kernel whose fields have these names. It must never guess: a field that
//! is not found is an error that names it.
//!
//! Where ext4 is a module without BTF (a kernel before 5.11, a module built without), vmlinux's BTF has
//! the kernel's own structures and not ext4's. What needs one of those is off with the reason; the image
//! of an `ext4_io_end` has had one layout since 5.5 and is then [`IoEndLayout::Assumed`].

use std::collections::HashMap;

use endiod_wire::wire::{IO_END_LIST_VEC_OFFSET, IO_END_SIZE};

use super::btf::{Btf, BtfError};
use crate::probes::Witness;

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

/// Constants of ext4's own structures, and what cannot be witnessed without them: a work item's inode,
/// and the list of that inode.
const OF_EXT4: &[(&str, &[Witness])] = &[
    ("EXT4_INODE_VFS_INODE", &[Witness::WorkerBegin, Witness::WorkerEnd, Witness::WorkQueued]),
    ("EXT4_INODE_RSV_WORK", &[Witness::WorkerBegin, Witness::WorkerEnd, Witness::WorkQueued]),
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

/// Whether the layout of `ext4_io_end` was looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum IoEndLayout {
    /// BTF describes it, and it is the image's.
    Described,
    /// No BTF describes it.
    #[default]
    Assumed,
}

/// The programs' constants for this kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Constants {
    /// Those of ext4's own structures that no BTF describes.
    pub(super) unknown: Vec<&'static str>,
    /// How sure the image of an io_end is.
    pub(super) io_end: IoEndLayout,
    /// 32-bit constants by name.
    pub(super) words: Vec<(&'static str, u32)>,
    /// 64-bit constants by name.
    pub(super) addresses: Vec<(&'static str, u64)>,
}

impl Constants {
    /// The constant without which this cannot be witnessed, if one is unknown.
    pub(super) fn lacks(&self, witness: Witness) -> Option<&'static str> {
        let unknown = OF_EXT4.iter().filter(|(name, _)| self.unknown.contains(name));
        unknown
            .filter(|(_, needed_for)| needed_for.contains(&witness))
            .map(|(name, _)| *name)
            .next()
    }
}

/// Finds every constant; those of ext4's own structures only where ext4's BTF is shown.
///
/// # Errors
/// What is missing, and the fix where we know it.
pub(super) fn find(
    btf: &Btf<'_>,
    symbols: &HashMap<String, u64>,
    version: (u32, u32),
) -> Result<Constants, OffsetsError> {
    let mut constants = Constants { io_end: check_io_end(btf)?, ..Constants::default() };
    for &(name, structure, member) in OFFSETS {
        match offset(btf, structure, member) {
            Ok(found) => constants.words.push((name, found)),
            Err(error) if is_of_ext4(name) && is_not_described(&error) => {
                constants.unknown.push(name);
            }
            Err(error) => return Err(error),
        }
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

fn is_of_ext4(constant: &str) -> bool {
    OF_EXT4.iter().any(|(name, _)| *name == constant)
}

/// Whether the structure is unknown, and not just other than expected.
fn is_not_described(error: &OffsetsError) -> bool {
    matches!(error, OffsetsError::Field { source: BtfError::MissingStruct { .. }, .. })
}

fn check_io_end(btf: &Btf<'_>) -> Result<IoEndLayout, OffsetsError> {
    for &(member, expected) in IO_END_LAYOUT {
        let found = match offset(btf, "ext4_io_end", member) {
            Ok(found) => u64::from(found),
            Err(error) if is_not_described(&error) => return Ok(IoEndLayout::Assumed),
            Err(error) => return Err(error),
        };
        if found != expected || found >= IO_END_SIZE as u64 {
            return Err(OffsetsError::Layout { member, found, expected });
        }
    }
    Ok(IoEndLayout::Described)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{probes::PROBES, source::kernel::btf::tests as synthetic};

    fn symbols() -> HashMap<String, u64> {
        HashMap::from([("ext4_end_bio".to_owned(), 0xffff_8000)])
    }

    fn structures(of_ext4: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
        let mine = move |structure: &str| structure.starts_with("ext4_") == of_ext4;
        OFFSETS
            .iter()
            .map(|(_, structure, member)| (*structure, *member))
            .filter(move |it| mine(it.0))
    }

    /// ext4's own structures with an io_end of the layout that the image has.
    fn module() -> Vec<(&'static str, &'static str, u32)> {
        let io_end = IO_END_LAYOUT
            .iter()
            .map(|(member, at)| ("ext4_io_end", *member, u32::try_from(*at).unwrap()));
        let others =
            structures(true).zip((64..).step_by(8)).map(|((of, member), at)| (of, member, at));
        io_end.chain(others).collect()
    }

    fn kernel() -> Vec<(&'static str, &'static str, u32)> {
        structures(false).zip((0..).step_by(8)).map(|((of, member), at)| (of, member, at)).collect()
    }

    #[test]
    fn a_modules_structures_are_found_in_its_own_btf() {
        let vmlinux = synthetic::structures(None, &kernel());
        let vmlinux = Btf::parse(&vmlinux).unwrap();
        let split = synthetic::structures(Some(&vmlinux), &module());
        let split = Btf::parse_split(&vmlinux, &split).unwrap();
        let found = find(&split, &symbols(), (6, 1)).unwrap();
        assert_eq!((found.io_end, found.unknown.as_slice()), (IoEndLayout::Described, &[][..]));
        for (name, structure, member) in OFFSETS {
            let (_, offset) = found.words.iter().find(|(found, _)| found == name).unwrap();
            let at = split.struct_field(structure, member).unwrap().offset_bytes;
            assert_eq!(*offset, at, "{name}");
        }
        assert!(PROBES.iter().all(|probe| found.lacks(probe.witness).is_none()));
    }

    #[test]
    fn without_a_modules_btf_the_worker_cannot_be_followed_and_all_else_can() {
        let vmlinux = synthetic::structures(None, &kernel());
        let found = find(&Btf::parse(&vmlinux).unwrap(), &symbols(), (5, 10)).unwrap();
        assert_eq!(found.io_end, IoEndLayout::Assumed);
        let off: std::collections::BTreeSet<_> = PROBES
            .iter()
            .filter(|probe| found.lacks(probe.witness).is_some())
            .map(|probe| probe.witness)
            .collect();
        let worker = [Witness::WorkerBegin, Witness::WorkerEnd, Witness::WorkQueued];
        assert_eq!(off, std::collections::BTreeSet::from(worker));
    }

    #[test]
    fn a_structure_of_another_shape_is_an_error_and_not_a_guess() {
        let mut shapes = [kernel(), module()].concat();
        shapes.iter_mut().filter(|(_, member, _)| *member == "flag").for_each(|it| it.2 = 56);
        let bytes = synthetic::structures(None, &shapes);
        let error = find(&Btf::parse(&bytes).unwrap(), &symbols(), (6, 1)).unwrap_err();
        assert!(matches!(error, OffsetsError::Layout { member: "flag", .. }), "{error}");
    }
}
