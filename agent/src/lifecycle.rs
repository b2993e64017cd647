//! The tracker: events in, the life of every object out.
//!
//! ```text
//!   Event ──► Lifecycle ──► Step ──► detect, metrics
//!               │ io_ends      state diagram and TRANSITIONS in lifecycle/state.rs,
//!               │              the reference-count model in lifecycle/model.rs,
//!               │              bios by parts in lifecycle/bios.rs
//!               └ calls        direct writes, fsyncs, evictions: lifecycle/calls.rs
//! ```
//!
//! What can be said depends on what is witnessed, never on a mode: lifecycle/sight.rs.
//!
//! What it holds for the order of events (5.10 to 7.3): an event whose probe ended
//! before another began comes first; two overlapping ones come in either order. So of one io_end
//! only attaches, bio ends and puts may be exchanged with each other, and the model is the same for
//! every order: each put enters before it decrements, so every put of an incarnation comes before
//! its claim and its release.
//!
//! It must never accuse (that is `detect`), never do I/O, read a clock or allocate after `new`. An
//! object is its address and its birth; what cannot be placed is counted as an orphan, what does
//! not fit as `table_full`. Times are CLOCK_MONOTONIC nanoseconds.

mod act;
mod bios;
mod calls;
mod direct_io;
mod epoch;
mod evictions;
mod failures;
mod fsync;
mod gap;
mod history;
mod io_end;
mod kin;
mod levels;
mod lingering;
mod model;
mod pass_by;
mod put_backs;
mod sight;
mod snapshots;
mod state;
mod step;
mod summary;
mod table;
mod workers;
pub(crate) mod writers;

use endiod_wire::wire::{config_key, subject};

use crate::event::{
    Backend, BioAddr, Body, Event, InodeAddr, InodeId, IoEndAddr, Nanos, Seen, Stamp,
};
use crate::limits;
use crate::probes::Witness;
use crate::witnesses::Witnesses;

pub use act::{Act, Party};
pub use direct_io::{
    DirectAct, DirectIoBroken, DirectIoDone, DirectIoRefused, DirectWrite, DirectWriteId, Disorder,
};
pub use evictions::EvictionDone;
pub use fsync::FsyncDone;
pub use gap::{Gap, Gaps, Irregular};
pub use history::{Told, ToldImage};
pub use io_end::{IoEnd, IoEndId, Phases, Times};
pub use lingering::{Halt, Lingering, Waiter};
pub use model::{COUNT_SANE_MAX, FLAG_FAILED, FLAG_UNWRITTEN};
pub use put_backs::PutBack;
pub use snapshots::{Flag, Snapshots};
pub use state::{Move, State, TRANSITIONS, transition};
pub use step::{IoEndStep, Step};
pub use summary::{InFlight, Level, Orphan, Summary, Table};
pub use table::Capacities;
pub use writers::Writer;

use act::Deed;
use bios::{Bios, Done};
use calls::Calls;
use failures::Failures;
use lingering::Watch;
use model::Input;
use put_backs::PutBacks;
use sight::Sight;
use table::{IoEnds, Slot};
use workers::Workers;
use writers::Writers;

/// All objects of one stream.
pub struct Lifecycle {
    io_ends: IoEnds,
    bios: Bios,
    calls: Calls,
    workers: Workers,
    failures: Failures,
    put_backs: PutBacks,
    writers: Writers,
    watch: Watch,
    witnesses: Witnesses,
    sight: Sight,
    /// Latest time at which a probe was attached or detached.
    probes_changed_at: Option<Nanos>,
    /// The latest loss that `sweep` was told of.
    swept_until: Option<Nanos>,
    summary: Summary,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self::new(Capacities::default())
    }
}

impl Lifecycle {
    /// Empty tables; all memory is taken here. All that fentry sees up to 6.14 is witnessed, until
    /// [`Lifecycle::set_witnesses`] says otherwise.
    pub fn new(capacities: Capacities) -> Self {
        let Capacities { io_ends, bios, direct_ios, fsyncs, evictions } = capacities;
        let mut witnesses = Witnesses::all_by(Backend::Fentry);
        witnesses.set(Witness::Claim, None);
        Lifecycle {
            io_ends: IoEnds::new(io_ends),
            bios: Bios::new(bios),
            calls: Calls::new(direct_ios, fsyncs, evictions),
            workers: Workers::new(),
            failures: Failures::new(),
            put_backs: PutBacks::new(),
            writers: Writers::default(),
            watch: Watch::new(),
            witnesses,
            sight: Sight::new(&witnesses),
            probes_changed_at: None,
            swept_until: None,
            summary: Summary::default(),
        }
    }

    /// Tells what is witnessed from now on.
    pub fn set_witnesses(&mut self, witnesses: &Witnesses) {
        self.witnesses = *witnesses;
        let Sight { worker_releases, .. } = self.sight;
        self.sight = Sight { worker_releases, ..Sight::new(witnesses) };
    }

    /// The totals so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Forgets what is open only because its end was lost: begun before the latest loss that may have
    /// taken an end, and silent for [`limits::GHOST_AGE`] since. On a stream without losses nothing is ever
    /// forgotten; one that is stuck and older than a loss goes too, long after its age was shown. A
    /// kprobe's releases are lost without a word, so with one every moment is lossy.
    pub fn sweep(
        &mut self,
        now: Nanos,
        lossy_until: Option<Nanos>,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        let lossy_until = if self.sight.releases_counted { lossy_until } else { Some(now) };
        let Some(lossy_until) = lossy_until else { return };
        if self.swept_until < Some(lossy_until) {
            self.workers.doubt();
            self.swept_until = Some(lossy_until);
        }
        let silent_since = Nanos(now.0.saturating_sub(limits::GHOST_AGE.0));
        let begun_by = lossy_until.min(silent_since);
        let ghost = |object: &&IoEnd| {
            object.id().born <= lossy_until && object.state_since() <= silent_since
        };
        // One at a time: the table may not be walked while it changes, and ghosts are few.
        for _ in 0..limits::GHOSTS_PER_TICK_MAX {
            let Some(addr) = self.io_ends.iter().find(ghost).map(|object| object.id().addr) else {
                break;
            };
            self.lose(addr, sink);
        }
        self.calls.forget(begun_by, &mut self.summary);
    }

    /// Follows one event.
    pub fn observe(&mut self, event: &Event, sink: &mut impl FnMut(Step<'_>)) {
        let stamp = &event.stamp;
        match event.body {
            Body::IoEndBirth { io_end, inode, id } => {
                self.birth(IoEnd::born(stamp, io_end, id), inode, sink);
            }
            Body::IoEndInode { io_end, inode, id: Some(id), layout: _ } => {
                self.identified(stamp, io_end, (inode, id), sink);
            }
            Body::BioAttach { io_end, bio, bytes, .. } => {
                if self.moved(stamp, Deed::unseen(Act::Attach, io_end, 0), sink) {
                    self.open_bio(bio, io_end, bytes);
                }
            }
            Body::BioEnd { status, ended_before, seen, .. } => {
                let deed = Deed::seen(Act::BioEnd, &seen, i64::from(status));
                let live = self.moved(stamp, Deed { ended_before, ..deed }, sink);
                self.summary.bios_failed += u64::from(live && status != 0);
            }
            Body::BioDone { bio, part_bytes, status, seen } => {
                self.bio_done(stamp, bio, part_bytes, status != 0, &seen, sink);
            }
            Body::ReleaseLate { io_end } => self.release_late(io_end, sink),
            Body::FlagWrite { ref seen, locked, ip } => {
                self.flag_written(stamp, (seen, locked), ip, sink);
            }
            Body::Symbol { address, name } => self.writers.name(address, name),
            Body::WorkQueued { .. } => self.summary.batches_queued += 1,
            Body::WorkerBegin { inode } => self.worker_begin(stamp, inode),
            Body::WorkerEnd { .. } => self.worker_end(stamp.task.tid),
            Body::FsyncEnd { ret } => self.fsync_end(stamp, ret, sink),
            Body::InodeDestroy { inode, .. } => self.inode_destroyed(stamp, inode, sink),
            Body::Host { .. } => {
                self.sight.worker_releases = false;
                self.writers.clear();
                self.begin_stream(sink);
            }
            Body::Config { key: config_key::SUBJECT, value } => {
                self.sight.worker_releases = value == subject::REPLICA;
            }
            Body::Config { key: config_key::IO_ENDS_MAX, value } => {
                self.io_ends.bound(usize::try_from(value).unwrap_or(usize::MAX));
            }
            Body::Config { key: config_key::STUCK_AFTER_NS, value } => self.stuck_after(value),
            Body::Tick { .. } => self.linger(stamp, sink),
            Body::Attach { backend: Some(_), .. } | Body::Detach { .. } => {
                self.probes_changed_at = self.probes_changed_at.max(Some(stamp.at));
            }
            body => match Deed::of(&body) {
                Some(deed) => drop(self.moved(stamp, deed, sink)),
                None => self.calls.observe(event, &mut self.summary, sink),
            },
        }
    }

    fn birth(&mut self, mut object: IoEnd, inode: InodeAddr, sink: &mut impl FnMut(Step<'_>)) {
        let addr = object.id().addr;
        if addr.0 == 0 {
            return self.summary.note_orphan(Orphan::NullIoEnd);
        }
        if !self.sight.releases {
            return;
        }
        if self.lose(addr, sink) && !self.sight.releases_in_order {
            object.note_gap(Gap::ReleaseDoubtful);
            self.summary.incomplete[Gap::ReleaseDoubtful as usize] += 1;
        }
        match self.io_ends.insert(object) {
            Ok(slot) => {
                self.summary.io_ends_born += 1;
                // 0 where its birth could not tell.
                if inode.0 != 0 {
                    self.io_ends.is_of(slot, inode);
                }
                sink(Step::IoEndBorn(self.io_ends.at(slot)));
            }
            Err(_) => self.summary.note_full(Table::IoEnds),
        }
    }

    /// Whose an io_end is, where its birth could not tell.
    fn identified(
        &mut self,
        stamp: &Stamp,
        addr: IoEndAddr,
        (inode, id): (InodeAddr, InodeId),
        sink: &mut impl FnMut(Step<'_>),
    ) {
        // It comes just before the attach of the first bio, which is what adopts.
        let Some(slot) = self.find_or_adopt(stamp, addr, Act::Attach, sink) else { return };
        let object = self.io_ends.at(slot);
        if object.state() == State::Released || !object.identify(id) {
            return;
        }
        sink(Step::IoEndIdentified(object));
        if inode.0 != 0 && self.io_ends.inode_of(slot).is_none() {
            self.io_ends.is_of(slot, inode);
        }
    }

    fn open_bio(&mut self, bio: BioAddr, io_end: IoEndAddr, bytes: u32) {
        if !self.sight.bios_done {
            return;
        }
        match self.bios.attach(bio, io_end, bytes) {
            Ok(true) => self.summary.note_orphan(Orphan::BioSuperseded),
            Ok(false) => {}
            Err(_) => self.summary.note_full(Table::Bios),
        }
    }

    /// The device is done with a part of a bio, or with the whole.
    fn bio_done(
        &mut self,
        stamp: &Stamp,
        bio: BioAddr,
        part_bytes: Option<u32>,
        failed: bool,
        seen: &Seen,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        let act = if part_bytes.is_some() { Act::PartDone } else { Act::BioDone };
        let done = if self.sight.bios_done {
            self.bios.done(bio, seen.io_end, part_bytes, failed)
        } else {
            Done::Part
        };
        let (is_last, failed) = match done {
            Done::Part => (false, false),
            Done::Bio { failed } => (true, failed),
            // A whole bio is done whether it was seen attached or not; of a part it is not known.
            Done::Unknown => {
                self.summary.note_orphan(Orphan::BioDone);
                (part_bytes.is_none(), failed)
            }
        };
        let live = self.moved(stamp, Deed::seen(act, seen, i64::from(is_last)), sink);
        self.summary.bios_failed += u64::from(live && is_last && failed);
    }

    /// Ends what is at an address without its release; a tombstone just goes. Was it alive?
    fn lose(&mut self, addr: IoEndAddr, sink: &mut impl FnMut(Step<'_>)) -> bool {
        let Some(mut lost) = self.io_ends.evict(addr) else { return false };
        self.put_backs.forget(addr);
        self.bios_over(addr, lost.bios());
        lost.note_gap(Gap::ReleaseMissed);
        self.summary.incomplete[Gap::ReleaseMissed as usize] += 1;
        self.summary.io_ends_lost += 1;
        sink(Step::IoEndLost(&lost));
        true
    }

    /// Bios of an io_end that is over are not waited for.
    fn bios_over(&mut self, addr: IoEndAddr, (attached, ended): (u32, u32)) {
        if self.sight.bios_done && attached != ended {
            self.bios.forget(addr);
        }
    }

    /// A release whose entry was skipped. By its return the address may be another io_end's, so only
    /// an object that holds no reference any more, or one of unknown past, is ended by it.
    fn release_late(&mut self, addr: IoEndAddr, sink: &mut impl FnMut(Step<'_>)) {
        let over = |object: &IoEnd| match object.state() {
            State::Released => false,
            State::Adopted => true,
            _ => object.references() <= 0,
        };
        match self.io_ends.find(addr).map(|slot| self.io_ends.at(slot)) {
            // Its release was seen, and the program's table of tasks that release had no room for it.
            Some(object) if object.state() == State::Released => {}
            Some(object) if over(object) => drop(self.lose(addr, sink)),
            _ => self.summary.note_orphan(Orphan::ReleaseLate),
        }
    }

    /// Was it alive?
    fn moved(&mut self, stamp: &Stamp, deed: Deed<'_>, sink: &mut impl FnMut(Step<'_>)) -> bool {
        let Deed { act, io_end: addr, image, ret, ended_before } = deed;
        let Some(slot) = self.find_or_adopt(stamp, addr, act, sink) else { return false };
        let in_run = matches!(act, Act::Claim | Act::ConvertBegin | Act::Listed);
        let run = if in_run { self.workers.run_of(stamp.task.tid) } else { None };
        self.note_probes_changed(slot);
        let object = self.io_ends.at(slot);
        let sight = self.sight;
        let outcome = object.apply(Input { stamp, act, image, ret, ended_before, sight, run });
        self.summary.note_gaps(outcome.new_gaps);
        self.summary.irregular_steps += u64::from(outcome.irregular.is_some());
        sink(Step::IoEndMoved(IoEndStep {
            object,
            before: outcome.before,
            act,
            action: outcome.action,
            stamp: *stamp,
            image: image.copied(),
            earlier: outcome.earlier,
            irregular: outcome.irregular,
            writer: None,
            lingers: None,
        }));
        if outcome.before == State::Released {
            return false;
        }
        if act == Act::Requeue {
            self.put_backs.note(object.id(), object.state(), stamp.at);
        }
        self.summary.note_act(act, ret);
        if act == Act::Release {
            self.summary.lives_complete += u64::from(object.complete());
            sink(Step::IoEndReleased(object));
            self.over(slot);
        }
        true
    }

    /// What lived when a probe came or went has a gap.
    fn note_probes_changed(&mut self, slot: Slot) {
        let object = self.io_ends.at(slot);
        let changed = self.probes_changed_at.is_some_and(|at| object.id().born <= at);
        if changed && object.note_gap(Gap::ProbesChanged) {
            self.summary.incomplete[Gap::ProbesChanged as usize] += 1;
        }
    }

    /// It was released, and becomes a tombstone.
    fn over(&mut self, slot: Slot) {
        let object = self.io_ends.at(slot);
        let (addr, bios) = (object.id().addr, object.bios());
        self.put_backs.forget(addr);
        if object.convert_ret() < 0 {
            let failed = *object;
            // Where its birth did not tell the inode, no fsync can be held against it.
            if let Some(inode) = self.io_ends.inode_of(slot) {
                self.failures.keep(inode, failed);
            }
        }
        self.io_ends.bury(slot);
        self.bios_over(addr, bios);
    }

    /// Where an io_end is; one of first sight is adopted. `None` if there is nothing to move.
    fn find_or_adopt(
        &mut self,
        stamp: &Stamp,
        addr: IoEndAddr,
        act: Act,
        sink: &mut impl FnMut(Step<'_>),
    ) -> Option<Slot> {
        if let Some(slot) = self.io_ends.find(addr) {
            let is_over = self.io_ends.at(slot).state() == State::Released;
            if self.sight.births || !is_over {
                return Some(slot);
            }
            // Its successor at that address was born unseen.
            self.io_ends.evict(addr);
        }
        let orphan = match act {
            _ if addr.0 == 0 => Some(Orphan::NullIoEnd),
            Act::ConvertEnd => Some(Orphan::ConvertEnd),
            Act::Release => Some(Orphan::Release),
            _ => None,
        };
        if let Some(orphan) = orphan {
            self.summary.note_orphan(orphan);
            return None;
        }
        if !self.sight.releases {
            return None;
        }
        let Ok(slot) = self.io_ends.insert(IoEnd::adopted(stamp, addr)) else {
            self.summary.note_full(Table::IoEnds);
            return None;
        };
        self.summary.io_ends_adopted += 1;
        self.summary.incomplete[Gap::BirthUnseen as usize] += 1;
        sink(Step::IoEndAdopted(self.io_ends.at(slot)));
        Some(slot)
    }

    fn worker_begin(&mut self, stamp: &Stamp, inode: InodeAddr) {
        self.summary.worker_runs += 1;
        if self.sight.worker_runs && self.workers.begin(stamp.task, inode, stamp.at).is_err() {
            self.summary.note_full(Table::Workers);
        }
    }

    fn worker_end(&mut self, tid: u32) {
        if !self.sight.worker_runs {
            return;
        }
        match self.workers.end(tid) {
            Some((inode, begun)) => self.io_ends.note_run(inode, begun),
            None => self.summary.note_orphan(Orphan::WorkerEnd),
        }
    }
}
