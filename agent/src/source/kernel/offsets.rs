//! Field offsets and addresses of the running kernel, handed to the programs before they load.
//!
//! Offsets come from the kernel's own BTF, addresses from kallsyms: the programs carry no generated
//! structure and fit every kernel whose fields have these names. It must never guess: a field that
//! is not found is an error that names it. Of ext4 as a module without BTF it finds none: the programs are
//! told to take io_ends for what they are from 5.5 to 7.3, and to check it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
};

use endiod_wire::wire::{IO_END_LIST_VEC_OFFSET, IO_END_SIZE};

use super::{
    Subject,
    btf::{Btf, BtfError},
    tracepoints,
    types::Ext4Types,
};
use crate::{
    flag_writers,
    host::{CodeSymbol, Kallsyms},
    probes::{Hook, PROBES, Probe},
};

/// Constant in the programs, structure, member: what no back end can do without.
pub(super) const OFFSETS: &[(&str, &str, &str)] = &[
    ("INODE_I_INO", "inode", "i_ino"),
    ("INODE_I_SB", "inode", "i_sb"),
    ("SUPER_BLOCK_S_DEV", "super_block", "s_dev"),
    ("SUPER_BLOCK_S_MAGIC", "super_block", "s_magic"),
    ("EXT4_INODE_VFS_INODE", "ext4_inode_info", "vfs_inode"),
    ("EXT4_INODE_RSV_WORK", "ext4_inode_info", "i_rsv_conversion_work"),
    ("BIO_BI_END_IO", "bio", "bi_end_io"),
    ("BIO_BI_PRIVATE", "bio", "bi_private"),
    ("BIO_BI_STATUS", "bio", "bi_status"),
    ("BIO_BI_OPF", "bio", "bi_opf"),
    ("BIO_BI_SECTOR", "bio", "bi_iter.bi_sector"),
    ("BIO_BI_SIZE", "bio", "bi_iter.bi_size"),
    ("FILE_F_INODE", "file", "f_inode"),
];

/// The same, with the programs that cannot do without.
pub(super) const OFFSETS_OF_SOME: &[(&str, &str, &str, &[&str])] = &[
    ("KIOCB_KI_FILP", "kiocb", "ki_filp", DIRECT_IO),
    ("KIOCB_KI_POS", "kiocb", "ki_pos", DIRECT_IO),
    ("KIOCB_KI_FLAGS", "kiocb", "ki_flags", DIRECT_IO),
    ("IOV_ITER_COUNT", "iov_iter", "count", DIRECT_IO),
    // Without it no completion is found uncounted, nothing else is lost.
    ("INODE_I_DIO_COUNT", "inode", "i_dio_count", &[]),
    ("REQUEST_BIO", "request", "bio", &["tp_block_rq_complete"]),
    ("REQUEST_BIOTAIL", "request", "biotail", &["tp_block_rq_complete"]),
    ("BIO_BI_NEXT", "bio", "bi_next", &["tp_block_rq_complete"]),
    (
        "WORK_FUNC",
        "work_struct",
        "func",
        &["tp_workqueue_queue_work", "tp_workqueue_execute_start"],
    ),
    ("WORK_DATA", "work_struct", "data", &["ext4_destroy_inode"]),
    ("INODE_NRPAGES", "inode", "i_data.nrpages", &["ext4_evict_inode"]),
    (
        "EXT4_INODE_RSV_LIST",
        "ext4_inode_info",
        "i_rsv_conversion_list",
        &["tp_workqueue_execute_start"],
    ),
];

/// Where this is a function, it sees a bio that is to be enciphered before `submit_bio` does, if that
/// sees it at all (7.0 on); its programs, and the member that tells such a bio.
const ENCIPHERS: &str = "__blk_crypto_submit_bio";
const ENCIPHERED: &[&str] = &["__blk_crypto_submit_bio", "kprobe_blk_crypto_submit_bio"];
const CRYPT_CONTEXT: (&str, &str) = ("bio", "bi_crypt_context");

const DIRECT_IO: &[&str] = &["ext4_file_write_iter", "ext4_file_write_iter_exit"];

/// Symbol, constant that its address is, programs that cannot do without.
const ADDRESSES_OF_SOME: &[(&str, &str, &[&str])] = &[
    ("bio_chain_endio", "BIO_CHAIN_ENDIO", &["tp_block_rq_complete"]),
    ("ext4_init_io_end", "EXT4_INIT_IO_END", &["tp_kmem_cache_alloc"]),
    (
        "ext4_end_io_rsv_work",
        "EXT4_END_IO_RSV_WORK",
        &["tp_workqueue_queue_work", "tp_workqueue_execute_start", "tp_workqueue_execute_end"],
    ),
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

/// Symbols that the programs compare with or read through, beside each subject's end of a bio.
const SYMBOLS: &[&str] = &[
    "bio_chain_endio",
    "ext4_init_io_end",
    "ext4_end_io_rsv_work",
    "__per_cpu_offset",
    "__preempt_count",
    "pcpu_hot",
];

/// Why a function of a module without BTF is not traced.
const NOT_TRACEABLE: &str = "ext4 is a module without BTF, which no tracing program reaches: raw tracepoints and \
                             kprobes only";

/// What kallsyms shows of the symbols that matter here, read once: the kernel takes tens of milliseconds to
/// write it down.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    addresses: HashMap<String, u64>,
    /// Length of `ext4_init_io_end`, bytes.
    init_io_end_len: Option<u64>,
    /// The functions that write flags, with their ends.
    writers: Vec<(CodeSymbol, u64)>,
}

impl Symbols {
    /// Reads them.
    ///
    /// # Errors
    /// The list cannot be read.
    pub fn read(kallsyms: &Kallsyms) -> io::Result<Symbols> {
        let hooked = PROBES.iter().filter(|probe| is_function_of_ext4(probe));
        let ends = Subject::ALL.map(Subject::end_bio);
        let hooked = hooked.map(|probe| probe.function);
        let names: HashSet<_> = SYMBOLS.iter().copied().chain(ends).chain(hooked).collect();
        let wanted = |name: &str| names.contains(name) || flag_writers::is_writer(name);
        let mut symbols = Symbols::default();
        for (symbol, end) in kallsyms.symbols(wanted)? {
            let is_first = !symbols.addresses.contains_key(&symbol.name);
            if is_first && symbol.name == "ext4_init_io_end" {
                symbols.init_io_end_len = end.map(|end| end - symbol.address);
            }
            if is_first && names.contains(&*symbol.name) {
                symbols.addresses.insert(symbol.name.clone(), symbol.address);
            }
            if let Some(end) = end.filter(|_| flag_writers::is_writer(&symbol.name)) {
                symbols.writers.push((symbol, end));
            }
        }
        Ok(symbols)
    }

    /// The functions that write flags, each up to the next symbol.
    pub(super) fn writers(&self) -> &[(CodeSymbol, u64)] {
        &self.writers
    }

    /// The address of one, if it is shown.
    pub fn address(&self, name: &str) -> Option<u64> {
        self.addresses.get(name).copied()
    }
}

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
        "{structure}.{member} is at byte {found}, this version of endiod reads it at {expected}: \
         the kernel is outside 5.5 to 7.3 or patched"
    )]
    Layout {
        /// The structure.
        structure: &'static str,
        /// The member.
        member: &'static str,
        /// Where BTF says it is.
        found: u64,
        /// Where the image has it.
        expected: u64,
    },
    /// kallsyms does not show the address.
    #[error(
        "kallsyms shows no address for {function}: run as root, and with \
         kernel.kptr_restrict below 2 (sysctl kernel.kptr_restrict=1)"
    )]
    EndBio {
        /// Its name.
        function: &'static str,
    },
}

/// The programs' constants for this kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Constants {
    /// 32-bit constants by name.
    pub(super) words: Vec<(&'static str, u32)>,
    /// 64-bit constants by name.
    pub(super) addresses: Vec<(&'static str, u64)>,
    /// Programs that this kernel lacks something for, and what.
    pub(super) unusable: BTreeMap<&'static str, String>,
    /// Functions of ext4 that are there and that no BTF describes.
    pub(super) undescribed: BTreeSet<&'static str>,
}

/// Finds every constant; what only some programs need and is not found makes those unusable.
///
/// # Errors
/// What is missing, and the fix where we know it.
pub(super) fn find(
    btf: &Btf<'_>,
    subject: Subject,
    ext4: Ext4Types,
    symbols: &Symbols,
    version: (u32, u32),
) -> Result<Constants, OffsetsError> {
    let mut constants = Constants::default();
    let is_assumed = ext4 == Ext4Types::Assumed;
    constants.words.push(("LAYOUT_ASSUMED", u32::from(is_assumed)));
    if is_assumed {
        constants.assume_ext4(symbols);
    } else {
        check_io_end(btf, subject.io_end())?;
    }
    for &(name, structure, member) in OFFSETS {
        let row = (name, (structure, member));
        let (structure, member) = subject.field(row).expect("a test compares the two tables");
        if !(is_assumed && is_of_ext4(structure)) {
            constants.words.push((name, offset(btf, structure, member)?));
        }
    }
    let flush_args = btf.function_params("blkdev_issue_flush").map_or(1, |params| params.len());
    constants.words.push(("FLUSH_ARGS", u32::try_from(flush_args).unwrap_or(1)));
    let (hardirq_mask, nmi_mask) = context_masks(version);
    constants.words.push(("HARDIRQ_MASK", hardirq_mask));
    constants.words.push(("NMI_MASK", nmi_mask));

    constants.find_of_some(btf, subject, is_assumed);
    if subject == Subject::Ext4 {
        constants.words.extend(tracepoints::variants(btf));
        constants.find_of_ext4(btf, is_assumed, symbols);
    }
    // Without it the lock of a list is not told, nothing else is lost.
    constants.words.push(("INODE_COMPLETED_LOCK", completed_lock(btf, subject).unwrap_or(0)));

    let function = subject.end_bio();
    let end_bio = symbols.address(function).ok_or(OffsetsError::EndBio { function })?;
    constants.addresses.push(("EXT4_END_BIO", end_bio));
    // Without these two the context of an event is "unknown", nothing else is lost.
    let array = symbols.address("__per_cpu_offset").unwrap_or(0);
    constants.addresses.push(("PER_CPU_OFFSET", array));
    constants.addresses.push(("PREEMPT_COUNT", preempt_count(btf, symbols).unwrap_or(0)));
    Ok(constants)
}

impl Constants {
    /// Address of the end of an io_end's bio.
    pub(super) fn end_bio(&self) -> u64 {
        let mut all = self.addresses.iter();
        all.find(|(name, _)| *name == "EXT4_END_BIO").map_or(0, |(_, address)| *address)
    }

    /// Without BTF of ext4: where its inode's fields are the programs learn (`probes/worker.rs`), and a
    /// function that nothing describes takes no tracing program.
    fn assume_ext4(&mut self, symbols: &Symbols) {
        for probe in PROBES.iter().filter(|probe| is_function_of_ext4(probe)) {
            if symbols.address(probe.function).is_some() {
                self.undescribed.insert(probe.function);
            }
            if probe.hook != Hook::Kprobe {
                self.lack(&[probe.program], NOT_TRACEABLE);
            }
        }
    }

    fn find_of_some(&mut self, btf: &Btf<'_>, subject: Subject, is_assumed: bool) {
        for &(name, structure, member, programs) in OFFSETS_OF_SOME {
            let Some((structure, member)) = subject.field((name, (structure, member))) else {
                continue;
            };
            if is_assumed && is_of_ext4(structure) {
                continue;
            }
            let found = offset(btf, structure, member);
            self.words.push((name, *found.as_ref().unwrap_or(&0)));
            if let Err(error) = found {
                self.lack(programs, &error.to_string());
            }
        }
    }

    /// What is needed for raw tracepoints, and for bios that are to be enciphered.
    fn find_of_ext4(&mut self, btf: &Btf<'_>, is_assumed: bool, symbols: &Symbols) {
        for &(symbol, name, programs) in ADDRESSES_OF_SOME {
            let found = symbols.address(symbol);
            self.addresses.push((name, found.unwrap_or(0)));
            if found.is_none() {
                self.lack(programs, &format!("kallsyms shows no address for {symbol}"));
            }
        }
        self.find_crypt_context(btf);
        // Of length zero no call site is inside.
        self.addresses.push(("EXT4_INIT_IO_END_LEN", symbols.init_io_end_len.unwrap_or(0)));
        if symbols.init_io_end_len.is_none() {
            self.lack(
                &["tp_kmem_cache_alloc"],
                "kallsyms does not show where ext4_init_io_end ends",
            );
        }
        let tracepoints = PROBES.iter().filter(|probe| probe.hook == Hook::Tracepoint);
        // Those of ext4 have had one form from 5.10 to 7.3, and the program looks at what it is given.
        for probe in tracepoints.filter(|probe| !(is_assumed && probe.is_ext4())) {
            if let Some(why) = tracepoints::misfit(btf, probe.function) {
                self.lack(&[probe.program], &why);
            }
        }
    }

    /// By it the programs of `submit_bio` leave out what was told already; 0 where nothing was.
    fn find_crypt_context(&mut self, btf: &Btf<'_>) {
        let (structure, member) = CRYPT_CONTEXT;
        let found = match btf.has_function(ENCIPHERS) {
            true => offset(btf, structure, member),
            false => Ok(0),
        };
        self.words.push(("BIO_BI_CRYPT_CONTEXT", *found.as_ref().unwrap_or(&0)));
        if let Err(error) = found {
            self.lack(ENCIPHERED, &error.to_string());
        }
    }

    fn lack(&mut self, programs: &[&'static str], why: &str) {
        for program in programs {
            self.unusable.entry(program).or_insert_with(|| why.to_owned());
        }
    }
}

/// How far the lock lies behind the inode that an io_end points to.
fn completed_lock(btf: &Btf<'_>, subject: Subject) -> Option<u32> {
    let (structure, member) = subject.completed_lock();
    let lock = offset(btf, structure, member).ok()?;
    match subject {
        Subject::Ext4 => lock.checked_sub(offset(btf, structure, "vfs_inode").ok()?),
        Subject::Replica => Some(lock),
    }
}

fn is_of_ext4(structure: &str) -> bool {
    structure.starts_with("ext4_")
}

fn is_function_of_ext4(probe: &Probe) -> bool {
    probe.is_ext4() && probe.hook != Hook::Tracepoint
}

/// Bits of the preempt count that say hard interrupt and NMI (include/linux/preempt.h). From 7.3 on
/// bits 16-23 count nested disabling of interrupts, and both moved up by eight.
fn context_masks(version: (u32, u32)) -> (u32, u32) {
    if version >= (7, 3) { (0x0f00_0000, 0xf000_0000) } else { (0x000f_0000, 0x00f0_0000) }
}

/// x86: a variable of its own, or a member of `pcpu_hot` (6.2 to 6.14).
fn preempt_count(btf: &Btf<'_>, symbols: &Symbols) -> Option<u64> {
    if let Some(address) = symbols.address("__preempt_count") {
        return Some(address);
    }
    let hot = symbols.address("pcpu_hot")?;
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

fn check_io_end(btf: &Btf<'_>, structure: &'static str) -> Result<(), OffsetsError> {
    for &(member, expected) in IO_END_LAYOUT {
        let found = u64::from(offset(btf, structure, member)?);
        if found != expected || found >= IO_END_SIZE as u64 {
            return Err(OffsetsError::Layout { structure, member, found, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
