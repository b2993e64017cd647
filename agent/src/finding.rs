//! A verdict as people and programs read it: one JSON object, `schema: 1`, or a few lines of text.
//!
//! ```text
//!   id          16 hex digits, FNV-1a over rule, object and first record: the same on every host
//!   object      <keyed hash of the address>@<birth_ns>; object_kind: io_end, or direct_write, which has
//!               no io_end from 5.5 on
//!   parties     who acted before (if known), who acted illegally
//!   history     the object's last steps; history_from_ns says where it begins
//!   loss        from when to when nothing was lost that could explain it
//! ```
//!
//! Kernel pointers must never appear here, in clear or in anything from which they could be guessed:
//! an address enters only through SipHash-2-4 with the run's key. Times are CLOCK_MONOTONIC
//! nanoseconds. What the kernel did not tell is absent or null, never zero.

mod key;
mod text;

use std::{borrow::Cow, collections::BTreeMap};

use serde::Serialize;

use crate::detect::{DETECTORS, Detector, Did, Object, ObjectKind, Verdict};
use crate::event::{Context, DevId, Nanos};
use crate::lifecycle::{Act, Lingering, Party, Told, Writer};

pub use key::AddressKey;
use key::fnv_1a;

/// Version of the finding's schema.
pub const SCHEMA: u32 = 1;

/// One confirmed breach of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Stable id.
    pub id: String,
    /// The rule's label.
    pub rule: &'static str,
    /// `certain`, `likely` or `symptom`.
    pub confidence: &'static str,
    /// What the rule claims.
    pub claim: &'static str,
    /// What happened here.
    pub what: &'static str,
    /// When the illegal step was.
    pub at_ns: u64,
    /// What the object is.
    pub object_kind: ObjectKind,
    /// The object.
    pub object: String,
    /// Its inode number.
    pub inode: Option<u64>,
    /// Its device, `major:minor`.
    pub device: Option<String>,
    /// Its device's kernel name, if the stream told it.
    pub device_name: Option<String>,
    /// Its state: an io_end's after the illegal step, a direct write's before it.
    pub state: &'static str,
    /// Who acted before (null if unknown), who acted illegally.
    pub parties: [Option<FindingParty>; 2],
    /// The object's words at the illegal step.
    pub image: Option<FindingImage>,
    /// Last steps, oldest first; the last one is the illegal one.
    pub history: Vec<FindingStep>,
    /// Time of the oldest step in `history`.
    pub history_from_ns: Option<u64>,
    /// Steps before that are not kept.
    pub history_skipped: u16,
    /// What is stuck with it, if that is the finding.
    pub stuck: Option<FindingStuck>,
    /// What each reference core that describes the kernel said of the object, the illegal step included.
    pub oracle: BTreeMap<&'static str, &'static str>,
    /// What is known about losses.
    pub loss: FindingLoss,
}

/// What is stuck with an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingStuck {
    /// Since when it is in its state.
    pub since_ns: u64,
    /// Younger ones of its device that are stuck in the same way.
    pub alike: u32,
    /// io_ends of its superblock that wait behind it for their conversion.
    pub delays: u32,
    /// How often its work put it back in that state, in the core of 2012.
    pub put_back: Option<FindingPutBack>,
    /// Tasks that wait for it or are likely to, the longest first.
    pub waiters: Vec<FindingWaiter>,
    /// How many wait; more than are named.
    pub waiting: u32,
}

/// How often an io_end was put back by its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FindingPutBack {
    /// How often.
    pub times: u64,
    /// The first time.
    pub since_ns: u64,
    /// The last time.
    pub last_ns: u64,
}

/// A task that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FindingWaiter {
    /// Thread.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// The phase of fsync, or the kernel function.
    pub call: &'static str,
    /// Since when.
    pub since_ns: u64,
}

/// Who did something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FindingParty {
    /// Current thread; a bystander in interrupt context.
    pub tid: u32,
    /// Its process.
    pub tgid: u32,
    /// CPU.
    pub cpu: Option<u16>,
    /// `task`, `softirq`, `hardirq`, `nmi`, `unknown`.
    pub context: &'static str,
    /// The kernel function; of a store that a watchpoint caught, with the place in it.
    pub symbol: Cow<'static, str>,
}

/// The words of the io_end that verdicts speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FindingImage {
    /// `flag`.
    pub flag: u32,
    /// `count`.
    pub count: u32,
    /// It was on the inode's list.
    pub listed: bool,
    /// It had a reserved journal handle.
    pub has_handle: bool,
}

/// One step of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FindingStep {
    /// When.
    pub at_ns: u64,
    /// What happened.
    pub act: &'static str,
    /// The kernel function.
    pub symbol: &'static str,
    /// State after it.
    pub state: &'static str,
    /// Current thread.
    pub tid: u32,
    /// CPU.
    pub cpu: Option<u16>,
    /// Context.
    pub context: &'static str,
    /// Low bits of `flag`, if an image was taken.
    pub flag: Option<u8>,
    /// `count`, 255 for more, if an image was taken.
    pub count: Option<u8>,
}

/// What is known about losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FindingLoss {
    /// Nothing was lost from here, the object's birth …
    pub none_from_ns: u64,
    /// … to here, the TICK that confirmed the verdict.
    pub none_to_ns: u64,
    /// The latest loss before.
    pub last_ns: Option<u64>,
}

impl Finding {
    /// Writes a verdict down; `device_name` is what the stream called the object's device.
    pub fn new(verdict: &Verdict, key: AddressKey, device_name: Option<&str>) -> Self {
        let object = &verdict.object;
        let id = object.id();
        let (history, history_skipped) = history(verdict);
        let inode = object.inode();
        Finding {
            schema: SCHEMA,
            id: format!("{:016x}", stable_id(verdict, key)),
            rule: verdict.rule.label(),
            confidence: verdict.confidence.label(),
            claim: row(verdict).claim,
            what: verdict.what,
            at_ns: verdict.stamp.at.0,
            object_kind: object.kind(),
            object: key.name(id),
            inode: inode.map(|inode| inode.ino.0),
            device: inode.map(|inode| inode.dev.to_string()),
            device_name: device_name.map(str::to_owned),
            state: match object {
                Object::IoEnd(object) => object.state().label(),
                Object::DirectWrite(write) => write.state(),
            },
            parties: verdict
                .parties
                .map(|party| party.map(|party| FindingParty::new(party, verdict.writer))),
            image: verdict.image.map(|image| FindingImage {
                flag: image.flag,
                count: image.count,
                listed: image.list_next != id.address(),
                has_handle: image.handle != 0,
            }),
            history_from_ns: history.first().map(|step| step.at_ns),
            history,
            history_skipped,
            stuck: verdict.lingers.as_ref().map(FindingStuck::from),
            oracle: verdict
                .oracle
                .iter()
                .map(|(core, word)| (core.label(), word.label()))
                .collect(),
            loss: FindingLoss {
                none_from_ns: id.born().0,
                none_to_ns: verdict.confirmed_at.0,
                last_ns: verdict.last_loss_at.map(|at| at.0),
            },
        }
    }

    /// The device that a verdict's object lives on, to look its name up.
    pub fn device_of(verdict: &Verdict) -> Option<DevId> {
        verdict.object.inode().map(|inode| inode.dev)
    }
}

impl From<&Lingering> for FindingStuck {
    fn from(lingering: &Lingering) -> Self {
        let Lingering { halt: _, since, alike, delays, put_back, waiters, waiting } = *lingering;
        let waiters = waiters.into_iter().flatten().map(|waiter| FindingWaiter {
            tid: waiter.task.tid,
            tgid: waiter.task.tgid,
            call: waiter.call,
            since_ns: waiter.since.0,
        });
        let put_back = put_back.map(|it| FindingPutBack {
            times: it.times,
            since_ns: it.since.0,
            last_ns: it.last.0,
        });
        let (since_ns, waiters) = (since.0, waiters.collect());
        FindingStuck { since_ns, alike, delays, put_back, waiters, waiting }
    }
}

impl FindingParty {
    fn new(party: Party<Did>, writer: Option<Writer>) -> Self {
        let writer =
            writer.filter(|_| party.act == Did::IoEnd(Act::FlagWrite)).and_then(|it| it.name);
        FindingParty {
            tid: party.task.tid,
            tgid: party.task.tgid,
            cpu: party.cpu.map(|cpu| cpu.0),
            context: context_label(party.context),
            symbol: match writer {
                Some(name) => name.to_string().into(),
                None => party.act.function().into(),
            },
        }
    }
}

/// The last steps, and how many come before them.
fn history(verdict: &Verdict) -> (Vec<FindingStep>, u16) {
    match &verdict.object {
        Object::IoEnd(object) => {
            (object.history().map(FindingStep::from).collect(), object.history_skipped())
        }
        Object::DirectWrite(write) => {
            // The illegal step is none of its own.
            let last = verdict.parties[1].map(|party| (verdict.stamp.at, party, write.state()));
            (
                write
                    .history()
                    .map(|(at, party, state)| (at, party.map(Did::DirectWrite), state))
                    .chain(last)
                    .map(FindingStep::of_direct_write)
                    .collect(),
                0,
            )
        }
    }
}

impl FindingStep {
    fn of_direct_write((at, party, state): (Nanos, Party<Did>, &'static str)) -> Self {
        FindingStep {
            at_ns: at.0,
            act: party.act.label(),
            symbol: party.act.function(),
            state,
            tid: party.task.tid,
            cpu: party.cpu.map(|cpu| cpu.0),
            context: context_label(party.context),
            flag: None,
            count: None,
        }
    }
}

impl From<Told> for FindingStep {
    fn from(told: Told) -> Self {
        FindingStep {
            at_ns: told.at.0,
            act: told.act.label(),
            symbol: told.act.function(),
            state: told.state.label(),
            tid: told.tid,
            cpu: told.cpu.map(|cpu| cpu.0),
            context: context_label(told.context),
            flag: told.image.map(|image| image.flag),
            count: told.image.map(|image| image.count),
        }
    }
}

/// The `context` of a finding, a story, an export.
pub(crate) fn context_label(context: Context) -> &'static str {
    match context {
        Context::Unknown => "unknown",
        Context::Task => "task",
        Context::SoftIrq => "softirq",
        Context::HardIrq => "hardirq",
        Context::Nmi => "nmi",
    }
}

fn row(verdict: &Verdict) -> &'static Detector {
    DETECTORS.iter().find(|row| row.rule == verdict.rule).expect("every rule has its row")
}

/// Only the address's hash goes in: from a hash of the address itself it could be guessed.
fn stable_id(verdict: &Verdict, key: AddressKey) -> u64 {
    let (id, stamp) = (verdict.object.id(), &verdict.stamp);
    let cpu = stamp.cpu.map_or(u64::MAX, |cpu| u64::from(cpu.0));
    let words =
        [key.hash_of(id.address()), id.born().0, stamp.at.0, cpu, u64::from(stamp.lane), stamp.seq];
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    fnv_1a(verdict.rule.label().bytes().chain(words))
}
