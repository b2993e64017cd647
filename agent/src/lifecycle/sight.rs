//! What the tracker may rest on, given what is witnessed.
//!
//! A gap is raised and a step called irregular only where what is missing could have been seen. This
//! module must never look at an event.

use super::state::State;
use crate::event::Backend;
use crate::probes::Witness;
use crate::witnesses::Witnesses;

/// What can be seen of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Sight {
    /// Births. Without them an address that is seen again after its release is another life's.
    pub(super) births: bool,
    /// All puts, so that references can be counted.
    pub(super) references: bool,
    /// `ext4_end_io_end`, the claim from 6.15 on.
    pub(super) claims: bool,
    /// Begin and end of conversions.
    pub(super) conversions: bool,
    /// The ends of bios.
    pub(super) bio_ends: bool,
    /// In their place: the device being done with bios, or with parts of them.
    pub(super) bios_done: bool,
    /// Begin and end of worker runs. Without the end nobody is ever taken for a worker.
    pub(super) worker_runs: bool,
    /// Releases. Without them no life would ever end, so io_ends are not followed at all.
    pub(super) releases: bool,
    /// A release comes before its memory can be born again (see `Gap::ReleaseDoubtful`).
    pub(super) releases_in_order: bool,
    /// A release that was not seen is counted somewhere.
    pub(super) releases_counted: bool,
    /// Of the core of 2012: who converts need not release, its work does (`ext4_end_io_work`, 3.2 to 3.6).
    pub(super) worker_releases: bool,
}

impl Sight {
    pub(super) fn new(witnesses: &Witnesses) -> Self {
        let sees = |witness| witnesses.sees(witness);
        let bio_ends = sees(Witness::BioEnd);
        Sight {
            births: sees(Witness::Birth),
            references: sees(Witness::Put) && sees(Witness::PutDefer),
            claims: sees(Witness::Claim),
            conversions: sees(Witness::ConvertBegin) && sees(Witness::ConvertEnd),
            bio_ends,
            bios_done: sees(Witness::BioDone) && !bio_ends,
            worker_runs: sees(Witness::WorkerBegin) && sees(Witness::WorkerEnd),
            releases: sees(Witness::Release),
            releases_counted: witnesses.get(Witness::Release) != Some(Backend::Kprobe),
            releases_in_order: witnesses.get(Witness::Release) != Some(Backend::RawTracepoint),
            worker_releases: false,
        }
    }
}

/// Can an object be seen in `state`? If not, that nobody is in it says nothing.
pub(super) fn tells(witnesses: &Witnesses, state: State) -> bool {
    let sees = |witness| witnesses.sees(witness);
    let counted = sees(Witness::Attach) && Sight::new(witnesses).references;
    let born = sees(Witness::Birth);
    match state {
        State::Adopted | State::Released => true,
        State::Born => born,
        State::Ranged => born && sees(Witness::Range),
        State::Submitting => born && sees(Witness::Attach),
        State::InFlight | State::Final => born && counted,
        State::Queued => {
            let listed = witnesses.get(Witness::WorkerBegin) == Some(Backend::RawTracepoint);
            born && (counted || listed)
        }
        State::Claimed => born && (sees(Witness::Claim) || sees(Witness::ConvertBegin)),
        State::Converted => born && sees(Witness::ConvertEnd),
    }
}

#[cfg(test)]
mod tests {
    use super::tells;
    use crate::event::Backend;
    use crate::lifecycle::State;
    use crate::witnesses::Witnesses;

    fn told(backend: Backend) -> Vec<State> {
        State::live().filter(|state| tells(&Witnesses::all_by(backend), *state)).collect()
    }

    #[test]
    fn each_back_end_tells_its_states_only() {
        assert_eq!(told(Backend::Fentry), State::live().collect::<Vec<_>>());
        let raw = [State::Adopted, State::Born, State::Submitting, State::Queued];
        assert_eq!(told(Backend::RawTracepoint), raw);
        assert_eq!(told(Backend::Kprobe), [State::Adopted]);
    }
}
