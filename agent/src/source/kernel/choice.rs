//! Which back end serves what: a decision over the `PROBES` table, without touching the kernel itself.
//!
//! ```text
//!  per witness:  fentry ──refused──► raw tracepoint ──refused──► kprobe ──refused──► lost
//! ```
//!
//! Ends come first and births last: whatever is seen to begin is seen to end, and births are of objects
//! whose whole life is watched. `order` is that order, and detaching goes the other way round.

use std::fmt;

use crate::{
    event::Backend,
    probes::{Hook, PROBES, Presence, Probe, Witness},
};

/// Refusals of fentry for one reason, none before them taken, after which the others are not tried: the
/// kernel refuses the back end and not a program.
const REFUSALS_MAX: usize = 3;

/// What the caller wants of the back ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// This one alone; `None`: per witness the first that the kernel takes.
    pub backend: Option<Backend>,
    /// Whether the slab's tracepoints, which run at every allocation of the host, may be used.
    pub slab_tracepoints: bool,
}

impl Default for Choice {
    fn default() -> Self {
        Choice { backend: None, slab_tracepoints: true }
    }
}

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is attached.
    Attached,
    /// It is not attached, and nothing is lost by that which was asked for.
    Absent(Absence),
    /// It could not be attached: what it witnesses is lost.
    Failed(String),
}

/// Why a probe is not needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// This kernel has no such function, and need not: the table says what stands in.
    NotHere(&'static str),
    /// Another back end serves what it witnesses.
    Served {
        /// Which.
        by: Backend,
        /// Why this one does not, if it was tried.
        refused: Option<String>,
    },
    /// It stands in for something that is seen.
    NotNeeded(&'static str),
    /// The caller does not want it: the flag.
    NotAsked(&'static str),
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
        let rank = usize::MAX - life_order(probe.witness);
        (rank, backend_rank(probe.hook), usize::MAX - at)
    });
    order
}

/// The witnesses in the order in which they are seen; those that depend on another's fate just before
/// it, which is just after it in the order of attaching.
fn life_order(witness: Witness) -> usize {
    let place = |witness: Witness| 2 * (witness as usize) + 1;
    match witness {
        Witness::BioDone => place(Witness::BioEnd) - 1,
        Witness::WorkQueued => place(Witness::PutDefer) - 1,
        Witness::ReleaseLate => place(Witness::Release) - 1,
        other => place(other),
    }
}

fn backend_rank(hook: Hook) -> u8 {
    match hook.backend() {
        Backend::Fentry => 0,
        Backend::RawTracepoint => 1,
        Backend::Kprobe => 2,
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
        if let Some(absence) = self.unwanted(probe, backend) {
            return Verdict::Absent(absence);
        }
        if backend != Backend::RawTracepoint && !(self.exists)(probe) {
            return match probe.presence {
                Presence::Some(on) => Verdict::Absent(Absence::NotHere(on)),
                Presence::Always => {
                    let function = probe.function;
                    Verdict::Failed(format!("this kernel's BTF has no function {function}"))
                }
            };
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
                if backend == Backend::Fentry {
                    self.refusals.push(reason.clone());
                }
                Verdict::Failed(reason)
            }
        }
    }

    /// Why it need not be tried.
    fn unwanted(&self, probe: &Probe, backend: Backend) -> Option<Absence> {
        match self.choice.backend {
            Some(wanted) if wanted != backend => {
                return Some(Absence::NotAsked(match wanted {
                    Backend::Fentry => "--backend fentry",
                    Backend::RawTracepoint => "--backend raw_tp",
                    Backend::Kprobe => "--backend kprobe",
                }));
            }
            _ => {}
        }
        if let Some(by) = self.server_of(probe.witness).filter(|by| *by != backend) {
            return Some(Absence::Served { by, refused: None });
        }
        if probe.is_slab() && !self.choice.slab_tracepoints {
            return Some(Absence::NotAsked("--slab-tracepoints off"));
        }
        let by_fentry = |witness| self.server_of(witness) == Some(Backend::Fentry);
        match probe.witness {
            Witness::BioDone if by_fentry(Witness::BioEnd) => {
                Some(Absence::NotNeeded("fentry sees the end of every bio"))
            }
            Witness::WorkQueued if by_fentry(Witness::PutDefer) => {
                Some(Absence::NotNeeded("fentry sees the put that hands over"))
            }
            Witness::ReleaseLate if !by_fentry(Witness::Release) => {
                Some(Absence::NotNeeded("it backs the fentry of the same function only"))
            }
            _ => None,
        }
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

/// What failed where another back end serves the same witness is no loss.
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
        if let Some((_, by)) = others.find(|(witness, _)| *witness == probe.witness) {
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
    [Backend::Fentry, Backend::RawTracepoint, Backend::Kprobe]
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
            (count > 0).then(|| format!("{} by {count} probes{why}", backend.label()))
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
                let needed = probe.presence == Presence::Always && !is_stand_in(probe.witness);
                if needed && before.next().is_none() && !served(probe.witness) {
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn verdict<'a>(verdicts: &'a [Verdict], program: &str) -> &'a Verdict {
        let at = PROBES.iter().position(|probe| probe.program == program).unwrap();
        &verdicts[at]
    }

    fn refusing(backends: &[Backend], choice: Choice) -> (Vec<Verdict>, Vec<&'static str>) {
        let tried = RefCell::new(Vec::new());
        let verdicts = choose(
            choice,
            |_| true,
            |probe| {
                let at = PROBES.iter().position(|row| row.program == probe.program).unwrap();
                tried.borrow_mut().push(PROBES[at].program);
                match backends.contains(&probe.hook.backend()) {
                    true => Err("EPERM. Verifier output: ".to_owned() + probe.program),
                    false => Ok(()),
                }
            },
        );
        (verdicts, tried.into_inner())
    }

    #[test]
    fn where_fentry_is_taken_nothing_else_is_tried() {
        let (verdicts, tried) = refusing(&[], Choice::default());
        for (probe, verdict) in PROBES.iter().zip(&verdicts) {
            let fentry = probe.hook.backend() == Backend::Fentry;
            assert_eq!(*verdict == Verdict::Attached, fentry, "{}", probe.program);
            assert_eq!(tried.contains(&probe.program), fentry);
        }
        assert_eq!(lost(&verdicts), []);
    }

    #[test]
    fn births_come_last_and_ends_before_begins() {
        let (_, tried) = refusing(&[Backend::Fentry, Backend::Kprobe], Choice::default());
        let place = |program: &str| tried.iter().position(|name| *name == program).unwrap();
        assert_eq!(tried.last(), Some(&"tp_kmem_cache_alloc"));
        for (first, second) in [
            ("tp_ext4_sync_file_exit", "tp_ext4_sync_file_enter"),
            ("tp_workqueue_execute_end", "tp_workqueue_execute_start"),
            ("tp_kmem_cache_free", "tp_block_bio_queue"),
            ("tp_block_rq_complete", "tp_block_bio_queue"),
        ] {
            assert!(place(first) < place(second), "{first} after {second}");
        }
    }

    #[test]
    fn a_back_end_refused_for_one_reason_is_not_tried_to_its_end() {
        let (verdicts, tried) = refusing(&[Backend::Fentry, Backend::Kprobe], Choice::default());
        let fentry = |name: &&&str| !name.starts_with("tp_") && !name.starts_with("kprobe_");
        assert_eq!(tried.iter().filter(fentry).count(), REFUSALS_MAX);
        let birth = verdict(&verdicts, "ext4_init_io_end_exit");
        let Verdict::Absent(absence) = birth else { panic!("{birth:?}") };
        assert_eq!(absence.to_string(), "refused: EPERM; raw_tp in its place");
        assert!(matches!(verdict(&verdicts, "ext4_put_io_end"), Verdict::Failed(_)));
        let lost = lost(&verdicts);
        let lost: Vec<_> = lost.iter().map(|(probe, _)| probe.program).collect();
        assert!(lost.contains(&"ext4_put_io_end") && !lost.contains(&"submit_bio"), "{lost:?}");
    }

    #[test]
    fn only_what_fentry_does_not_see_is_stood_in_for() {
        let tried = RefCell::new(Vec::new());
        let verdicts = choose(
            Choice::default(),
            |_| true,
            |probe| {
                tried.borrow_mut().push(probe.program.to_owned());
                match probe.program {
                    "ext4_end_bio" => Err("no".to_owned()),
                    _ => Ok(()),
                }
            },
        );
        assert_eq!(*verdict(&verdicts, "tp_block_rq_complete"), Verdict::Attached);
        assert_eq!(*verdict(&verdicts, "kprobe_ext4_end_bio"), Verdict::Attached);
        assert_ne!(*verdict(&verdicts, "tp_workqueue_queue_work"), Verdict::Attached);
        assert_ne!(*verdict(&verdicts, "tp_kmem_cache_free"), Verdict::Attached);
    }

    #[test]
    fn a_forced_back_end_is_the_only_one_and_the_rest_is_lost() {
        let choice = Choice { backend: Some(Backend::RawTracepoint), slab_tracepoints: false };
        let (verdicts, tried) = refusing(&[], choice);
        assert!(tried.iter().all(|name| name.starts_with("tp_") && !name.contains("kmem")));
        let lost = lost(&verdicts);
        for program in ["ext4_init_io_end_exit", "ext4_put_io_end", "ext4_release_io_end"] {
            assert!(lost.iter().any(|(probe, _)| probe.program == program), "{program}");
        }
        assert!(!lost.iter().any(|(probe, _)| probe.witness == Witness::FsyncBegin));
    }
}
