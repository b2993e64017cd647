//! A verdict as people and programs read it: one JSON object, `schema: 1`, or a few lines of text.
//!
//! ```text
//!   id          16 hex digits, FNV-1a over rule, object and first record: the same on every host
//!   object      <keyed hash of the address>@<birth_ns>
//!   parties     who acted before (if known), who acted illegally
//!   history     the object's last steps; history_from_ns says where it begins
//!   loss        from when to when nothing was lost that could explain it
//! ```
//!
//! Kernel pointers must never appear here, in clear or in anything from which they could be guessed:
//! an address enters only through SipHash-2-4 with the run's key. Times are CLOCK_MONOTONIC
//! nanoseconds. What the kernel did not tell is absent or null, never zero.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::Serialize;

use crate::detect::{DETECTORS, Detector, Verdict};
use crate::event::{Context, DevId, IoEndAddr, Nanos};
use crate::lifecycle::{Act, FLAG_FAILED, FLAG_UNWRITTEN, IoEndId, Lingering, Party, Told, Writer};

/// Version of the finding's schema.
pub const SCHEMA: u32 = 1;

/// Key of the hashes that stand for kernel addresses, random per run, from the HOST record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressKey(pub u64);

impl AddressKey {
    /// What stands for an address outside of traces.
    pub fn hash(self, addr: IoEndAddr) -> u64 {
        siphash_2_4(self.0, addr.0)
    }

    /// An object's id as text.
    pub fn object(self, id: IoEndId) -> String {
        format!("{:016x}@{}", self.hash(id.addr), id.born.0)
    }
}

/// One confirmed breach of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Stable id.
    pub id: String,
    /// The rule's label.
    pub rule: &'static str,
    /// `certain` or `likely`.
    pub confidence: &'static str,
    /// What the rule claims.
    pub claim: &'static str,
    /// What happened here.
    pub what: &'static str,
    /// When the illegal step was.
    pub at_ns: u64,
    /// The object.
    pub object: String,
    /// Its inode number.
    pub inode: Option<u64>,
    /// Its device, `major:minor`.
    pub device: Option<String>,
    /// Its device's kernel name, if the stream told it.
    pub device_name: Option<String>,
    /// The object's state after the illegal step.
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
        let history: Vec<FindingStep> = object.history().map(FindingStep::from).collect();
        let inode = object.inode();
        Finding {
            schema: SCHEMA,
            id: format!("{:016x}", stable_id(verdict, key)),
            rule: verdict.rule.label(),
            confidence: verdict.confidence.label(),
            claim: row(verdict).claim,
            what: verdict.what,
            at_ns: verdict.stamp.at.0,
            object: key.object(id),
            inode: inode.map(|inode| inode.ino.0),
            device: inode.map(|inode| inode.dev.to_string()),
            device_name: device_name.map(str::to_owned),
            state: object.state().label(),
            parties: verdict
                .parties
                .map(|party| party.map(|party| FindingParty::new(party, verdict.writer))),
            image: verdict.image.map(|image| FindingImage {
                flag: image.flag,
                count: image.count,
                listed: image.list_next != id.addr.0,
                has_handle: image.handle != 0,
            }),
            history_from_ns: history.first().map(|step| step.at_ns),
            history,
            history_skipped: object.history_skipped(),
            stuck: verdict.lingers.as_ref().map(FindingStuck::from),
            oracle: verdict
                .oracle
                .iter()
                .map(|(core, word)| (core.label(), word.label()))
                .collect(),
            loss: FindingLoss {
                none_from_ns: id.born.0,
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
    fn new(party: Party, writer: Option<Writer>) -> Self {
        let writer = writer.filter(|_| party.act == Act::FlagWrite).and_then(|it| it.name);
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

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({}): {}", self.id, self.rule, self.confidence, self.what)?;
        write!(f, "  io_end {}", self.object)?;
        match (self.inode, &self.device) {
            (Some(inode), Some(device)) => write!(f, ", inode {inode} on {device}")?,
            _ => write!(f, ", inode unknown")?,
        }
        if let Some(name) = &self.device_name {
            write!(f, " ({name})")?;
        }
        writeln!(f, ", now {}", self.state)?;
        for (role, party) in ["first ", "second"].iter().zip(&self.parties) {
            let Some(party) = party else { continue };
            write!(f, "  {role} {} by task {}", party.symbol, party.tid)?;
            write!(f, " in {} context", party.context)?;
            writeln!(f, "{}", Suffix(" on cpu ", party.cpu))?;
        }
        if let Some(stuck) = &self.stuck {
            stuck.fmt_at(self.at_ns, f)?;
        }
        if self.history_skipped > 0 {
            writeln!(f, "  … {} earlier steps", self.history_skipped)?;
        }
        for step in &self.history {
            write!(f, "  {:>14} {:<11} {:<10}", step.at_ns, step.act, step.state)?;
            write!(f, " task {}{}", step.tid, Suffix(" cpu ", step.cpu))?;
            let flag = step.flag.map(|flag| Flags(u32::from(flag)));
            let more = if step.count == Some(u8::MAX) { " or more" } else { "" };
            writeln!(f, "{}{more}{}", Suffix(" count ", step.count), Suffix(" flag ", flag))?;
        }
        for (core, word) in &self.oracle {
            writeln!(f, "  oracle {core} {word}")?;
        }
        write!(f, "  nothing lost from {} to {}", self.loss.none_from_ns, self.loss.none_to_ns)?;
        write!(f, "{}", Suffix(", last loss at ", self.loss.last_ns))
    }
}

impl FindingStuck {
    fn fmt_at(&self, at_ns: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_s = Nanos(at_ns).since(Nanos(self.since_ns)).as_secs_f64();
        write!(f, "  stuck for {for_s:.1} s, since {}", self.since_ns)?;
        if self.alike > 0 {
            write!(f, "; {} younger ones of this device in the same way", self.alike)?;
        }
        if self.delays > 0 {
            let delays = self.delays;
            write!(
                f,
                "; {delays} other io_ends of this superblock wait for their conversion behind it"
            )?;
        }
        writeln!(f)?;
        if let Some(FindingPutBack { times, since_ns, last_ns }) = self.put_back {
            let time = if times == 1 { "time" } else { "times" };
            writeln!(f, "  its work put it back {times} {time} from {since_ns} to {last_ns}")?;
        }
        for waiter in &self.waiters {
            let FindingWaiter { tid, tgid: _, call, since_ns } = waiter;
            writeln!(f, "  waits  task {tid} in {call} since {since_ns}")?;
        }
        match (self.waiting as usize).saturating_sub(self.waiters.len()) {
            0 => Ok(()),
            more => writeln!(f, "  waits  {more} more tasks"),
        }
    }
}

/// Text and value, or nothing.
struct Suffix<T>(&'static str, Option<T>);

impl<T: fmt::Display> fmt::Display for Suffix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Some(value) => write!(f, "{}{value}", self.0),
            None => Ok(()),
        }
    }
}

/// `flag` in the kernel's names.
struct Flags(u32);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            FLAG_UNWRITTEN => write!(f, "UNWRITTEN"),
            FLAG_FAILED => write!(f, "FAILED"),
            both if both == FLAG_UNWRITTEN | FLAG_FAILED => write!(f, "UNWRITTEN|FAILED"),
            other => write!(f, "{other:#x}"),
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
    let words = [key.hash(id.addr), id.born.0, stamp.at.0, cpu, u64::from(stamp.lane), stamp.seq];
    let words = words.iter().flat_map(|word| word.to_le_bytes());
    fnv_1a(verdict.rule.label().bytes().chain(words))
}

/// FNV-1a, 64 bits.
fn fnv_1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// SipHash-2-4 of one word; the 64-bit key fills the low half of its 128.
fn siphash_2_4(key: u64, word: u64) -> u64 {
    siphash_2_4_words([key, 0], &[word], 8 << 56)
}

/// SipHash-2-4 of whole words and the last, padded one.
fn siphash_2_4_words(key: [u64; 2], words: &[u64], last: u64) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    for word in words.iter().chain([&last]) {
        v[3] ^= word;
        (0..2).for_each(|_| sip_round(&mut v));
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    (0..4).for_each(|_| sip_round(&mut v));
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

fn sip_round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::{AddressKey, fnv_1a, siphash_2_4_words};
    use crate::event::{IoEndAddr, Nanos};
    use crate::lifecycle::IoEndId;

    /// The vectors of the SipHash paper: key 00 … 0f, messages of 8 and 15 bytes.
    #[test]
    fn siphash_matches_the_published_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let word = 0x0706_0504_0302_0100;
        assert_eq!(siphash_2_4_words(key, &[word], 8 << 56), 0x93f5_f579_9a93_2462);
        let last = 15 << 56 | 0x0e_0d0c_0b0a_0908;
        assert_eq!(siphash_2_4_words(key, &[word], last), 0xa129_ca61_49be_45e5);
    }

    #[test]
    fn fnv_matches_the_published_vectors() {
        assert_eq!(fnv_1a("".bytes()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a("foobar".bytes()), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn an_object_is_named_without_its_address_and_by_its_key() {
        let id = IoEndId { addr: IoEndAddr(0xffff_8881_0123_4540), born: Nanos(77) };
        let text = AddressKey(1).object(id);
        assert!(text.ends_with("@77") && !text.contains("01234540"), "{text}");
        assert_ne!(text, AddressKey(2).object(id));
    }
}
