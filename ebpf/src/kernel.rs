//! Reads of kernel memory, with the field offsets of the running kernel.
//!
//! The agent finds the offsets in BTF and the addresses in kallsyms, and sets them before load; the
//! verifier then sees constants. A read that fails gives `None`: never a zero that looks like data.

use aya_ebpf::{
    Global,
    helpers::{
        bpf_get_current_pid_tgid, bpf_probe_read_kernel,
        generated::bpf_probe_read_kernel as read_raw,
    },
};
use endiod_wire::{
    layout::EXT4_MAGIC,
    wire::{IO_END_SIZE, IoEndImage, context, valid},
};

use crate::maps::{CPUS, LEARNED};

macro_rules! constants {
    ($( $(#[$doc:meta])* $name:ident : $ty:ty ),* $(,)?) => { $(
        $(#[$doc])*
        #[unsafe(no_mangle)]
        pub(crate) static $name: Global<$ty> = Global::new(0);
    )* };
}

constants! {
    /// Address of `ext4_end_bio`.
    EXT4_END_BIO: u64,
    /// Address of the array `__per_cpu_offset`; 0: the context is unknown.
    PER_CPU_OFFSET: u64,
    /// Per-CPU address of the preempt count; 0: the context is unknown.
    PREEMPT_COUNT: u64,
    /// Bits of the preempt count that say hard interrupt.
    HARDIRQ_MASK: u32,
    /// Bits of the preempt count that say NMI.
    NMI_MASK: u32,
    /// `inode.i_ino`.
    INODE_I_INO: u32,
    /// `inode.i_sb`.
    INODE_I_SB: u32,
    /// `inode.i_data.nrpages`.
    INODE_NRPAGES: u32,
    /// `super_block.s_dev`.
    SUPER_BLOCK_S_DEV: u32,
    /// `super_block.s_magic`.
    SUPER_BLOCK_S_MAGIC: u32,
    /// 1 where ext4 is a module without BTF: what lies where in its structures is assumed.
    LAYOUT_ASSUMED: u32,
    /// `ext4_inode_info.vfs_inode`.
    EXT4_INODE_VFS_INODE: u32,
    /// `ext4_inode_info.i_rsv_conversion_work`.
    EXT4_INODE_RSV_WORK: u32,
    /// `bio.bi_end_io`.
    BIO_BI_END_IO: u32,
    /// `bio.bi_private`.
    BIO_BI_PRIVATE: u32,
    /// `bio.bi_status`.
    BIO_BI_STATUS: u32,
    /// `bio.bi_opf`.
    BIO_BI_OPF: u32,
    /// `bio.bi_iter.bi_sector`.
    BIO_BI_SECTOR: u32,
    /// `bio.bi_iter.bi_size`.
    BIO_BI_SIZE: u32,
    /// `bio.bi_crypt_context` where `__blk_crypto_submit_bio` sees enciphered bios first (7.0 on), else 0.
    BIO_BI_CRYPT_CONTEXT: u32,
    /// `file.f_inode`.
    FILE_F_INODE: u32,
    /// `kiocb.ki_filp`.
    KIOCB_KI_FILP: u32,
    /// `kiocb.ki_pos`.
    KIOCB_KI_POS: u32,
    /// `kiocb.ki_flags`.
    KIOCB_KI_FLAGS: u32,
    /// `iov_iter.count`.
    IOV_ITER_COUNT: u32,
    /// `inode.i_dio_count`; 0: where it is is not known.
    INODE_I_DIO_COUNT: u32,
    /// Address of `bio_chain_endio`, the end of a part that was split off.
    BIO_CHAIN_ENDIO: u64,
    /// Address of `ext4_init_io_end`.
    EXT4_INIT_IO_END: u64,
    /// Length of its code, bytes.
    EXT4_INIT_IO_END_LEN: u64,
    /// Address of `ext4_end_io_rsv_work`.
    EXT4_END_IO_RSV_WORK: u64,
    /// `ext4_inode_info.i_rsv_conversion_list`.
    EXT4_INODE_RSV_LIST: u32,
    /// `bio.bi_next`.
    BIO_BI_NEXT: u32,
    /// `request.bio`.
    REQUEST_BIO: u32,
    /// `request.biotail`.
    REQUEST_BIOTAIL: u32,
    /// `work_struct.func`.
    WORK_FUNC: u32,
    /// `work_struct.data`.
    WORK_DATA: u32,
    /// Which argument of the tracepoint `block_bio_queue` is the bio: 0, or 1 before 5.11.
    BIO_QUEUE_ARG: u32,
    /// 1 where argument 2 of the tracepoint `kmem_cache_alloc` is the cache.
    KMEM_ALLOC_CACHE: u32,
    /// 1 where argument 2 of the tracepoint `kmem_cache_free` is the cache, and memory still intact.
    KMEM_FREE_CACHE: u32,
    /// How far the lock of an inode's list of finished io_ends (`ext4_inode_info.i_completed_io_lock`) lies
    /// behind the inode; 0: that is not known.
    INODE_COMPLETED_LOCK: u32,
    /// Watchpoints at once; 0: none is to be used, so nobody is told of births.
    WATCH_SLOTS: u32,
    /// Arguments of `blkdev_issue_flush`: 1, or 2 before 5.12; its return value follows them.
    FLUSH_ARGS: u32,
}

/// Reads a `T` at `base + offset`.
#[inline(always)]
pub(crate) fn read<T>(base: u64, offset: &Global<u32>) -> Option<T> {
    read_at(base + u64::from(offset.load()))
}

/// Reads a `T` at `address`.
#[inline(always)]
pub(crate) fn read_at<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address itself and fails without a fault.
    unsafe { bpf_probe_read_kernel(address as *const T) }.ok()
}

/// Copies the io_end at `address` into `image` with one read; false if it could not be read, the
/// image is then zero (the helper clears it).
#[inline(always)]
pub(crate) fn read_image(address: u64, image: &mut IoEndImage) -> bool {
    let to = core::ptr::from_mut(image).cast();
    // SAFETY: `to` has room for exactly IO_END_SIZE bytes; the helper checks the source itself.
    unsafe { read_raw(to, IO_END_SIZE as u32, address as *const _) == 0 }
}

/// Whether nothing tells what lies where in ext4's structures.
#[inline(always)]
pub(crate) fn layout_is_assumed() -> bool {
    LAYOUT_ASSUMED.load() == 1
}

/// Inode number and device of the inode at `inode`. Where it was found by an assumption, only if it is
/// one of an ext4.
#[inline(always)]
pub(crate) fn inode_id(inode: u64) -> Option<(u64, u32)> {
    let ino = read::<u64>(inode, &INODE_I_INO)?;
    let sb = read::<u64>(inode, &INODE_I_SB)?;
    if layout_is_assumed() && read::<u64>(sb, &SUPER_BLOCK_S_MAGIC)? != EXT4_MAGIC {
        return None;
    }
    let dev = read::<u32>(sb, &SUPER_BLOCK_S_DEV)?;
    Some((ino, dev))
}

/// The same as records have it: number, device, and [`valid::INODE`] if they could be read.
#[inline(always)]
pub(crate) fn told_inode(inode: u64) -> (u64, u32, u32) {
    match inode_id(inode) {
        Some((ino, dev)) => (ino, dev, valid::INODE),
        None => (0, 0, 0),
    }
}

/// `container_of(work, struct ext4_inode_info, i_rsv_conversion_work)->vfs_inode`, the address. Where that
/// is not described it is `None` until it was learned (`probes/worker.rs`).
#[inline(always)]
pub(crate) fn inode_of_work(work: u64) -> Option<u64> {
    if layout_is_assumed() {
        // SAFETY: the map's value is live for ever; whoever races writes the same.
        let inode_to_work = unsafe { (*LEARNED.get_ptr(0)?).inode_to_work };
        return (inode_to_work != 0).then(|| work - inode_to_work);
    }
    Some(work - u64::from(EXT4_INODE_RSV_WORK.load()) + u64::from(EXT4_INODE_VFS_INODE.load()))
}

/// Thread id of the current task.
#[inline(always)]
pub(crate) fn tid() -> u32 {
    bpf_get_current_pid_tgid() as u32
}

/// Execution context of the probed function.
#[inline(always)]
pub(crate) fn current_context(cpu: u32) -> u8 {
    context_above(cpu, 0, 0)
}

/// The context that was interrupted by a watchpoint, whose program the kernel runs as it does an NMI's: the
/// preempt count has one NMI and one hard interrupt more (`__nmi_enter`, 5.10 to 7.3).
#[inline(always)]
pub(crate) fn interrupted_context(cpu: u32) -> u8 {
    let of_one = |mask: u32| mask & mask.wrapping_neg();
    context_above(cpu, of_one(NMI_MASK.load()), of_one(HARDIRQ_MASK.load()))
}

/// Context by the preempt count, without so many NMIs and hard interrupts (include/linux/preempt.h: bits 8-15
/// softirq with bit 8 for "serving"; the masks of the others moved in 7.3).
#[inline(always)]
fn context_above(cpu: u32, nmis: u32, hardirqs: u32) -> u8 {
    let Some(count) = preempt_count(cpu) else { return context::UNKNOWN };
    if count & NMI_MASK.load() > nmis {
        context::NMI
    } else if count & HARDIRQ_MASK.load() > hardirqs {
        context::HARDIRQ
    } else if count & 0x100 != 0 {
        context::SOFTIRQ
    } else {
        context::TASK
    }
}

/// Copies the io_end at `address` into `image`, and gives the bits of [`valid`] for what could be read and the
/// first word of the lock of its inode's list: 0 when nobody holds it (qspinlock; not on PREEMPT_RT), or unread.
#[inline(always)]
pub(crate) fn read_image_and_lock(address: u64, image: &mut IoEndImage) -> (u32, u32) {
    if !read_image(address, image) {
        return (0, 0);
    }
    match completed_lock(image.inode) {
        Some(lock) => (valid::IMAGE | valid::LOCK, lock),
        None => (valid::IMAGE, 0),
    }
}

#[inline(always)]
fn completed_lock(inode: u64) -> Option<u32> {
    if INODE_COMPLETED_LOCK.load() == 0 {
        return None;
    }
    read::<u32>(inode, &INODE_COMPLETED_LOCK)
}

#[inline(always)]
fn preempt_count(cpu: u32) -> Option<u32> {
    let (array, variable) = (PER_CPU_OFFSET.load(), PREEMPT_COUNT.load());
    if array == 0 || variable == 0 {
        return None;
    }
    let counters = CPUS.get_ptr_mut(0)?;
    // SAFETY: the map's value is live for ever; only this CPU writes the word, always with the same
    // value, so an interrupt between the two accesses changes nothing.
    let mut at = unsafe { (*counters).preempt_count_at };
    if at == 0 {
        at = read_at::<u64>(array + 8 * u64::from(cpu))?.wrapping_add(variable);
        // SAFETY: as above.
        unsafe { (*counters).preempt_count_at = at };
    }
    read_at(at)
}
