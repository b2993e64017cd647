//! io_ends of the core of 2012 on the wire of today: listed is the last put_defer, a claim is
//! `ext4_end_io_end`, freed is the release.
//!
//! ```text
//!   submitter  birth, range, attach, put
//!   interrupt  end, put_defer, list_add, queue_work
//!   flushers   fsync: lock the mutex, (del, claim, convert, done)* until the list is empty, unlock
//!   worker     one work after the other, in order; requeues what it cannot do, and sets QUEUED
//! ```
//!
//! An operation is a critical section, a load or a store. A breach is a release that begins before the
//! flusher's conversion has returned, or a requeue outside of the lock; the address is given out again only when the flusher is through.

use std::collections::{BTreeSet, VecDeque};

use endiod_wire::wire::IoEndImage;

use super::addresses::Addresses;
use super::tape::{Call, INODE, LifeId, Saw, Tape, Who};
use super::{Derived, Random};

/// Which halves of the fix are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// The flusher marks what it works on.
    pub in_fsync: bool,
    /// QUEUED is set inside of the lock.
    pub queued_in_lock: bool,
}

impl Half {
    /// Both.
    pub const FIXED: Half = Half { in_fsync: true, queued_in_lock: true };
    /// Neither.
    pub const UNFIXED: Half = Half { in_fsync: false, queued_in_lock: false };
}

// `EXT4_IO_END_*` of 3.2 to 3.6, fs/ext4/ext4.h; UNWRITTEN alone is the same bit today.
const UNWRITTEN: u32 = 1;
const QUEUED: u32 = 4;
const IN_FSYNC: u32 = 16;
const FLUSHERS: usize = 2;
/// After so many steps per io_end a world hangs.
const STEPS_PER_LIFE: u64 = 400;

#[derive(Clone, Copy)]
struct Object {
    addr: u64,
    flag: u32,
    count: u32,
    listed: bool,
    freed: bool,
    /// A flusher has not given it up yet.
    flushed: bool,
    /// A flusher's conversion has not returned.
    converting: bool,
}

/// What an actor does next; the `usize` is the object.
#[derive(Clone, Copy)]
enum Op {
    Place(Saw, usize),
    Read(usize, usize),
    PutReference(usize),
    List(usize),
    QueueWork(usize),
    Mutex,
    /// Take the first of the list, or leave.
    Take,
    Flushed(usize),
    Unlock,
    /// The worker looks at its io_end under the lock.
    Look(usize),
    LoadFlag(usize),
    StoreFlag(usize, u32),
    Clear(usize),
    Free(usize),
    WorkerEnd,
}

struct Host<'a> {
    half: Half,
    derived: &'a Derived,
    random: &'a mut Random,
    tape: &'a mut Tape,
    objects: Vec<Object>,
    /// Flushers, the worker, the submitter, then interrupts.
    actors: Vec<(Who, VecDeque<Op>)>,
    list: VecDeque<usize>,
    works: VecDeque<usize>,
    mutex: Option<usize>,
    free: Addresses,
    breached: BTreeSet<LifeId>,
}

const WORKER: usize = FLUSHERS;
const SUBMITTER: usize = FLUSHERS + 1;

/// Runs `lives` io_ends; those that were freed in use, or put back outside of the lock.
pub(super) fn run(
    half: Half,
    lives: u32,
    derived: &Derived,
    random: &mut Random,
    tape: &mut Tape,
) -> BTreeSet<LifeId> {
    let task = |cpu, tid| (Who { cpu: cpu % derived.cpus, tid, irq: false }, VecDeque::new());
    let mut host = Host {
        half,
        derived,
        random,
        tape,
        objects: Vec::new(),
        actors: vec![task(0, 20), task(1, 21), task(2, 50), task(3, 10)],
        list: VecDeque::new(),
        works: VecDeque::new(),
        mutex: None,
        free: Addresses::new(0xffff_8880_2000_0000, derived),
        breached: BTreeSet::new(),
    };
    let mut left = lives;
    for _ in 0..STEPS_PER_LIFE * u64::from(lives) {
        if host.actors[SUBMITTER].1.is_empty() && left > 0 && host.free.are_free() {
            left -= 1;
            host.submit();
        }
        host.refill(left);
        let ready = (0..host.actors.len()).filter(|at| host.is_ready(*at));
        let ready: Vec<usize> = ready.collect();
        if ready.is_empty() {
            break;
        }
        let at = ready[host.random.below(ready.len() as u64) as usize];
        let op = host.actors[at].1.pop_front().expect("it is ready");
        host.tape.pass();
        host.step(at, op);
        host.actors.retain(|(who, ops)| !who.irq || !ops.is_empty());
    }
    host.breached
}

impl Host<'_> {
    fn submit(&mut self) {
        let it = self.objects.len();
        let addr = self.free.take();
        let flag = UNWRITTEN;
        let (listed, freed, flushed, converting) = (false, false, false, false);
        let object = Object { addr, flag, count: 1, listed, freed, flushed, converting };
        self.objects.push(object);
        let saw = [Saw::Birth, Saw::Range, Saw::Attach, Saw::Put];
        self.actors[SUBMITTER].1.extend(saw.map(|saw| Op::Place(saw, it)));
        self.actors[SUBMITTER].1.push_back(Op::PutReference(it));
    }

    /// The worker begins its next work; flushers flush as long as anything may come.
    fn refill(&mut self, left: u32) {
        let idle = self.actors[WORKER].1.is_empty();
        if let Some(it) = self.works.pop_front_if(|_| idle) {
            self.tape.worker(self.actors[WORKER].0, true);
            self.actors[WORKER].1.push_back(Op::Look(it));
        }
        let alive = left > 0 || self.objects.iter().any(|object| !object.freed);
        for at in 0..FLUSHERS {
            if self.actors[at].1.is_empty() && alive && self.random.one_in(8) {
                self.actors[at].1.push_back(Op::Mutex);
            }
        }
    }

    fn is_ready(&self, at: usize) -> bool {
        match self.actors[at].1.front() {
            None => false,
            Some(Op::Mutex) => self.mutex.is_none(),
            Some(_) => true,
        }
    }

    fn step(&mut self, at: usize, op: Op) {
        match op {
            Op::Place(saw, it) => self.place(at, saw, it),
            Op::Read(record, it) => {
                let image = self.image(it);
                self.tape.read(record, &image);
            }
            Op::PutReference(it) => {
                self.objects[it].count -= 1;
                // Of old there is no reference: the write completes when all was submitted.
                if at == SUBMITTER {
                    self.interrupt(it);
                }
            }
            Op::List(it) => {
                self.objects[it].listed = true;
                self.list.push_back(it);
            }
            Op::QueueWork(it) => self.works.push_back(it),
            Op::Mutex => {
                self.mutex = Some(at);
                self.tape.fsync(self.actors[at].0, Call::Begin { end: i64::MAX });
                self.actors[at].1.push_back(Op::Take);
            }
            Op::Take => self.take(at),
            Op::Flushed(it) => {
                let object = &mut self.objects[it];
                object.flushed = false;
                object.flag &= !IN_FSYNC;
                if object.freed {
                    self.free.give_back(object.addr, self.random);
                }
                self.actors[at].1.push_back(Op::Take);
            }
            Op::Unlock => self.unlock(at),
            Op::Look(it) => self.look(it),
            Op::LoadFlag(it) => {
                let loaded = self.objects[it].flag;
                self.actors[at].1.push_front(Op::StoreFlag(it, loaded | QUEUED));
            }
            Op::StoreFlag(it, flag) => self.objects[it].flag = flag,
            Op::Clear(it) => self.objects[it].flag &= !UNWRITTEN,
            Op::Free(it) => {
                let object = &mut self.objects[it];
                object.freed = true;
                if !object.flushed {
                    self.free.give_back(object.addr, self.random);
                }
            }
            Op::WorkerEnd => self.tape.worker(self.actors[at].0, false),
        }
    }

    /// The worker's lock is its own; a flusher's is that of its fsync.
    fn unlock(&mut self, at: usize) {
        self.mutex = None;
        if at < FLUSHERS {
            self.tape.fsync(self.actors[at].0, Call::Return);
        }
    }

    /// lock; the first of the list is the flusher's; unlock.
    fn take(&mut self, at: usize) {
        let Some(it) = self.list.pop_front() else {
            return self.actors[at].1.push_back(Op::Unlock);
        };
        let object = &mut self.objects[it];
        object.listed = false;
        (object.flushed, object.converting) = (true, true);
        if self.half.in_fsync {
            object.flag |= IN_FSYNC;
        }
        let saw = [Saw::Claim, Saw::ConvertBegin, Saw::ConvertEnd { ret: 0 }];
        self.actors[at].1.extend(saw.map(|saw| Op::Place(saw, it)));
        self.actors[at].1.push_back(Op::Flushed(it));
    }

    /// lock; IN_FSYNC, then the list, then the mutex; unlock.
    fn look(&mut self, it: usize) {
        let object = &mut self.objects[it];
        let busy = self.half.in_fsync && object.flag & IN_FSYNC != 0;
        let ops = &mut self.actors[WORKER].1;
        if !busy && !object.listed {
            ops.extend([Op::Place(Saw::Release, it), Op::Free(it), Op::WorkerEnd]);
        } else if busy || self.mutex.is_some() {
            if self.half.queued_in_lock {
                ops.extend([Op::QueueWork(it), Op::WorkerEnd]);
                self.requeue_locked(it);
            } else {
                // Between two steps the lock is nobody's.
                ops.push_back(Op::Place(Saw::Requeue { lock: 0 }, it));
                ops.extend([Op::QueueWork(it), Op::LoadFlag(it), Op::WorkerEnd]);
            }
        } else {
            object.listed = false;
            self.list.retain(|listed| *listed != it);
            self.mutex = Some(WORKER);
            let saw = [Saw::Claim, Saw::ConvertBegin, Saw::ConvertEnd { ret: 0 }];
            ops.extend(saw.map(|saw| Op::Place(saw, it)));
            ops.extend([Op::Clear(it), Op::Unlock]);
            ops.extend([Op::Place(Saw::Release, it), Op::Free(it), Op::WorkerEnd]);
        }
    }

    /// Still under the lock of the look: the record, and then the store.
    fn requeue_locked(&mut self, it: usize) {
        let (who, addr) = (self.actors[WORKER].0, self.objects[it].addr);
        let record = self.tape.place(who, Saw::Requeue { lock: 1 }, addr);
        let image = self.image(it);
        self.tape.read(record, &image);
        self.objects[it].flag |= QUEUED;
    }

    fn place(&mut self, at: usize, saw: Saw, it: usize) {
        let who = self.actors[at].0;
        let record = self.tape.place(who, saw, self.objects[it].addr);
        match saw {
            Saw::Birth | Saw::Range => return,
            Saw::Attach => return self.objects[it].count += 1,
            Saw::ConvertEnd { .. } => return self.objects[it].converting = false,
            Saw::Requeue { lock: 0 } => {
                self.breached.insert(self.tape.life(self.objects[it].addr));
            }
            Saw::Release if self.objects[it].converting => {
                self.breached.insert(self.tape.life(self.objects[it].addr));
            }
            _ => {}
        }
        self.actors[at].1.push_front(Op::Read(record, it));
    }

    fn interrupt(&mut self, it: usize) {
        // What failed is converted all the same: ERROR was set, and nothing read it.
        let status = if self.random.per_mille(self.derived.failing) { 10 } else { 0 };
        let ops = [
            Op::Place(Saw::BioEnd { status }, it),
            Op::Place(Saw::PutDefer, it),
            Op::PutReference(it),
            Op::List(it),
            Op::QueueWork(it),
        ];
        let cpu = self.random.below(u64::from(self.derived.cpus)) as u16;
        match self.actors.iter_mut().find(|(who, _)| who.irq && who.cpu == cpu) {
            Some((_, queue)) => queue.extend(ops),
            None => self.actors.push((Who { cpu, tid: 99, irq: true }, ops.into())),
        }
    }

    fn image(&self, it: usize) -> IoEndImage {
        let Object { addr, flag, count, listed, .. } = self.objects[it];
        let list = if listed { INODE + 0x400 } else { addr };
        IoEndImage {
            list_next: list,
            list_prev: list,
            handle: 0,
            inode: INODE,
            bio: 0,
            flag,
            count,
            vec_next: addr + 0x1000,
            vec_prev: addr + 0x1000,
        }
    }
}
