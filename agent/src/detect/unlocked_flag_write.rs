//! The flag is written while nobody may write it: by what probes read before and after (5.10 to 7.3), by the
//! store itself where a watchpoint catches it, and by the lock's word (2012).
//!
//! ```text
//!   F1   put that reads 1 ──flag──► claim, conversion, release        the same, or without UNWRITTEN
//!                                                                     at the release
//!        claim, conversion ──FAILED──► of which no bio failed         set by a stranger
//!   watchpoint   a function that never writes it                      a stranger
//!                it is on the list, or nobody holds a reference       too late, or too early
//!   2012 put back by its work, the lock's word is 0                   QUEUED is being set without it
//!        watchpoint, it is on the list or claimed, the word is 0      written without it
//! ```
//!
//! In these kernels no lock protects the flag: whoever holds a reference may set bits, and once the last
//! one is dropped only the claimer may write, to clear UNWRITTEN. While it waits on the inode's list, and
//! between claim and conversion, the flag must stay as it was. In 2012 the same was the lock's business: on
//! the list, or claimed by the fsync path, the flag was written under `i_completed_io_lock`, but by the work
//! that put an io_end back (fixed by 491caa43639a, 3.3). That is seen of the fixture `replica` alone.
//!
//! A store enters no function: where two probes saw a change the writer is not known, and the second party is
//! whose probe saw it. A watchpoint stops the writer right after the store, and its function is named; but it
//! is on few io_ends, so that it saw nothing says little (`endiod_watchpoint_coverage_ratio`).

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::flag_writers::{Right, right_of};
use crate::lifecycle::{Act, FLAG_FAILED, FLAG_UNWRITTEN, Flag, IoEndStep, Irregular, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::UnlockedFlagWrite,
    claim: "the flag of an io_end was written by someone who had no right to",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::BioEnd),
                Need::function(Witness::Put),
                Need::function(Witness::PutDefer),
                Need::function(Witness::ConvertBegin),
                Need::function(Witness::Release),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "unlocked_flag_write_listed.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Requeue),
                Need::function(Witness::Release),
            ],
            fixture: "unlocked_flag_write_requeue_2012.trace",
            check: put_back,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::any(Witness::Release),
                Need::watchpoint(Witness::FlagWrite),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "unlocked_flag_write_caught.trace",
            check: caught,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Release),
                Need::watchpoint(Witness::FlagWrite),
            ],
            fixture: "unlocked_flag_write_caught_2012.trace",
            check: caught_unlocked,
        },
    ],
    despite: &[],
    sound: "a put that reads a count of 1 reads the flag in the same eight bytes, and holds the last \
            reference: no other holder is left who might set a bit, and the next legal write is the \
            claimer's, after the conversion. FAILED is set by ext4_end_bio alone, for a bio whose failure \
            its own probe has read just before. A watchpoint: the debug exception comes after the very instruction that \
            wrote, with the io_end's bytes; an io_end is followed from birth to release, so the allocator's own \
            stores are before or after; each function that ext4 writes the flag in is known by name, and one of ext4 \
            that is not is likely only. 2012: a lock whose word is 0 is held by nobody, so not by the work \
            either, which is about to set QUEUED.",
    misses: "a write that puts back what was there, or is undone before the next probe; writes after the \
             release and between a last put that read 2 and the claim; on kernels before 6.15 a write \
             between the worker's begin and the conversion is not told apart from one on the list; a store to an \
             io_end that has no watchpoint, by a kernel function that fills memory for others (memset), \
             in the middle of a kprobe's program, or of one whose name kallsyms hides; in the core of \
             2012 a write while another holds the lock",
};

/// The store itself, by the kernels of today.
fn caught(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.act != Act::FlagWrite || step.before == State::Adopted {
        return None;
    }
    let (image, right) = (step.image?, right_of(step.writer?.function()?));
    let listed = image.list_next != step.object.id().addr.0;
    let what = match right {
        Right::Allocator => return None,
        Right::None { .. } => "its flag was written by a function that never writes it",
        _ if listed => "its flag was written while it was on its inode's list",
        Right::Holder if image.count == 0 => {
            "a bit of its flag was set after its last reference was dropped"
        }
        Right::Claimer if image.count > 0 => {
            "its flag was cleared as by a claimer while references are held"
        }
        Right::Holder | Right::Claimer => return None,
    };
    let ours = right == Right::None { ext4: true };
    let confidence = if ours { Confidence::Likely } else { Confidence::Certain };
    Some(Charge { confidence, what, first: None })
}

/// The store itself, by the core of 2012.
fn caught_unlocked(step: &IoEndStep<'_>) -> Option<Charge> {
    if step.act != Act::FlagWrite || step.irregular != Some(Irregular::Unlocked) {
        return None;
    }
    charge("its flag was written while nobody held the lock")
}

fn put_back(step: &IoEndStep<'_>) -> Option<Charge> {
    let unlocked = step.act == Act::Requeue && step.irregular == Some(Irregular::Unlocked);
    if !unlocked || step.before == State::Released {
        return None;
    }
    charge("its work put it back and set QUEUED in its flag while nobody held the lock")
}

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let looks = matches!(step.act, Act::Claim | Act::ConvertBegin | Act::Release);
    let stranger = step.irregular == Some(Irregular::ForeignClaim);
    let over = match step.before {
        State::Released | State::Adopted => true,
        State::Converted => step.act != Act::Release,
        _ => false,
    };
    if !looks || stranger || over {
        return None;
    }
    let flag = Flag::of(&step.image?);
    if let Some(alone) = step.earlier.alone()
        && differs(step.act, alone, flag)
    {
        return charge(match step.before {
            State::Claimed | State::Converted => "its flag was written while it was claimed",
            _ => {
                "its flag was written after its last reference was dropped, before anyone claimed it"
            }
        });
    }
    let failed = flag.has(FLAG_FAILED) && !step.earlier.saw_bio_fail();
    if failed { charge("FAILED is in its flag and no bio of it failed") } else { None }
}

/// UNWRITTEN alone may be gone at the release.
fn differs(act: Act, alone: Flag, now: Flag) -> bool {
    let cleared = act == Act::Release && !now.has(FLAG_UNWRITTEN);
    let expected = if cleared { alone.without(FLAG_UNWRITTEN) } else { alone };
    expected != now
}

fn charge(what: &'static str) -> Option<Charge> {
    Some(Charge { confidence: Confidence::Certain, what, first: None })
}
