//! Collects the events of one io_end while the pipeline replays, and the calls that they happened in.
//!
//! ```text
//!   Step  says whose an event is: born, adopted, moved, lost     ─► the incarnation that is followed
//!   Event of its address while it is followed                    ─► a row
//!   run of the worker, fsync of its inode by a task that acts    ─► a row where it begins and ends
//!   run while it waits that touches no io_end                    ─► likewise, the first few
//! ```
//!
//! What does not touch the io_end is kept only while it is open. Rows are bounded: the first half and the
//! last half of the bound stay, what lies between is counted. It must never keep an address in what it
//! gives out.

use std::collections::{BTreeMap, VecDeque};

use super::{bits, words::Deed};
use crate::{
    event::{
        BioAddr, Body, Context, DevId, Event, InodeAddr, InodeId, IoEndAddr, IoEndImage, Name,
        Seen, Stamp,
    },
    finding::AddressKey,
    lifecycle::{Gap, Gaps, IoEnd, IoEndId, Phases, State, Step, writers::Writers},
    limits,
    pipeline::Onlooker,
};

/// Empty runs that are rows of the story; the others are counted.
const EMPTY_RUNS_TOLD: u64 = 3;

/// A step as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// Its place in the stream.
    pub(super) order: u64,
    pub(super) stamp: Stamp,
    pub(super) io_end: IoEndAddr,
    pub(super) deed: Deed,
    /// State after it, if the object moved.
    pub(super) state: Option<State>,
    pub(super) image: Option<IoEndImage>,
    /// The task was in a run of the worker.
    pub(super) in_run: bool,
}

/// A call that a task is in.
#[derive(Clone, Copy)]
struct Call {
    order: u64,
    stamp: Stamp,
    inode: InodeAddr,
    /// It is among the rows.
    told: bool,
    /// Something happened to an io_end in it.
    touched: bool,
}

/// What is known of the object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) id: IoEndId,
    pub(super) inode: Option<InodeId>,
    pub(super) state: State,
    pub(super) gaps: Gaps,
    pub(super) complete: bool,
    pub(super) phases: Phases,
    /// Its end was not seen: its address was born again.
    pub(super) lost: bool,
}

impl Known {
    /// Whether its life began under our eyes.
    pub(super) fn birth_seen(&self) -> bool {
        !self.gaps.contains(Gap::BirthUnseen)
    }
}

/// Follows one io_end through a stream.
pub struct Collector {
    wanted: String,
    key: AddressKey,
    following: bool,
    pub(super) known: Option<Known>,
    inode: Option<InodeAddr>,
    /// State that the event which is passing moved it to.
    moved_to: Option<State>,
    order: u64,
    first: Vec<Row>,
    last: VecDeque<Row>,
    pub(super) left_out: u64,
    pub(super) empty_runs: u64,
    /// IN_FSYNC of 3.3 to 3.6 was seen set in some io_end.
    pub(super) marks_seen: bool,
    /// Ordinals of the bios that were seen last at their addresses.
    bios: BTreeMap<BioAddr, usize>,
    bios_seen: usize,
    runs: BTreeMap<u32, Call>,
    fsyncs: BTreeMap<u32, Call>,
    writers: Writers,
    pub(super) names: BTreeMap<u32, Name<16>>,
    pub(super) devices: BTreeMap<DevId, Name<32>>,
}

impl Collector {
    /// Of the io_end that is called so, as [`AddressKey::object`] has it.
    pub fn new(object: &str) -> Self {
        Collector {
            wanted: object.to_owned(),
            key: AddressKey(0),
            following: false,
            known: None,
            inode: None,
            moved_to: None,
            order: 0,
            first: Vec::new(),
            last: VecDeque::new(),
            left_out: 0,
            empty_runs: 0,
            marks_seen: false,
            bios: BTreeMap::new(),
            bios_seen: 0,
            runs: BTreeMap::new(),
            fsyncs: BTreeMap::new(),
            writers: Writers::default(),
            names: BTreeMap::new(),
            devices: BTreeMap::new(),
        }
    }

    /// What the io_end is called.
    pub(super) fn wanted(&self) -> &str {
        &self.wanted
    }

    /// The rows in the order of the stream, and how many of them come before those left out.
    pub(super) fn rows(&self) -> (Vec<Row>, usize) {
        let mut rows: Vec<Row> = self.first.iter().chain(&self.last).copied().collect();
        rows.sort_by_key(|row| row.order);
        (rows, self.first.len())
    }

    fn learn(&mut self, object: &IoEnd) {
        let Some(known) = self.known.as_mut().filter(|known| known.id == object.id()) else {
            return;
        };
        known.inode = object.inode().or(known.inode);
        known.state = object.state();
        known.gaps = object.gaps();
        known.complete = object.complete();
        known.phases = object.phases();
    }

    /// A new incarnation: the wanted one, or the end of it.
    fn begins(&mut self, object: &IoEnd) {
        let id = object.id();
        if self.known.is_none() && self.key.object(id) == self.wanted {
            self.following = true;
            self.known = Some(Known {
                id,
                inode: None,
                state: object.state(),
                gaps: object.gaps(),
                complete: false,
                phases: object.phases(),
                lost: false,
            });
            self.moved_to = Some(object.state());
            self.learn(object);
        } else if self.known.is_some_and(|known| known.id.addr == id.addr) {
            self.following = false;
        }
    }

    fn push(&mut self, row: Row) {
        let half = limits::STORY_STEPS_MAX / 2;
        if self.first.len() < half {
            return self.first.push(row);
        }
        if self.last.len() == half {
            self.last.pop_front();
            self.left_out += 1;
        }
        self.last.push_back(row);
    }

    /// A row for a call that the object's events happened in, where it begins.
    fn tell_call(&mut self, call: Call, deed: Deed) {
        let Call { order, stamp, .. } = call;
        self.push_call(order, stamp, deed);
    }

    fn push_call(&mut self, order: u64, stamp: Stamp, deed: Deed) {
        let io_end = self.known.map_or(IoEndAddr(0), |known| known.id.addr);
        let (state, image, in_run) = (None, None, false);
        self.push(Row { order, stamp, io_end, deed, state, image, in_run });
    }

    fn tell_calls_of(&mut self, tid: u32) {
        if let Some(run) = self.runs.get_mut(&tid).filter(|run| !run.told) {
            run.told = true;
            let run = *run;
            self.tell_call(run, Deed::RunBegin { empty: false });
        }
        let inode = self.inode;
        let of_inode = |call: &&mut Call| Some(call.inode) == inode && !call.told;
        if let Some(fsync) = self.fsyncs.get_mut(&tid).filter(of_inode) {
            fsync.told = true;
            let fsync = *fsync;
            self.tell_call(fsync, Deed::FsyncBegin);
        }
    }

    /// An event of an io_end, ours or another.
    fn of_io_end(&mut self, event: &Event, io_end: IoEndAddr) {
        let tid = event.stamp.task.tid;
        let acts = matches!(event.stamp.context, Context::Task | Context::Unknown);
        if let Some(run) = self.runs.get_mut(&tid).filter(|_| acts) {
            run.touched = true;
        }
        let image = seen_in(&event.body).and_then(|seen| seen.image);
        self.marks_seen |= image.is_some_and(|image| image.flag & bits::IN_FSYNC != 0);
        let ours = self.known.is_some_and(|known| known.id.addr == io_end);
        if !(self.following && ours) {
            return;
        }
        let Some((deed, image)) = self.deed(&event.body) else { return };
        if acts {
            self.tell_calls_of(tid);
        }
        let in_run = acts && self.runs.contains_key(&tid);
        let (order, stamp, state) = (self.order, event.stamp, self.moved_to);
        self.push(Row { order, stamp, io_end, deed, state, image, in_run });
    }

    /// What an event did with the io_end, and the bytes that it read.
    fn deed(&mut self, body: &Body) -> Option<(Deed, Option<IoEndImage>)> {
        let of = |deed, seen: &Seen| Some((deed, seen.image));
        match body {
            Body::IoEndBirth { inode, .. } => {
                self.inode = Some(*inode);
                Some((Deed::Birth, None))
            }
            Body::IoEndInode { inode, .. } => {
                self.inode = Some(*inode);
                Some((Deed::Identified, None))
            }
            Body::RangeAdded { failed, .. } => Some((Deed::Range { failed: *failed }, None)),
            Body::BioAttach { bio, .. } => Some((Deed::Attach(self.new_bio(*bio)), None)),
            Body::BioEnd { bio, status, seen, .. } => {
                of(Deed::BioEnd { bio: self.bio(*bio), status: *status }, seen)
            }
            Body::BioDone { bio, part_bytes, status, seen } => {
                let (bio, status) = (self.bio(*bio), *status);
                match part_bytes {
                    Some(_) => of(Deed::PartDone { bio, status }, seen),
                    None => of(Deed::BioDone { bio, status }, seen),
                }
            }
            Body::Put(seen) => of(Deed::Put, seen),
            Body::PutDefer(seen) => of(Deed::PutDefer, seen),
            Body::Claim(seen) => of(Deed::Claim, seen),
            Body::ConvertBegin(seen) => of(Deed::ConvertBegin, seen),
            Body::ConvertEnd { ret, .. } => Some((Deed::ConvertEnd { ret: *ret }, None)),
            Body::Release(seen) => of(Deed::Release, seen),
            Body::ReleaseLate { .. } => Some((Deed::ReleaseLate, None)),
            Body::Requeue { seen, locked } => of(Deed::Requeue { locked: *locked }, seen),
            Body::FlagWrite { seen, locked, ip } => {
                let (by, locked) = (self.writers.writer(*ip).name, *locked);
                of(Deed::FlagWritten { by, locked }, seen)
            }
            Body::Listed { inode, seen } => {
                self.inode = Some(*inode);
                of(Deed::Listed, seen)
            }
            _ => None,
        }
    }

    /// The ordinal of a bio; one whose attach was not seen gets the next.
    fn bio(&mut self, bio: BioAddr) -> usize {
        self.bios.get(&bio).copied().unwrap_or_else(|| self.new_bio(bio))
    }

    fn new_bio(&mut self, bio: BioAddr) -> usize {
        self.bios_seen += 1;
        if self.bios.len() < limits::BIOS_MAX || self.bios.contains_key(&bio) {
            self.bios.insert(bio, self.bios_seen);
        }
        self.bios_seen
    }

    fn run_ends(&mut self, event: &Event) {
        let Some(run) = self.runs.remove(&event.stamp.task.tid) else { return };
        let waits = self.known.is_some_and(|known| {
            !known.lost && matches!(known.state, State::Queued | State::Claimed | State::Converted)
        });
        let of_ours = Some(run.inode) == self.inode && self.following && waits;
        let empty = of_ours && !run.touched && !run.told;
        if !empty && !run.told {
            return;
        }
        if empty {
            self.empty_runs += 1;
            if self.empty_runs > EMPTY_RUNS_TOLD {
                return;
            }
            self.tell_call(run, Deed::RunBegin { empty });
        }
        self.tell_end(event, Deed::RunEnd { empty });
    }

    fn fsync_ends(&mut self, event: &Event, ret: i64) {
        if self.fsyncs.remove(&event.stamp.task.tid).is_some_and(|call| call.told) {
            self.tell_end(event, Deed::FsyncEnd { ret });
        }
    }

    fn tell_end(&mut self, event: &Event, deed: Deed) {
        self.push_call(self.order, event.stamp, deed);
    }

    fn call_begins(&mut self, event: &Event, inode: InodeAddr, is_run: bool) {
        let (order, stamp) = (self.order, event.stamp);
        let call = Call { order, stamp, inode, told: false, touched: false };
        let (calls, most) = match is_run {
            true => (&mut self.runs, limits::WORKERS_MAX),
            false => (&mut self.fsyncs, limits::FSYNCS_MAX),
        };
        if calls.len() < most || calls.contains_key(&stamp.task.tid) {
            calls.insert(stamp.task.tid, call);
        }
    }

    /// Empty runs that are not among the rows.
    pub(super) fn empty_runs_left_out(&self) -> u64 {
        self.empty_runs.saturating_sub(EMPTY_RUNS_TOLD)
    }
}

impl Onlooker for Collector {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndBorn(object) | Step::IoEndAdopted(object) => self.begins(object),
            Step::IoEndIdentified(object) | Step::IoEndReleased(object) => self.learn(object),
            Step::IoEndMoved(moved) => {
                if self.known.is_some_and(|known| known.id == moved.object.id()) {
                    self.moved_to = Some(moved.object.state());
                    self.learn(moved.object);
                }
            }
            Step::IoEndLost(object) => {
                self.learn(object);
                let ours = self.known.as_mut().filter(|known| known.id == object.id());
                if let Some(known) = ours {
                    known.lost = true;
                }
            }
            Step::DirectIoDone(_)
            | Step::DirectIoRefused(_)
            | Step::DirectIoBroken(_)
            | Step::FsyncDone(_)
            | Step::EvictionDone(_) => {}
        }
    }

    fn event(&mut self, event: &Event) {
        self.order += 1;
        match event.body {
            Body::Host { hash_key, .. } => {
                self.key = AddressKey(hash_key);
                self.following = false;
                self.runs.clear();
                self.fsyncs.clear();
                self.writers.clear();
            }
            Body::Symbol { address, name } => self.writers.name(address, name),
            Body::Device { dev, name } => {
                if self.devices.len() < limits::DEVICE_NAMES_MAX {
                    self.devices.insert(dev, name);
                }
            }
            Body::TaskName { tid, comm } => {
                if self.names.len() < limits::TASK_NAMES_MAX {
                    self.names.insert(tid, comm);
                }
            }
            Body::WorkerBegin { inode } => self.call_begins(event, inode, true),
            Body::WorkerEnd { .. } => self.run_ends(event),
            Body::FsyncBegin { inode, .. } => self.call_begins(event, inode, false),
            Body::FsyncEnd { ret } => self.fsync_ends(event, ret),
            ref body => {
                if let Some(io_end) = io_end_of(body) {
                    self.of_io_end(event, io_end);
                }
            }
        }
        self.moved_to = None;
    }
}

/// The io_end that an event is of.
pub(super) fn io_end_of(body: &Body) -> Option<IoEndAddr> {
    Some(match body {
        Body::IoEndBirth { io_end, .. }
        | Body::RangeAdded { io_end, .. }
        | Body::BioAttach { io_end, .. }
        | Body::ConvertEnd { io_end, .. }
        | Body::ReleaseLate { io_end }
        | Body::IoEndInode { io_end, .. } => *io_end,
        _ => seen_in(body)?.io_end,
    })
}

/// The io_end that an event read, with its bytes.
fn seen_in(body: &Body) -> Option<&Seen> {
    match body {
        Body::BioEnd { seen, .. }
        | Body::BioDone { seen, .. }
        | Body::Requeue { seen, .. }
        | Body::FlagWrite { seen, .. }
        | Body::Put(seen)
        | Body::PutDefer(seen)
        | Body::Claim(seen)
        | Body::ConvertBegin(seen)
        | Body::Release(seen)
        | Body::Listed { seen, .. } => Some(seen),
        _ => None,
    }
}

/// The gaps of an object by their labels.
pub(crate) fn gap_labels(gaps: Gaps) -> Vec<&'static str> {
    gaps.iter().map(Gap::label).collect()
}
