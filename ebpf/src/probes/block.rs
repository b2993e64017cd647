//! An io_end's bios by the block layer's tracepoints: queued, and done by the device.
//!
//! A device that takes requests (5.10 to 7.3) tells of parts: `block_rq_complete` comes before
//! `bio_endio`, with as many bytes as are done, and the request's bios hang on `rq->bio`. A bio that was
//! split is a chain: each part but the last is a clone that ends in `bio_chain_endio` and has the
//! original in `bi_private`. A device that takes bios (device mapper) tells of whole ones:
//! `block_bio_complete`, which never fires for a bio that `block_rq_complete` told of.

use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};
use endiod_wire::wire::{BioDone, RQ_BIOS_MAX, bound, valid};

use super::{
    identity::tell_inode,
    seen::{bio_attached, io_end_of, rounds},
};
use crate::{
    emit::{count_left_out, emit, emit_in_loop},
    kernel::{
        BIO_BI_END_IO, BIO_BI_NEXT, BIO_BI_PRIVATE, BIO_BI_SIZE, BIO_BI_STATUS, BIO_CHAIN_ENDIO,
        BIO_QUEUE_ARG, REQUEST_BIO, REQUEST_BIOTAIL, read, read_image,
    },
};

/// `(bio)`, before 5.11 `(q, bio)`: once per bio, before it is split.
#[raw_tracepoint(tracepoint = "block_bio_queue")]
fn tp_block_bio_queue(ctx: RawTracePointContext) -> i32 {
    // The verifier must see that an argument the tracepoint has not is never read.
    let bio: u64 =
        if BIO_QUEUE_ARG.load() == 1 { core::hint::black_box(ctx.arg(1)) } else { ctx.arg(0) };
    if let Some(io_end) = bio_attached(bio) {
        tell_inode(io_end);
    }
    0
}

/// `(rq, error, nr_bytes)`; the error is an errno on 5.10, a `blk_status_t` later.
#[raw_tracepoint(tracepoint = "block_rq_complete")]
fn tp_block_rq_complete(ctx: RawTracePointContext) -> i32 {
    let (rq, error, mut left): (u64, i32, u32) = (ctx.arg(0), ctx.arg(1), ctx.arg(2));
    let mut bio = read::<u64>(rq, &REQUEST_BIO).unwrap_or(0);
    for _ in 0..rounds(RQ_BIOS_MAX) {
        if bio == 0 || left == 0 {
            return 0;
        }
        let bytes = read::<u32>(bio, &BIO_BI_SIZE).unwrap_or(0).min(left);
        left -= bytes;
        // Nothing is left of a bio whose flush follows: it was told of before.
        if bytes > 0 {
            part_done(bio, bytes, error.unsigned_abs());
        }
        bio = read(bio, &BIO_BI_NEXT).unwrap_or(0);
    }
    // A request of the journal has a bio per block and may be longer, which is no loss. Where the two
    // were merged into one, either may stand at the bound and the other at the end; ours between two of
    // the journal's is not looked for.
    let is_ours = |bio| submitted(bio).and_then(io_end_of).is_some();
    if left != 0 && (is_ours(bio) || is_ours(read(rq, &REQUEST_BIOTAIL).unwrap_or(0))) {
        count_left_out(bound::REQUEST_WALK);
    }
    0
}

/// `(q, bio)`.
#[raw_tracepoint(tracepoint = "block_bio_complete")]
fn tp_block_bio_complete(ctx: RawTracePointContext) -> i32 {
    let bio: u64 = ctx.arg(1);
    let Some(io_end) = io_end_of(bio) else { return 0 };
    emit(|record: &mut BioDone| {
        let status = read::<u8>(bio, &BIO_BI_STATUS);
        record.io_end = io_end;
        record.bio = bio;
        record.bytes = 0;
        record.whole = 1;
        record.status = u32::from(status.unwrap_or(0));
        record.valid = if status.is_some() { valid::BIO } else { 0 };
        if read_image(io_end, &mut record.image) {
            record.valid |= valid::IMAGE;
        }
    });
    0
}

/// That many bytes of a bio in a request, of whatever file system, are done.
#[inline(always)]
fn part_done(part: u64, bytes: u32, status: u32) {
    let Some(bio) = submitted(part) else { return };
    let Some(io_end) = io_end_of(bio) else { return };
    emit_in_loop(|record: &mut BioDone| {
        record.io_end = io_end;
        record.bio = bio;
        record.bytes = bytes;
        record.whole = 0;
        record.status = status;
        record.valid = valid::BIO;
        if read_image(io_end, &mut record.image) {
            record.valid |= valid::IMAGE;
        }
    });
}

/// The bio that was submitted: the original of one that was split off.
#[inline(always)]
fn submitted(bio: u64) -> Option<u64> {
    if read::<u64>(bio, &BIO_BI_END_IO) == Some(BIO_CHAIN_ENDIO.load()) {
        return read::<u64>(bio, &BIO_BI_PRIVATE);
    }
    Some(bio)
}
