//! The rules: steps in, candidates held until nothing lost can explain them, verdicts out.
//!
//! ```text
//!   Step ──► DETECTORS ──► candidate ──► held (bounded) ──TICK──► confirmed ──► Verdict
//!               one file per rule                          └────► suppressed, by reason
//! ```
//!
//! A candidate is confirmed at the TICK that closes its epoch, and only if its object's birth was
//! seen, its record has no gap, and no loss could have touched its life (`detect/losses.rs`). A loss is
//! dated by the record that told it, which is written after the totals were read: it touches every
//! object born before. What a program left out at a bound of its own touches the verdicts that rest on
//! it. At the end of a stream without a TICK the held ones are suppressed.
//!
//! This module must never read a clock, do I/O or allocate after `new`; live and replay agree
//! because time and loss come in through records only. One verdict per object and rule, then a
//! count.

mod bad_reference;
mod double_process;
mod losses;
mod need;
mod oracle_divergence;
mod release_twice;
mod use_after_release;
mod verdict;

use std::collections::VecDeque;

use crate::event::{Backend, Body, Event, Nanos};
use crate::lifecycle::{Gap, IoEnd, IoEndId, IoEndStep, Party, Step};
use crate::limits;
use crate::oracle::in_step::{Said, Words};
use crate::witnesses::Witnesses;

use losses::Losses;
pub use need::{Lack, Need, Way};
pub use verdict::{Confidence, Rule, Suppressed, Tally, Verdict};

/// What a rule's check says of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// How sure.
    pub confidence: Confidence,
    /// What happened, as half a sentence.
    pub what: &'static str,
    /// The party that acted before, if one is known.
    pub first: Option<Party>,
}

/// One row of [`DETECTORS`].
pub struct Detector {
    /// The rule.
    pub rule: Rule,
    /// What a finding claims.
    pub claim: &'static str,
    /// The ways in which it can watch: the first is the whole rule, the others are parts of it that
    /// other witnesses serve. The rule is armed if one of them is open.
    pub ways: &'static [Way],
    /// Why it cannot cry wolf.
    pub sound: &'static str,
    /// What it can miss.
    pub misses: &'static str,
}

impl Detector {
    /// What the whole rule needs.
    pub fn needs(&self) -> &'static [Need] {
        self.ways[0].needs
    }
}

/// All rules, in the order of [`Rule::ALL`].
pub const DETECTORS: &[Detector] = &[
    double_process::DETECTOR,
    release_twice::DETECTOR,
    use_after_release::DETECTOR,
    bad_reference::DETECTOR,
    oracle_divergence::DETECTOR,
];

/// The detectors of one stream.
pub struct Detectors {
    witnesses: Witnesses,
    /// By [`Rule`], a bit per open way.
    armed: [u8; Rule::ALL.len()],
    /// Whether the bytes of io_ends can be believed.
    layout_believed: bool,
    /// Whether a reference core describes the kernel.
    kernel_described: bool,
    /// What the cores said of the event whose steps come next.
    said: Option<Said>,
    losses: Losses,
    held: VecDeque<Verdict>,
    /// Objects accused lately.
    accused: VecDeque<Accused>,
    tally: Tally,
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

/// An object and what it was accused of, a bit per [`Rule`].
struct Accused {
    id: IoEndId,
    rules: u32,
    /// Of those, the ones that were not confirmed.
    suppressed: u32,
}

impl Detectors {
    /// All that fentry can see is witnessed, so all rules are armed; all memory is taken here.
    pub fn new() -> Self {
        let mut detectors = Detectors {
            witnesses: Witnesses::NONE,
            armed: [0; Rule::ALL.len()],
            layout_believed: true,
            kernel_described: true,
            said: None,
            losses: Losses::new(),
            held: VecDeque::with_capacity(limits::HELD_MAX),
            accused: VecDeque::with_capacity(limits::ACCUSED_MAX),
            tally: Tally::default(),
        };
        detectors.arm(&Witnesses::all_by(Backend::Fentry));
        detectors
    }

    /// Tells whether the bytes of io_ends can be believed. While they cannot, no rule watches; what is
    /// held was seen in such bytes and is not confirmed.
    pub fn believe_layout(&mut self, believed: bool) {
        self.layout_believed = believed;
        if !believed {
            while let Some(held) = self.held.pop_front() {
                self.suppress(held.object.id(), held.rule, Suppressed::Layout);
            }
        }
        let witnesses = self.witnesses;
        self.arm(&witnesses);
    }

    /// Tells whether a reference core describes the kernel.
    pub fn describe_kernel(&mut self, described: bool) {
        self.kernel_described = described;
        let witnesses = self.witnesses;
        self.arm(&witnesses);
    }

    /// Hears what the cores said of the event whose steps come next.
    pub fn hear(&mut self, said: Option<&Said>) {
        self.said = said.copied();
    }

    /// Arms the rules that can watch in some way, and only those.
    pub fn arm(&mut self, witnesses: &Witnesses) {
        self.witnesses = *witnesses;
        for detector in DETECTORS {
            let ways = detector.ways.iter().enumerate();
            let known = self.kernel_described || detector.rule != Rule::OracleDivergence;
            let ways = ways.filter(|_| self.layout_believed && known);
            let open = ways.map(|(at, way)| u8::from(way.is_open(witnesses)) << at).sum();
            self.armed[detector.rule as usize] = open;
        }
    }

    /// Is the rule armed, at least in part?
    pub fn is_armed(&self, rule: Rule) -> bool {
        self.armed[rule as usize] != 0
    }

    /// Is the rule off, or watching only in part, for this reason?
    pub fn lacks(&self, rule: Rule, lack: Lack) -> bool {
        match lack {
            Lack::Layout => return !self.layout_believed,
            Lack::Generation => {
                return !self.kernel_described && rule == Rule::OracleDivergence;
            }
            _ => {}
        }
        DETECTORS[rule as usize].ways[0].lacks(&self.witnesses, lack)
    }

    /// What became of candidates.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Candidates that wait for their TICK.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The latest loss that may have taken an end: what began before it may be over.
    pub fn last_loss_of_ends(&self) -> Option<Nanos> {
        self.losses.last_of_ends()
    }

    /// A gap in the sequence or a malformed record: the epoch is lossy.
    pub fn note_loss(&mut self) {
        self.losses.note();
    }

    /// Judges one step. What a kprobe saw accuses nobody.
    pub fn step(&mut self, step: &Step<'_>) {
        let moved = match step {
            Step::IoEndMoved(moved) => moved,
            Step::IoEndLost(lost) => return self.born_again(lost),
            _ => return,
        };
        if self.witnesses.get(moved.act.witness()) == Some(Backend::Kprobe) {
            return;
        }
        for detector in DETECTORS {
            let open = self.armed[detector.rule as usize];
            let ways = detector.ways.iter().enumerate().filter(|(at, _)| open & (1 << at) != 0);
            let charged = ways.filter_map(|(_, way)| Some((way.needs, (way.check)(moved)?))).next();
            if let Some((needs, charge)) = charged {
                self.charge(detector.rule, needs, moved, charge);
            }
        }
        let rule = Rule::OracleDivergence;
        let said = self.said.filter(|_| self.is_armed(rule));
        if let Some(charge) = said.and_then(|said| oracle_divergence::charge(&said, moved)) {
            self.charge(rule, oracle_divergence::DETECTOR.needs(), moved, charge);
        }
    }

    /// Takes the records about the stream itself; at a TICK every held candidate is settled.
    pub fn observe(&mut self, event: &Event, sink: &mut impl FnMut(&Verdict)) {
        if let Body::Host { .. } = event.body {
            // No TICK will ever close what the old stream left open.
            self.finish();
        }
        self.losses.observe(event);
        if let Body::Tick { .. } = event.body {
            while let Some(held) = self.held.pop_front() {
                self.settle(held, event.stamp.at, sink);
            }
        }
    }

    /// The stream is over: what no TICK closed is not confirmed.
    pub fn finish(&mut self) {
        while let Some(held) = self.held.pop_front() {
            self.suppress(held.object.id(), held.rule, Suppressed::StreamEnd);
        }
    }

    /// An io_end whose address was born again before its release was seen: a core has no such run, and the
    /// record has a gap.
    fn born_again(&mut self, lost: &IoEnd) {
        let (id, rule) = (lost.id(), Rule::OracleDivergence);
        let said = self.said.filter(|said| said.is_fresh() && said.born == Some(id.born));
        if let (Some(_), Some(gap)) = (said.filter(|_| self.is_armed(rule)), gap_of(lost))
            && self.first_time(id, rule)
        {
            self.suppress(id, rule, gap);
        }
    }

    /// What the cores say of that object, as far as they were asked.
    fn words_of(&self, id: IoEndId) -> Words {
        let said = self.said.filter(|said| said.addr == id.addr);
        let same = said.filter(|said| said.born.is_none_or(|born| born == id.born));
        same.map(|said| said.words).unwrap_or_default()
    }

    fn charge(
        &mut self,
        rule: Rule,
        rests_on: &'static [Need],
        step: &IoEndStep<'_>,
        charge: Charge,
    ) {
        let id = step.object.id();
        if !self.first_time(id, rule) {
            return self.repeat(id, rule);
        }
        let candidate = Verdict {
            rule,
            confidence: charge.confidence,
            what: charge.what,
            rests_on,
            object: *step.object,
            stamp: step.stamp,
            image: step.image,
            parties: [charge.first, Some(Party::new(&step.stamp, step.act))],
            oracle: self.words_of(id),
            confirmed_at: Nanos(0),
            last_loss_at: None,
            repeats: 0,
        };
        if let Some(reason) = gap_of(&candidate.object) {
            return self.suppress(id, rule, reason);
        }
        if self.held.len() == limits::HELD_MAX {
            return self.suppress(id, rule, Suppressed::QueueFull);
        }
        self.held.push_back(candidate);
    }

    fn settle(&mut self, mut held: Verdict, at: Nanos, sink: &mut impl FnMut(&Verdict)) {
        if let Some(cause) = self.losses.touching(held.object.id().born, held.rests_on) {
            return self.suppress(held.object.id(), held.rule, cause.into());
        }
        held.confirmed_at = at;
        held.last_loss_at = self.losses.last(held.rests_on);
        self.tally.confirmed[held.rule as usize] += 1;
        self.tally.repeated[held.rule as usize] += held.repeats;
        sink(&held);
    }

    fn suppress(&mut self, id: IoEndId, rule: Rule, reason: Suppressed) {
        self.tally.suppressed[rule as usize][reason as usize] += 1;
        if let Some(accused) = self.accused(id) {
            accused.suppressed |= 1 << rule as u32;
        }
    }

    /// The same object and rule again: one more of a verdict, nothing of a candidate that was
    /// suppressed.
    fn repeat(&mut self, id: IoEndId, rule: Rule) {
        let same = |held: &&mut Verdict| held.rule == rule && held.object.id() == id;
        if let Some(held) = self.held.iter_mut().find(same) {
            held.repeats += 1;
        } else if self.accused(id).is_some_and(|it| it.suppressed & (1 << rule as u32) == 0) {
            self.tally.repeated[rule as usize] += 1;
        }
    }

    fn accused(&mut self, id: IoEndId) -> Option<&mut Accused> {
        self.accused.iter_mut().rev().find(|accused| accused.id == id)
    }

    /// Remembers the accusation; `false` if this object was accused under this rule before.
    fn first_time(&mut self, id: IoEndId, rule: Rule) -> bool {
        let bit = 1 << rule as u32;
        if let Some(accused) = self.accused(id) {
            let first = accused.rules & bit == 0;
            accused.rules |= bit;
            return first;
        }
        if self.accused.len() == limits::ACCUSED_MAX {
            self.accused.pop_front();
            self.tally.accused_forgotten += 1;
        }
        self.accused.push_back(Accused { id, rules: bit, suppressed: 0 });
        true
    }
}

fn gap_of(object: &IoEnd) -> Option<Suppressed> {
    let gaps = object.gaps();
    match () {
        () if gaps.contains(Gap::BirthUnseen) => Some(Suppressed::BirthUnseen),
        () if gaps.contains(Gap::ProbesChanged) => Some(Suppressed::ProbesChanged),
        () if !gaps.is_empty() => Some(Suppressed::Incomplete),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{DETECTORS, Detectors, Lack, Rule, Suppressed};
    use crate::event::Backend;
    use crate::probes::Witness;
    use crate::witnesses::Witnesses;

    #[test]
    fn every_rule_has_its_row_and_every_row_its_reasons() {
        let rules: Vec<Rule> = DETECTORS.iter().map(|detector| detector.rule).collect();
        assert_eq!(rules, Rule::ALL);
        assert!(Rule::ALL.iter().enumerate().all(|(at, rule)| *rule as usize == at));
        assert!(Rule::ALL.len() <= u32::BITS as usize, "a bit for each in Accused");
        for detector in DETECTORS {
            let name = detector.rule.label();
            for text in [detector.claim, detector.sound, detector.misses] {
                assert!(!text.is_empty(), "{name}");
            }
            assert!(!detector.ways.is_empty() && detector.ways.len() <= 8, "{name}");
            for way in detector.ways {
                assert_eq!(way.needs[0].name(), "ext4_init_io_end", "{name}: births come first");
                assert!(way.needs.iter().all(|need| !need.name().is_empty()), "{name}");
            }
        }
        assert!(Suppressed::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }

    fn armed(witnesses: &Witnesses) -> Vec<&'static str> {
        let mut detectors = Detectors::new();
        detectors.arm(witnesses);
        let armed = Rule::ALL.iter().filter(|rule| detectors.is_armed(**rule));
        armed.map(|rule| rule.label()).collect()
    }

    #[test]
    fn each_back_end_arms_the_rules_that_it_can_serve() {
        let all: Vec<_> = Rule::ALL.iter().map(|rule| rule.label()).collect();
        assert_eq!(armed(&Witnesses::all_by(Backend::Fentry)), all);
        let raw = armed(&Witnesses::all_by(Backend::RawTracepoint));
        assert_eq!(raw, ["double_process", "use_after_release", "bad_reference"]);
        assert!(armed(&Witnesses::all_by(Backend::Kprobe)).is_empty());
        assert!(armed(&Witnesses::NONE).is_empty());
    }

    #[test]
    fn back_ends_are_mixed_witness_by_witness() {
        let mut mixed = Witnesses::all_by(Backend::Fentry);
        mixed.set(Witness::Claim, None);
        mixed.set(Witness::Birth, Some(Backend::RawTracepoint));
        // The cores take nothing from a raw tracepoint.
        let all = Rule::ALL.iter().filter(|rule| **rule != Rule::OracleDivergence);
        assert_eq!(armed(&mixed), all.map(|rule| rule.label()).collect::<Vec<_>>());
        mixed.set(Witness::Birth, Some(Backend::Kprobe));
        assert!(armed(&mixed).is_empty());
        mixed = Witnesses::all_by(Backend::Fentry);
        mixed.set(Witness::Put, Some(Backend::Kprobe));
        assert_eq!(armed(&mixed), ["release_twice", "use_after_release", "bad_reference"]);
    }

    #[test]
    fn where_no_core_describes_the_kernel_only_their_rule_is_off() {
        let mut detectors = Detectors::new();
        detectors.describe_kernel(false);
        detectors.arm(&Witnesses::all_by(Backend::Fentry));
        for rule in Rule::ALL {
            let is_theirs = *rule == Rule::OracleDivergence;
            assert_eq!(detectors.is_armed(*rule), !is_theirs, "{rule:?}");
            assert_eq!(detectors.lacks(*rule, Lack::Generation), is_theirs, "{rule:?}");
        }
        detectors.describe_kernel(true);
        assert!(detectors.is_armed(Rule::OracleDivergence));
    }

    #[test]
    fn a_rule_tells_why_it_is_off_or_watches_in_part() {
        let lacks = |witnesses: &Witnesses, rule| {
            let mut detectors = Detectors::new();
            detectors.arm(witnesses);
            let lacks = Lack::ALL.into_iter().filter(|lack| detectors.lacks(rule, *lack));
            lacks.map(Lack::label).collect::<Vec<_>>()
        };
        let fentry = Witnesses::all_by(Backend::Fentry);
        assert!(Rule::ALL.iter().all(|rule| lacks(&fentry, *rule).is_empty()));
        let raw = Witnesses::all_by(Backend::RawTracepoint);
        assert_eq!(lacks(&raw, Rule::ReleaseTwice), ["backend"]);
        assert_eq!(lacks(&raw, Rule::BadReference), ["backend"]);
        assert_eq!(lacks(&Witnesses::NONE, Rule::BadReference), ["probe_missing"]);
        let mut detectors = Detectors::new();
        detectors.believe_layout(false);
        detectors.arm(&fentry);
        assert!(Rule::ALL.iter().all(|rule| !detectors.is_armed(*rule)));
        assert!(Rule::ALL.iter().all(|rule| detectors.lacks(*rule, Lack::Layout)));
        let mut some = fentry;
        some.set(Witness::Release, None);
        some.set(Witness::Put, Some(Backend::Kprobe));
        assert_eq!(lacks(&some, Rule::DoubleProcess), ["probe_missing", "kprobe"]);
    }
}
