//! What a rule needs to be witnessed, by whom, and what it lacks.
//!
//! ```text
//!   Detector ── ways: the first is the whole rule, each other a part that other witnesses serve
//!       Way ── needs: all of them
//!           Need ── a witness, and the back ends whose word is good enough; or a fact
//! ```
//!
//! A kprobe serves no need: the kernel skips its hits without counting them all, and whether an
//! absence is one of an event or of a hit cannot be told.

use super::Charge;
use super::facts::{Fact, Facts};
use crate::event::Backend;
use crate::lifecycle::IoEndStep;
use crate::probes::{PROBES, Witness};
use crate::witnesses::Witnesses;

/// One thing that a rule needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need(What);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Seen(Witness, &'static [Backend]),
    Known(Fact),
}

impl Need {
    /// By fentry or fexit: the rule needs the place in the function.
    pub(super) const fn function(witness: Witness) -> Self {
        Need(What::Seen(witness, &[Backend::Fentry]))
    }

    /// By fentry, or by the raw tracepoint that stands in for it.
    pub(super) const fn any(witness: Witness) -> Self {
        Need(What::Seen(witness, &[Backend::Fentry, Backend::RawTracepoint]))
    }

    /// By a raw tracepoint, which shows more than the function does.
    pub(super) const fn tracepoint(witness: Witness) -> Self {
        Need(What::Seen(witness, &[Backend::RawTracepoint]))
    }

    /// By a watchpoint, on some objects: what it does not show may have happened.
    pub(super) const fn watchpoint(witness: Witness) -> Self {
        Need(What::Seen(witness, &[Backend::Watchpoint]))
    }

    /// Not to see, but to know.
    pub(super) const fn fact(fact: Fact) -> Self {
        Need(What::Known(fact))
    }

    /// What must be witnessed.
    pub(super) fn witness(self) -> Option<Witness> {
        match self.0 {
            What::Seen(witness, _) => Some(witness),
            What::Known(_) => None,
        }
    }

    /// What must be known.
    pub fn fact_needed(self) -> Option<Fact> {
        match self.0 {
            What::Seen(..) => None,
            What::Known(fact) => Some(fact),
        }
    }

    /// Is it served, as far as it is to be seen?
    pub fn is_met(self, witnesses: &Witnesses) -> bool {
        match self.0 {
            What::Seen(witness, by) => witnesses.get(witness).is_some_and(|it| by.contains(&it)),
            What::Known(_) => true,
        }
    }

    /// Is it known, as far as it is to be known?
    pub fn is_known(self, facts: Facts) -> bool {
        self.fact_needed().is_none_or(|fact| facts.hold(fact))
    }

    /// What would serve it best: a kernel function, or a tracepoint; or what must be known.
    pub fn name(self) -> &'static str {
        let (needed, by) = match self.0 {
            What::Seen(witness, by) => (witness, by),
            What::Known(fact) => return fact.name(),
        };
        let serves =
            |row: &&crate::probes::Probe| row.witness == needed && by.contains(&row.hook.backend());
        PROBES.iter().find(serves).map_or("", |row| row.function)
    }

    fn lack(self, witnesses: &Witnesses, facts: Facts) -> Option<Lack> {
        if self.is_met(witnesses) && self.is_known(facts) {
            return None;
        }
        Some(match self.0 {
            What::Known(Fact::AllBiosSeen) => Lack::ProbeMissing,
            What::Known(_) => Lack::Generation,
            What::Seen(witness, _) => match witnesses.get(witness) {
                Some(Backend::Kprobe) => Lack::Kprobe,
                Some(_) => Lack::Backend,
                None if witnesses.uses(Backend::Fentry) || *witnesses == Witnesses::NONE => {
                    Lack::ProbeMissing
                }
                None => Lack::Backend,
            },
        })
    }
}

/// One way in which a rule can watch.
pub struct Way {
    /// All that must be witnessed.
    pub needs: &'static [Need],
    /// The trace under `tests/data` that fires it.
    pub fixture: &'static str,
    pub(super) check: fn(&IoEndStep<'_>) -> Option<Charge>,
}

impl Way {
    /// Is all that it needs witnessed?
    pub fn is_open(&self, witnesses: &Witnesses) -> bool {
        self.needs.iter().all(|need| need.is_met(witnesses))
    }

    /// Is all that it must know known?
    pub(super) fn is_known(&self, facts: Facts) -> bool {
        self.needs.iter().all(|need| need.is_known(facts))
    }

    /// Does it lack something for this reason?
    pub(super) fn lacks(&self, witnesses: &Witnesses, facts: Facts, lack: Lack) -> bool {
        self.needs.iter().any(|need| need.lack(witnesses, facts) == Some(lack))
    }
}

/// Why a rule cannot watch, or only in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// A probe that it needs is not attached.
    ProbeMissing,
    /// The back end in use cannot see what it needs.
    Backend,
    /// A kprobe sees what it needs, which is not sure enough.
    Kprobe,
    /// The layout of io_ends is assumed, and was not seen to hold.
    Layout,
    /// Which protocol the kernel speaks is not known well enough.
    Generation,
}

impl Lack {
    /// All reasons.
    pub const ALL: [Lack; 5] =
        [Lack::ProbeMissing, Lack::Backend, Lack::Kprobe, Lack::Layout, Lack::Generation];

    /// The `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Lack::ProbeMissing => "probe_missing",
            Lack::Backend => "backend",
            Lack::Kprobe => "kprobe",
            Lack::Layout => "layout",
            Lack::Generation => "generation",
        }
    }
}
