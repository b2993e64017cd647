//! One `struct ext4_io_end`: what was seen of one incarnation, in at most 304 bytes.
//!
//! ```text
//!   address, birth │ inode, owner │ counters │ claim, release │ 7 times │ state, gaps │ history
//! ```
//!
//! Addresses are reused at once, so only address and birth together name an object. Its fields are
//! written by `model` alone; everyone else reads. This module must never interpret an event.

use super::act::{Act, Party};
use super::gap::{Gap, Gaps};
use super::history::{History, Since, Told, ToldImage};
use super::snapshots::Snapshots;
use super::state::State;
use crate::event::{DevId, Ino, InodeId, IoEndAddr, IoEndImage, Nanos, Stamp, Task};

/// An incarnation: addresses are reused at once, so a birth (or first sight) goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IoEndId {
    /// Address.
    pub addr: IoEndAddr,
    /// Birth, or first sight of an adopted object.
    pub born: Nanos,
}

/// The five phases of a life; they overlap. `None`: it did not occur.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// Birth to the submitter's put.
    pub submit: Option<Nanos>,
    /// First bio attached to last bio ended.
    pub device: Option<Nanos>,
    /// Last reference dropped to claim.
    pub queue: Option<Nanos>,
    /// Claim to release.
    pub convert: Option<Nanos>,
    /// Birth to release.
    pub total: Option<Nanos>,
}

/// Moments of a life that phases begin at. `None`: not seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The first bio was attached.
    pub first_attach: Option<Nanos>,
    /// The last reference was dropped, or it was first seen on a list.
    pub last_put: Option<Nanos>,
    /// It was claimed.
    pub claim: Option<Nanos>,
}

/// One incarnation.
#[derive(Clone, Copy)]
pub struct IoEnd {
    pub(super) addr: IoEndAddr,
    pub(super) born: Nanos,
    pub(super) owner: Task,
    pub(super) ino: u64,
    pub(super) dev: u32,
    pub(super) bios_attached: u32,
    pub(super) bios_ended: u32,
    pub(super) puts: u32,
    pub(super) convert_ret: i16,
    /// The worker run that had it on its list; 0: none.
    pub(super) listed_run: u16,
    pub(super) claim: Option<Party>,
    pub(super) release: Option<Party>,
    pub(super) submitter_put_at: Since,
    pub(super) first_attach_at: Since,
    pub(super) last_bio_end_at: Since,
    /// The last put, or with [`mark::LISTED`] the list on which it was first seen.
    pub(super) final_at: Since,
    pub(super) claim_at: Since,
    pub(super) convert_end_at: Since,
    pub(super) release_at: Since,
    pub(super) ranges: u16,
    /// `ext4_end_bio` calls that the owner's task has open on this object.
    pub(super) owner_bio_ends: u8,
    pub(super) state: State,
    pub(super) gaps: Gaps,
    /// The function through which the submitter dropped its reference.
    pub(super) submitter_put: Option<Act>,
    /// The put that read a count of 1.
    pub(super) proven_last_put: Option<Act>,
    /// Bits of [`mark`].
    pub(super) marks: u16,
    pub(super) snapshots: Snapshots,
    pub(super) history: History,
}

/// Bits of `IoEnd::marks`.
pub(super) mod mark {
    /// Inode and device are known.
    pub(in super::super) const INODE: u16 = 1;
    /// Which of two functions dropped the last reference, or whether it defers, is unknown.
    pub(in super::super) const QUEUE_UNKNOWN: u16 = 1 << 1;
    /// FAILED was seen set.
    pub(in super::super) const FAILED: u16 = 1 << 2;
    /// A step departed from the protocol.
    pub(in super::super) const IRREGULAR: u16 = 1 << 3;
    /// The claim read a count of 0: that the object was final is proven.
    pub(in super::super) const CLAIMED_AT_ZERO: u16 = 1 << 4;
    /// A conversion was entered.
    pub(in super::super) const CONVERTS: u16 = 1 << 5;
    /// Nobody could see its bios end.
    pub(in super::super) const BIO_ENDS_UNSEEN: u16 = 1 << 6;
    /// Its last put was not seen; a list told that it had been.
    pub(in super::super) const LISTED: u16 = 1 << 7;
    /// A bio was seen chained to it: the writeback of its folios waits for the release.
    pub(in super::super) const PINNED: u16 = 1 << 8;
    /// The last put found references that the model does not know.
    pub(in super::super) const OTHERS_LEFT: u16 = 1 << 10;
    /// UNWRITTEN was seen set.
    pub(in super::super) const UNWRITTEN: u16 = 1 << 9;
}

impl IoEnd {
    pub(super) fn born(stamp: &Stamp, addr: IoEndAddr, inode: Option<InodeId>) -> Self {
        let mut object = Self::empty(stamp, addr, State::Born);
        if let Some(inode) = inode {
            object.identify(inode);
        }
        object.tell(stamp, Act::Birth, None);
        object
    }

    pub(super) fn adopted(stamp: &Stamp, addr: IoEndAddr) -> Self {
        let mut object = Self::empty(stamp, addr, State::Adopted);
        object.gaps.insert(Gap::BirthUnseen);
        object
    }

    fn empty(stamp: &Stamp, addr: IoEndAddr, state: State) -> Self {
        IoEnd {
            addr,
            born: stamp.at,
            owner: stamp.task,
            ino: 0,
            dev: 0,
            bios_attached: 0,
            bios_ended: 0,
            puts: 0,
            listed_run: 0,
            convert_ret: 0,
            claim: None,
            release: None,
            submitter_put_at: Since::NEVER,
            first_attach_at: Since::NEVER,
            last_bio_end_at: Since::NEVER,
            final_at: Since::NEVER,
            claim_at: Since::NEVER,
            convert_end_at: Since::NEVER,
            release_at: Since::NEVER,
            ranges: 0,
            owner_bio_ends: 0,
            state,
            gaps: Gaps::default(),
            submitter_put: None,
            proven_last_put: None,
            marks: 0,
            snapshots: Snapshots::default(),
            history: History::EMPTY,
        }
    }

    /// Its identity.
    pub fn id(&self) -> IoEndId {
        IoEndId { addr: self.addr, born: self.born }
    }

    /// Its inode, if its birth or its first bio told it.
    pub fn inode(&self) -> Option<InodeId> {
        let known = self.marks & mark::INODE != 0;
        known.then_some(InodeId { ino: Ino(self.ino), dev: DevId(self.dev) })
    }

    /// The task that made it; of an adopted object the task of its first sight.
    pub fn owner(&self) -> Task {
        self.owner
    }

    /// Where it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when: the time at which it entered its state, its birth where that is not kept.
    pub fn state_since(&self) -> Nanos {
        let since = match self.state {
            State::Adopted | State::Born | State::Ranged => Since::NEVER,
            State::Submitting => self.first_attach_at,
            State::InFlight => self.submitter_put_at,
            State::Final | State::Queued => self.final_at,
            State::Claimed => self.claim_at,
            State::Converted => self.convert_end_at,
            State::Released => self.release_at,
        };
        since.get(self.born).unwrap_or(self.born)
    }

    /// What is missing from its record.
    pub fn gaps(&self) -> Gaps {
        self.gaps
    }

    /// Bios attached, and those that ended or that the device was done with.
    pub fn bios(&self) -> (u32, u32) {
        (self.bios_attached, self.bios_ended)
    }

    /// Puts entered.
    pub fn puts(&self) -> u32 {
        self.puts
    }

    /// Ranges added.
    pub fn ranges(&self) -> u16 {
        self.ranges
    }

    /// References by the model; below 0 after more puts than references.
    pub fn references(&self) -> i64 {
        1 + i64::from(self.bios_attached) - i64::from(self.puts)
    }

    /// What the conversion returned, 0 before it did.
    pub fn convert_ret(&self) -> i32 {
        i32::from(self.convert_ret)
    }

    /// The first claim.
    pub fn claim(&self) -> Option<Party> {
        self.claim
    }

    /// The first release.
    pub fn release(&self) -> Option<Party> {
        self.release
    }

    /// The function through which the submitter dropped its reference.
    pub fn submitter_put(&self) -> Option<Act> {
        self.submitter_put
    }

    /// Did the claim find a count of 0?
    pub fn claimed_at_zero(&self) -> bool {
        self.marks & mark::CLAIMED_AT_ZERO != 0
    }

    /// When the submitter dropped its reference: all bios are attached by then.
    pub fn submitted_at(&self) -> Option<Nanos> {
        self.submitter_put_at.get(self.born)
    }

    /// Was a bio seen chained to it, so that writeback ends no earlier than its release?
    pub fn was_pinned(&self) -> bool {
        self.marks & mark::PINNED != 0
    }

    /// Was UNWRITTEN seen set?
    pub fn was_unwritten(&self) -> bool {
        self.marks & mark::UNWRITTEN != 0
    }

    /// Did the last put that the model knows find other references, and no put the last one?
    pub fn last_put_found_others(&self) -> bool {
        self.marks & mark::OTHERS_LEFT != 0 && self.proven_last_put.is_none()
    }

    /// The worker run that had it on its list when it began, if that is seen.
    pub(super) fn listed_run(&self) -> Option<u16> {
        (self.listed_run != 0).then_some(self.listed_run)
    }

    /// Was FAILED seen set?
    pub fn was_failed(&self) -> bool {
        self.marks & mark::FAILED != 0
    }

    /// The last steps, oldest first.
    pub fn history(&self) -> impl Iterator<Item = Told> + '_ {
        self.history.iter(self.born)
    }

    /// Steps before the oldest kept one.
    pub fn history_skipped(&self) -> u16 {
        self.history.skipped()
    }

    /// Was all seen that the attached probes can show of a life, and was it as the protocol has it?
    pub fn complete(&self) -> bool {
        self.gaps.is_empty()
            && self.marks & mark::IRREGULAR == 0
            && (self.bios_attached == self.bios_ended || self.marks & mark::BIO_ENDS_UNSEEN != 0)
    }

    /// The phases so far.
    pub fn phases(&self) -> Phases {
        let at = |since: Since| since.get(self.born);
        let between = |from: Option<Nanos>, to: Option<Nanos>| Some(to?.since(from?));
        let release = at(self.release_at);
        Phases {
            submit: between(Some(self.born), at(self.submitter_put_at)),
            device: between(at(self.first_attach_at), at(self.last_bio_end_at)),
            queue: between(
                at(self.final_at).filter(|_| self.marks & mark::LISTED == 0),
                at(self.claim_at),
            ),
            convert: between(at(self.claim_at), release),
            total: between(Some(self.born), release),
        }
    }

    /// When its phases began.
    pub fn times(&self) -> Times {
        let at = |since: Since| since.get(self.born);
        Times {
            first_attach: at(self.first_attach_at),
            last_put: at(self.final_at),
            claim: at(self.claim_at),
        }
    }

    /// Whose it is, where its birth could not tell; `false` if that is known.
    pub(super) fn identify(&mut self, inode: InodeId) -> bool {
        let fresh = self.marks & mark::INODE == 0;
        if fresh {
            (self.ino, self.dev) = (inode.ino.0, inode.dev.0);
            self.marks |= mark::INODE;
        }
        fresh
    }

    pub(super) fn note_gap(&mut self, gap: Gap) -> bool {
        let fresh = !self.gaps.contains(gap);
        self.gaps.insert(gap);
        fresh
    }

    pub(super) fn tell(&mut self, stamp: &Stamp, act: Act, image: Option<&IoEndImage>) {
        let told = Told {
            at: stamp.at,
            act,
            state: self.state,
            cpu: stamp.cpu,
            context: stamp.context,
            tid: stamp.task.tid,
            image: image.map(|image| ToldImage::new(image.flag, image.count)),
        };
        self.history.push(self.born, &told);
    }
}

#[cfg(test)]
mod tests {
    use super::IoEnd;

    #[test]
    fn an_object_takes_at_most_304_bytes() {
        let bytes = size_of::<IoEnd>();
        assert!(bytes <= 304, "{bytes} bytes");
    }
}
