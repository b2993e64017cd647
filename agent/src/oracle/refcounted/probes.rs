//! What the probes of a host would see of a step of the refcounted core; for tests of [`in_step`]
//! (`crate::oracle::in_step`) against the core that it stands for.

use super::closing::CONVERTS;
use super::state::{Bio, Closing, State, Submitter, Worker, flag};
use super::{Lane, Refcounted};
use crate::event::{Context, IoEndImage};
use crate::oracle::explore::Step;
use crate::oracle::in_step::{Act, By, Sighting};

/// Addresses of the io_ends.
const ADDRS: [u64; 2] = [0x1000, 0x2000];
/// Their submitters.
pub(in crate::oracle) const OWNERS: [u32; 2] = [10, 11];
const WORKER: u32 = 50;
const BYSTANDER: u32 = 99;

impl Refcounted {
    /// The events of a step that are of this io_end, in their order; they see the state before it.
    pub(in crate::oracle) fn probes(
        &self,
        state: &State,
        step: &Step<State>,
        io: u8,
    ) -> Vec<Sighting> {
        let lane = Lane(step.lane);
        let acts = if step.object == Some(io) { self.acts(state, step, lane, io) } else { vec![] };
        let sighting = |act| Sighting {
            act,
            by: by(lane, io),
            addr: ADDRS[usize::from(io)],
            image: self.image(act, state, io),
        };
        acts.into_iter().map(sighting).collect()
    }

    fn acts(&self, state: &State, step: &Step<State>, lane: Lane, io: u8) -> Vec<Act> {
        if lane == Lane::WORKER {
            return match state.worker {
                Worker::Closing(_, _, closing) => self.of_closing(closing, step),
                _ => Vec::new(),
            };
        }
        match lane.0.checked_sub(io * Lane::OF_IO_END) {
            Some(0) => self.of_submitter(state, step, io),
            Some(bio @ 1..=3) => self.of_bio(state, step, io, bio - 1),
            _ => Vec::new(),
        }
    }

    fn of_submitter(&self, state: &State, step: &Step<State>, io: u8) -> Vec<Act> {
        match (state.io(io).submitter, step.next.io(io).submitter) {
            (Submitter::Mapping(_), Submitter::Marking(_)) => vec![Act::Range { failed: false }],
            (Submitter::Mapping(_), _) => vec![Act::Attach],
            (Submitter::Attaching(_), Submitter::Attaching(_)) => vec![Act::Attach],
            (Submitter::Attaching(_), _) if self.world.write(io).defers => vec![Act::PutDefer],
            (Submitter::Attaching(_), _) => vec![Act::Put],
            (Submitter::Closing(closing), _) => self.of_closing(closing, step),
            _ => Vec::new(),
        }
    }

    fn of_bio(&self, state: &State, step: &Step<State>, io: u8, bio: u8) -> Vec<Act> {
        match state.io(io).bios[usize::from(bio)] {
            Bio::InFlight => {
                vec![Act::BioEnd { failed: self.world.write(io).failing & 1 << bio != 0 }]
            }
            Bio::Putting(_) => vec![Act::PutDefer],
            Bio::Closing(_, closing) => self.of_closing(closing, step),
            _ => Vec::new(),
        }
    }

    fn of_closing(&self, closing: Closing, step: &Step<State>) -> Vec<Act> {
        match closing {
            Closing::Claimed => {
                let claim = self.generation.has_one_claim().then_some(Act::Claim);
                let converts = (step.what == CONVERTS).then_some(Act::ConvertBegin);
                claim.into_iter().chain(converts).collect()
            }
            Closing::Converting => vec![Act::ConvertEnd],
            Closing::Releasing => vec![Act::Release],
            _ => Vec::new(),
        }
    }

    fn image(&self, act: Act, state: &State, io: u8) -> Option<IoEndImage> {
        if matches!(act, Act::Range { .. } | Act::Attach | Act::ConvertEnd) {
            return None;
        }
        let (addr, now) = (ADDRS[usize::from(io)], state.io(io));
        let list = if state.is_listed(io) { 0x9000 } else { addr };
        let ranged = now.handle || now.flag & flag::UNWRITTEN != 0;
        let vec = if ranged { 0x8000 } else { addr + 48 };
        Some(IoEndImage {
            list_next: list,
            list_prev: list,
            handle: u64::from(now.handle),
            flag: u32::from(now.flag),
            count: i32::from(now.count).cast_unsigned(),
            vec_next: vec,
            vec_prev: vec,
            ..IoEndImage::default()
        })
    }
}

fn by(lane: Lane, io: u8) -> By {
    let (tid, context) = match lane {
        Lane::WORKER => (WORKER, Context::Task),
        Lane(lane) if lane % Lane::OF_IO_END == 0 => (OWNERS[usize::from(io)], Context::Task),
        _ => (BYSTANDER, Context::SoftIrq),
    };
    By { tid, cpu: u16::from(lane.0), context, worker: Some(lane == Lane::WORKER) }
}
