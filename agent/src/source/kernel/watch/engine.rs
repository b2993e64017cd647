//! Who gets a watchpoint, on which CPUs, for how long.
//!
//! ```text
//!            born ────────────► on every CPU ───── released, aged ─────► off
//!   Free ───────────► Wanted ─────────────────► On ────────────────────────► Free
//!     ▲                 └ over before it was on: late ┘  too many hits, CPUs changed
//!     └──────────────────────────── Held (no newborn may take it) ◄──────┘
//! ```
//!
//! A slot is one debug register on each watched CPU; programs give a free one to a newborn
//! (`ebpf/src/probes/watch.rs`), so births wake this thread only while one is free.
//!
//! The host comes first: interrupts to its CPUs and stores that are looked at are bounded per second, CPUs that
//! were set apart are left alone, and a register that a debugger has is the debugger's. What is not watched
//! for that is counted, never guessed.

use std::{
    error::Error,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, SyncSender},
    },
};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, PerCpuArray, RingBuf},
};
use endiod_wire::wire::{IO_END_FLAG_OFFSET, WATCH_SLOTS_MAX, WatchCall, WatchCounters, watch_end};
use serde::{Deserialize, Serialize};

use super::{breakpoint::Breakpoint, budget::Budget, cpus::Cpus};
use crate::{
    clock,
    event::{IoEndAddr, Nanos, WatchTotals},
    host::Host,
    limits,
    source::{kernel::module::map_data, own::OwnRecords},
};

const SECOND: Nanos = Nanos(1_000_000_000);
/// How often hits are counted while something is watched.
const LOOK: Nanos = Nanos(100_000_000);
/// How long one io_end has a watchpoint at most: one that is stuck would keep its slot for ever.
const AGE_MAX: Nanos = Nanos(10_000_000_000);
/// How long after a register was found taken it is asked for again.
const ASK_AGAIN: Nanos = Nanos(60_000_000_000);
/// What no io_end's address is: the slot is not to be given away.
const HELD: u64 = u64::MAX;

/// Something that became of a watchpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Told {
    Begin { io_end: IoEndAddr, at: Nanos, slot: u32, cpus: u32 },
    End { io_end: IoEndAddr, at: Nanos, slot: u32, why: u32 },
}

/// What the thread that watches shares with the one that drains.
#[derive(Debug, Default)]
struct Shared(Mutex<WatchTotals>);

impl Shared {
    fn get(&self) -> WatchTotals {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, totals: WatchTotals) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = totals;
    }
}

/// What the thread that drains is told.
pub(super) struct Reports {
    told: Receiver<Told>,
    shared: Arc<Shared>,
}

impl Reports {
    /// What became of watchpoints since the last time, and the totals.
    pub(super) fn take(&self) -> Watched {
        // As many as may wait: no more than that are taken, however fast new ones come.
        let told = self.told.try_iter().take(limits::WATCH_TOLD_MAX).collect();
        Watched { told, totals: self.shared.get() }
    }
}

/// What became of watchpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Watched {
    told: Vec<Told>,
    totals: WatchTotals,
}

impl Watched {
    /// Writes it into the stream.
    pub(crate) fn write(&self, own: &mut OwnRecords, deliver: &mut dyn FnMut(&[u8])) {
        for told in &self.told {
            match *told {
                Told::Begin { io_end, at, slot, cpus } => {
                    own.watch_begin(io_end, at, slot, cpus, deliver);
                }
                Told::End { io_end, at, slot, why } => {
                    own.watch_end(io_end, at, slot, why, deliver);
                }
            }
        }
        own.watch_totals(self.totals, deliver);
    }
}

/// What a slot does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Use {
    /// A newborn may take it.
    #[default]
    Free,
    /// A newborn took it.
    Wanted(u64),
    /// It is on the flag of an io_end, since then.
    On(u64, Nanos),
    /// Nobody may take it.
    Held,
}

/// One register on each watched CPU; none where a debugger has one of them.
#[derive(Debug, Default)]
struct Slot {
    breakpoints: Vec<Breakpoint>,
    used: Use,
}

/// Hits of the running second.
#[derive(Clone, Copy, Debug, Default)]
struct Hits {
    since: Nanos,
    before: u64,
    /// Nothing is put on until then.
    held_until: Option<Nanos>,
}

/// The counters' value as aya may read it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(WatchCounters);

// SAFETY: WatchCounters is repr(C), two u64 without padding: any bytes are a valid value.
unsafe impl aya::Pod for Value {}

/// Puts watchpoints on and takes them off.
pub(super) struct Engine {
    calls: RingBuf<MapData>,
    watched: Array<MapData, u64>,
    counts: PerCpuArray<MapData, Value>,
    program: OwnedFd,
    host: Host,
    idle_at: u64,
    slots: Vec<Slot>,
    cpus: Cpus,
    budget: Budget,
    hits: Hits,
    /// When registers that were taken are asked for again.
    ask_again_at: Option<Nanos>,
    /// When hits and CPUs were looked at last.
    looked_at: Nanos,
    tell: SyncSender<Told>,
    shared: Arc<Shared>,
    totals: WatchTotals,
}

impl Engine {
    /// With the maps that it shares with the programs, and as yet without a register: what it tells is
    /// received, and counted, elsewhere.
    pub(super) fn new(
        ebpf: &Ebpf,
        program: OwnedFd,
        host: &Host,
        idle_at: u64,
        slots: u32,
    ) -> Result<(Self, Reports), Box<dyn Error>> {
        let shared = Arc::new(Shared::default());
        let (tell, told) = mpsc::sync_channel(limits::WATCH_TOLD_MAX);
        let now = clock::monotonic();
        let engine = Engine {
            calls: RingBuf::try_from(Map::RingBuf(map(ebpf, "WATCH_CALLS")?))?,
            watched: Array::try_from(Map::Array(map(ebpf, "WATCHED")?))?,
            counts: PerCpuArray::try_from(Map::PerCpuArray(map(ebpf, "WATCH_COUNTS")?))?,
            program,
            host: host.clone(),
            idle_at,
            slots: (0..slots).map(|_| Slot::default()).collect(),
            cpus: Cpus::read(host),
            budget: Budget::new(limits::WATCH_INTERRUPTS_MAX as u64, now),
            hits: Hits::default(),
            ask_again_at: None,
            looked_at: now,
            tell,
            shared: Arc::clone(&shared),
            totals: WatchTotals::default(),
        };
        Ok((engine, Reports { told, shared }))
    }

    /// Works until `stop` is readable.
    pub(super) fn run(mut self, stop: &OwnedFd) {
        while !self.wait(stop) {
            self.take_calls();
            let now = clock::monotonic();
            if now.since(self.looked_at) >= LOOK {
                self.looked_at = now;
                self.look(now);
            }
            self.put_on(now);
        }
        for at in 0..self.slots.len() {
            self.take_off(at, watch_end::CLOSED, clock::monotonic(), Use::Held);
        }
        self.count_hits(clock::monotonic());
        self.shared.set(self.totals);
    }

    /// Sleeps until something is to be done; whether that is to stop.
    fn wait(&self, stop: &OwnedFd) -> bool {
        let pollfd = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [pollfd(self.calls.as_raw_fd()), pollfd(stop.as_raw_fd())];
        let timeout_ms =
            libc::c_int::try_from(self.sleep_max().0.div_ceil(1_000_000)).unwrap_or(1_000);
        // SAFETY: both entries are ours, and their descriptors stay open as long as `self` and `stop`.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), 2, timeout_ms) };
        // An interrupted call is one that came early.
        ready > 0 && fds[1].revents != 0
    }

    fn sleep_max(&self) -> Nanos {
        let is = |test: fn(&Use) -> bool| self.slots.iter().any(|slot| test(&slot.used));
        match () {
            () if is(|it| matches!(it, Use::Wanted(_))) => self.budget.ready_in(self.cost()),
            () if is(|it| matches!(it, Use::On(..))) => LOOK,
            () => SECOND,
        }
    }

    /// Interrupts for one io_end: each CPU is told twice.
    fn cost(&self) -> u64 {
        2 * self.cpus.watched.len() as u64
    }

    /// Takes what the programs told of births and releases.
    fn take_calls(&mut self) {
        while let Some(WatchCall { io_end, at_ns, slot, born }) = self.next_call() {
            let at = slot as usize;
            let Some(used) = self.slots.get(at).map(|slot| slot.used) else { continue };
            match used {
                // Two CPUs gave it away at once: the map has the later one.
                Use::Free | Use::Wanted(_) if born != 0 => {
                    self.slots[at].used = Use::Wanted(io_end)
                }
                Use::Wanted(wanted) if wanted == io_end => {
                    self.totals.late += 1;
                    self.give(at, Use::Free);
                }
                Use::On(on, _) if on == io_end && born == 0 => {
                    self.take_off(at, watch_end::RELEASED, Nanos(at_ns), Use::Free);
                }
                _ => {}
            }
        }
    }

    fn next_call(&mut self) -> Option<WatchCall> {
        self.calls.next().and_then(|record| call(&record))
    }

    /// Puts watchpoints on those that wait for one, as far as interrupts may be sent.
    fn put_on(&mut self, now: Nanos) {
        for at in 0..self.slots.len() {
            let Use::Wanted(io_end) = self.slots[at].used else { continue };
            if !self.budget.take(self.cost(), now) {
                return;
            }
            let flag = io_end + IO_END_FLAG_OFFSET;
            let slot = &mut self.slots[at];
            let aimed: io::Result<Vec<()>> =
                slot.breakpoints.iter_mut().map(|breakpoint| breakpoint.aim(flag)).collect();
            self.totals.interrupts += slot.breakpoints.len() as u64;
            slot.used = Use::On(io_end, clock::monotonic());
            if let Err(error) = aimed {
                log::debug!("a watchpoint cannot be put on: {error}");
                self.reopen(now);
                return;
            }
            let (io_end, at_ns) = (IoEndAddr(io_end), clock::monotonic());
            let cpus = u32::try_from(slot.breakpoints.len()).unwrap_or(u32::MAX);
            self.tell(Told::Begin { io_end, at: at_ns, slot: at as u32, cpus });
        }
    }

    /// Takes a watchpoint off, if it is on; it was of use until `over`.
    fn take_off(&mut self, at: usize, why: u32, over: Nanos, then: Use) {
        if let Use::On(io_end, _) = self.slots[at].used {
            for breakpoint in &mut self.slots[at].breakpoints {
                // One whose CPU is gone is off.
                if let Err(error) = breakpoint.off() {
                    log::debug!("a watchpoint cannot be taken off: {error}");
                }
            }
            self.totals.interrupts += self.slots[at].breakpoints.len() as u64;
            self.tell(Told::End { io_end: IoEndAddr(io_end), at: over, slot: at as u32, why });
        }
        self.give(at, then);
    }

    /// Says whose a slot is, to us and to the programs.
    fn give(&mut self, at: usize, used: Use) {
        let slot = &mut self.slots[at];
        slot.used = if slot.breakpoints.is_empty() { Use::Held } else { used };
        let word = match slot.used {
            Use::Free => 0,
            Use::Wanted(io_end) | Use::On(io_end, _) => io_end,
            Use::Held => HELD,
        };
        if let Err(error) = self.watched.set(at as u32, word, 0) {
            log::debug!("a slot cannot be given: {error}");
        }
    }

    /// Ten times a second: hits, ages, CPUs, registers that were taken.
    fn look(&mut self, now: Nanos) {
        self.count_hits(now);
        for at in 0..self.slots.len() {
            if let Use::On(_, since) = self.slots[at].used
                && now.since(since) >= AGE_MAX
            {
                self.take_off(at, watch_end::AGED, now, Use::Free);
            }
        }
        let asks_again = self.ask_again_at.is_some_and(|at| at <= now);
        if asks_again || Cpus::read(&self.host) != self.cpus {
            self.reopen(now);
        }
        self.shared.set(self.totals);
    }

    fn count_hits(&mut self, now: Nanos) {
        if let Ok(values) = self.counts.get(&0, 0) {
            self.totals.hits = values.iter().map(|value| value.0.hits).sum();
            self.totals.lost = values.iter().map(|value| value.0.lost).sum();
        }
        if now.since(self.hits.since) >= SECOND {
            self.hits.since = now;
            self.hits.before = self.totals.hits;
        }
        if self.totals.hits - self.hits.before > limits::WATCH_HITS_MAX as u64
            && self.hits.held_until.is_none()
        {
            log::warn!(
                "more stores to watched flags than are looked at in a second: none for a second"
            );
            self.hits.held_until = Some(Nanos(now.0 + SECOND.0));
            for at in 0..self.slots.len() {
                self.take_off(at, watch_end::TOO_MANY_HITS, now, Use::Held);
            }
        }
        if self.hits.held_until.is_some_and(|until| until <= now) {
            self.hits.held_until = None;
            for at in 0..self.slots.len() {
                self.give(at, Use::Free);
            }
        }
    }

    /// Gives all registers back and takes them anew: CPUs came or went, or a debugger is through.
    fn reopen(&mut self, now: Nanos) {
        for at in 0..self.slots.len() {
            self.take_off(at, watch_end::CPUS_CHANGED, now, Use::Held);
            self.slots[at].breakpoints.clear();
        }
        self.cpus = Cpus::read(&self.host);
        if let Err(error) = self.open() {
            log::warn!("no watchpoint can be had: {error}; they are asked for again");
            self.ask_again_at = Some(Nanos(now.0 + ASK_AGAIN.0));
        }
    }

    /// Takes the registers: a slot has one on each watched CPU, or it has none.
    ///
    /// # Errors
    /// The kernel gives none for another reason than that they are taken.
    pub(super) fn open(&mut self) -> io::Result<()> {
        let mut taken = false;
        for at in 0..self.slots.len() {
            let program = self.program.as_fd();
            let open = |cpu: &u32| Breakpoint::open(*cpu, self.idle_at, program);
            match self.cpus.watched.iter().map(open).collect() {
                Ok(breakpoints) => self.slots[at].breakpoints = breakpoints,
                // All four of a CPU are in use, or the CPU has gone since we asked.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::ENODEV)) => {
                    taken = true;
                }
                Err(error) => return Err(error),
            }
            self.give(at, Use::Free);
        }
        let slots = self.slots.iter().filter(|slot| !slot.breakpoints.is_empty()).count();
        let before = std::mem::replace(&mut self.totals.slots, slots as u32);
        self.totals.cpus = self.cpus.watched.len() as u32;
        self.ask_again_at = taken.then(|| Nanos(clock::monotonic().0 + ASK_AGAIN.0));
        if before != self.totals.slots || self.cpus.left_alone > 0 {
            let (cpus, apart) = (self.cpus.watched.len(), self.cpus.left_alone);
            log::info!(
                "{slots} watchpoints on {cpus} CPUs; {apart} CPUs were set apart and have none"
            );
        }
        self.shared.set(self.totals);
        Ok(())
    }

    /// Tells what became of a watchpoint; if nobody has listened for long it goes unsaid.
    fn tell(&self, told: Told) {
        if self.tell.try_send(told).is_err() {
            log::debug!("what became of a watchpoint goes unsaid: {told:?}");
        }
    }
}

/// A map of the object by a descriptor of our own: programs that are loaded later still need the object's.
fn map(ebpf: &Ebpf, name: &str) -> Result<MapData, Box<dyn Error>> {
    let data = ebpf.map(name).and_then(map_data).ok_or("the object has no such map")?;
    Ok(MapData::from_fd(data.fd().as_fd().try_clone_to_owned()?)?)
}

/// A record of `WATCH_CALLS`.
fn call(bytes: &[u8]) -> Option<WatchCall> {
    let bytes: &[u8; size_of::<WatchCall>()] = bytes.try_into().ok()?;
    // SAFETY: WatchCall is repr(C), integers without padding, and the array has its size: any bytes are a
    // value; read_unaligned asks for no alignment.
    let call = unsafe { bytes.as_ptr().cast::<WatchCall>().read_unaligned() };
    (call.slot < WATCH_SLOTS_MAX).then_some(call)
}
