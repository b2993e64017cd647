//! What today's probes would see of a step of the core of 2012: the last put lists, a claim is the
//! removal from the list, the release is the free, and where the work puts it back the replica's probe says
//! whether the lock is held. For tests of `in_step` against this core.

use super::CompletedList;
use super::state::{Flush, Lane, State, Worker};
use crate::event::Context;
use crate::oracle::explore::Step;
use crate::oracle::in_step::{Act, By, Sighting};

const INTERRUPT: u32 = 99;

impl CompletedList {
    /// The events of a step, in their order, each with its io_end.
    pub(in crate::oracle) fn probes(
        &self,
        state: &State,
        step: &Step<State>,
    ) -> Vec<(usize, Sighting)> {
        let object = usize::from(step.object.unwrap_or(0));
        let task = 20 + u32::from(step.lane);
        let claim = [(Act::Claim, task), (Act::ConvertBegin, task)];
        let acts = match Lane(step.lane) {
            Lane::INTERRUPT if step.what.contains("list_add") => {
                vec![(Act::BioEnd { failed: false }, INTERRUPT), (Act::PutDefer, INTERRUPT)]
            }
            Lane::INTERRUPT => Vec::new(),
            Lane::WORKER => match state.worker {
                Worker::Running(_) => match step.next.worker {
                    Worker::Converting(_) => claim.to_vec(),
                    // Between two critical sections nobody holds the lock.
                    Worker::Requeueing(..) => {
                        let locked = Some(self.variant.queued_under_lock);
                        vec![(Act::Requeue { locked }, task)]
                    }
                    _ => Vec::new(),
                },
                Worker::Converting(_) => vec![(Act::ConvertEnd, task)],
                Worker::Freeing(_) => vec![(Act::Release, task)],
                _ => Vec::new(),
            },
            lane => {
                let at = if lane == Lane::EVICT { self.world.fsyncs } else { lane.0 - 1 };
                match state.flushers[usize::from(at)] {
                    Flush::Holding if step.object.is_some() => claim.to_vec(),
                    Flush::Converting(_) => vec![(Act::ConvertEnd, task)],
                    Flush::Freeing(_) => vec![(Act::Release, task)],
                    _ => Vec::new(),
                }
            }
        };
        let sighting = |(act, tid)| {
            let irq = tid == INTERRUPT;
            let context = if irq { Context::SoftIrq } else { Context::Task };
            let by = By { tid, cpu: 0, context, worker: None };
            (object, Sighting { act, by, addr: 0x1000, image: None })
        };
        acts.into_iter().map(sighting).collect()
    }
}
