//! The module's own word on bug 1 and what the agent said, joined by address and time.
//!
//! ```text
//!   module   freed while the fsync path processes it: address, time     (kernel log)
//!   agent    divergence, finding: hash of an address @ birth, time      (summary)
//!            the recording has the key of the hash, and all events
//! ```
//!
//! The module looks when the work decides to free, so it also counts one whose conversion returned just
//! before it did: the stream shows that one's conversion end before its release. Before is by place in the
//! stream, which is the order of the reservations; a record's time is taken after its place. Memory that was
//! freed in use may be born again before the conversion returns, which then breaks the protocol a second
//! time, on the newborn: that is said of the same address. A work that puts its io_end back outside of the
//! lock is a breach of its own, of which the module tells nothing but that its core does so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::BufReader,
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use endiod::{
    decode::decode,
    event::{Body, IoEndAddr},
    finding::AddressKey,
    report::Summary,
    source::trace::Reader,
};

use super::module::Race;

/// Longest conversion that can still be on its way when its io_end was freed: eight times 100 µs asked
/// for, and what a busy guest makes of it.
const CONVERSION_MAX_NS: u64 = 500_000_000;

/// The rules that say nothing of who was freed in use.
const UNLOCKED: &str = "unlocked_flag_write";
const DIVERGENCE: &str = "oracle_divergence";

/// What the oracle calls a work that puts its io_end back so.
const OUTSIDE_OF_THE_LOCK: &str = "no run with requeue outside of the lock of";

/// One incarnation, as far as the join needs it: places in the stream.
#[derive(Clone, Copy, Debug, Default)]
struct Life {
    claimed: Option<usize>,
    convert_ended: Option<usize>,
    released: Option<usize>,
}

/// A recording: lives by address and birth.
pub(super) struct Told {
    key: AddressKey,
    lives: BTreeMap<(u64, u64), Life>,
}

/// What the join came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Joined {
    /// Races that the oracle or a rule found.
    pub(super) found: u64,
    /// Of those, the ones that a rule found.
    pub(super) accused: u64,
    /// Races that were none by the stream: the conversion had returned.
    pub(super) over: u64,
    /// Breaches by the same conversion on who was born in the freed memory.
    pub(super) of_newborns: u64,
    /// Races of which the claim came when the memory had been born again: it is the newborn's, as far as
    /// anyone can see.
    pub(super) reborn: u64,
    /// Races of which nothing was said because the object had diverged before, when it was put back.
    pub(super) masked: u64,
    /// Objects that were put back outside of the lock, as a rule found.
    pub(super) unlocked: u64,
}

impl Told {
    /// Reads a recording of one stream.
    pub(super) fn read(file: &Path) -> Result<Told> {
        let mut reader = Reader::new(BufReader::new(File::open(file)?))?;
        let mut told = Told { key: AddressKey(0), lives: BTreeMap::new() };
        let mut place = 0;
        while let Some(record) = reader.next_record()? {
            place += 1;
            let Ok(event) = decode(record) else { continue };
            let at = event.stamp.at;
            match event.body {
                Body::Host { hash_key, .. } => told.key = AddressKey(hash_key),
                Body::IoEndBirth { io_end, .. } => {
                    told.lives.insert((io_end.0, at.0), Life::default());
                }
                Body::Claim(seen) => {
                    if let Some(life) = told.life(seen.io_end) {
                        life.claimed.get_or_insert(place);
                    }
                }
                Body::ConvertEnd { io_end, .. } => {
                    if let Some(life) = told.life(io_end) {
                        life.convert_ended.get_or_insert(place);
                    }
                }
                Body::Release(seen) => {
                    if let Some(life) = told.life(seen.io_end) {
                        life.released.get_or_insert(place);
                    }
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// Who lives at that address, as far as the stream was read.
    fn life(&mut self, IoEndAddr(address): IoEndAddr) -> Option<&mut Life> {
        self.lives.range_mut((address, 0)..=(address, u64::MAX)).next_back().map(|(_, life)| life)
    }

    /// The object's id as the agent says it, and its life.
    fn victim(&self, race: &Race) -> Option<(String, Life)> {
        let mut lives = self.lives.range((race.io_end, 0)..=(race.io_end, race.at.0));
        lives.next_back().map(|life| self.named(life))
    }

    /// The same of who was born in its memory.
    fn heir(&self, race: &Race) -> Option<(String, Life)> {
        let mut lives = self.lives.range((race.io_end, race.at.0 + 1)..=(race.io_end, u64::MAX));
        lives.next().map(|life| self.named(life))
    }

    fn named(&self, ((address, born), life): (&(u64, u64), &Life)) -> (String, Life) {
        (format!("{:016x}@{born}", self.key.hash(IoEndAddr(*address))), *life)
    }

    /// Joins: no race goes unfound, nothing is found that was no race.
    pub(super) fn join(&self, races: &[Race], summary: &Summary) -> Result<Joined> {
        let mut joined = Joined::default();
        let (unlocked, diverged): (Vec<_>, Vec<_>) =
            summary.divergences.iter().partition(|text| text.contains(OUTSIDE_OF_THE_LOCK));
        let unlocked: Vec<_> = unlocked.into_iter().filter_map(|text| object(text)).collect();
        let diverged: Vec<_> = diverged.into_iter().filter_map(|text| object(text)).collect();
        joined.unlocked = objects_of(summary, |rule| rule == UNLOCKED)?.len() as u64;
        // What the oracle says is in the divergences.
        let accused = objects_of(summary, |rule| rule != UNLOCKED && rule != DIVERGENCE)?;
        for race in races {
            let (id, life) = self.victim(race).with_context(|| format!("{race:?}: no life"))?;
            let is_accused = accused.contains(&id);
            match (is_accused || diverged.contains(&&*id), life) {
                (true, _) => {
                    joined.found += 1;
                    joined.accused += u64::from(is_accused);
                }
                (false, _) if unlocked.contains(&&*id) => joined.masked += 1,
                (false, Life { convert_ended: Some(end), released: Some(release), .. })
                    if end < release =>
                {
                    joined.over += 1;
                }
                (false, Life { claimed: None, .. }) if self.heir_is_claimed(race) => {
                    joined.reborn += 1;
                }
                (false, life) => {
                    anyhow::bail!("missed: {race:?} of {id}, {life:?}, then {:?}", self.heir(race))
                }
            }
        }
        let victims: Vec<_> = races.iter().filter_map(|race| Some(self.victim(race)?.0)).collect();
        for id in diverged.iter().copied().chain(accused.iter().map(String::as_str)) {
            if victims.iter().any(|victim| victim == id) {
                continue;
            }
            ensure!(
                self.is_newborn(id, races),
                "{id} was found, and the module knows no race of it"
            );
            joined.of_newborns += 1;
        }
        // The summary names the first divergences only, and counts them all.
        let told = summary.diverged();
        ensure!(told >= joined.found, "{told} divergences for {joined:?}");
        Ok(joined)
    }

    /// Whether someone was born in the memory of a race's victim and claimed while the victim's conversion
    /// could still be on its way.
    fn heir_is_claimed(&self, race: &Race) -> bool {
        let heir = self.heir(race);
        heir.is_some_and(|(id, life)| life.claimed.is_some() && self.is_newborn(&id, &[*race]))
    }

    /// Whether that object was born where one had been freed in use a moment before.
    fn is_newborn(&self, id: &str, races: &[Race]) -> bool {
        let Some((hash, born)) = id.split_once('@') else { return false };
        let Ok(born) = born.parse::<u64>() else { return false };
        races.iter().any(|race| {
            let same = format!("{:016x}", self.key.hash(IoEndAddr(race.io_end))) == hash;
            same && race.at.0 <= born && born - race.at.0 < CONVERSION_MAX_NS
        })
    }
}

/// `… has no run with release of HASH@BORN, 917580 ns after its birth`.
fn object(divergence: &str) -> Option<&str> {
    divergence.split_ascii_whitespace().find(|word| word.contains('@'))?.strip_suffix(',')
}

/// Objects of the findings of some rules, each once.
fn objects_of(summary: &Summary, of: impl Fn(&str) -> bool) -> Result<BTreeSet<String>> {
    let found = summary.findings.iter();
    let found = found.filter(|finding| finding["rule"].as_str().is_some_and(&of));
    let objects = found.map(|finding| finding["object"].as_str().map(str::to_owned));
    objects.collect::<Option<_>>().context("a finding without an object")
}
