//! Verdicts and what became of candidates: the words of the detectors.
//!
//! The labels are those of the metrics and of the finding's schema: a label is never reused for
//! something else. This module must never judge.

use serde::Serialize;

use super::losses::Cause;
use super::need::Need;
use crate::event::{InodeId, IoEndImage, Nanos, Stamp};
use crate::lifecycle::{
    Act, DirectAct, DirectWrite, DirectWriteId, IoEnd, IoEndId, Lingering, Party, Writer,
};
use crate::oracle::in_step::Words;

macro_rules! rules {
    ($( #[$doc:meta] $name:ident = $label:literal, )*) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Rule { $( #[$doc] $name, )* }

        impl Rule {
            /// All rules.
            pub const ALL: &[Rule] = &[ $( Rule::$name, )* ];

            /// The `rule` label.
            pub fn label(self) -> &'static str {
                match self { $( Rule::$name => $label, )* }
            }
        }
    };
}

rules! {
    /// Two parties process one incarnation.
    DoubleProcess = "double_process",
    /// An incarnation is released twice.
    ReleaseTwice = "release_twice",
    /// A released incarnation is used.
    UseAfterRelease = "use_after_release",
    /// A reference is used that does not exist, or work begins while some do.
    BadReference = "bad_reference",
    /// A list or a bio's end contradicts the state.
    BadLinkage = "bad_linkage",
    /// The flag has bits that mean nothing.
    UnknownFlagBits = "unknown_flag_bits",
    /// A bit of the flag was lost.
    LostFlagUpdate = "lost_flag_update",
    /// The flag was written while nobody may.
    UnlockedFlagWrite = "unlocked_flag_write",
    /// Extents are converted after a failed write.
    ConvertAfterFailedWrite = "convert_after_failed_write",
    /// The journal handle was lost.
    LeakedHandle = "leaked_handle",
    /// Bios attached and ended do not add up.
    MissingBio = "missing_bio",
    /// A conversion runs in an interrupt.
    ConvertInIrq = "convert_in_irq",
    /// A direct write completes twice, after its call, or uncounted.
    DirectIoOrder = "direct_io_order",
    /// An incarnation is freed while another task processes it.
    WorkerFreedInUse = "worker_freed_in_use",
    /// An fsync returned 0 before a write that it had to wait for was converted.
    FsyncBeforeConversion = "fsync_before_conversion",
    /// A conversion failed, and the fsync that had to tell returned 0.
    ConversionErrorHidden = "conversion_error_hidden",
    /// An io_end was left to a worker while nothing kept its inode in memory.
    UnpinnedInode = "unpinned_inode",
    /// A reference core has no run with what was seen.
    OracleDivergence = "oracle_divergence",
    /// An io_end is in one state for long.
    Stuck = "stuck",
}

impl Rule {
    /// The confidences, by label, that a verdict of it can have.
    pub fn confidences(self) -> &'static [&'static str] {
        match self {
            Rule::Stuck => &["symptom"],
            _ => &["certain", "likely"],
        }
    }
}

/// How sure a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// Proven by the object's own bytes, or by an order that a lock, a reference or one task proves.
    Certain,
    /// Rests on the model of an object whose whole life was seen.
    Likely,
    /// No breach: an age, which is the usual sign of one, or of a slow device.
    Symptom,
}

impl Confidence {
    /// The `confidence` label.
    pub fn label(self) -> &'static str {
        match self {
            Confidence::Certain => "certain",
            Confidence::Likely => "likely",
            Confidence::Symptom => "symptom",
        }
    }
}

/// Why a candidate was not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Suppressed {
    /// Records were lost during the object's life.
    Loss,
    /// A probe's hits were skipped during the object's life.
    Misses,
    /// A probe was attached or detached during the object's life.
    ProbesChanged,
    /// A program came to a bound of its own during the object's life, and left out what the rule
    /// rests on.
    ProgramBound,
    /// The object's birth was not seen.
    BirthUnseen,
    /// The object's own record has a gap.
    Incomplete,
    /// Too many candidates in one epoch.
    QueueFull,
    /// The stream ended before its epoch was closed.
    StreamEnd,
    /// The layout of io_ends was assumed, and was seen to be another.
    Layout,
}

impl Suppressed {
    /// All reasons.
    pub const ALL: [Suppressed; 9] = [
        Suppressed::Loss,
        Suppressed::Misses,
        Suppressed::ProbesChanged,
        Suppressed::ProgramBound,
        Suppressed::BirthUnseen,
        Suppressed::Incomplete,
        Suppressed::QueueFull,
        Suppressed::StreamEnd,
        Suppressed::Layout,
    ];

    /// The `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Suppressed::Loss => "loss",
            Suppressed::Misses => "misses",
            Suppressed::ProbesChanged => "probes_changed",
            Suppressed::ProgramBound => "program_bound",
            Suppressed::BirthUnseen => "birth_unseen",
            Suppressed::Incomplete => "incomplete",
            Suppressed::QueueFull => "queue_full",
            Suppressed::StreamEnd => "stream_end",
            Suppressed::Layout => "layout",
        }
    }
}

/// What a verdict accuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// An io_end.
    IoEnd,
    /// A direct write, which has no io_end from 5.5 on.
    DirectWrite,
}

impl ObjectKind {
    /// All kinds.
    pub const ALL: [ObjectKind; 2] = [ObjectKind::IoEnd, ObjectKind::DirectWrite];

    /// The `object_kind` of a finding.
    pub fn label(self) -> &'static str {
        match self {
            ObjectKind::IoEnd => "io_end",
            ObjectKind::DirectWrite => "direct_write",
        }
    }
}

/// Names what a verdict accuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectId {
    /// An io_end.
    IoEnd(IoEndId),
    /// A direct write.
    DirectWrite(DirectWriteId),
}

impl ObjectId {
    /// Where it is: never to be shown.
    pub(crate) fn address(self) -> u64 {
        match self {
            ObjectId::IoEnd(id) => id.addr.0,
            ObjectId::DirectWrite(id) => id.iocb.0,
        }
    }

    /// When its life began.
    pub fn born(self) -> Nanos {
        match self {
            ObjectId::IoEnd(id) => id.born,
            ObjectId::DirectWrite(id) => id.begun,
        }
    }
}

/// What a verdict accuses.
#[derive(Clone, Copy)]
pub enum Object {
    /// An io_end.
    IoEnd(IoEnd),
    /// A direct write.
    DirectWrite(DirectWrite),
}

impl Object {
    /// Its name.
    pub fn id(&self) -> ObjectId {
        match self {
            Object::IoEnd(object) => ObjectId::IoEnd(object.id()),
            Object::DirectWrite(write) => ObjectId::DirectWrite(write.id()),
        }
    }

    /// Which of the two.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::IoEnd(_) => ObjectKind::IoEnd,
            Object::DirectWrite(_) => ObjectKind::DirectWrite,
        }
    }

    /// Its inode, if it is known.
    pub fn inode(&self) -> Option<InodeId> {
        match self {
            Object::IoEnd(object) => object.inode(),
            Object::DirectWrite(write) => write.inode(),
        }
    }
}

/// What a party did with the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Did {
    /// With an io_end.
    IoEnd(Act),
    /// With a direct write.
    DirectWrite(DirectAct),
}

impl Did {
    /// Short name.
    pub fn label(self) -> &'static str {
        match self {
            Did::IoEnd(act) => act.label(),
            Did::DirectWrite(act) => act.label(),
        }
    }

    /// The kernel function whose probe saw it.
    pub fn function(self) -> &'static str {
        match self {
            Did::IoEnd(act) => act.function(),
            Did::DirectWrite(act) => act.function(),
        }
    }
}

/// A candidate, and once it is confirmed a verdict.
#[derive(Clone, Copy)]
pub struct Verdict {
    /// The rule.
    pub rule: Rule,
    /// How sure.
    pub confidence: Confidence,
    /// What happened.
    pub what: &'static str,
    /// What must have been witnessed for it.
    pub rests_on: &'static [Need],
    /// The object: an io_end after the illegal step, a direct write before it.
    pub object: Object,
    /// The illegal step: when and where.
    pub stamp: Stamp,
    /// The object's bytes at the illegal step.
    pub image: Option<IoEndImage>,
    /// Who acted before, and who acted illegally.
    pub parties: [Option<Party<Did>>; 2],
    /// By which instruction the second party wrote, if a watchpoint caught that.
    pub writer: Option<Writer>,
    /// What the reference cores said of the object up to the illegal step, that one included.
    pub oracle: Words,
    /// The TICK that confirmed it: nothing that touches this life was lost until then.
    pub confirmed_at: Nanos,
    /// The latest loss of any kind before the object's birth.
    pub last_loss_at: Option<Nanos>,
    /// What is stuck with the object, if that is the finding.
    pub lingers: Option<Lingering>,
    /// How often the same object broke the rule again while this was held.
    pub repeats: u64,
}

/// Counts of what became of candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Confirmed, by [`Rule`].
    pub confirmed: [u64; Rule::ALL.len()],
    /// More of the same object and rule, by [`Rule`].
    pub repeated: [u64; Rule::ALL.len()],
    /// Not confirmed, by [`Rule`] and [`Suppressed`].
    pub suppressed: [[u64; Suppressed::ALL.len()]; Rule::ALL.len()],
    /// Objects whose earlier findings are no longer remembered.
    pub accused_forgotten: u64,
}

impl Tally {
    /// Candidates of `rule` that were suppressed for `reason`.
    pub fn suppressed(&self, rule: Rule, reason: Suppressed) -> u64 {
        self.suppressed[rule as usize][reason as usize]
    }
}

impl From<Cause> for Suppressed {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Loss => Suppressed::Loss,
            Cause::Misses => Suppressed::Misses,
            Cause::ProbesChanged => Suppressed::ProbesChanged,
            Cause::ProgramBound => Suppressed::ProgramBound,
        }
    }
}
