//! One io_end: what was counted of it, and what each core makes of it.
//!
//! Counts are facts, not states: bios attached and ended, references put. Probes are entered
//! before the function acts, so a put that was seen may not have decremented yet; and a probe takes
//! its place in the stream before it reads the image, so an image may be younger than the event after
//! it. [`Known::last`] holds the one thing that is in program order: two images by one actor.

use super::protocol::Rules;
use super::{Judge, Outcome, Words, completed_list, is_task, refcounted};
use crate::event::{Context, IoEndImage, Nanos};

/// What was seen of an io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the event of its name")]
pub enum Act {
    Range {
        failed: bool,
    },
    Attach,
    BioEnd {
        failed: bool,
    },
    Put,
    PutDefer,
    Claim,
    ConvertBegin,
    ConvertEnd,
    Release,
    /// Was the lock held by anybody? `None`: it could not be told.
    Requeue {
        locked: Option<bool>,
    },
}

impl Act {
    /// Short name.
    pub fn label(self) -> &'static str {
        match self {
            Act::Range { .. } => "range",
            Act::Attach => "attach",
            Act::BioEnd { .. } => "bio_end",
            Act::Put => "put",
            Act::PutDefer => "put_defer",
            Act::Claim => "claim",
            Act::ConvertBegin => "convert_begin",
            Act::ConvertEnd => "convert_end",
            Act::Release => "release",
            Act::Requeue { locked: Some(false) } => "requeue outside of the lock",
            Act::Requeue { .. } => "requeue",
        }
    }
}

/// Who acted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct By {
    /// Current task.
    pub tid: u32,
    /// CPU.
    pub cpu: u16,
    /// Context.
    pub context: Context,
    /// Is the task inside the inode's worker? `None`: it could not be told.
    pub worker: Option<bool>,
}

impl By {
    /// Is this surely `tid`, surely not (`Some(false)`), or unknown?
    pub(super) fn may_be(self, tid: u32) -> bool {
        match self.context {
            Context::Task => self.tid == tid,
            Context::Unknown => true,
            Context::SoftIrq | Context::HardIrq | Context::Nmi => false,
        }
    }

    /// Did `self` and `other` surely happen one after the other?
    fn follows(self, other: By) -> bool {
        if is_task(self.context) {
            return is_task(other.context) && self.tid == other.tid;
        }
        self.context != Context::Unknown && (self.cpu, self.context) == (other.cpu, other.context)
    }
}

/// One event of one io_end.
#[derive(Clone, Copy, Debug)]
pub struct Sighting {
    /// What.
    pub act: Act,
    /// Who.
    pub by: By,
    /// Address of the io_end.
    pub addr: u64,
    /// Its bytes, if the event has them and they could be read.
    pub image: Option<IoEndImage>,
}

/// Through which function a reference was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum PutBy {
    Put,
    Defer,
}

/// What was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Known {
    pub(super) owner: u32,
    pub(super) attached: u32,
    pub(super) ended: u32,
    pub(super) failed: u32,
    /// Puts by bios.
    pub(super) bio_puts: u32,
    pub(super) submitter_put: Option<PutBy>,
    /// The put that read a count of 1.
    pub(super) last_put: Option<PutBy>,
    /// `ext4_end_bio` calls of the owner's own task that have not put yet.
    owner_ends: u32,
    /// Who claimed.
    pub(super) claimer: Option<u32>,
    pub(super) conversions: u32,
    /// The last image while references were held: flags, by whom.
    pub(super) last: Option<(u32, By)>,
}

impl Known {
    /// References that were not seen put.
    pub(super) fn references(&self) -> i64 {
        let puts = i64::from(self.bio_puts) + i64::from(self.submitter_put.is_some());
        1 + i64::from(self.attached) - puts
    }

    /// Is a put by this actor the submitter's?
    pub(super) fn is_submitters(&self, sighting: &Sighting) -> bool {
        match sighting.act {
            Act::Put => true,
            Act::PutDefer => {
                sighting.by.may_be(self.owner)
                    && self.owner_ends == 0
                    && self.submitter_put.is_none()
            }
            _ => false,
        }
    }

    /// The flags of the image before, if the same actor took it.
    pub(super) fn last_by_same(&self, by: By) -> Option<u32> {
        self.last.filter(|(_, other)| by.follows(*other)).map(|(flags, _)| flags)
    }

    /// Have all bios ended, so that none is left that could fail?
    pub(super) fn all_ended(&self, rules: Rules) -> bool {
        self.submitter_put.is_some() && self.ended >= self.attached && !rules.bios_unseen
    }

    /// Is the count of an image more than the bios that were seen attached can hold?
    pub(super) fn is_surplus(&self, count: u32) -> bool {
        self.submitter_put.is_some() && u64::from(count) > 1 + u64::from(self.attached)
    }

    /// Was there, after `sighting`, surely a bio that was not seen attached?
    fn shows_unseen_bio(&self, sighting: &Sighting) -> bool {
        match sighting.act {
            Act::BioEnd { .. } if self.ended > self.attached => true,
            Act::BioEnd { .. } | Act::Put | Act::PutDefer => {
                sighting.image.is_some_and(|image| self.is_surplus(image.count))
            }
            _ => false,
        }
    }

    fn count(&mut self, sighting: &Sighting) {
        let owners = is_task(sighting.by.context) && sighting.by.tid == self.owner;
        let submitters = self.is_submitters(sighting);
        match sighting.act {
            Act::Range { .. } | Act::Release | Act::Requeue { .. } => {}
            Act::Attach => self.attached += 1,
            Act::BioEnd { failed } => {
                self.ended += 1;
                self.failed += u32::from(failed);
                self.owner_ends += u32::from(owners);
            }
            Act::Put | Act::PutDefer => {
                let by = if sighting.act == Act::Put { PutBy::Put } else { PutBy::Defer };
                if submitters && self.submitter_put.is_none() {
                    self.submitter_put = Some(by);
                } else {
                    self.bio_puts += 1;
                    self.owner_ends -= u32::from(owners && self.owner_ends > 0);
                }
                if sighting.image.is_some_and(|image| image.count == 1) {
                    self.last_put = Some(by);
                }
            }
            Act::Claim => self.claimer = self.claimer.or(Some(sighting.by.tid)),
            Act::ConvertBegin => {
                self.claimer = self.claimer.or(Some(sighting.by.tid));
                self.conversions += 1;
            }
            Act::ConvertEnd => {}
        }
        let held = matches!(sighting.act, Act::BioEnd { .. } | Act::Put | Act::PutDefer);
        if let (true, Some(image)) = (held, sighting.image) {
            self.last = Some((image.flag, sighting.by));
        }
    }
}

/// What a core makes of one io_end: its states that explain everything seen so far.
pub(super) trait States: Copy {
    /// Of one that was just born.
    const BORN: Self;
    /// Nothing explains it, or it is not followed any more.
    const NONE: Self;

    /// How many they are.
    fn len(self) -> u32;

    /// What explains `sighting` as well; `before` and `after` are what was known around it.
    fn follow(self, sighting: &Sighting, before: &Known, after: &Known, rules: Rules) -> Self;

    fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// One io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Life {
    born: Nanos,
    known: Known,
    refcounted: refcounted::Set,
    completed_list: completed_list::Set,
    freed: bool,
    /// Which core diverged, by [`Judge`].
    diverged: [bool; Judge::ALL.len()],
}

impl Life {
    pub(super) fn new(born: Nanos, owner: u32) -> Self {
        Life {
            born,
            known: Known {
                owner,
                attached: 0,
                ended: 0,
                failed: 0,
                bio_puts: 0,
                submitter_put: None,
                last_put: None,
                owner_ends: 0,
                claimer: None,
                conversions: 0,
                last: None,
            },
            refcounted: States::BORN,
            completed_list: States::BORN,
            freed: false,
            diverged: [false; Judge::ALL.len()],
        }
    }

    /// What these say of it.
    pub(super) fn words(&self, judges: &[Judge]) -> Words {
        let mut words = Words::default();
        for judge in judges {
            let followed = match judge {
                Judge::CompletedList => !self.completed_list.is_empty(),
                Judge::Refcounted => !self.refcounted.is_empty(),
            };
            let word = match (self.diverged[*judge as usize], followed) {
                (true, _) => Outcome::Diverged,
                (false, true) => Outcome::Allowed,
                (false, false) => Outcome::CouldNotTell,
            };
            words.say(*judge, word);
        }
        words
    }

    pub(super) fn born(&self) -> Nanos {
        self.born
    }

    pub(super) fn is_freed(&self) -> bool {
        self.freed
    }

    /// Does a core still follow it?
    pub(super) fn is_followed(&self) -> bool {
        !self.refcounted.is_empty() || !self.completed_list.is_empty()
    }

    /// By `Judge`: how many states the core has left; 0 when this event left none; `None` when it had
    /// none before, or when the counts stand on bios that were attached unseen.
    pub(super) fn follow(&mut self, sighting: &Sighting, rules: Rules) -> [Option<u32>; 2] {
        let before = self.known;
        self.known.count(sighting);
        if rules.bios_unseen && self.known.shows_unseen_bio(sighting) {
            (self.refcounted, self.completed_list) = (States::NONE, States::NONE);
            return [None; 2];
        }
        self.freed |= sighting.act == Act::Release;
        let known = [before, self.known];
        let told = [
            narrow(&mut self.completed_list, sighting, known, rules),
            narrow(&mut self.refcounted, sighting, known, rules),
        ];
        for (diverged, states) in self.diverged.iter_mut().zip(told) {
            *diverged |= states == Some(0);
        }
        told
    }
}

/// How many states are left of a set, if it had any; `known` is before and after.
fn narrow<S: States>(
    set: &mut S,
    sighting: &Sighting,
    [before, after]: [Known; 2],
    rules: Rules,
) -> Option<u32> {
    if set.is_empty() {
        return None;
    }
    *set = set.follow(sighting, &before, &after, rules);
    Some(set.len())
}
