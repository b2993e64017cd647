//! One direct write as it was seen, and the last ones that have ended.
//!
//! A kiocb is reused at once, so only address and begin together name a write. One that has ended is kept
//! until its kiocb begins anew, or until so many others have ended ([`limits::DIRECT_IOS_ENDED_MAX`]): a
//! completion that comes meanwhile is one too many.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::event::{Cpu, InodeId, IocbAddr, Nanos, Stamp};
use crate::lifecycle::act::Party;
use crate::limits;

/// What a kernel function did with a direct write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectAct {
    /// It was called.
    Begin,
    /// Its completion was entered.
    Complete,
    /// Its completion returned.
    Completed,
    /// The call returned.
    Return,
}

impl DirectAct {
    /// All acts.
    pub const ALL: [DirectAct; 4] =
        [DirectAct::Begin, DirectAct::Complete, DirectAct::Completed, DirectAct::Return];

    /// Short name.
    pub fn label(self) -> &'static str {
        match self {
            DirectAct::Begin => "begin",
            DirectAct::Complete => "complete",
            DirectAct::Completed => "completed",
            DirectAct::Return => "return",
        }
    }

    /// The kernel function whose probe saw it.
    pub fn function(self) -> &'static str {
        match self {
            DirectAct::Begin | DirectAct::Return => "ext4_file_write_iter",
            DirectAct::Complete | DirectAct::Completed => "ext4_dio_write_end_io",
        }
    }
}

/// Names a direct write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectWriteId {
    /// Address of its kiocb.
    pub iocb: IocbAddr,
    /// When it was called.
    pub begun: Nanos,
}

/// A direct write.
#[derive(Clone, Copy, Debug)]
pub struct DirectWrite {
    id: DirectWriteId,
    inode: Option<InodeId>,
    by: Party<DirectAct>,
    /// Its completion was entered.
    pub(super) entered: Option<(Nanos, Party<DirectAct>)>,
    /// Its completion returned, by the same task.
    pub(super) left: Option<(Nanos, Option<Cpu>)>,
    /// The call returned.
    pub(super) returned: Option<(Nanos, Option<Cpu>)>,
}

impl DirectWrite {
    /// Called; in its completion; past it; returned from its call before its completion.
    pub const STATES: [&'static str; 4] = ["in_flight", "completing", "completed", "returned"];

    pub(super) fn begun(stamp: &Stamp, iocb: IocbAddr, inode: Option<InodeId>) -> Self {
        DirectWrite {
            id: DirectWriteId { iocb, begun: stamp.at },
            inode,
            by: Party::new(stamp, DirectAct::Begin),
            entered: None,
            left: None,
            returned: None,
        }
    }

    /// Its name.
    pub fn id(&self) -> DirectWriteId {
        self.id
    }

    /// The file.
    pub fn inode(&self) -> Option<InodeId> {
        self.inode
    }

    /// Who called.
    pub fn by(&self) -> Party<DirectAct> {
        self.by
    }

    /// Who completed it, if that has begun.
    pub fn completed_by(&self) -> Option<Party<DirectAct>> {
        self.entered.map(|(_, party)| party)
    }

    /// Who returned from its call, if that is over.
    pub fn returned_by(&self) -> Option<Party<DirectAct>> {
        self.returned.map(|(_, cpu)| Party { cpu, act: DirectAct::Return, ..self.by })
    }

    /// How far it is, one of [`DirectWrite::STATES`].
    pub fn state(&self) -> &'static str {
        state(self.entered.is_some(), self.left.is_some(), self.returned.is_some())
    }

    /// What was seen of it, in the order of time, with the state after each.
    pub fn history(&self) -> impl Iterator<Item = (Nanos, Party<DirectAct>, &'static str)> {
        let completed = |(at, cpu)| {
            let by = self.completed_by().unwrap_or(self.by);
            (at, Party { cpu, act: DirectAct::Completed, ..by })
        };
        let returned = self.returned.zip(self.returned_by()).map(|((at, _), party)| (at, party));
        let mut steps =
            [Some((self.id.begun, self.by)), self.entered, self.left.map(completed), returned];
        steps.sort_by_key(|step| step.map_or(Nanos(u64::MAX), |(at, _)| at));
        let (mut entered, mut left, mut over) = (false, false, false);
        steps.into_iter().flatten().map(move |(at, party)| {
            entered |= party.act == DirectAct::Complete;
            left |= party.act == DirectAct::Completed;
            over |= party.act == DirectAct::Return;
            (at, party, state(entered, left, over))
        })
    }
}

fn state(entered: bool, left: bool, returned: bool) -> &'static str {
    match (left, entered, returned) {
        (true, ..) => "completed",
        (false, true, _) => "completing",
        (false, false, true) => "returned",
        (false, false, false) => "in_flight",
    }
}

/// The last ones that have ended, by kiocb.
pub(super) struct Ended {
    writes: HashMap<IocbAddr, DirectWrite>,
    /// In the order of their ends; one whose kiocb has begun anew is gone.
    order: VecDeque<DirectWriteId>,
}

impl Default for Ended {
    fn default() -> Self {
        Ended {
            writes: HashMap::with_capacity(2 * limits::DIRECT_IOS_ENDED_MAX),
            order: VecDeque::with_capacity(limits::DIRECT_IOS_ENDED_MAX + 1),
        }
    }
}

impl Ended {
    pub(super) fn get(&self, iocb: IocbAddr) -> Option<&DirectWrite> {
        self.writes.get(&iocb)
    }

    pub(super) fn get_mut(&mut self, iocb: IocbAddr) -> Option<&mut DirectWrite> {
        self.writes.get_mut(&iocb)
    }

    pub(super) fn forget(&mut self, iocb: IocbAddr) {
        self.writes.remove(&iocb);
    }

    pub(super) fn forget_begun_by(&mut self, at: Nanos) {
        self.writes.retain(|_, write| write.id.begun > at);
    }

    pub(super) fn keep(&mut self, write: DirectWrite) {
        self.order.push_back(write.id);
        if self.order.len() > limits::DIRECT_IOS_ENDED_MAX
            && let Some(oldest) = self.order.pop_front()
            && self.writes.get(&oldest.iocb).is_some_and(|kept| kept.id == oldest)
        {
            self.writes.remove(&oldest.iocb);
        }
        self.writes.insert(write.id.iocb, write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Context, Task};

    fn write(iocb: u64, at: u64) -> DirectWrite {
        let task = Task { tid: 1, tgid: 1 };
        let stamp =
            Stamp { at: Nanos(at), cpu: None, lane: 0, seq: 1, task, context: Context::Task };
        DirectWrite::begun(&stamp, IocbAddr(iocb), None)
    }

    #[test]
    fn what_began_by_then_is_forgotten() {
        let mut ended = Ended::default();
        ended.keep(write(1, 5));
        ended.keep(write(2, 6));
        ended.forget_begun_by(Nanos(5));
        assert!(ended.get(IocbAddr(1)).is_none() && ended.get(IocbAddr(2)).is_some());
    }

    #[test]
    fn the_oldest_go_first_and_one_that_ended_anew_is_the_younger() {
        let mut ended = Ended::default();
        let most = limits::DIRECT_IOS_ENDED_MAX as u64;
        ended.keep(write(0, 0));
        ended.keep(write(1, 1));
        ended.forget(IocbAddr(0));
        ended.keep(write(0, 2));
        for other in 2..most {
            ended.keep(write(other, other + 1));
        }
        assert_eq!(ended.get(IocbAddr(0)).map(|it| it.id.begun), Some(Nanos(2)));
        ended.keep(write(most, most));
        assert!(ended.get(IocbAddr(1)).is_none() && ended.get(IocbAddr(0)).is_some());
        ended.keep(write(most + 1, most));
        assert!(ended.get(IocbAddr(0)).is_none());
        assert!(ended.writes.len() <= limits::DIRECT_IOS_ENDED_MAX);
    }
}
