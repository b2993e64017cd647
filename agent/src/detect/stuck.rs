//! An io_end stays in one state for longer than the stream's CONFIG allows (5.10 to 7.3).
//!
//! ```text
//!   submitting   the submitter is blocked: journal start, folio lock, plug, memory
//!   in flight    bios have not ended: device, device mapper, throttling
//!                all have: a reference was taken and never dropped
//!   queued       no worker ran: the queue is held up, or does not run
//!                the worker runs: it is stuck in another one of the inode
//!                the worker ran and left it: it is off the list, its work is lost
//!                the work ran and put itself back (3.2 to 3.6): the mutex is held, or a mark was not cleared
//!   claimed      the conversion does not return: start of its reserved handle, i_data_sem, or the lock of
//!                a metadata block
//!   converted    the release, which is microseconds away, does not come
//! ```
//!
//! Who waits is named by open spans: an fsync of its inode, or of its superblock where it holds up the
//! conversion queue; the inode's worker; and whoever evicts its inode, or another one that has an io_end
//! behind it (`truncate_inode_pages_final` waits for the writeback of each page, 5.10 to 7.3).
//!
//! This is a symptom and says so: nothing in the protocol has a time, a slow device breaks no rule, and
//! the cause is the likely one. It is a rule all the same, for every leak, lost work and deadlock of this
//! area shows as this, and is told with the tasks that wait. Its confidence is `symptom`, never `certain` or
//! `likely`, so that whoever is paged by breaches is not by a slow disk.
//!
//! This rule must never rest on a clock of its own: the age is that of a TICK.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Gap, Halt, IoEndStep};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::Stuck,
    claim: "an io_end is in one state for longer than --stuck-after",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Attach),
                Need::function(Witness::BioEnd),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::ConvertBegin),
                Need::function(Witness::ConvertEnd),
                Need::function(Witness::WorkerBegin),
                Need::function(Witness::WorkerEnd),
                Need::any(Witness::Release),
            ],
            fixture: "stuck_conversion.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::any(Witness::Attach),
                Need::tracepoint(Witness::WorkerBegin),
                Need::tracepoint(Witness::WorkerEnd),
                Need::any(Witness::Release),
            ],
            fixture: "raw_tp_stuck.trace",
            check,
        },
    ],
    // They are told by acts that were seen; of an age only birth, release and what was lost matter.
    despite: &[Gap::AttachMissed, Gap::PutMissed, Gap::ClaimMissed],
    sound: "it claims an age and nothing else: the object's birth was seen, no record of its life \
            can be missing, and at this TICK it had been in its state for that long. The cause is \
            what those acts that were seen leave open.",
    misses: "what was born before the agent watched; all but the oldest of a device that are stuck \
             in the same way, which are counted in its finding; what is over before the age is \
             reached; with raw tracepoints the difference between a conversion and its worker. Of \
             those who wait it names who is in fsync, in a worker's run or in ext4_evict_inode, the \
             last by fentry only: not who waits for a task in the inode's writepages before it may \
             enter (inode_wait_for_writeback), for a page, or in sync, syncfs and the sync of umount",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let lingers = step.lingers?;
    let (what, first) = match lingers.halt {
        Halt::Submitter => (
            "its submitter has not dropped its reference: blocked in a journal start, a folio lock \
             or an allocation",
            None,
        ),
        Halt::Device => (
            "bios of it have not ended: the device, a device mapper target or throttling holds them",
            None,
        ),
        Halt::Reference => (
            "all bios of it that were seen have ended and a reference is left: it was never dropped, \
             or is that of a bio that no probe saw",
            None,
        ),
        Halt::Release => ("its last reference is gone and it was not released", None),
        Halt::Worker => (
            "it waits for its worker, which has not begun: the conversion queue does not run, or \
             its work is lost",
            None,
        ),
        Halt::WorkerRuns => (
            "it waits for its worker, which is stuck in another io_end of its inode or before the \
             first",
            None,
        ),
        Halt::PassedOver => {
            ("its worker ran and left it behind: it is off its list, and its work is lost", None)
        }
        Halt::PutBack => (
            "its work runs and puts itself back: a task holds its inode's mutex, or a mark that keeps \
             the work off was never cleared",
            None,
        ),
        Halt::Conversion => (
            "its conversion has not returned: it waits for its journal handle, i_data_sem or the \
             lock of a metadata block",
            step.object.claim(),
        ),
        Halt::Converted if lingers.put_back.is_some() => (
            "it was converted, and its work puts itself back and does not release it",
            step.object.claim(),
        ),
        Halt::Converted => ("it was converted and is not released", step.object.claim()),
    };
    Some(Charge { confidence: Confidence::Symptom, what, first })
}
