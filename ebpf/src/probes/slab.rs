//! Birth and death of an io_end by the slab tracepoints, where its functions cannot be hooked.
//!
//! They run at every slab allocation of the host, so what is not ours leaves at once: an allocation by
//! its call site, a free by its cache (6.1 to 7.3), else by a look into the table of live io_ends.
//! A cache may be shared with other objects of that size, so the table decides in the end.
//!
//! Where the tracepoint has no cache it may come after the memory was given back (`mm/slub.c`, 5.10):
//! then no image is read, and another CPU may have made the next io_end of it already. The birth then tells
//! the release and owes a free, which is let pass:
//!
//! ```text
//!  absent ──birth──► alive ──birth (tells the release)──► alive, a free is owed
//!     ▲                │ ▲                                         │
//!     └─free (tells)───┘ └────────────────free────────────────────┘
//! ```
//!
//! The debt must never be written to an entry that was looked up before: the other CPU may have taken it
//! out meanwhile and given its memory to another io_end, whose free would be let pass, and so would that of
//! everybody after it. It is an update by key. What can still race tells a release too early or twice, and
//! the address is right again with its next free (`agent/tests/lifecycle/late_frees.rs`).

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use endiod_wire::wire::{IoEndBirth, IoEndImage, Release, bound};

use super::seen::{fill, identify};
use super::watch;
use crate::{
    emit::{count_left_out, emit},
    kernel::{EXT4_INIT_IO_END, EXT4_INIT_IO_END_LEN, KMEM_ALLOC_CACHE, KMEM_FREE_CACHE},
    maps::{LIVE_IO_ENDS, Live, SLAB},
};

/// `BPF_NOEXIST`: an insert that changes no entry.
pub(crate) const NO_EXIST: u64 = 1;
/// `BPF_EXIST`: an insert that makes none.
const EXIST: u64 = 2;

/// `(call_site, ptr, …)`: the allocation in `ext4_init_io_end`.
#[raw_tracepoint(tracepoint = "kmem_cache_alloc")]
fn tp_kmem_cache_alloc(ctx: RawTracePointContext) -> i32 {
    let call_site: u64 = ctx.arg(0);
    if call_site.wrapping_sub(EXT4_INIT_IO_END.load()) >= EXT4_INIT_IO_END_LEN.load() {
        return 0;
    }
    let io_end: u64 = ctx.arg(1);
    if io_end == 0 {
        return 0; // out of memory: nothing was born
    }
    // The verifier must see that an argument the tracepoint has not is never read.
    if KMEM_ALLOC_CACHE.load() == 1 {
        learn_cache(core::hint::black_box(ctx.arg(2)));
    }
    register(io_end);
    emit(|record: &mut IoEndBirth| identify(record, io_end, None));
    watch::born(io_end);
    0
}

/// `(call_site, ptr[, name or cache])`: the release is recognised by its address.
#[raw_tracepoint(tracepoint = "kmem_cache_free")]
fn tp_kmem_cache_free(ctx: RawTracePointContext) -> i32 {
    let Some(slab) = SLAB.get_ptr_mut(0) else { return 0 };
    // SAFETY: the map's value is live for ever; whoever races writes the same.
    if unsafe { (*slab).frees_watched } == 0 {
        // SAFETY: as above.
        unsafe { (*slab).frees_watched = 1 };
    }
    if KMEM_FREE_CACHE.load() == 1 {
        // SAFETY: as above; the cache is written once.
        let known = unsafe { (*slab).cache };
        if known != 0 && known != core::hint::black_box(ctx.arg::<u64>(2)) {
            return 0;
        }
    }
    let io_end: u64 = ctx.arg(1);
    let Some(live) = LIVE_IO_ENDS.get_ptr_mut(io_end) else { return 0 };
    // SAFETY: the memory of a map's value stays a map's value.
    if unsafe { (*live).free_owed } != 0 {
        // SAFETY: as above. Should the entry be another's by now, its next release is told too early.
        unsafe { (*live).free_owed = 0 };
        return 0;
    }
    // A birth that takes the address over just now tells this release too, if its own comes before this.
    let _ = LIVE_IO_ENDS.remove(io_end);
    emit(|record: &mut Release| {
        if KMEM_FREE_CACHE.load() == 1 {
            fill(record, io_end);
        } else {
            without_image(record, io_end);
        }
    });
    watch::released(io_end);
    0
}

#[inline(always)]
fn without_image(record: &mut Release, io_end: u64) {
    record.io_end = io_end;
    record.valid = 0;
    record.pad = 0;
    record.image = IoEndImage::default();
}

#[inline(always)]
fn learn_cache(cache: u64) {
    if let Some(slab) = SLAB.get_ptr_mut(0) {
        // SAFETY: the map's value is live for ever; all io_ends are of one cache.
        unsafe { (*slab).cache = cache };
    }
}

/// Enters a newborn into the table of the living, if it is by frees that deaths are seen: nothing else
/// takes anybody out of it.
#[inline(always)]
pub(super) fn register(io_end: u64) {
    let Some(slab) = SLAB.get_ptr_mut(0) else { return };
    // SAFETY: the map's value is live for ever; it is written once.
    if unsafe { (*slab).frees_watched } == 0 {
        return;
    }
    let newborn = Live { told: 0, free_owed: 0 };
    if LIVE_IO_ENDS.insert(io_end, newborn, NO_EXIST).is_ok() {
        return;
    }
    // On kernels that skip no hit the free is late, so it is told here and skipped when it comes; on others
    // it was skipped. Whoever lived here before is gone.
    let heir = Live { free_owed: u32::from(cfg!(feature = "lanes")), ..newborn };
    if LIVE_IO_ENDS.insert(io_end, heir, EXIST).is_ok() {
        if cfg!(feature = "lanes") {
            emit(|record: &mut Release| without_image(record, io_end));
        }
        return;
    }
    // The free came just now, or there was no room.
    if LIVE_IO_ENDS.insert(io_end, newborn, NO_EXIST).is_err() {
        count_left_out(bound::LIVE_IO_ENDS);
    }
}
