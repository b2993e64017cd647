//! The tracker: events in, the life of every object out.
//!
//! ```text
//!   Event ──► Lifecycle ──► Step ──► detect, metrics
//!               │ io_ends      state diagram and TRANSITIONS in lifecycle/state.rs,
//!               │              the reference-count model in lifecycle/model.rs
//!               │ direct I/Os  lifecycle/direct_io.rs
//!               └ fsyncs       lifecycle/fsync.rs
//! ```
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
mod direct_io;
mod epoch;
mod fsync;
mod gap;
mod history;
mod io_end;
mod model;
mod state;
mod step;
mod summary;
mod table;
mod workers;

use crate::event::{Body, Event, IoEndAddr, IoEndImage, Nanos, Seen, Stamp};
use crate::limits;

pub use act::{Act, Party};
pub use direct_io::{DirectIoDone, DirectIoRefused};
pub use fsync::FsyncDone;
pub use gap::{Gap, Gaps, Irregular};
pub use history::{Told, ToldImage};
pub use io_end::{IoEnd, IoEndId, Phases};
pub use model::{COUNT_SANE_MAX, FLAG_FAILED, FLAG_UNWRITTEN};
pub use state::{Move, State, TRANSITIONS, transition};
pub use step::{IoEndStep, Step};
pub use summary::{InFlight, Level, Orphan, Summary, Table};

use direct_io::DirectIos;
use fsync::Fsyncs;
use model::Input;
use table::{IoEnds, Slot};
use workers::Workers;

/// Bounds of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// io_ends, tombstones included.
    pub io_ends: usize,
    /// Direct writes.
    pub direct_ios: usize,
    /// fsyncs.
    pub fsyncs: usize,
}

impl Default for Capacities {
    fn default() -> Self {
        Capacities {
            io_ends: limits::IO_ENDS_MAX,
            direct_ios: limits::DIRECT_IOS_MAX,
            fsyncs: limits::FSYNCS_MAX,
        }
    }
}

/// All objects of one stream.
pub struct Lifecycle {
    io_ends: IoEnds,
    direct_ios: DirectIos,
    fsyncs: Fsyncs,
    workers: Workers,
    /// The claim is `ext4_end_io_end` on this kernel and it is probed.
    claim_probe: bool,
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
    /// Empty tables; all memory is taken here.
    pub fn new(capacities: Capacities) -> Self {
        Lifecycle {
            io_ends: IoEnds::new(capacities.io_ends),
            direct_ios: DirectIos::new(capacities.direct_ios),
            fsyncs: Fsyncs::new(capacities.fsyncs),
            workers: Workers::new(),
            claim_probe: false,
            probes_changed_at: None,
            swept_until: None,
            summary: Summary::default(),
        }
    }

    /// Tells whether `ext4_end_io_end` is probed; a real function from 6.15 on.
    pub fn set_claim_probe(&mut self, attached: bool) {
        self.claim_probe = attached;
    }

    /// The totals so far.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Live io_ends, in an order that replays.
    pub fn io_ends(&self) -> impl Iterator<Item = &IoEnd> {
        self.io_ends.iter()
    }

    /// Live io_ends, direct writes and fsyncs.
    pub fn live(&self) -> [u64; 3] {
        [self.io_ends.live(), self.direct_ios.len(), self.fsyncs.len()]
    }

    /// What is in flight at `now`; walks the live objects.
    pub fn in_flight(&self, now: Nanos) -> InFlight {
        let span = |count, oldest: Option<Nanos>| Level {
            count,
            oldest_age: oldest.map(|begun| now.since(begun)),
        };
        let mut levels = InFlight {
            direct_ios: span(self.direct_ios.len(), self.direct_ios.oldest()),
            fsyncs: span(self.fsyncs.len(), self.fsyncs.oldest()),
            ..InFlight::default()
        };
        for object in self.io_ends() {
            let level = &mut levels.io_ends[object.state() as usize];
            level.count += 1;
            level.oldest_age = level.oldest_age.max(Some(now.since(object.state_since())));
        }
        levels
    }

    /// Forgets what is open only because its end was lost: begun before the latest loss of any kind,
    /// and silent for [`limits::GHOST_AGE`] since. On a stream without losses nothing is ever
    /// forgotten; one that is stuck and older than a loss goes too, long after its age was shown.
    pub fn sweep(
        &mut self,
        now: Nanos,
        lossy_until: Option<Nanos>,
        sink: &mut impl FnMut(Step<'_>),
    ) {
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
        self.summary.fsyncs_lost += self.fsyncs.forget(begun_by);
        self.summary.direct_ios_lost += self.direct_ios.forget(begun_by);
    }

    /// Follows one event.
    pub fn observe(&mut self, event: &Event, sink: &mut impl FnMut(Step<'_>)) {
        let stamp = &event.stamp;
        match event.body {
            Body::IoEndBirth { io_end, id, .. } => {
                self.birth(IoEnd::born(stamp, io_end, id), sink);
            }
            Body::RangeAdded { io_end, failed } => {
                self.moved(stamp, io_end, Act::Range, None, i64::from(failed), sink);
            }
            Body::BioAttach { io_end, .. } => {
                self.moved(stamp, io_end, Act::Attach, None, 0, sink);
            }
            Body::BioEnd { seen, .. } => self.seen(stamp, &seen, Act::BioEnd, sink),
            Body::Put(seen) => self.seen(stamp, &seen, Act::Put, sink),
            Body::PutDefer(seen) => self.seen(stamp, &seen, Act::PutDefer, sink),
            Body::Claim(seen) => self.seen(stamp, &seen, Act::Claim, sink),
            Body::ConvertBegin(seen) => self.seen(stamp, &seen, Act::ConvertBegin, sink),
            Body::ConvertEnd { io_end, ret } => {
                self.moved(stamp, io_end, Act::ConvertEnd, None, ret, sink);
            }
            Body::Release(seen) => self.seen(stamp, &seen, Act::Release, sink),
            Body::ReleaseLate { io_end } => self.release_late(io_end, sink),
            Body::WorkerBegin { .. } => self.worker_begin(stamp.task.tid),
            Body::WorkerEnd { .. } => self.worker_end(stamp.task.tid),
            Body::Host { .. } => self.begin_stream(sink),
            Body::Attach { backend: Some(_), .. } | Body::Detach { .. } => {
                self.probes_changed_at = self.probes_changed_at.max(Some(stamp.at));
            }
            _ => self.span(event, sink),
        }
    }

    fn birth(&mut self, object: IoEnd, sink: &mut impl FnMut(Step<'_>)) {
        let addr = object.id().addr;
        if addr.0 == 0 {
            return self.summary.note_orphan(Orphan::NullIoEnd);
        }
        self.lose(addr, sink);
        match self.io_ends.insert(object) {
            Ok(slot) => {
                self.summary.io_ends_born += 1;
                sink(Step::IoEndBorn(self.io_ends.at(slot)));
            }
            Err(_) => self.summary.note_full(Table::IoEnds),
        }
    }

    /// Ends what is at an address without its release; a tombstone just goes.
    fn lose(&mut self, addr: IoEndAddr, sink: &mut impl FnMut(Step<'_>)) {
        let Some(mut lost) = self.io_ends.evict(addr) else { return };
        lost.note_gap(Gap::ReleaseMissed);
        self.summary.incomplete[Gap::ReleaseMissed as usize] += 1;
        self.summary.io_ends_lost += 1;
        sink(Step::IoEndLost(&lost));
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
            // Its release was seen: on a preemptible kernel another task's release on the same CPU
            // makes the program forget that it noted the entry.
            Some(object) if object.state() == State::Released => {}
            Some(object) if over(object) => self.lose(addr, sink),
            _ => self.summary.note_orphan(Orphan::ReleaseLate),
        }
    }

    fn seen(&mut self, stamp: &Stamp, seen: &Seen, act: Act, sink: &mut impl FnMut(Step<'_>)) {
        self.moved(stamp, seen.io_end, act, seen.image.as_ref(), 0, sink);
    }

    fn moved(
        &mut self,
        stamp: &Stamp,
        addr: IoEndAddr,
        act: Act,
        image: Option<&IoEndImage>,
        ret: i64,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        let Some(slot) = self.find_or_adopt(stamp, addr, act, sink) else { return };
        let claims = matches!(act, Act::Claim | Act::ConvertBegin);
        let by_worker = claims && self.workers.contains(stamp.task.tid);
        let object = self.io_ends.at(slot);
        let changed = self.probes_changed_at.is_some_and(|at| object.id().born <= at);
        if changed && object.note_gap(Gap::ProbesChanged) {
            self.summary.incomplete[Gap::ProbesChanged as usize] += 1;
        }
        let claim_probe = self.claim_probe;
        let outcome = object.apply(Input { stamp, act, image, ret, claim_probe, by_worker });
        self.summary.note_gaps(outcome.new_gaps);
        self.summary.irregular_steps += u64::from(outcome.irregular.is_some());
        sink(Step::IoEndMoved(IoEndStep {
            object,
            before: outcome.before,
            act,
            action: outcome.action,
            stamp: *stamp,
            image: image.copied(),
            irregular: outcome.irregular,
        }));
        if outcome.before == State::Released {
            return;
        }
        self.summary.note_act(act, ret);
        if act == Act::Release {
            self.summary.lives_complete += u64::from(object.complete());
            sink(Step::IoEndReleased(object));
            self.io_ends.bury(slot);
        }
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
            return Some(slot);
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
        let Ok(slot) = self.io_ends.insert(IoEnd::adopted(stamp, addr)) else {
            self.summary.note_full(Table::IoEnds);
            return None;
        };
        self.summary.io_ends_adopted += 1;
        self.summary.incomplete[Gap::BirthUnseen as usize] += 1;
        sink(Step::IoEndAdopted(self.io_ends.at(slot)));
        Some(slot)
    }

    fn worker_begin(&mut self, tid: u32) {
        self.summary.worker_runs += 1;
        if self.workers.begin(tid).is_err() {
            self.summary.note_full(Table::Workers);
        }
    }

    fn worker_end(&mut self, tid: u32) {
        if !self.workers.end(tid) {
            self.summary.note_orphan(Orphan::WorkerEnd);
        }
    }

    fn span(&mut self, event: &Event, sink: &mut impl FnMut(Step<'_>)) {
        let stamp = &event.stamp;
        match event.body {
            Body::DirectIoBegin { iocb, id, len_bytes, pos_bytes: _ } => {
                let told = self.direct_ios.begin(stamp, iocb, id, len_bytes);
                self.direct_io(told, sink);
            }
            Body::DirectIoCompleteBegin { iocb, bytes, error, flags: _ } => {
                let told = self.direct_ios.complete_begin(iocb, bytes, error);
                self.direct_io(told, sink);
            }
            Body::DirectIoCompleteEnd { iocb, ret } => {
                let told = self.direct_ios.complete_end(stamp, iocb, ret);
                self.direct_io(told, sink);
            }
            Body::DirectIoReturn { iocb, ret } => {
                let told = self.direct_ios.returned(event, iocb, ret);
                self.direct_io(told, sink);
            }
            Body::FsyncBegin { id, range, .. } => {
                let told = self.fsyncs.begin(stamp, id, range);
                let begun = !matches!(told, fsync::Told::Full);
                self.summary.fsyncs_begun += u64::from(begun);
                self.fsync(told, Orphan::FsyncSuperseded, sink);
            }
            Body::FsyncEnd { ret } => {
                let told = self.fsyncs.end(stamp, ret);
                self.fsync(told, Orphan::FsyncEnd, sink);
            }
            Body::FsyncPhaseBegin { phase } => {
                let told = self.fsyncs.phase_begin(stamp, phase);
                self.fsync(told, Orphan::FsyncPhase, sink);
            }
            Body::FsyncPhaseEnd { phase, ret: _ } => {
                let told = self.fsyncs.phase_end(stamp, phase);
                self.fsync(told, Orphan::FsyncPhase, sink);
            }
            // io_end events were taken by `observe`; the others are not about objects.
            _ => {}
        }
    }

    fn direct_io(&mut self, told: direct_io::Told, sink: &mut impl FnMut(Step<'_>)) {
        use direct_io::{Oddity, Told};
        let mut odd = |oddity| {
            self.summary.note_orphan(match oddity {
                Oddity::CompletionWithoutBegin => Orphan::DirectIoComplete,
                Oddity::ReturnWithoutBegin => Orphan::DirectIoReturn,
                Oddity::Superseded => Orphan::DirectIoSuperseded,
            });
        };
        match told {
            Told::Nothing => {}
            Told::Begun(oddity) => {
                oddity.map(&mut odd);
                self.summary.direct_ios_begun += 1;
                self.summary.direct_ios_lost += u64::from(oddity.is_some());
            }
            Told::Done(done) => {
                self.summary.direct_ios_completed += 1;
                self.summary.direct_io_errors += u64::from(done.errno.is_some());
                sink(Step::DirectIoDone(done));
            }
            Told::Refused(refused) => {
                self.summary.direct_ios_refused += 1;
                sink(Step::DirectIoRefused(refused));
            }
            Told::Odd(oddity) => odd(oddity),
            Told::Full => self.summary.note_full(Table::DirectIos),
        }
    }

    fn fsync(&mut self, told: fsync::Told, orphan: Orphan, sink: &mut impl FnMut(Step<'_>)) {
        use fsync::Told;
        match told {
            Told::Nothing => {}
            Told::Done(done) => {
                self.summary.fsyncs_completed += 1;
                self.summary.fsync_errors += u64::from(done.errno.is_some());
                sink(Step::FsyncDone(done));
            }
            Told::Superseded => {
                self.summary.fsyncs_lost += 1;
                self.summary.note_orphan(orphan);
            }
            Told::WithoutBegin => self.summary.note_orphan(orphan),
            Told::Full => self.summary.note_full(Table::Fsyncs),
        }
    }
}
