//! What kernel functions do with an io_end, and who did it.
//!
//! One row per probed function (fs/ext4/page-io.c, inode.c and block/blk-core.c, 5.10 to 7.3); a raw
//! tracepoint that stands in for one is inside of it or of its caller. This module must never know a
//! state.

use crate::event::{Body, Context, Cpu, IoEndAddr, IoEndImage, Seen, Stamp, Task};
use crate::probes::Witness;

macro_rules! acts {
    ($( $(#[$doc:meta])* $name:ident = $label:literal, $function:literal, $witness:ident; )*) => {
        /// What a kernel function did with an io_end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Act { $( $(#[$doc])* $name, )* }

        impl Act {
            /// All acts.
            pub const ALL: &[Act] = &[ $( Act::$name, )* ];

            /// Short name.
            pub fn label(self) -> &'static str {
                match self { $( Act::$name => $label, )* }
            }

            /// The kernel function whose probe saw it, or the tracepoint where there is no other.
            pub fn function(self) -> &'static str {
                match self { $( Act::$name => $function, )* }
            }

            /// What must be witnessed for it to be seen.
            pub fn witness(self) -> Witness {
                match self { $( Act::$name => Witness::$witness, )* }
            }
        }
    };
}

acts! {
    /// It was allocated.
    Birth = "birth", "ext4_init_io_end", Birth;
    /// A range was added.
    Range = "range", "ext4_alloc_io_end_vec", Range;
    /// A bio was submitted; from 7.0 on one to be enciphered by `__blk_crypto_submit_bio`.
    Attach = "attach", "submit_bio", Attach;
    /// A bio completed.
    BioEnd = "bio_end", "ext4_end_bio", BioEnd;
    /// A reference was dropped by the submitter, who may convert inline.
    Put = "put", "ext4_put_io_end", Put;
    /// A reference was dropped, the conversion is deferred.
    PutDefer = "put_defer", "ext4_put_io_end_defer", PutDefer;
    /// It was claimed.
    Claim = "claim", "ext4_end_io_end", Claim;
    /// The conversion was entered.
    ConvertBegin = "convert", "ext4_convert_unwritten_io_end_vec", ConvertBegin;
    /// The conversion returned.
    ConvertEnd = "convert_end", "ext4_convert_unwritten_io_end_vec", ConvertEnd;
    /// It was released.
    Release = "release", "ext4_release_io_end", Release;
    /// The device is done with a part of a bio; the bio ends after its last part.
    PartDone = "part_done", "block_rq_complete", BioDone;
    /// The device is done with a whole bio, which ends next.
    BioDone = "bio_done", "block_bio_complete", BioDone;
    /// It is on the inode's list as the worker starts.
    Listed = "listed", "workqueue_execute_start", WorkerBegin;
    /// An fsync that had to wait for it returned 0.
    FsyncReturned = "fsync_end", "ext4_sync_file", FsyncEnd;
    /// Its inode is destroyed.
    InodeDestroyed = "inode_end", "ext4_destroy_inode", InodeDestroy;
    /// Its work puts it back, in the core of 2012.
    Requeue = "requeue", "replica_requeue", Requeue;
    /// A TICK found it where it had been for long.
    Lingers = "lingers", "TICK", Release;
    /// Its flag was written, by whoever the step names; what is read is what was written.
    FlagWrite = "flag_write", "a store to the flag", FlagWrite;
}

/// An act as an event tells it.
#[derive(Clone, Copy)]
pub(super) struct Deed<'a> {
    pub(super) act: Act,
    pub(super) io_end: IoEndAddr,
    pub(super) image: Option<&'a IoEndImage>,
    /// A failed range, the errno of a conversion, the status of a bio that ended, a bio whose last part
    /// is done, a lock that nobody held; else 0.
    pub(super) ret: i64,
    /// A bio ends whose `bi_end_io` is gone.
    pub(super) ended_before: bool,
}

impl<'a> Deed<'a> {
    /// Of an io_end without its bytes.
    pub(super) fn unseen(act: Act, io_end: IoEndAddr, ret: i64) -> Self {
        Deed { act, io_end, image: None, ret, ended_before: false }
    }

    /// Of an io_end with its bytes, if they could be read.
    pub(super) fn seen(act: Act, seen: &'a Seen, ret: i64) -> Self {
        let image = seen.image.as_ref();
        Deed { act, io_end: seen.io_end, image, ret, ended_before: false }
    }

    /// Of the events that are an act and nothing else.
    pub(super) fn of(body: &'a Body) -> Option<Self> {
        Some(match body {
            Body::RangeAdded { io_end, failed } => {
                Deed::unseen(Act::Range, *io_end, i64::from(*failed))
            }
            Body::Put(seen) => Deed::seen(Act::Put, seen, 0),
            Body::PutDefer(seen) => Deed::seen(Act::PutDefer, seen, 0),
            Body::Claim(seen) => Deed::seen(Act::Claim, seen, 0),
            Body::ConvertBegin(seen) => Deed::seen(Act::ConvertBegin, seen, 0),
            Body::ConvertEnd { io_end, ret } => Deed::unseen(Act::ConvertEnd, *io_end, *ret),
            Body::Release(seen) => Deed::seen(Act::Release, seen, 0),
            Body::Listed { seen, .. } => Deed::seen(Act::Listed, seen, 0),
            Body::Requeue { seen, locked } => {
                Deed::seen(Act::Requeue, seen, i64::from(*locked == Some(false)))
            }
            _ => return None,
        })
    }
}

/// Who did something, by default with an io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party<A = Act> {
    /// Current task.
    pub task: Task,
    /// CPU; `None` for a record without one.
    pub cpu: Option<Cpu>,
    /// Context.
    pub context: Context,
    /// What it did.
    pub act: A,
}

impl<A> Party<A> {
    pub(crate) fn new(stamp: &Stamp, act: A) -> Self {
        Party { task: stamp.task, cpu: stamp.cpu, context: stamp.context, act }
    }

    /// The same, with what it did told in other words.
    pub(crate) fn map<B>(self, told: impl FnOnce(A) -> B) -> Party<B> {
        let Party { task, cpu, context, act } = self;
        Party { task, cpu, context, act: told(act) }
    }
}

#[cfg(test)]
mod tests {
    use super::Act;

    #[test]
    fn acts_are_listed_by_their_number_and_fit_five_bits() {
        assert!(Act::ALL.iter().enumerate().all(|(at, act)| *act as usize == at));
        assert!(Act::ALL.len() <= 32);
    }
}
