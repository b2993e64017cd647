//! A direct write completes twice, after its call, or uncounted (5.10 to 7.3).
//!
//! ```text
//!   ext4_file_write_iter ──► inode_dio_begin ──► bios ──► ext4_dio_write_end_io ──► inode_dio_end
//!                                                         once, converts in it; i_dio_count > 0 from its
//!                                                         entry to its return; before the call returns,
//!                                                         unless that returns -EIOCBQUEUED
//! ```
//!
//! The conversion is a call of the completion's, so it lies between the two looks at `i_dio_count`. That
//! count is what truncate waits for: where it is 0 too early, blocks may be freed that are still written, as
//! before 266991b13890 (3.3).
//!
//! What broke the order is told by the tracker of direct writes. This rule must never take a buffered
//! fallback, which completes nothing, for a completion that is missing.

use super::{Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{DirectAct, DirectIoBroken, Disorder, Party};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::DirectIoOrder,
    claim: "a direct write completed twice, after its call had returned, or while its inode counted no direct I/O",
    ways: &[Way {
        needs: &[
            Need::function(Witness::DirectIoBegin),
            Need::function(Witness::DirectIoReturn),
            Need::function(Witness::DirectIoComplete),
            Need::function(Witness::DirectIoCompleteEnd),
        ],
        fixture: "direct_io_order.trace",
        check: |_| None,
    }],
    despite: &[],
    sound: "twice: iomap_dio_complete calls the completion once per direct I/O, and a direct write is one \
            call of ext4_file_write_iter, which begins it anew; had that begin been skipped or left out, it is \
            counted, and nothing is confirmed. After the return: who does not return -EIOCBQUEUED has \
            waited, or has submitted nothing. Uncounted: inode_dio_begin comes before the first bio and \
            inode_dio_end after the completion, so a count of 0 between the entry and the return of the \
            completion is none that the kernel can reach; a higher one proves nothing, it may be \
            another write's.",
    misses: "a write that was called before the agent watched; a second completion after 1,024 other \
             writes have ended, or after its kiocb was used again; a count that is too low while another \
             direct I/O of the inode holds it up, or where the kernel's types do not say where it is; a conversion by somebody else than the completion: no \
             probe sees it; all where fentry does not serve",
};

/// How sure it is that the order is broken, what happened, and who acted before.
pub(super) fn charge(
    broken: &DirectIoBroken,
) -> (Confidence, &'static str, Option<Party<DirectAct>>) {
    let write = &broken.write;
    match broken.how {
        Disorder::Again => (Confidence::Likely, "it completed a second time", write.completed_by()),
        Disorder::AfterReturn => (
            Confidence::Likely,
            "it completed after its call had returned, which had not left it in flight",
            write.returned_by(),
        ),
        Disorder::Uncounted => (
            Confidence::Certain,
            "its inode counted no direct I/O while it completed: truncate waits for nothing",
            Some(write.by()),
        ),
    }
}
