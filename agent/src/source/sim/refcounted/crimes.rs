//! Where the simulated kernel does what it must not, and says of which io_end.
//!
//! It must never do one that its slip does not name, nor keep one for itself: whoever is accused and not in
//! `breached` was accused in vain.

use super::{Call, FAILED, Kernel, LIST, Object, Op, Saw, Slip, UNWRITTEN};

/// A bit of the flag that means nothing.
const UNKNOWN: u32 = 8;
/// So many bios must have ended by the last TICK before one is swallowed: who watches does not believe it
/// earlier.
const ENDED_MIN: u32 = 64;

impl Kernel<'_> {
    /// Now and then the kernel does something wrong with an io_end that the worker processes.
    pub(super) fn spoil(&mut self, it: usize, ops: &mut Vec<Op>) {
        let slip = self.slip.filter(|slip| slip.is_of_worker() && *slip != Slip::WorkLost);
        let Some(slip) = slip.filter(|_| self.random.one_in(8)) else { return };
        if slip == Slip::WrittenWhileListed && self.objects[it].bio_failed {
            return;
        }
        self.breach(it);
        self.objects[it].slip = Some(slip);
        match slip {
            Slip::SecondClaim => {
                let saw =
                    if self.derived.release.claims() { Saw::Claim } else { Saw::ConvertBegin };
                ops.insert(ops.len() - 4, Op::Place(saw, it));
            }
            Slip::SecondRelease => ops.insert(ops.len() - 1, Op::Place(Saw::Release, it)),
            Slip::SurplusPut => ops.insert(0, Op::Place(Saw::PutDefer, it)),
            Slip::ClaimedWhileHeld => self.objects[it].count += 1,
            Slip::UsedAfterRelease => ops.insert(ops.len() - 1, Op::Place(Saw::ConvertBegin, it)),
            Slip::WrittenWhileListed => ops.insert(0, Op::Slip(it)),
            Slip::HandleLeaked => ops.insert(ops.len() - 2, Op::Slip(it)),
            _ => {}
        }
    }

    /// The worker forgets what it took off its list.
    pub(super) fn forgets(&mut self, it: usize) -> bool {
        let once = self.slip == Some(Slip::WorkLost) && self.breached.is_empty();
        let forgets = once && self.random.one_in(4);
        if forgets {
            self.breach(it);
        }
        forgets
    }

    /// Between two steps of one who holds a reference, or has it for itself.
    pub(super) fn slips(&mut self, it: usize) {
        // Earlier no core knows for certain that there is a FAILED.
        let knows = self.derived.release.claims();
        let object = &mut self.objects[it];
        let failed = object.flag & FAILED != 0;
        let last = object.count == 1;
        let unwritten = object.flag & UNWRITTEN != 0;
        match object.slip {
            Some(Slip::WrittenWhileListed) => return object.flag |= FAILED,
            Some(Slip::HandleLeaked) => return object.handle = LIST + 0x100,
            Some(Slip::UnwrittenLost) if last && unwritten => object.flag &= !UNWRITTEN,
            Some(Slip::FailedLost) if last && failed && knows => object.flag &= !FAILED,
            Some(Slip::UnknownBit) if last => object.flag |= UNKNOWN,
            Some(Slip::LinkedWhileHeld) if last => object.listed = true,
            Some(Slip::BioUnchained) if last && unwritten && self.chain_shown => {
                object.bio = 0;
                object.unchained = true;
            }
            _ => return,
        }
        self.breach(it);
    }

    /// Its bio ends and nobody is told, though it holds the last reference.
    pub(super) fn swallows(&mut self, it: usize) -> bool {
        let Object { slip, count, .. } = self.objects[it];
        let believed = self.ended_by_tick >= ENDED_MIN;
        let swallows = slip == Some(Slip::BioSwallowed) && count == 1 && believed;
        if swallows {
            self.breach(it);
        }
        swallows
    }

    /// An fsync waits for what it has to, or returns too early; it returns 0 whatever the conversion says.
    pub(super) fn fsync_returns(&mut self, at: usize, it: usize) {
        let Object { slip, flag, attached, ended, released, converted, .. } = self.objects[it];
        let early = slip == Some(Slip::FsyncTooEarly) && flag & UNWRITTEN != 0 && ended < attached;
        if !released && !early {
            return self.actors[at].ops.push_front(Op::FsyncReturns(it));
        }
        if early || converted < 0 {
            self.breach(it);
        }
        self.tape.fsync(self.actors[at].who, Call::Return);
    }

    pub(super) fn breach(&mut self, it: usize) {
        self.breached.extend(self.objects[it].life);
    }
}
