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

mod accused;
mod bad_linkage;
mod bad_reference;
mod conversion_error_hidden;
mod convert_after_failed_write;
mod convert_in_irq;
mod direct_io_order;
mod double_process;
mod facts;
mod fsync_before_conversion;
mod leaked_handle;
mod losses;
mod lost_flag_update;
mod missing_bio;
mod need;
mod oracle_divergence;
mod release_twice;
mod stuck;
mod unknown_flag_bits;
mod unlocked_flag_write;
mod unpinned_inode;
mod use_after_release;
mod verdict;
mod worker_freed_in_use;

use std::collections::VecDeque;

use crate::event::{Backend, Body, Event, Nanos};
use crate::lifecycle::{DirectIoBroken, Gap, IoEnd, IoEndId, IoEndStep, Party, Step};
use crate::limits;
use crate::oracle::in_step::{Said, Words};
use crate::witnesses::Witnesses;

use accused::{Accused, Charged};
pub use facts::{Fact, Facts};
use losses::Losses;
pub use need::{Lack, Need, Way};
pub use verdict::{
    Confidence, Did, Object, ObjectId, ObjectKind, Rule, Suppressed, Tally, Verdict,
};

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
    /// Gaps of an object's record that its evidence does not rest on.
    pub despite: &'static [Gap],
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
    bad_linkage::DETECTOR,
    unknown_flag_bits::DETECTOR,
    lost_flag_update::DETECTOR,
    unlocked_flag_write::DETECTOR,
    convert_after_failed_write::DETECTOR,
    leaked_handle::DETECTOR,
    missing_bio::DETECTOR,
    convert_in_irq::DETECTOR,
    direct_io_order::DETECTOR,
    worker_freed_in_use::DETECTOR,
    fsync_before_conversion::DETECTOR,
    conversion_error_hidden::DETECTOR,
    unpinned_inode::DETECTOR,
    oracle_divergence::DETECTOR,
    stuck::DETECTOR,
];

/// The detectors of one stream.
pub struct Detectors {
    witnesses: Witnesses,
    facts: Facts,
    /// By [`Rule`], a bit per open way.
    armed: [u8; Rule::ALL.len()],
    /// Whether the bytes of io_ends can be believed.
    layout_believed: bool,
    /// What the cores said of the event whose steps come next.
    said: Option<Said>,
    losses: Losses,
    held: VecDeque<Verdict>,
    /// Objects accused lately.
    accused: Accused,
    tally: Tally,
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Detectors {
    /// All that fentry can see is witnessed and all facts are known, so all rules are armed; all memory
    /// is taken here.
    pub fn new() -> Self {
        let mut detectors = Detectors {
            witnesses: Witnesses::NONE,
            facts: Facts::ALL,
            armed: [0; Rule::ALL.len()],
            layout_believed: true,
            said: None,
            losses: Losses::new(),
            held: VecDeque::with_capacity(limits::HELD_MAX),
            accused: Accused::new(),
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
        self.arm_again();
    }

    /// Tells which facts are known from now on. What is held and rests on another is not confirmed.
    pub fn know(&mut self, facts: Facts) {
        self.facts = facts;
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { break };
            if held.rests_on.iter().all(|need| need.is_known(facts)) {
                self.held.push_back(held);
            } else {
                self.suppress(held.object.id(), held.rule, Suppressed::Incomplete);
            }
        }
        self.arm_again();
    }

    /// Hears what the cores said of the event whose steps come next.
    pub fn hear(&mut self, said: Option<&Said>) {
        self.said = said.copied();
    }

    /// Arms the rules that can watch in some way, and only those.
    pub fn arm(&mut self, witnesses: &Witnesses) {
        self.witnesses = *witnesses;
        self.arm_again();
    }

    fn arm_again(&mut self) {
        for detector in DETECTORS {
            let ways = detector.ways.iter().enumerate();
            let ways = ways.filter(|(_, way)| self.layout_believed && way.is_known(self.facts));
            let open = ways.map(|(at, way)| u8::from(way.is_open(&self.witnesses)) << at).sum();
            self.armed[detector.rule as usize] = open;
        }
    }

    /// Is the rule armed, at least in part?
    pub fn is_armed(&self, rule: Rule) -> bool {
        self.armed[rule as usize] != 0
    }

    /// Is the rule off, or watching only in part, for this reason?
    pub fn lacks(&self, rule: Rule, lack: Lack) -> bool {
        if lack == Lack::Layout {
            return !self.layout_believed;
        }
        DETECTORS[rule as usize].ways[0].lacks(&self.witnesses, self.facts, lack)
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
            Step::DirectIoBroken(broken) => return self.order_broken(broken),
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
        let object = ObjectId::IoEnd(id);
        let said = self.said.filter(|said| said.is_fresh() && said.born == Some(id.born));
        if let (Some(_), Some(gap)) = (said.filter(|_| self.is_armed(rule)), gap_of(lost, &[]))
            && self.first_time(object, rule)
        {
            self.suppress(object, rule, gap);
        }
    }

    /// The rule of direct writes: what broke the order was found where they are followed.
    fn order_broken(&mut self, broken: &DirectIoBroken) {
        let rule = Rule::DirectIoOrder;
        if !self.is_armed(rule) {
            return;
        }
        let (confidence, what, first) = direct_io_order::charge(broken);
        let object = Object::DirectWrite(broken.write);
        if !self.first_time(object.id(), rule) {
            return self.repeat(object.id(), rule);
        }
        self.hold(Verdict {
            rule,
            confidence,
            what,
            rests_on: direct_io_order::DETECTOR.needs(),
            object,
            stamp: broken.stamp,
            image: None,
            parties: [first, Some(Party::new(&broken.stamp, broken.act))]
                .map(|party| party.map(|party| party.map(Did::DirectWrite))),
            writer: None,
            lingers: None,
            oracle: Words::default(),
            confirmed_at: Nanos(0),
            last_loss_at: None,
            repeats: 0,
        });
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
        let id = ObjectId::IoEnd(step.object.id());
        let first = self.first_time(id, rule);
        if step.lingers.is_some() {
            // It is found again each second; one finding per state.
            if !self.accused.first_in(id, step.before) {
                return;
            }
        } else if !first {
            return self.repeat(id, rule);
        }
        let actor = Party::new(&step.stamp, step.act);
        self.hold(Verdict {
            rule,
            confidence: charge.confidence,
            what: charge.what,
            rests_on,
            object: Object::IoEnd(*step.object),
            stamp: step.stamp,
            image: step.image,
            parties: [charge.first, Some(actor).filter(|_| step.lingers.is_none())]
                .map(|party| party.map(|party| party.map(Did::IoEnd))),
            writer: step.writer,
            lingers: step.lingers.copied(),
            oracle: self.words_of(step.object.id()),
            confirmed_at: Nanos(0),
            last_loss_at: None,
            repeats: 0,
        });
    }

    /// Holds a candidate until its TICK, unless its object's record has a gap.
    fn hold(&mut self, candidate: Verdict) {
        let (id, rule) = (candidate.object.id(), candidate.rule);
        let gap = match &candidate.object {
            Object::IoEnd(object) => gap_of(object, DETECTORS[rule as usize].despite),
            // Its begin was seen, and nothing else of it can be missed without a loss.
            Object::DirectWrite(_) => None,
        };
        let full = (self.held.len() == limits::HELD_MAX).then_some(Suppressed::QueueFull);
        match gap.or(full) {
            Some(reason) => self.suppress(id, rule, reason),
            None => self.held.push_back(candidate),
        }
    }

    fn settle(&mut self, mut held: Verdict, at: Nanos, sink: &mut impl FnMut(&Verdict)) {
        if let Some(cause) = self.losses.touching(held.object.id().born(), held.rests_on) {
            return self.suppress(held.object.id(), held.rule, cause.into());
        }
        held.confirmed_at = at;
        held.last_loss_at = self.losses.last(held.rests_on);
        self.tally.confirmed[held.rule as usize] += 1;
        self.tally.repeated[held.rule as usize] += held.repeats;
        sink(&held);
    }

    fn suppress(&mut self, id: ObjectId, rule: Rule, reason: Suppressed) {
        self.tally.suppressed[rule as usize][reason as usize] += 1;
        self.accused.suppress(id, rule);
    }

    /// The same object and rule again: one more of a verdict, nothing of a candidate that was
    /// suppressed.
    fn repeat(&mut self, id: ObjectId, rule: Rule) {
        let same = |held: &&mut Verdict| held.rule == rule && held.object.id() == id;
        if let Some(held) = self.held.iter_mut().find(same) {
            held.repeats += 1;
        } else if self.accused.stands(id, rule) {
            self.tally.repeated[rule as usize] += 1;
        }
    }

    /// Remembers the accusation; `false` if this object was accused under this rule before.
    fn first_time(&mut self, id: ObjectId, rule: Rule) -> bool {
        let charged = self.accused.charge(id, rule);
        self.tally.accused_forgotten += u64::from(charged == Charged::FirstForAnother);
        charged != Charged::Again
    }
}

fn gap_of(object: &IoEnd, despite: &[Gap]) -> Option<Suppressed> {
    let gaps = object.gaps().without(despite.iter().copied().collect());
    match () {
        () if gaps.contains(Gap::BirthUnseen) => Some(Suppressed::BirthUnseen),
        () if gaps.contains(Gap::ProbesChanged) => Some(Suppressed::ProbesChanged),
        () if !gaps.is_empty() => Some(Suppressed::Incomplete),
        () => None,
    }
}

#[cfg(test)]
mod tests;
