//! io_ends of a kernel of 5.5 to 7.3: scripts of atomic operations, run in random order.
//!
//! ```text
//!   submitter  birth, (range, UNWRITTEN)?, (get, attach, submit)*, put
//!   bio        end, FAILED?, put_defer           in an interrupt on some CPU
//!   worker     begin, for each on the list: unlist, claim, convert, release; end
//! ```
//!
//! Operations that a later one depends on are added when it is known: who puts the last reference gets
//! the release, or the claim, or puts it on the list.

use std::collections::{BTreeSet, VecDeque};

use endiod_wire::wire::IoEndImage;

use super::addresses::Addresses;
use super::tape::{INODE, LifeId, Saw, Tape, Who};
use super::{Derived, Random, Release};

/// What the simulated kernel does wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slip {
    /// The worker claims it again.
    SecondClaim,
    /// It is released again.
    SecondRelease,
    /// A reference is put that nobody holds.
    SurplusPut,
    /// It is claimed while a reference is held.
    ClaimedWhileHeld,
    /// It is converted after its release.
    UsedAfterRelease,
}

impl Slip {
    /// All of them.
    pub const ALL: [Slip; 5] = [
        Slip::SecondClaim,
        Slip::SecondRelease,
        Slip::SurplusPut,
        Slip::ClaimedWhileHeld,
        Slip::UsedAfterRelease,
    ];

    /// Its name.
    pub fn label(self) -> &'static str {
        match self {
            Slip::SecondClaim => "second_claim",
            Slip::SecondRelease => "second_release",
            Slip::SurplusPut => "surplus_put",
            Slip::ClaimedWhileHeld => "claimed_while_held",
            Slip::UsedAfterRelease => "used_after_release",
        }
    }
}

const UNWRITTEN: u32 = 1;
const FAILED: u32 = 2;
const SUBMITTERS: u32 = 3;
const WORKER: Who = Who { cpu: 0, tid: 50, irq: false };
/// Where the list's head is.
const LIST: u64 = 0xffff_8880_0000_7400;

struct Object {
    addr: u64,
    count: u32,
    flag: u32,
    listed: bool,
    ranged: bool,
}

#[derive(Clone, Copy)]
enum Op {
    Birth(usize),
    Range(usize),
    SetUnwritten(usize),
    Attach(usize),
    Place(Saw, usize),
    Read(usize, usize),
    SetFailed(usize),
    Drop(usize, bool),
    ClearUnwritten(usize),
    Free(usize),
    Unlist(usize),
    Worker(bool),
}

struct Actor {
    who: Who,
    ops: VecDeque<Op>,
}

struct Kernel<'a> {
    slip: Option<Slip>,
    derived: &'a Derived,
    random: &'a mut Random,
    tape: &'a mut Tape,
    objects: Vec<Object>,
    actors: Vec<Actor>,
    free: Addresses,
    list: Vec<usize>,
    breached: BTreeSet<LifeId>,
}

/// Runs `lives` io_ends; those of which the slip happened.
pub(super) fn run(
    slip: Option<Slip>,
    lives: u32,
    derived: &Derived,
    random: &mut Random,
    tape: &mut Tape,
) -> BTreeSet<LifeId> {
    let free = Addresses::new(0xffff_8880_1000_0000, derived);
    let (objects, actors, list) = (Vec::new(), Vec::new(), Vec::new());
    let breached = BTreeSet::new();
    let mut kernel = Kernel { slip, derived, random, tape, objects, actors, free, list, breached };
    kernel.actors.push(Actor { who: WORKER, ops: VecDeque::new() });
    for tid in 0..SUBMITTERS {
        let who = Who { cpu: (tid % u32::from(derived.cpus)) as u16, tid: 10 + tid, irq: false };
        kernel.actors.push(Actor { who, ops: VecDeque::new() });
    }
    let mut left = lives;
    loop {
        if kernel.actors[0].ops.is_empty() && !kernel.list.is_empty() {
            kernel.wake_worker();
        }
        let idle = (1..=SUBMITTERS as usize).find(|at| kernel.actors[*at].ops.is_empty());
        if let Some(at) = idle.filter(|_| left > 0 && kernel.free.are_free()) {
            left -= 1;
            kernel.submitter(at);
        }
        let ready = (0..kernel.actors.len()).filter(|at| !kernel.actors[*at].ops.is_empty());
        let ready: Vec<usize> = ready.collect();
        if ready.is_empty() {
            return kernel.breached;
        }
        let at = ready[kernel.random.below(ready.len() as u64) as usize];
        let op = kernel.actors[at].ops.pop_front().expect("it is ready");
        kernel.tape.pass();
        kernel.step(at, op);
        kernel.actors.retain(|actor| !actor.who.irq || !actor.ops.is_empty());
    }
}

impl Kernel<'_> {
    fn is(&self, release: Release) -> bool {
        self.derived.release == release
    }

    fn submitter(&mut self, at: usize) {
        let it = self.objects.len();
        let addr = self.free.take();
        self.objects.push(Object { addr, count: 1, flag: 0, listed: false, ranged: false });
        let unwritten = self.random.one_in(2);
        let ops = &mut self.actors[at].ops;
        ops.push_back(Op::Birth(it));
        let bios = self.random.below(4);
        // A bio that fails before the range is mapped races with it: then the range comes first.
        let early = if self.derived.failing == 0 { self.random.below(bios + 1) } else { 0 };
        for bio in 0..=bios {
            if unwritten && bio == early {
                ops.extend([Op::Range(it), Op::SetUnwritten(it)]);
            }
            ops.extend((bio < bios).then_some(Op::Attach(it)));
        }
        // 6.12.y converts what failed when its submitter's put is the last: a breach of its own.
        let defers = self.random.one_in(2)
            || (self.derived.release == Release::V6_12 && self.derived.failing > 0);
        let saw = if defers { Saw::PutDefer } else { Saw::Put };
        ops.extend([Op::Place(saw, it), Op::Drop(it, defers)]);
    }

    fn bio(&mut self, it: usize) {
        let fails = self.random.per_mille(self.derived.failing);
        let status = if fails { 10 } else { 0 };
        let cpu = self.random.below(u64::from(self.derived.cpus)) as u16;
        let mut ops = VecDeque::from([Op::Place(Saw::BioEnd { status }, it)]);
        if fails && !self.is(Release::V5_10) {
            ops.push_back(Op::SetFailed(it));
        }
        ops.extend([Op::Place(Saw::PutDefer, it), Op::Drop(it, true)]);
        // Interrupts of one CPU do not interrupt each other: the later one waits.
        let same = |actor: &&mut Actor| actor.who.irq && actor.who.cpu == cpu;
        match self.actors.iter_mut().find(same) {
            Some(actor) => actor.ops.extend(ops),
            None => self.actors.push(Actor { who: Who { cpu, tid: 99, irq: true }, ops }),
        }
    }

    fn wake_worker(&mut self) {
        let mut ops = VecDeque::from([Op::Worker(true)]);
        for it in std::mem::take(&mut self.list) {
            ops.push_back(Op::Unlist(it));
            ops.extend(self.conversion(it, true));
        }
        ops.push_back(Op::Worker(false));
        self.actors[0].ops = ops;
    }

    fn conversion(&mut self, it: usize, by_worker: bool) -> Vec<Op> {
        let failed = self.objects[it].flag & FAILED != 0;
        let converts = match self.derived.release {
            Release::V6_12 => !(failed && by_worker),
            Release::V6_18 => !failed,
            Release::V3_2 | Release::V5_10 => true,
        };
        let mut ops = Vec::new();
        if self.is(Release::V6_18) {
            ops.push(Op::Place(Saw::Claim, it));
        }
        if converts {
            ops.extend([Op::Place(Saw::ConvertBegin, it), Op::Place(Saw::ConvertEnd, it)]);
        }
        ops.push(Op::ClearUnwritten(it));
        ops.extend([Op::Place(Saw::Release, it), Op::Free(it)]);
        if converts && by_worker {
            self.slip(it, &mut ops);
        }
        ops
    }

    /// Now and then the kernel does something wrong with an io_end that the worker processes.
    fn slip(&mut self, it: usize, ops: &mut Vec<Op>) {
        let Some(slip) = self.slip.filter(|_| self.random.one_in(8)) else { return };
        self.breached.insert(self.tape.life(self.objects[it].addr));
        match slip {
            Slip::SecondClaim => {
                let saw = if self.is(Release::V6_18) { Saw::Claim } else { Saw::ConvertBegin };
                ops.insert(ops.len() - 4, Op::Place(saw, it));
            }
            Slip::SecondRelease => ops.insert(ops.len() - 1, Op::Place(Saw::Release, it)),
            Slip::SurplusPut => ops.insert(0, Op::Place(Saw::PutDefer, it)),
            Slip::ClaimedWhileHeld => self.objects[it].count += 1,
            Slip::UsedAfterRelease => ops.insert(ops.len() - 1, Op::Place(Saw::ConvertBegin, it)),
        }
    }

    fn step(&mut self, at: usize, op: Op) {
        match op {
            Op::Birth(it) => self.place(at, Saw::Birth, it),
            Op::Range(it) => {
                self.objects[it].ranged = true;
                self.place(at, Saw::Range, it);
            }
            Op::SetUnwritten(it) => self.objects[it].flag |= UNWRITTEN,
            Op::Attach(it) => {
                self.objects[it].count += 1;
                self.place(at, Saw::Attach, it);
                self.bio(it);
            }
            Op::Place(saw, it) => self.place(at, saw, it),
            Op::Read(record, it) => {
                let image = self.image(it);
                self.tape.read(record, &image);
            }
            Op::SetFailed(it) => self.objects[it].flag |= FAILED,
            Op::Drop(it, defers) => self.put(at, it, defers),
            Op::ClearUnwritten(it) => self.objects[it].flag &= !UNWRITTEN,
            Op::Free(it) => self.free.give_back(self.objects[it].addr, self.random),
            Op::Unlist(it) => self.objects[it].listed = false,
            Op::Worker(begins) => self.tape.worker(self.actors[at].who, begins),
        }
    }

    fn place(&mut self, at: usize, saw: Saw, it: usize) {
        let who = self.actors[at].who;
        let record = self.tape.place(who, saw, self.objects[it].addr);
        let imaged = !matches!(saw, Saw::Birth | Saw::Range | Saw::Attach | Saw::ConvertEnd);
        if imaged {
            self.actors[at].ops.push_front(Op::Read(record, it));
        }
    }

    fn put(&mut self, at: usize, it: usize, defers: bool) {
        let may_abort = self.is(Release::V6_18) && self.derived.data_err_abort;
        let object = &mut self.objects[it];
        object.count -= 1;
        if object.count > 0 {
            return;
        }
        let unwritten = object.flag & UNWRITTEN != 0;
        let failed = object.flag & FAILED != 0;
        let ops = if !(unwritten || failed && may_abort) {
            vec![Op::Place(Saw::Release, it), Op::Free(it)]
        } else if defers {
            object.listed = true;
            self.list.push(it);
            return;
        } else {
            self.conversion(it, false)
        };
        ops.into_iter().rev().for_each(|op| self.actors[at].ops.push_front(op));
    }

    fn image(&self, it: usize) -> IoEndImage {
        let Object { addr, count, flag, listed, ranged } = self.objects[it];
        let list = if listed { LIST } else { addr };
        let vec = if ranged { addr + 0x1000 } else { addr + 48 };
        IoEndImage {
            list_next: list,
            list_prev: list,
            handle: 0,
            inode: INODE,
            bio: 0,
            flag,
            count,
            vec_next: vec,
            vec_prev: vec,
        }
    }
}
