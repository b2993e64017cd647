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
//! object born before. At the end of a stream without a TICK the held ones are suppressed.
//!
//! This module must never read a clock, do I/O or allocate after `new`; live and replay agree
//! because time and loss come in through records only. One verdict per object and rule, then a
//! count.

mod bad_reference;
mod double_process;
mod losses;
mod release_twice;
mod use_after_release;
mod verdict;

use std::collections::VecDeque;

use crate::event::{Body, Event, Nanos};
use crate::lifecycle::{Act, Gap, IoEnd, IoEndId, IoEndStep, Party, Step};
use crate::limits;

use losses::Losses;
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
    /// What must be witnessed for the rule to be armed.
    pub needs: &'static [Act],
    /// Why it cannot cry wolf.
    pub sound: &'static str,
    /// What it can miss.
    pub misses: &'static str,
    /// The trace under `tests/data` that fires it.
    pub fixture: &'static str,
    check: fn(&IoEndStep<'_>) -> Option<Charge>,
}

/// All rules, in the order of [`Rule::ALL`].
pub const DETECTORS: &[Detector] = &[
    double_process::DETECTOR,
    release_twice::DETECTOR,
    use_after_release::DETECTOR,
    bad_reference::DETECTOR,
];

/// The detectors of one stream.
pub struct Detectors {
    /// Bit per [`Rule`]: all that the rule needs is witnessed.
    armed: u8,
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
    rules: u8,
    /// Of those, the ones that were not confirmed.
    suppressed: u8,
}

impl Detectors {
    /// All rules armed; all memory is taken here.
    pub fn new() -> Self {
        Detectors {
            armed: u8::MAX,
            losses: Losses::new(),
            held: VecDeque::with_capacity(limits::HELD_MAX),
            accused: VecDeque::with_capacity(limits::ACCUSED_MAX),
            tally: Tally::default(),
        }
    }

    /// Arms the rules whose needs are all witnessed, and only those.
    pub fn arm(&mut self, witnessed: impl Fn(Act) -> bool) {
        self.armed = 0;
        for detector in DETECTORS {
            let all = detector.needs.iter().all(|act| witnessed(*act));
            self.armed |= u8::from(all) << detector.rule as u8;
        }
    }

    /// Is the rule armed?
    pub fn is_armed(&self, rule: Rule) -> bool {
        self.armed & (1 << rule as u8) != 0
    }

    /// What became of candidates.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Candidates that wait for their TICK.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// The latest loss of any cause: what began before it may have ended unseen.
    pub fn last_loss(&self) -> Option<Nanos> {
        self.losses.latest()
    }

    /// A gap in the sequence or a malformed record: the epoch is lossy.
    pub fn note_loss(&mut self) {
        self.losses.note();
    }

    /// Judges one step.
    pub fn step(&mut self, step: &Step<'_>) {
        let Step::IoEndMoved(moved) = step else { return };
        for detector in DETECTORS {
            if !self.is_armed(detector.rule) {
                continue;
            }
            if let Some(charge) = (detector.check)(moved) {
                self.charge(detector.rule, moved, charge);
            }
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

    fn charge(&mut self, rule: Rule, step: &IoEndStep<'_>, charge: Charge) {
        let id = step.object.id();
        if !self.first_time(id, rule) {
            return self.repeat(id, rule);
        }
        let candidate = Verdict {
            rule,
            confidence: charge.confidence,
            what: charge.what,
            object: *step.object,
            stamp: step.stamp,
            image: step.image,
            parties: [charge.first, Some(Party::new(&step.stamp, step.act))],
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
        if let Some(cause) = self.losses.touching(held.object.id().born) {
            return self.suppress(held.object.id(), held.rule, cause.into());
        }
        held.confirmed_at = at;
        held.last_loss_at = self.losses.last();
        self.tally.confirmed[held.rule as usize] += 1;
        self.tally.repeated[held.rule as usize] += held.repeats;
        sink(&held);
    }

    fn suppress(&mut self, id: IoEndId, rule: Rule, reason: Suppressed) {
        self.tally.suppressed[rule as usize][reason as usize] += 1;
        if let Some(accused) = self.accused(id) {
            accused.suppressed |= 1 << rule as u8;
        }
    }

    /// The same object and rule again: one more of a verdict, nothing of a candidate that was
    /// suppressed.
    fn repeat(&mut self, id: IoEndId, rule: Rule) {
        let same = |held: &&mut Verdict| held.rule == rule && held.object.id() == id;
        if let Some(held) = self.held.iter_mut().find(same) {
            held.repeats += 1;
        } else if self.accused(id).is_some_and(|it| it.suppressed & (1 << rule as u8) == 0) {
            self.tally.repeated[rule as usize] += 1;
        }
    }

    fn accused(&mut self, id: IoEndId) -> Option<&mut Accused> {
        self.accused.iter_mut().rev().find(|accused| accused.id == id)
    }

    /// Remembers the accusation; `false` if this object was accused under this rule before.
    fn first_time(&mut self, id: IoEndId, rule: Rule) -> bool {
        let bit = 1 << rule as u8;
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
    use super::{DETECTORS, Detectors, Rule, Suppressed};
    use crate::lifecycle::Act;

    #[test]
    fn every_rule_has_its_row_and_every_row_its_reasons() {
        let rules: Vec<Rule> = DETECTORS.iter().map(|detector| detector.rule).collect();
        assert_eq!(rules, Rule::ALL);
        assert!(Rule::ALL.iter().enumerate().all(|(at, rule)| *rule as usize == at));
        for detector in DETECTORS {
            for text in [detector.claim, detector.sound, detector.misses, detector.fixture] {
                assert!(!text.is_empty(), "{}", detector.rule.label());
            }
            assert!(detector.needs.contains(&Act::Birth), "{}", detector.rule.label());
        }
        assert!(Suppressed::ALL.iter().enumerate().all(|(at, reason)| *reason as usize == at));
    }

    #[test]
    fn a_rule_is_armed_only_when_all_that_it_needs_is_witnessed() {
        let mut detectors = Detectors::new();
        detectors.arm(|act| act != Act::Claim);
        assert!(Rule::ALL.iter().all(|rule| detectors.is_armed(*rule)));
        detectors.arm(|act| act != Act::Release);
        assert!(!detectors.is_armed(Rule::ReleaseTwice));
        detectors.arm(|_| false);
        assert!(Rule::ALL.iter().all(|rule| !detectors.is_armed(*rule)));
    }
}
