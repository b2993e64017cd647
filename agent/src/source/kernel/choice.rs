//! Which back end serves what: a decision over the `PROBES` table, without touching the kernel itself.
//!
//! ```text
//!  per witness:  fentry ──refused──► raw tracepoint ──refused──► kprobe ──refused──► lost
//! ```
//!
//! Ends come first and births last: whatever is seen to begin is seen to end, and births are of objects
//! whose whole life is watched. `order` is that order, and detaching goes the other way round.

#[cfg(test)]
mod tests;

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

use super::Subject;
use crate::{
    event::Backend,
    limits,
    probes::{Hook, PROBES, Presence, Probe, Witness},
};

/// Refusals of fentry for one reason, none before them taken, after which the others are not tried: the
/// kernel refuses the back end and not a program.
const REFUSALS_MAX: usize = 3;

/// What the caller wants of the back ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// This one alone; `None`: per witness the first that the kernel takes.
    pub backend: Option<Backend>,
    /// Whether the slab's tracepoints, which run at every allocation of the host, may be used.
    pub slab_tracepoints: bool,
    /// Watchpoints at once, at most [`endiod_wire::wire::WATCH_SLOTS_MAX`]; none: no debug register is touched.
    pub watchpoints: u32,
    /// What is watched.
    pub subject: Subject,
}

impl Default for Choice {
    fn default() -> Self {
        let watchpoints = limits::WATCHPOINTS as u32;
        Choice { backend: None, slab_tracepoints: true, watchpoints, subject: Subject::Ext4 }
    }
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It is attached.
    Attached,
    /// It is not attached, and nothing is lost by that which was asked for.
    Absent(Absence),
    /// It could not be attached: what it witnesses is lost.
    Failed(String),
}

/// Why a probe is not needed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Absence {
    /// This kernel has no such function, and need not: the table says what stands in.
    NotHere(Cow<'static, str>),
    /// Another back end serves what it witnesses.
    Served {
        /// Which.
        by: Backend,
        /// Why this one does not, if it was tried.
        refused: Option<String>,
    },
    /// It stands in for something that is seen.
    NotNeeded(Cow<'static, str>),
    /// The caller does not want it: the flag.
    NotAsked(Cow<'static, str>),
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absence::NotHere(text) | Absence::NotNeeded(text) | Absence::NotAsked(text) => {
                f.write_str(text)
            }
            Absence::Served { by, refused: None } => write!(f, "{} serves it", by.label()),
            Absence::Served { by, refused: Some(reason) } => {
                write!(f, "refused: {reason}; {} in its place", by.label())
            }
        }
    }
}

/// Decides for every probe, by its index in the table; `attempt` attaches one or says why it cannot.
pub(super) fn choose(
    choice: Choice,
    exists: impl Fn(&Probe) -> bool,
    attempt: impl FnMut(&Probe) -> Result<(), String>,
) -> Vec<Verdict> {
    let mut chooser = Chooser {
        choice,
        exists,
        attempt,
        verdicts: vec![None; PROBES.len()],
        refusals: Vec::new(),
        any_fentry: false,
    };
    for at in order() {
        let verdict = chooser.decide(at);
        chooser.verdicts[at] = Some(verdict);
    }
    let decided = chooser.verdicts.into_iter();
    let mut verdicts: Vec<_> =
        decided.map(|verdict| verdict.expect("order has them all")).collect();
    excuse_the_served(&mut verdicts);
    verdicts
}

/// Indexes of the table in the order of attaching.
pub(super) fn order() -> Vec<usize> {
    let mut order: Vec<usize> = (0..PROBES.len()).collect();
    order.sort_by_key(|&at| {
        let probe = &PROBES[at];
        let rank = usize::MAX - life_order(probe);
        (rank, backend_rank(probe.hook), usize::MAX - at)
    });
    order
}

/// The witnesses in the order in which they are seen; those that depend on another's fate just before
/// it, which is just after it in the order of attaching.
fn life_order(probe: &Probe) -> usize {
    let place = |witness: Witness| 2 * (witness as usize) + 1;
    match probe.witness {
        Witness::BioDone => place(Witness::BioEnd) - 1,
        Witness::BioEnd if probe.hook == Hook::Kprobe => place(Witness::BioEnd) - 1,
        Witness::WorkQueued => place(Witness::PutDefer) - 1,
        Witness::ReleaseLate => place(Witness::Release) - 1,
        Witness::AttachEnciphered => place(Witness::Attach) - 1,
        Witness::FlagWrite => place(Witness::WatchRelease) + 1,
        other => place(other),
    }
}

fn backend_rank(hook: Hook) -> u8 {
    match hook.backend() {
        Backend::Fentry => 0,
        Backend::RawTracepoint => 1,
        Backend::Kprobe => 2,
        Backend::Watchpoint => 3,
    }
}

struct Chooser<Exists, Attempt> {
    choice: Choice,
    exists: Exists,
    attempt: Attempt,
    verdicts: Vec<Option<Verdict>>,
    /// Reasons of fentry's refusals, until one is taken.
    refusals: Vec<String>,
    any_fentry: bool,
}

impl<Exists, Attempt> Chooser<Exists, Attempt>
where
    Exists: Fn(&Probe) -> bool,
    Attempt: FnMut(&Probe) -> Result<(), String>,
{
    fn decide(&mut self, at: usize) -> Verdict {
        let probe = &PROBES[at];
        let backend = probe.hook.backend();
        if self.choice.subject.function(probe).is_none() {
            return Verdict::Absent(Absence::NotHere("the replica has nothing like it".into()));
        }
        let by_itself = matches!(backend, Backend::RawTracepoint | Backend::Watchpoint);
        let exists = by_itself || (self.exists)(probe);
        if let (false, Presence::Some(on)) = (exists, probe.presence) {
            return Verdict::Absent(Absence::NotHere(on.into()));
        }
        if let Some(absence) = self.unwanted(probe, backend) {
            return Verdict::Absent(absence);
        }
        if !exists {
            let function = probe.function;
            return Verdict::Failed(format!("this kernel shows no function {function}"));
        }
        if let Some(reason) = self.unfit(probe) {
            return Verdict::Failed(reason.to_owned());
        }
        if backend == Backend::Fentry
            && let Some(reason) = self.refused_wholesale()
        {
            return Verdict::Failed(reason);
        }
        match (self.attempt)(probe) {
            Ok(()) => {
                self.any_fentry |= backend == Backend::Fentry;
                Verdict::Attached
            }
            Err(reason) => {
                // Two on functions that others are on as well say nothing that those do not.
                if backend == Backend::Fentry && !probe.is_of_watchpoints() {
                    self.refusals.push(reason.clone());
                }
                Verdict::Failed(reason)
            }
        }
    }

    /// Why it need not be tried.
    fn unwanted(&self, probe: &Probe, backend: Backend) -> Option<Absence> {
        if probe.is_of_watchpoints() && self.choice.watchpoints == 0 {
            return Some(Absence::NotAsked("--watchpoints 0".into()));
        }
        if backend == Backend::Watchpoint {
            let by_kprobe = self.choice.backend == Some(Backend::Kprobe);
            return by_kprobe.then_some(Absence::NotAsked("--backend kprobe".into()));
        }
        if probe.is_of_watchpoints() && self.server_of(Witness::FlagWrite).is_none() {
            return Some(Absence::NotNeeded("there are no watchpoints".into()));
        }
        match self.choice.backend {
            Some(wanted) if wanted != backend => {
                let flag = match wanted {
                    Backend::Fentry => "--backend fentry",
                    Backend::RawTracepoint => "--backend raw_tp",
                    Backend::Kprobe => "--backend kprobe",
                    Backend::Watchpoint => "no functions",
                };
                return Some(Absence::NotAsked(flag.into()));
            }
            _ => {}
        }
        if let Some(by) = self.server_of(probe.witness).filter(|by| *by != backend) {
            return Some(Absence::Served { by, refused: None });
        }
        if probe.is_slab() && !self.choice.slab_tracepoints {
            return Some(Absence::NotAsked("--slab-tracepoints off".into()));
        }
        let by_fentry = |witness| self.server_of(witness) == Some(Backend::Fentry);
        match probe.witness {
            Witness::BioDone if by_fentry(Witness::BioEnd) => {
                Some(Absence::NotNeeded("fentry sees the end of every bio".into()))
            }
            Witness::BioEnd
                if backend == Backend::Kprobe && self.server_of(Witness::BioDone).is_some() =>
            {
                Some(Absence::NotNeeded("the device is seen to be done with every bio".into()))
            }
            Witness::WorkQueued if by_fentry(Witness::PutDefer) => {
                Some(Absence::NotNeeded("fentry sees the put that hands over".into()))
            }
            Witness::ReleaseLate if !by_fentry(Witness::Release) => {
                Some(Absence::NotNeeded("it backs the fentry of the same function only".into()))
            }
            _ => None,
        }
    }

    /// Why it would tell half of a story.
    fn unfit(&self, probe: &Probe) -> Option<&'static str> {
        if probe.witness == Witness::EvictionBegin && self.server_of(Witness::EvictionEnd).is_none()
        {
            return Some("its return is not seen, so whoever enters would wait for ever");
        }
        let by = self.server_of(Witness::Attach);
        // `block_bio_queue` tells of those that the device enciphers, and not that it is such a one; of
        // the others no tracepoint tells that they are done.
        (probe.witness == Witness::AttachEnciphered && by == Some(Backend::RawTracepoint))
            .then_some("raw_tp sees the other bios, and would not see the end of these")
    }

    fn server_of(&self, witness: Witness) -> Option<Backend> {
        let decided = PROBES.iter().zip(&self.verdicts);
        let mut attached = decided.filter(|(_, verdict)| **verdict == Some(Verdict::Attached));
        attached.find(|(probe, _)| probe.witness == witness).map(|(probe, _)| probe.hook.backend())
    }

    /// The one reason for which fentry is refused, if it is refused as such.
    fn refused_wholesale(&self) -> Option<String> {
        let first = self.refusals.first()?;
        let same = self.refusals.iter().all(|reason| brief(reason) == brief(first));
        let many = self.refusals.len() >= REFUSALS_MAX;
        (many && same && !self.any_fentry).then(|| brief(first).to_owned())
    }
}

/// What failed where another back end serves the same witness, or what stands in for it, is no loss.
fn excuse_the_served(verdicts: &mut [Verdict]) {
    let served: Vec<_> = PROBES
        .iter()
        .zip(&*verdicts)
        .map(|(probe, verdict)| {
            (*verdict == Verdict::Attached).then_some((probe.witness, probe.hook.backend()))
        })
        .collect();
    for (probe, verdict) in PROBES.iter().zip(verdicts) {
        let Verdict::Failed(reason) = &*verdict else { continue };
        let others = served.iter().flatten();
        let mut others = others.filter(|(_, by)| *by != probe.hook.backend());
        let serves = |witness: Witness| match probe.witness {
            Witness::BioEnd => matches!(witness, Witness::BioEnd | Witness::BioDone),
            // The slab's tracepoints tell the watchpoints too.
            Witness::WatchBirth => witness == Witness::Birth,
            Witness::WatchRelease => witness == Witness::Release,
            own => witness == own,
        };
        if let Some((_, by)) = others.find(|(witness, _)| serves(*witness)) {
            let refused = Some(reason.clone());
            *verdict = Verdict::Absent(Absence::Served { by: *by, refused });
        }
    }
}

/// A reason without the verifier's log, which differs from program to program.
pub fn brief(reason: &str) -> &str {
    reason.split(". Verifier output:").next().unwrap_or(reason)
}

/// One line per back end that serves something: how much, and why it rather than the one before it.
pub fn serving(verdicts: &[Verdict]) -> Vec<String> {
    let rows = || PROBES.iter().zip(verdicts);
    [Backend::Fentry, Backend::RawTracepoint, Backend::Kprobe, Backend::Watchpoint]
        .into_iter()
        .filter_map(|backend| {
            let attached = rows().filter(|(probe, verdict)| {
                probe.hook.backend() == backend && **verdict == Verdict::Attached
            });
            let count = attached.count();
            let reason = rows().find_map(|(_, verdict)| match verdict {
                Verdict::Absent(Absence::Served { by, refused: Some(reason) })
                    if *by == backend =>
                {
                    Some(brief(reason))
                }
                _ => None,
            });
            let why = reason.map_or(String::new(), |why| format!(", in place of fentry: {why}"));
            (count > 0).then(|| format!("{count} probes by {}{why}", backend.label()))
        })
        .collect()
}

/// What is not seen, and why: of several back ends that could have seen it, the first.
pub fn lost(verdicts: &[Verdict]) -> Vec<(&'static Probe, String)> {
    let rows = || PROBES.iter().zip(verdicts);
    let served = |witness| {
        rows().any(|(probe, verdict)| probe.witness == witness && *verdict == Verdict::Attached)
    };
    let mut lost: Vec<(&'static Probe, String)> = Vec::new();
    for (probe, verdict) in rows() {
        let mut before = lost.iter().filter(|(other, _)| other.witness == probe.witness);
        match verdict {
            Verdict::Failed(reason) => {
                if before.all(|(other, _)| other.hook.backend() == probe.hook.backend()) {
                    lost.push((probe, brief(reason).to_owned()));
                }
            }
            Verdict::Absent(absence @ Absence::NotAsked(_)) => {
                if !is_stand_in(probe.witness) && before.next().is_none() && !served(probe.witness)
                {
                    lost.push((probe, absence.to_string()));
                }
            }
            Verdict::Attached | Verdict::Absent(_) => {}
        }
    }
    lost
}

/// Whether it matters only where something else is not seen.
fn is_stand_in(witness: Witness) -> bool {
    matches!(witness, Witness::BioDone | Witness::WorkQueued | Witness::ReleaseLate)
}
