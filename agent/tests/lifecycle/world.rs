//! Small worlds: io_ends of a kernel that keeps the protocol, as a stream of events.
//!
//! Submitters, bios and one conversion worker are scripts of atomic operations; a seeded scheduler
//! picks whose operation is next. A probe takes two operations, its place in the stream and then the
//! bytes that it reads, so places and reads of two CPUs interleave as on a host. The count is kept by
//! the operations themselves, not by any model of the core under test.

use std::collections::VecDeque;

use endiod::event::{
    BioAddr, Body, Context, Cpu, DevId, Event, Ino, InodeAddr, InodeId, IoEndAddr, IoEndImage,
    Nanos, Seen, Stamp, Task,
};
use endiod::lifecycle::{Act, FLAG_FAILED, FLAG_UNWRITTEN};

/// splitmix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Which protocol the world's kernel speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// No FAILED; the conversion is the claim.
    V6_1,
    /// FAILED alone was backported: the worker then releases without a conversion.
    V6_12,
    /// `ext4_end_io_end` is the claim; FAILED with data_err=abort defers.
    V6_18,
}

/// The kernel's object.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    pub(crate) addr: u64,
    pub(crate) count: u32,
    pub(crate) flag: u32,
    ranged: bool,
    listed: bool,
    pub(crate) alive: bool,
}

/// One atomic operation; the `usize` is the object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Birth(usize),
    Range(usize),
    SetUnwritten(usize),
    Get(usize),
    Attach(usize),
    /// The bio's own script starts to run.
    Submit(usize),
    /// A probe takes its place in the stream …
    Place(Act, usize),
    /// … and reads the bytes.
    Read,
    SetFailed(usize),
    /// Decrements, and ends the object if that was the last reference.
    Drop(Act, usize),
    ClearUnwritten(usize),
    Free(usize),
    WorkerBegin,
    Unlist(usize),
    WorkerEnd,
}

/// A task, or an interrupt.
pub(crate) struct Actor {
    pub(crate) ops: VecDeque<Op>,
    pub(crate) task: u32,
    pub(crate) context: Context,
    /// The submitter that an interrupt interrupts: it does not run until the interrupt is over.
    interrupts: Option<usize>,
    started: bool,
    /// The event whose bytes are not read yet.
    unread: Option<usize>,
}

/// A world and what its probes emitted.
pub(crate) struct World {
    pub(crate) events: Vec<Event>,
    pub(crate) objects: Vec<Object>,
    pub(crate) actors: Vec<Actor>,
    pub(crate) random: Random,
    kernel: Kernel,
    /// Bios may fail.
    failing: bool,
    data_err_abort: bool,
    unknown_contexts: bool,
    pub(crate) free: Vec<u64>,
    queue: Vec<usize>,
    now: u64,
}

pub(crate) const WORKER: usize = 0;
const WORKER_TASK: u32 = 50;

impl World {
    /// `submitters` tasks with one to three io_ends each.
    pub(crate) fn new(seed: u64, kernel: Kernel, submitters: u32) -> Self {
        let mut random = Random(seed);
        let mut world = World {
            events: Vec::new(),
            objects: Vec::new(),
            actors: Vec::new(),
            kernel,
            failing: kernel != Kernel::V6_1 && random.one_in(2),
            data_err_abort: random.one_in(2),
            unknown_contexts: random.one_in(4),
            free: (1..=64).map(|n| 0x1000 * n).collect(),
            queue: Vec::new(),
            now: 100,
            random,
        };
        world.spawn(VecDeque::new(), WORKER_TASK, Context::Task, None);
        for n in 0..submitters {
            let mut ops = VecDeque::new();
            for _ in 0..=world.random.below(3) {
                world.submitter(&mut ops);
            }
            world.spawn(ops, 10 + n, Context::Task, None);
        }
        world
    }

    /// Runs one operation of one actor; `false` when there is none left.
    pub(crate) fn step(&mut self) -> bool {
        if self.actors[WORKER].ops.is_empty() && !self.queue.is_empty() {
            self.wake_worker();
        }
        let runnable: Vec<usize> =
            (0..self.actors.len()).filter(|at| self.is_runnable(*at)).collect();
        if runnable.is_empty() {
            return false;
        }
        let at = runnable[self.random.below(runnable.len())];
        self.now += 1;
        self.actors[at].started = true;
        let op = self.actors[at].ops.pop_front().expect("it is runnable");
        self.run(at, op);
        true
    }

    /// Runs all operations of one actor at once.
    pub(crate) fn hurry(&mut self, at: usize) {
        while let Some(op) = self.actors[at].ops.pop_front() {
            self.now += 1;
            self.run(at, op);
        }
    }

    pub(crate) fn spawn(
        &mut self,
        ops: VecDeque<Op>,
        task: u32,
        context: Context,
        interrupts: Option<usize>,
    ) {
        let actor = Actor { ops, task, context, interrupts, started: false, unread: None };
        self.actors.push(actor);
    }

    fn is_runnable(&self, at: usize) -> bool {
        let interrupted = self
            .actors
            .iter()
            .any(|it| it.interrupts == Some(at) && it.started && !it.ops.is_empty());
        !self.actors[at].ops.is_empty() && !interrupted
    }

    /// One round of `ext4_writepages`.
    fn submitter(&mut self, ops: &mut VecDeque<Op>) {
        let object = self.objects.len();
        let (ranged, listed, alive) = (false, false, false);
        self.objects.push(Object { addr: 0, count: 0, flag: 0, ranged, listed, alive });
        ops.push_back(Op::Birth(object));
        let unwritten = self.random.one_in(2);
        if unwritten && self.random.one_in(4) {
            ops.extend([Op::Range(object), Op::SetUnwritten(object)]);
        }
        for _ in 0..self.random.below(4) {
            if unwritten && self.random.one_in(2) {
                ops.extend([Op::Range(object), Op::SetUnwritten(object)]);
            }
            ops.extend([Op::Get(object), Op::Attach(object), Op::Submit(object)]);
        }
        if unwritten && self.random.one_in(3) {
            ops.extend([Op::Range(object), Op::SetUnwritten(object)]);
        }
        let act =
            if self.random.one_in(2) && !self.converts_failed() { Act::Put } else { Act::PutDefer };
        ops.extend([Op::Place(act, object), Op::Read, Op::Drop(act, object)]);
    }

    /// Does `ext4_put_io_end` convert what failed? Then no legal world puts so.
    fn converts_failed(&self) -> bool {
        self.kernel == Kernel::V6_12 && self.failing
    }

    /// A bio ends in an interrupt, in another task, or at once in the submitter's own.
    fn bio(&mut self, submitter: usize, object: usize) {
        let mut ops = vec![Op::Place(Act::BioEnd, object), Op::Read];
        if self.failing && self.random.one_in(4) {
            ops.push(Op::SetFailed(object));
        }
        ops.extend([Op::Place(Act::PutDefer, object), Op::Read, Op::Drop(Act::PutDefer, object)]);
        let submitters_task = self.actors[submitter].task;
        match self.random.below(8) {
            0 => ops.into_iter().rev().for_each(|op| self.actors[submitter].ops.push_front(op)),
            1 | 2 => self.spawn(ops.into(), submitters_task, Context::HardIrq, Some(submitter)),
            3 => self.spawn(ops.into(), 30, Context::Task, None),
            _ => self.spawn(ops.into(), 99, Context::SoftIrq, None),
        }
    }

    fn wake_worker(&mut self) {
        let mut ops = VecDeque::from([Op::WorkerBegin]);
        for object in std::mem::take(&mut self.queue) {
            ops.push_back(Op::Unlist(object));
            ops.extend(self.conversion(object, true));
        }
        ops.push_back(Op::WorkerEnd);
        self.actors[WORKER].ops = ops;
    }

    /// Claim, conversion and release of an object whose count is 0.
    pub(crate) fn conversion(&self, object: usize, by_worker: bool) -> Vec<Op> {
        let failed = self.objects[object].flag & FLAG_FAILED != 0;
        let converts = match self.kernel {
            Kernel::V6_1 => true,
            Kernel::V6_12 => !(failed && by_worker),
            Kernel::V6_18 => !failed,
        };
        let mut ops = Vec::new();
        if self.kernel == Kernel::V6_18 {
            ops.extend([Op::Place(Act::Claim, object), Op::Read]);
        }
        if converts {
            ops.extend([Op::Place(Act::ConvertBegin, object), Op::Read]);
            ops.push(Op::Place(Act::ConvertEnd, object));
        }
        ops.push(Op::ClearUnwritten(object));
        ops.extend(release(object));
        ops
    }

    fn run(&mut self, at: usize, op: Op) {
        match op {
            Op::Birth(object) => self.birth(at, object),
            Op::Range(object) => {
                self.objects[object].ranged = true;
                self.emit(at, Act::Range, object);
            }
            Op::SetUnwritten(object) => self.objects[object].flag |= FLAG_UNWRITTEN,
            Op::Get(object) => self.objects[object].count += 1,
            Op::Attach(object) => self.emit(at, Act::Attach, object),
            Op::Submit(object) => self.bio(at, object),
            Op::Place(act, object) => self.emit(at, act, object),
            Op::Read => self.read(at),
            Op::SetFailed(object) => self.objects[object].flag |= FLAG_FAILED,
            Op::Drop(act, object) => self.put(at, act, object),
            Op::ClearUnwritten(object) => self.objects[object].flag &= !FLAG_UNWRITTEN,
            Op::Free(object) => {
                let Object { addr, .. } = self.objects[object];
                self.objects[object].alive = false;
                if !self.free.contains(&addr) {
                    self.free.push(addr);
                }
            }
            Op::WorkerBegin => self.record(at, Body::WorkerBegin { inode: InodeAddr(7) }),
            Op::WorkerEnd => self.record(at, Body::WorkerEnd { inode: InodeAddr(7) }),
            Op::Unlist(object) => self.objects[object].listed = false,
        }
    }

    fn birth(&mut self, at: usize, object: usize) {
        let addr = self.free.pop().expect("a small world has addresses enough");
        let born = &mut self.objects[object];
        (born.addr, born.count, born.alive) = (addr, 1, true);
        self.emit(at, Act::Birth, object);
    }

    /// Bits of the flag for which there is something to do before the release, so that bios are chained.
    fn to_do(&self) -> u32 {
        let aborts = self.kernel == Kernel::V6_18 && self.data_err_abort;
        FLAG_UNWRITTEN | if aborts { FLAG_FAILED } else { 0 }
    }

    fn put(&mut self, at: usize, act: Act, object: usize) {
        const SATURATED: u32 = 0xc000_0000;
        let it = &mut self.objects[object];
        let last = it.count == 1;
        it.count = it.count.checked_sub(1).unwrap_or(SATURATED);
        if !last {
            return;
        }
        let unwritten = it.flag & FLAG_UNWRITTEN != 0;
        let to_do = self.to_do();
        let it = &mut self.objects[object];
        let aborts = it.flag & to_do & FLAG_FAILED != 0;
        let ops = match act {
            Act::PutDefer if (unwritten && it.ranged) || aborts => {
                it.listed = true;
                self.queue.push(object);
                return;
            }
            Act::Put if unwritten || aborts => self.conversion(object, false),
            _ => release(object),
        };
        ops.into_iter().rev().for_each(|op| self.actors[at].ops.push_front(op));
    }

    fn read(&mut self, at: usize) {
        let Some(event) = self.actors[at].unread.take() else { return };
        let chained = self.to_do();
        let (Body::BioEnd { seen, .. }
        | Body::Put(seen)
        | Body::PutDefer(seen)
        | Body::Claim(seen)
        | Body::ConvertBegin(seen)
        | Body::Release(seen)) = &mut self.events[event].body
        else {
            return;
        };
        // The memory at that address: of a freed object, what it held last.
        let addr = seen.io_end.0;
        let living = self.objects.iter().find(|it| it.alive && it.addr == addr);
        let object = living.or_else(|| self.objects.iter().rev().find(|it| it.addr == addr));
        let object = object.expect("the address was given to it");
        seen.image = Some(IoEndImage {
            list_next: if object.listed { 0xbad_0000 } else { addr },
            flag: object.flag,
            count: object.count,
            // As if there were no range without a folio.
            bio: u64::from(object.flag & chained != 0),
            vec_next: if object.ranged { 0xbad_1000 } else { addr + 48 },
            ..IoEndImage::default()
        });
    }

    fn emit(&mut self, at: usize, act: Act, object: usize) {
        let io_end = IoEndAddr(self.objects[object].addr);
        let seen = Seen { io_end, image: None };
        let bio = BioAddr(1);
        let id = Some(InodeId { ino: Ino(7), dev: DevId(254 << 20) });
        self.actors[at].unread = Some(self.events.len());
        // What the bio's own script does next is what its status says.
        let fails = matches!(self.actors[at].ops.get(1), Some(Op::SetFailed(_)));
        let (status, ended_before) = (if fails { 10 } else { 0 }, false);
        self.record(
            at,
            match act {
                Act::Birth => Body::IoEndBirth { io_end, inode: InodeAddr(7), id },
                Act::Range => Body::RangeAdded { io_end, failed: false },
                Act::Attach => Body::BioAttach { io_end, bio, sector: 0, bytes: 4096 },
                Act::BioEnd => Body::BioEnd { bio, status, ended_before, seen },
                Act::Put => Body::Put(seen),
                Act::PutDefer => Body::PutDefer(seen),
                Act::Claim => Body::Claim(seen),
                Act::ConvertBegin => Body::ConvertBegin(seen),
                Act::ConvertEnd => Body::ConvertEnd { io_end, ret: 0 },
                Act::Release => Body::Release(seen),
                Act::PartDone
                | Act::BioDone
                | Act::Listed
                | Act::FsyncReturned
                | Act::InodeDestroyed
                | Act::Requeue
                | Act::FlagWrite
                | Act::Lingers => {
                    unreachable!("no function of this world does it")
                }
            },
        );
    }

    fn record(&mut self, at: usize, body: Body) {
        let Actor { task, context, .. } = self.actors[at];
        let context = if self.unknown_contexts { Context::Unknown } else { context };
        let task = Task { tid: task, tgid: task };
        let cpu = Some(Cpu(self.random.below(4) as u16));
        // The clock is read a little before the record has its place.
        let at = Nanos(self.now - self.random.below(3) as u64);
        let seq = self.events.len() as u64 + 1;
        self.events.push(Event { stamp: Stamp { at, cpu, lane: 0, seq, task, context }, body });
    }
}

/// The release: its probe, then the memory.
pub(crate) fn release(object: usize) -> Vec<Op> {
    vec![Op::Place(Act::Release, object), Op::Read, Op::Free(object)]
}
