//! io_ends of a kernel of 5.5 to 7.3: scripts of atomic operations, run in random order.
//!
//! ```text
//!   submitter  birth, (range, UNWRITTEN)?, (get, attach, submit)*, put
//!   bio        end, FAILED?, put_defer           in an interrupt on some CPU
//!   worker     begin, for each on the list: unlist, claim, convert, release; end
//! ```
//!
//! A slip is a step of its own or a change of one, by io_ends that were picked for it; the others go on.
//! Operations that a later one depends on are added when it is known: who puts the last reference gets
//! the release, or the claim, or puts it on the list.

mod crimes;

use std::collections::{BTreeSet, VecDeque};

use endiod_wire::wire::IoEndImage;

use super::addresses::Addresses;
use super::tape::{Call, INODE, LifeId, Saw, Tape, Who};
use super::{Derived, Random, Release, Slip};

const UNWRITTEN: u32 = 1;
const FAILED: u32 = 2;
/// What a conversion returns that failed.
const EIO: i64 = -5;
const SUBMITTERS: u32 = 3;
const WORKER: Who = Who { cpu: 0, tid: 50, irq: false };
/// Where the list's head is.
const LIST: u64 = 0xffff_8880_0000_7400;

#[derive(Default)]
struct Object {
    addr: u64,
    count: u32,
    flag: u32,
    listed: bool,
    ranged: bool,
    handle: u64,
    /// The bio that is chained to it.
    bio: u64,
    attached: u32,
    ended: u32,
    released: bool,
    /// A bio of it failed.
    bio_failed: bool,
    /// What its conversion returned.
    converted: i64,
    /// What is to happen to it.
    slip: Option<Slip>,
    /// Its last bio was not chained.
    unchained: bool,
    life: Option<LifeId>,
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
    /// What is wrong with it happens here, if it can.
    Slip(usize),
    Fsync(Call),
    /// The fsync returns once that io_end is released.
    FsyncReturns(usize),
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
    ended: u32,
    /// The same at the last TICK.
    ended_by_tick: u32,
    worker_ran: bool,
    /// An image has shown a chained bio.
    chain_shown: bool,
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
    let (ended, ended_by_tick, worker_ran, chain_shown) = (0, 0, false, false);
    let mut kernel = Kernel {
        slip,
        derived,
        random,
        tape,
        objects,
        actors,
        free,
        list,
        breached,
        ended,
        ended_by_tick,
        worker_ran,
        chain_shown,
    };
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
        if kernel.tape.pass() {
            kernel.ended_by_tick = kernel.ended;
        }
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
        let slip = self.slip.filter(|slip| !slip.is_of_worker() && self.random.one_in(3));
        self.objects.push(Object { addr, count: 1, slip, ..Object::default() });
        let unwritten = self.random.one_in(2);
        let synced = slip.is_some_and(Slip::is_of_fsync);
        let ops = &mut self.actors[at].ops;
        // A part of the file: of all that are born in the call, this one alone has to be waited for.
        ops.extend(synced.then_some(Op::Fsync(Call::Begin { end: 4095 })));
        ops.push_back(Op::Birth(it));
        let bios = self.random.below(4);
        // A bio that fails before the range is mapped races with it: then the range comes first. The
        // last bio is one of the range, and pins the inode.
        let early = if self.derived.failing == 0 { self.random.below(bios.max(1)) } else { 0 };
        for bio in 0..=bios {
            if unwritten && bio == early {
                ops.extend([Op::Range(it), Op::SetUnwritten(it)]);
            }
            ops.extend((bio < bios).then_some(Op::Attach(it)));
        }
        // 6.12.y converts what failed when its submitter's put is the last: a breach of its own.
        let defers = self.random.one_in(2)
            || (self.derived.release == Release::V6_12 && self.derived.failing > 0);
        // Without a bio nothing pins the inode: it is not left to the worker.
        let defers = defers && (bios > 0 || !unwritten);
        let saw = if defers { Saw::PutDefer } else { Saw::Put };
        ops.extend([Op::Place(saw, it), Op::Drop(it, defers)]);
        if synced {
            ops.extend([Op::Fsync(Call::DataWait), Op::FsyncReturns(it)]);
        }
    }

    fn bio(&mut self, it: usize) {
        let fails = self.random.per_mille(self.derived.failing);
        let status = if fails { 10 } else { 0 };
        let cpu = self.random.below(u64::from(self.derived.cpus)) as u16;
        let mut ops = VecDeque::from([Op::Place(Saw::BioEnd { status }, it)]);
        if fails && !self.is(Release::V5_10) {
            ops.push_back(Op::SetFailed(it));
        }
        self.objects[it].bio_failed |= fails;
        ops.extend(self.objects[it].slip.map(|_| Op::Slip(it)));
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
            if !self.forgets(it) {
                ops.extend(self.conversion(it, true));
            }
        }
        ops.push_back(Op::Worker(false));
        self.actors[0].ops = ops;
    }

    fn conversion(&mut self, it: usize, by_worker: bool) -> Vec<Op> {
        let failed = self.objects[it].flag & FAILED != 0;
        let converts = match self.derived.release {
            Release::V6_12 => !(failed && by_worker),
            Release::V6_16 | Release::V6_18 => !failed,
            Release::V3_2 | Release::V5_10 => true,
        };
        let mut ops = Vec::new();
        if self.derived.release.claims() {
            ops.push(Op::Place(Saw::Claim, it));
        }
        if converts {
            let fails = self.objects[it].slip == Some(Slip::ErrorHidden) && !failed;
            let ret = if fails { EIO } else { 0 };
            ops.extend([Saw::ConvertBegin, Saw::ConvertEnd { ret }].map(|saw| Op::Place(saw, it)));
        }
        ops.push(Op::ClearUnwritten(it));
        ops.extend([Op::Place(Saw::Release, it), Op::Free(it)]);
        if converts && by_worker {
            self.spoil(it, &mut ops);
        }
        ops
    }

    fn step(&mut self, at: usize, op: Op) {
        match op {
            Op::Birth(it) => {
                self.place(at, Saw::Birth, it);
                self.objects[it].life = Some(self.tape.life(self.objects[it].addr));
            }
            Op::Range(it) => {
                self.objects[it].ranged = true;
                self.place(at, Saw::Range, it);
            }
            Op::SetUnwritten(it) => self.objects[it].flag |= UNWRITTEN,
            Op::Attach(it) => {
                self.objects[it].count += 1;
                self.objects[it].attached += 1;
                self.place(at, Saw::Attach, it);
                self.bio(it);
            }
            Op::Place(Saw::BioEnd { .. }, it) if self.swallows(it) => {}
            Op::Place(saw, it) => self.place(at, saw, it),
            Op::Read(record, it) => {
                let image = self.image(it);
                self.chain_shown |= image.bio != 0;
                self.tape.read(record, &image);
            }
            Op::SetFailed(it) => self.objects[it].flag |= FAILED,
            Op::Drop(it, defers) => self.put(at, it, defers),
            Op::ClearUnwritten(it) => self.objects[it].flag &= !UNWRITTEN,
            Op::Free(it) => self.free.give_back(self.objects[it].addr, self.random),
            Op::Unlist(it) => self.objects[it].listed = false,
            Op::Worker(begins) => {
                self.worker_ran = true;
                self.tape.worker(self.actors[at].who, begins);
            }
            Op::Slip(it) => self.slips(it),
            Op::Fsync(call) => self.tape.fsync(self.actors[at].who, call),
            Op::FsyncReturns(it) => self.fsync_returns(at, it),
        }
    }

    fn place(&mut self, at: usize, saw: Saw, it: usize) {
        let who = self.actors[at].who;
        let chains = who.irq && saw == Saw::PutDefer && self.is_to_do(it);
        let object = &mut self.objects[it];
        match saw {
            Saw::BioEnd { .. } => {
                object.ended += 1;
                self.ended += 1;
            }
            Saw::ConvertEnd { ret } => object.converted = ret,
            Saw::Release => object.released = true,
            // Of the bio that ends, before it puts.
            Saw::PutDefer if chains && !object.unchained => object.bio = object.addr + 2,
            _ => {}
        }
        let record = self.tape.place(who, saw, object.addr);
        let imaged = !matches!(saw, Saw::Birth | Saw::Range | Saw::Attach | Saw::ConvertEnd { .. });
        if imaged {
            self.actors[at].ops.push_front(Op::Read(record, it));
        }
    }

    /// Is there something to do before its release?
    fn is_to_do(&self, it: usize) -> bool {
        let may_abort = self.derived.release.claims() && self.derived.data_err_abort;
        let flag = self.objects[it].flag;
        flag & UNWRITTEN != 0 || flag & FAILED != 0 && may_abort
    }

    fn put(&mut self, at: usize, it: usize, defers: bool) {
        // 6.15 to 6.15.9 and 6.16.0: ext4_put_io_end_defer lists what failed, chained or not.
        let lists = self.is(Release::V6_16) && defers && self.objects[it].flag & FAILED != 0;
        let to_do = self.is_to_do(it) || lists;
        let irq = self.actors[at].who.irq && self.worker_ran;
        let object = &mut self.objects[it];
        object.count -= 1;
        if object.count > 0 {
            return;
        }
        let irq = irq && object.slip == Some(Slip::ConvertedInIrq) && object.flag == UNWRITTEN;
        let ops = if !to_do {
            vec![Op::Place(Saw::Release, it), Op::Free(it)]
        } else if irq {
            self.breach(it);
            self.conversion(it, false)
        } else if defers {
            object.listed = true;
            self.list.push(it);
            // Nothing pins its inode.
            if object.bio == 0 {
                self.breach(it);
            }
            return;
        } else {
            self.conversion(it, false)
        };
        ops.into_iter().rev().for_each(|op| self.actors[at].ops.push_front(op));
    }

    fn image(&self, it: usize) -> IoEndImage {
        let Object { addr, count, flag, listed, ranged, handle, bio, .. } = self.objects[it];
        let list = if listed { LIST } else { addr };
        let vec = if ranged { addr + 0x1000 } else { addr + 48 };
        IoEndImage {
            list_next: list,
            list_prev: list,
            handle,
            inode: INODE,
            bio,
            flag,
            count,
            vec_next: vec,
            vec_prev: vec,
        }
    }
}
