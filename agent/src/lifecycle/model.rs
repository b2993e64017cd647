//! How one event moves one io_end: the reference-count model of 5.10 to 7.3.
//!
//! **The reference count.** The model's count is 1 + bios attached − puts *entered* (every bio holds
//! one reference, `io_submit_init_bio`, 5.10 to 7.3). It reaches 0 with the last put that enters,
//! whatever the CPUs' order: each put enters before it decrements. The count in an image is only a
//! bound: two puts may both read 2. One thing it proves: a put that reads 1 is the one that takes
//! it to 0.
//!
//! **Whose put.** `ext4_put_io_end` is always the submitter's (`ext4_writepages`, 5.10 to 7.3).
//! `ext4_put_io_end_defer` is a bio's when called by `ext4_end_bio`, else the submitter's. A put in
//! interrupt context or by another task cannot be the submitter's; one by the submitter's own task
//! is a bio's exactly if that task has an `ext4_end_bio` of this io_end open. That needs a count
//! per object and no per-CPU stack, so a task that migrates between the two is no problem.
//!
//! **Deferral.** The worker converts if the last put was `ext4_put_io_end_defer`, UNWRITTEN is set
//! and a range is listed (5.10 to 6.14). From 6.15 FAILED with data_err=abort also defers; the
//! mount option is not in the image, so a FAILED io_end is "perhaps queued": nothing rests on it.
//!
//! **Less than all.** Where puts are not witnessed there is no count: a put, a claim and a release are
//! followed as far as they themselves tell, and nothing that rests on a count is said ([`Sight`]).
//!
//! **Gaps.** Where model and image cannot both be right an event was missed: the incarnation gets a
//! [`Gap`] and is never accused. This module must never accuse: it only says what was irregular.

use super::act::{Act, Party};
use super::gap::{Gap, Gaps, Irregular};
use super::history::Since;
use super::io_end::{IoEnd, mark};
use super::sight::Sight;
use super::snapshots::Snapshots;
use super::state::{self, Move, State};
use crate::event::{Context, IO_END_LIST_VEC_OFFSET, IoEndImage, Stamp};

/// `EXT4_IO_END_UNWRITTEN`, fs/ext4/ext4.h, 5.10 to 7.3.
pub const FLAG_UNWRITTEN: u32 = 1;
/// `EXT4_IO_END_FAILED`: 6.15 on, and 6.6.y, 6.12.y, 6.14.y stable since mid 2025.
pub const FLAG_FAILED: u32 = 2;
/// Above this a count is an underflow or saturated (`REFCOUNT_SATURATED` is 0xc0000000).
pub const COUNT_SANE_MAX: u32 = 1 << 30;

/// What is applied to an object.
#[derive(Clone, Copy)]
pub(super) struct Input<'a> {
    pub(super) stamp: &'a Stamp,
    pub(super) act: Act,
    pub(super) image: Option<&'a IoEndImage>,
    /// As in [`Deed`](super::act::Deed).
    pub(super) ret: i64,
    /// As in [`Deed`](super::act::Deed).
    pub(super) ended_before: bool,
    /// What can be seen at all.
    pub(super) sight: Sight,
    /// The run of `ext4_end_io_rsv_work` that the current task is in.
    pub(super) run: Option<u16>,
}

/// What applying it did.
#[derive(Clone, Copy)]
pub(super) struct Outcome {
    pub(super) before: State,
    pub(super) action: Move,
    pub(super) earlier: Snapshots,
    pub(super) irregular: Option<Irregular>,
    pub(super) new_gaps: Gaps,
}

impl IoEnd {
    /// Follows one event; the object is in its new state afterwards.
    pub(super) fn apply(&mut self, input: Input<'_>) -> Outcome {
        let (before, gaps_before, earlier) = (self.state, self.gaps, self.snapshots);
        if let Some(image) = input.image {
            self.mark(before, image);
        }
        let (action, remark) = if before == State::Released {
            self.late(input)
        } else {
            self.snapshots.take(&input);
            self.act(input)
        };
        let next = state::transition(before, action);
        let irregular = match next {
            _ if before == State::Adopted => None,
            None => Some(remark.unwrap_or(Irregular::NoTransition)),
            Some(_) => remark,
        };
        if irregular.is_some() {
            self.marks |= mark::IRREGULAR;
        }
        self.state = next.unwrap_or_else(|| state::after_irregular(before, action));
        self.tell(input.stamp, input.act, input.image);
        Outcome { before, action, earlier, irregular, new_gaps: self.gaps.without(gaps_before) }
    }

    fn mark(&mut self, before: State, image: &IoEndImage) {
        self.marks |= if image.flag & FLAG_FAILED != 0 { mark::FAILED } else { 0 };
        if before == State::Released {
            return; // the bytes of whoever is there now
        }
        self.marks |= if image.bio != 0 { mark::PINNED } else { 0 };
        self.marks |= if image.flag & FLAG_UNWRITTEN != 0 { mark::UNWRITTEN } else { 0 };
    }

    /// A tombstone's counters and times stay as they were when it died.
    fn late(&self, input: Input<'_>) -> (Move, Option<Irregular>) {
        let action = match input.act {
            Act::Birth | Act::Range => Move::Range,
            Act::Attach => Move::Attach,
            Act::BioEnd => Move::BioEnd,
            Act::Put | Act::PutDefer => Move::PutBeyondLast,
            Act::Claim => Move::Claim,
            Act::ConvertBegin => Move::Convert,
            Act::ConvertEnd => Move::ConvertEnd,
            Act::Release => Move::Release,
            Act::PartDone => Move::PartDone,
            Act::BioDone => Move::BioDone,
            Act::Listed => Move::Listed,
            Act::FsyncReturned | Act::InodeDestroyed | Act::Lingers | Act::FlagWrite => {
                Move::PassBy
            }
            Act::Requeue => Move::Requeue,
        };
        (action, None)
    }

    fn act(&mut self, input: Input<'_>) -> (Move, Option<Irregular>) {
        let now = Since::new(input.stamp.at, self.born);
        match input.act {
            Act::Birth | Act::Range if input.ret != 0 => (Move::RangeFailed, None),
            Act::Birth | Act::Range => {
                self.ranges = self.ranges.saturating_add(1);
                (Move::Range, None)
            }
            Act::Attach => {
                self.bios_attached += 1;
                if self.first_attach_at == Since::NEVER {
                    self.first_attach_at = now;
                }
                (Move::Attach, None)
            }
            Act::BioEnd => {
                self.last_bio_end_at = now;
                self.bio_end(input);
                (Move::BioEnd, input.ended_before.then_some(Irregular::EndedBefore))
            }
            Act::PartDone | Act::BioDone if input.ret != 0 => {
                self.last_bio_end_at = now;
                self.one_more_bio_ended();
                (Move::BioDone, None)
            }
            Act::PartDone | Act::BioDone => (Move::PartDone, None),
            Act::FsyncReturned | Act::InodeDestroyed | Act::Lingers | Act::FlagWrite => {
                (Move::PassBy, None)
            }
            Act::Listed => self.listed(input, now),
            Act::Requeue => (Move::Requeue, (input.ret != 0).then_some(Irregular::Unlocked)),
            Act::Put | Act::PutDefer => self.put(input, now),
            Act::Claim | Act::ConvertBegin => self.claim_or_convert(input, now),
            Act::ConvertEnd => {
                self.convert_end_at = now;
                self.convert_ret = i16::try_from(input.ret).unwrap_or(i16::MIN);
                (Move::ConvertEnd, self.foreign(input))
            }
            Act::Release => {
                self.release_at = now;
                self.release = Some(Party::new(input.stamp, input.act));
                self.released(input)
            }
        }
    }

    fn released(&mut self, input: Input<'_>) -> (Move, Option<Irregular>) {
        let Sight { references, conversions, bio_ends, bios_done, worker_releases, .. } =
            input.sight;
        let by_its_work = worker_releases && self.state == State::Converted;
        self.check_last_put_seen(input);
        if !bio_ends && !bios_done {
            self.marks |= mark::BIO_ENDS_UNSEEN;
        }
        let after_last_put = !matches!(
            self.state,
            State::Born | State::Ranged | State::Submitting | State::InFlight
        );
        let action = match () {
            () if !references || (!conversions && after_last_put) => Move::ReleaseUnwatched,
            () if self.marks & mark::FAILED != 0 => Move::ReleaseFailed,
            () => Move::Release,
        };
        (action, self.foreign(input).filter(|_| !by_its_work))
    }

    fn one_more_bio_ended(&mut self) {
        self.bios_ended += 1;
        if self.bios_ended > self.bios_attached {
            self.note_unless_adopted(Gap::AttachMissed);
        }
    }

    /// A run takes all that is on the list and releases it: nothing is there for two.
    fn listed(&mut self, input: Input<'_>, now: Since) -> (Move, Option<Irregular>) {
        self.check_last_put_seen(input);
        if self.final_at == Since::NEVER {
            self.final_at = now;
            self.marks |= mark::LISTED;
        }
        let Some(run) = input.run else { return (Move::Listed, None) };
        let again = self.listed_run != 0 && self.listed_run != run;
        self.listed_run = run;
        (Move::Listed, again.then_some(Irregular::ListedAgain))
    }

    fn bio_end(&mut self, input: Input<'_>) {
        self.one_more_bio_ended();
        if self.may_be_owner(input.stamp) {
            self.owner_bio_ends = self.owner_bio_ends.saturating_add(1);
        }
        self.check_count_bound(input.image);
    }

    fn put(&mut self, input: Input<'_>, now: Since) -> (Move, Option<Irregular>) {
        let references_before = self.references();
        // Where the ends of bios are not seen, a deferring put by the submitter's task may be a bio's.
        let by_submitter = input.act == Act::Put
            || (input.sight.bio_ends && self.is_submitters_defer(input.stamp));
        let again = by_submitter && self.submitter_put.is_some();
        self.puts += 1;
        if by_submitter && !again {
            self.submitter_put = Some(input.act);
            self.submitter_put_at = now;
        }
        if !input.sight.references {
            return (Move::PutUnwatched, None);
        }
        self.check_count_bound(input.image);
        if input.image.is_some_and(|image| image.count == 1) {
            self.proven_last_put = Some(input.act);
        }
        let remark = again.then_some(Irregular::SecondSubmitterPut);
        let action = match references_before {
            ..=0 => {
                self.check_resurrected(input.image);
                Move::PutBeyondLast
            }
            1 => {
                self.final_at = now;
                if input.image.is_some_and(|image| (2..=COUNT_SANE_MAX).contains(&image.count)) {
                    self.marks |= mark::OTHERS_LEFT;
                }
                self.last_put(input.image)
            }
            _ if by_submitter => Move::SubmitterPut,
            _ => Move::BioPut,
        };
        (action, remark)
    }

    /// The last put entered: is the object queued, by this put or by one still on its way?
    fn last_put(&mut self, image: Option<&IoEndImage>) -> Move {
        let vec_self = self.addr.0.wrapping_add(IO_END_LIST_VEC_OFFSET);
        let defers = image.map(|image| {
            let converts = image.flag & FLAG_UNWRITTEN != 0 && image.vec_next != vec_self;
            (converts, image.flag & FLAG_FAILED != 0)
        });
        // Where no put read 1, the submitter's and a bio's are both on their way.
        let through_defer = match (self.proven_last_put, self.submitter_put) {
            (Some(act), _) => Some(act == Act::PutDefer),
            (None, Some(Act::PutDefer)) => Some(true),
            (None, _) => None,
        };
        match (defers, through_defer) {
            (_, Some(false)) | (Some((false, false)), _) => Move::LastPut,
            (Some((true, _)), Some(true)) => Move::LastPutQueues,
            _ => {
                self.marks |= mark::QUEUE_UNKNOWN;
                Move::LastPut
            }
        }
    }

    fn claim_or_convert(&mut self, input: Input<'_>, now: Since) -> (Move, Option<Irregular>) {
        let converts = input.act == Act::ConvertBegin;
        let first_conversion = converts && self.marks & mark::CONVERTS == 0;
        self.marks |= if converts { mark::CONVERTS } else { 0 };
        if let Some(first) = self.claim {
            let foreign = first.task.tid != input.stamp.task.tid;
            let remark = match (converts, first.act, first_conversion) {
                _ if foreign => Some(Irregular::ForeignClaim),
                (true, Act::Claim, true) => None,
                (true, ..) => Some(Irregular::SecondConversion),
                (false, ..) => None,
            };
            return (if converts { Move::Convert } else { Move::Claim }, remark);
        }
        self.claim = Some(Party::new(input.stamp, input.act));
        self.claim_at = now;
        if converts && input.sight.claims && self.state != State::Adopted {
            self.gaps.insert(Gap::ClaimMissed);
        }
        self.check_last_put_seen(input);
        if input.image.is_some_and(|image| image.count == 0) {
            self.marks |= mark::CLAIMED_AT_ZERO;
        }
        if !input.sight.references {
            return (Move::ClaimUnwatched, None);
        }
        let queued = self.state == State::Queued || self.marks & mark::QUEUE_UNKNOWN != 0;
        let by_worker = input.run.is_some() && input.stamp.task.tid != self.owner.tid;
        (Move::Claim, (by_worker && !queued).then_some(Irregular::NotQueued))
    }

    /// Another task than the claim's acts on a claimed object.
    fn foreign(&self, input: Input<'_>) -> Option<Irregular> {
        let claim = self.claim?;
        (claim.task.tid != input.stamp.task.tid).then_some(Irregular::ForeignClaim)
    }

    /// In task context the current task acts; where the context is unknown it might.
    fn may_be_owner(&self, stamp: &Stamp) -> bool {
        let acts = matches!(stamp.context, Context::Task | Context::Unknown);
        acts && stamp.task.tid == self.owner.tid
    }

    fn is_submitters_defer(&mut self, stamp: &Stamp) -> bool {
        if !self.may_be_owner(stamp) {
            return false;
        }
        let nested = self.owner_bio_ends > 0;
        self.owner_bio_ends -= u8::from(nested);
        !nested
    }

    /// Once the submitter has put its reference, no count can exceed what was attached and given.
    fn check_count_bound(&mut self, image: Option<&IoEndImage>) {
        let Some(image) = image else { return };
        let excess = u64::from(image.count) > 1 + u64::from(self.bios_attached);
        if self.submitter_put.is_some() && excess && image.count <= COUNT_SANE_MAX {
            self.note_unless_adopted(Gap::AttachMissed);
        }
    }

    /// A reference where the model has none: one was taken unseen, unless the object is provably
    /// past its end (on the list, or claimed at 0), which is for the rules to judge.
    fn check_resurrected(&mut self, image: Option<&IoEndImage>) {
        let Some(image) = image else { return };
        let held = (1..=COUNT_SANE_MAX).contains(&image.count);
        if held && image.list_next == self.addr.0 && !self.claimed_at_zero() {
            self.note_unless_adopted(Gap::AttachMissed);
        }
    }

    /// Listed, claimed or released at count 0 while the model holds references: a put was missed.
    fn check_last_put_seen(&mut self, input: Input<'_>) {
        let at_zero = input.image.is_some_and(|image| image.count == 0);
        if input.sight.references && self.references() > 0 && at_zero {
            self.note_unless_adopted(Gap::PutMissed);
        }
    }

    fn note_unless_adopted(&mut self, gap: Gap) {
        if self.state != State::Adopted {
            self.gaps.insert(gap);
        }
    }
}
