//! The life of an io_end: `fs/ext4/page-io.c`, birth to release (5.10 to 7.3).
//!
//! `ext4_get_io_end` is inlined everywhere, so a reference is seen taken when its bio is submitted.

use aya_ebpf::{
    macros::{fentry, fexit, kprobe},
    programs::{FEntryContext, FExitContext, ProbeContext},
};
use endiod_wire::wire::{
    Claim, ConvertBegin, ConvertEnd, IoEndBirth, Put, PutDefer, RangeAdded, Release, ReleaseLate,
    WorkerEnd, context,
};

use super::identity::{bio_enciphered, bio_submitted};
use super::seen::{bio_ended, identify, seen};
use super::slab::register;
use super::worker::worker_begins;
use crate::{
    emit::{cpu, emit},
    kernel::{current_context, inode_of_work, tid},
    maps::{CPUS, RELEASING},
};

/// `ext4_io_end_t *ext4_init_io_end(struct inode *inode, gfp_t flags)`.
#[fexit]
fn ext4_init_io_end_exit(ctx: FExitContext) -> i32 {
    let (inode, io_end): (u64, u64) = (ctx.arg(0), ctx.arg(2));
    if io_end == 0 {
        return 0; // out of memory: nothing was born
    }
    // Its release may be seen by the slab tracepoint alone.
    register(io_end);
    emit(|record: &mut IoEndBirth| identify(record, io_end, Some(inode)));
    0
}

/// `struct ext4_io_end_vec *ext4_alloc_io_end_vec(ext4_io_end_t *io_end)`.
#[fexit]
fn ext4_alloc_io_end_vec_exit(ctx: FExitContext) -> i32 {
    let (io_end, vec): (u64, u64) = (ctx.arg(0), ctx.arg(1));
    emit(|record: &mut RangeAdded| {
        record.io_end = io_end;
        record.vec = vec;
    });
    0
}

/// One body, hooked by fentry or, in its place, by a kprobe.
macro_rules! entries {
    ($( $(#[$doc:meta])* $fentry:ident, $kprobe:ident ($arg:literal) => $body:expr; )*) => { $(
        $(#[$doc])*
        #[fentry]
        fn $fentry(ctx: FEntryContext) -> i32 {
            let body: fn(u64) = $body;
            body(ctx.arg($arg));
            0
        }

        #[doc = "The same by kprobe."]
        #[kprobe]
        fn $kprobe(ctx: ProbeContext) -> u32 {
            let body: fn(u64) = $body;
            if let Some(argument) = ctx.arg($arg) {
                body(argument);
            }
            0
        }
    )* };
}

entries! {
    /// `void submit_bio(struct bio *bio)` (5.10: returns a cookie), of every file system: filtered.
    submit_bio, kprobe_submit_bio(0) => bio_submitted;
    /// `bool __blk_crypto_submit_bio(struct bio *bio)`, from 7.0 on, for a bio with a crypt context: true
    /// leaves it to `submit_bio` and the device, else enciphered copies are submitted in its place and
    /// it ends when they have.
    __blk_crypto_submit_bio, kprobe_blk_crypto_submit_bio(0) => bio_enciphered;
    /// `static void ext4_end_bio(struct bio *bio)`, any context, several at once for one io_end.
    ext4_end_bio, kprobe_ext4_end_bio(0) => bio_ended;
    /// `int ext4_put_io_end(ext4_io_end_t *io_end)`, the writeback task only.
    ext4_put_io_end, kprobe_ext4_put_io_end(0) => seen::<Put>;
    /// `void ext4_put_io_end_defer(ext4_io_end_t *io_end)`, any context.
    ext4_put_io_end_defer, kprobe_ext4_put_io_end_defer(0) => seen::<PutDefer>;
    /// `static int ext4_end_io_end(ext4_io_end_t *io_end)`, a function of its own from 6.15.
    ext4_end_io_end, kprobe_ext4_end_io_end(0) => seen::<Claim>;
    /// `int ext4_convert_unwritten_io_end_vec(handle_t *handle, ext4_io_end_t *io_end)`.
    ext4_convert_unwritten_io_end_vec, kprobe_ext4_convert_unwritten_io_end_vec(1)
        => seen::<ConvertBegin>;
    /// `void ext4_end_io_rsv_work(struct work_struct *work)`, one kworker per inode and run.
    ext4_end_io_rsv_work, kprobe_ext4_end_io_rsv_work(0) => |work| drop(worker_begins(work));
}

/// The entry of `ext4_alloc_io_end_vec`: whether it got its range is not known yet.
#[kprobe]
fn kprobe_ext4_alloc_io_end_vec(ctx: ProbeContext) -> u32 {
    if let Some(io_end) = ctx.arg::<u64>(0) {
        emit(|record: &mut RangeAdded| {
            record.io_end = io_end;
            record.vec = 0;
        });
    }
    0
}

/// The entry of `ext4_release_io_end`, without the note that only its fexit reads.
#[kprobe]
fn kprobe_ext4_release_io_end(ctx: ProbeContext) -> u32 {
    if let Some(io_end) = ctx.arg(0) {
        seen::<Release>(io_end);
    }
    0
}

/// `static void ext4_release_io_end(ext4_io_end_t *io_end)`, any context.
#[fentry]
fn ext4_release_io_end(ctx: FEntryContext) -> i32 {
    let io_end: u64 = ctx.arg(0);
    seen::<Release>(io_end);
    match releasing_in_task() {
        // Full: the exit finds no note, and the agent knows that it saw this release.
        Some(tid) => drop(RELEASING.insert(tid, io_end, 0)),
        None => {
            if let Some(releasing) = releasing_in_interrupt() {
                // SAFETY: the map's value is live for ever; nothing of the same context interrupts us.
                unsafe { *releasing = io_end };
            }
        }
    }
    0
}

/// Its return. The kernel skips a program that is already running on the CPU, so a release by an
/// interrupt in the middle of the program above goes unseen, and the io_end would seem to live for
/// ever; this program was not running then, and finds that nobody noted the entry.
#[fexit]
fn ext4_release_io_end_exit(ctx: FExitContext) -> i32 {
    let io_end: u64 = ctx.arg(0);
    if take_releasing() != Some(io_end) {
        emit(|record: &mut ReleaseLate| record.io_end = io_end);
    }
    0
}

/// Takes the note of what the current context is releasing.
#[inline(always)]
fn take_releasing() -> Option<u64> {
    if let Some(tid) = releasing_in_task() {
        // SAFETY: the value is copied at once; only this task inserts and removes its own key.
        let noted = unsafe { RELEASING.get(tid) }.copied();
        let _ = RELEASING.remove(tid);
        return noted;
    }
    let releasing = releasing_in_interrupt()?;
    // SAFETY: the map's value is live for ever; nothing of the same context interrupts us.
    let noted = unsafe { *releasing };
    // SAFETY: as above.
    unsafe { *releasing = 0 };
    Some(noted)
}

/// The task that releases, if it is one: it may be preempted on the way, and move to another CPU.
#[inline(always)]
fn releasing_in_task() -> Option<u32> {
    (current_context(cpu()) == context::TASK).then(tid)
}

/// Where this CPU notes the io_end that the current kind of interrupt is releasing.
#[inline(always)]
fn releasing_in_interrupt() -> Option<*mut u64> {
    let counters = CPUS.get_ptr_mut(0)?;
    let context = usize::from(current_context(cpu())) & 7;
    // SAFETY: the index is below 8 and the map's value is live for ever.
    Some(unsafe { (&raw mut (*counters).releasing).cast::<u64>().add(context) })
}

/// The same function's return; the io_end is alive until its release.
#[fexit]
fn ext4_convert_unwritten_io_end_vec_exit(ctx: FExitContext) -> i32 {
    let (io_end, ret): (u64, i32) = (ctx.arg(1), ctx.arg(2));
    emit(|record: &mut ConvertEnd| {
        record.io_end = io_end;
        record.ret = i64::from(ret);
    });
    0
}

/// The worker's return; the inode may be gone, only its address is used.
#[fexit]
fn ext4_end_io_rsv_work_exit(ctx: FExitContext) -> i32 {
    if let Some(inode) = inode_of_work(ctx.arg(0)) {
        emit(|record: &mut WorkerEnd| record.inode = inode);
    }
    0
}
