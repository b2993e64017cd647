//! What the probes of a host would see of a step of the refcounted core; for tests of [`in_step`]
//! (`crate::oracle::in_step`) against the core that it stands for.

use super::state::{Bio, Closing, Generation, State, Submitter, Worker, flag};
use super::{Lane, Refcounted};
use crate::event::{Context, IoEndImage};
use crate::oracle::explore::Step;
use crate::oracle::in_step::{Act, By, Sighting};

/// Address of the io_end.
const ADDR: u64 = 0x1000;
pub(in crate::oracle) const OWNER: u32 = 10;

impl Refcounted {
    /// The events of a step, in their order; they see the state before it.
    pub(in crate::oracle) fn probes(&self, state: &State, step: &Step<State>) -> Vec<Sighting> {
        let lane = Lane(step.lane);
        let acts = match lane {
            Lane::SUBMITTER => self.of_submitter(state, &step.next),
            Lane::WORKER => match state.worker {
                Worker::Closing(closing) => self.of_closing(closing, step),
                Worker::Idle => Vec::new(),
            },
            Lane::FSYNC | Lane::EVICT => Vec::new(),
            Lane(lane) => match state.bios[usize::from(lane - 1)] {
                Bio::InFlight => {
                    vec![Act::BioEnd { failed: self.world.bios.failing & 1 << (lane - 1) != 0 }]
                }
                Bio::Putting(_) => vec![Act::PutDefer],
                Bio::Closing(_, closing) => self.of_closing(closing, step),
                _ => Vec::new(),
            },
        };
        let sighting =
            |act| Sighting { act, by: by(lane), addr: ADDR, image: self.image(act, state) };
        acts.into_iter().map(sighting).collect()
    }

    fn of_submitter(&self, state: &State, next: &State) -> Vec<Act> {
        match (state.submitter, next.submitter) {
            (Submitter::Attaching(_), Submitter::Marking(_)) => vec![Act::Range { failed: false }],
            (Submitter::Attaching(_), Submitter::Attaching(_)) => vec![Act::Attach],
            (Submitter::Putting, _) if self.world.submitter_defers => vec![Act::PutDefer],
            (Submitter::Putting, _) => vec![Act::Put],
            (Submitter::Closing(closing), _) => self.of_close(closing, state, next),
            _ => Vec::new(),
        }
    }

    fn of_closing(&self, closing: Closing, step: &Step<State>) -> Vec<Act> {
        let converts = step.what == "start the handle, convert";
        self.closing_acts(closing, converts)
    }

    fn of_close(&self, closing: Closing, _: &State, next: &State) -> Vec<Act> {
        let converts = next.submitter == Submitter::Closing(Closing::Converting);
        self.closing_acts(closing, converts)
    }

    fn closing_acts(&self, closing: Closing, converts: bool) -> Vec<Act> {
        let claims = matches!(self.generation, Generation::G5 | Generation::G6);
        match closing {
            Closing::Claimed => {
                let claim = claims.then_some(Act::Claim);
                claim.into_iter().chain(converts.then_some(Act::ConvertBegin)).collect()
            }
            Closing::Converting => vec![Act::ConvertEnd],
            Closing::Releasing => vec![Act::Release],
            _ => Vec::new(),
        }
    }

    fn image(&self, act: Act, state: &State) -> Option<IoEndImage> {
        if matches!(act, Act::Range { .. } | Act::Attach | Act::ConvertEnd) {
            return None;
        }
        let list = if state.listed { 0x9000 } else { ADDR };
        let ranged = state.handle || state.flag & flag::UNWRITTEN != 0;
        let vec = if ranged { 0x8000 } else { ADDR + 48 };
        Some(IoEndImage {
            list_next: list,
            list_prev: list,
            handle: u64::from(state.handle),
            flag: u32::from(state.flag),
            count: i32::from(state.count).cast_unsigned(),
            vec_next: vec,
            vec_prev: vec,
            ..IoEndImage::default()
        })
    }
}

fn by(lane: Lane) -> By {
    let (tid, context) = match lane {
        Lane::SUBMITTER => (OWNER, Context::Task),
        Lane::WORKER => (50, Context::Task),
        _ => (99, Context::SoftIrq),
    };
    By { tid, cpu: u16::from(lane.0), context, worker: None }
}
