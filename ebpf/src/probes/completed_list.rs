//! What the core of 2012 does and that of today does not: its work puts an io_end back.
//!
//! Of the fixture module `replica` only. There this is a function, entered before QUEUED is set: with the
//! lock held where the write is as the fix of 491caa43639a (3.3) has it, without where it is as before.

use aya_ebpf::{macros::fentry, programs::FEntryContext};
use endiod_wire::wire::Requeue;

use crate::{emit::emit, kernel::read_image_and_lock};

/// `void replica_requeue(struct replica_io_end *io_end)`, in the worker.
#[fentry]
fn replica_requeue(ctx: FEntryContext) -> i32 {
    let io_end: u64 = ctx.arg(0);
    emit(|record: &mut Requeue| {
        record.io_end = io_end;
        (record.valid, record.lock) = read_image_and_lock(io_end, &mut record.image);
    });
    0
}
