//! The calls that tasks wait in: direct writes, fsyncs and evictions, with their totals.
//!
//! This module must never know an io_end.

use super::direct_io::{self, DirectIos};
use super::evictions::{self, Evictions};
use super::fsync::{self, FsyncDone, Fsyncs};
use super::lingering::Waiter;
use super::step::Step;
use super::summary::{Level, Orphan, Summary, Table};
use crate::event::{Body, Event, InodeAddr, InodeId, Nanos, Stamp};

/// Direct writes, fsyncs and evictions in flight.
pub(super) struct Calls {
    direct_ios: DirectIos,
    fsyncs: Fsyncs,
    evictions: Evictions,
}

impl Calls {
    pub(super) fn new(direct_ios: usize, fsyncs: usize, evictions: usize) -> Self {
        Calls {
            direct_ios: DirectIos::new(direct_ios),
            fsyncs: Fsyncs::new(fsyncs),
            evictions: Evictions::new(evictions),
        }
    }

    /// Direct writes, fsyncs and evictions that are open.
    pub(super) fn live(&self) -> [u64; 3] {
        [self.direct_ios.len(), self.fsyncs.len(), self.evictions.len()]
    }

    /// The same with the age of the oldest.
    pub(super) fn levels(&self, now: Nanos) -> [Level; 3] {
        let level = |count, oldest: Option<Nanos>| Level {
            count,
            oldest_age: oldest.map(|begun| now.since(begun)),
        };
        [
            level(self.direct_ios.len(), self.direct_ios.oldest()),
            level(self.fsyncs.len(), self.fsyncs.oldest()),
            level(self.evictions.len(), self.evictions.oldest()),
        ]
    }

    /// Every open fsync, in an order that does not replay: whose, and what it waits in.
    pub(super) fn each_fsync(&self, told: impl FnMut(Option<InodeId>, Waiter)) {
        self.fsyncs.each(told);
    }

    /// Every open eviction, likewise: of which inode, and who waits in it.
    pub(super) fn each_eviction(&self, told: impl FnMut(InodeAddr, Option<InodeId>, Waiter)) {
        self.evictions.each(told);
    }

    /// Forgets what began by then.
    pub(super) fn forget(&mut self, begun_by: Nanos, summary: &mut Summary) {
        summary.fsyncs_lost += self.fsyncs.forget(begun_by);
        summary.direct_ios_lost += self.direct_ios.forget(begun_by);
        summary.evictions_lost += self.evictions.forget(begun_by);
    }

    /// Follows one event; those of other objects are let pass.
    pub(super) fn observe(
        &mut self,
        event: &Event,
        summary: &mut Summary,
        sink: &mut impl FnMut(Step<'_>),
    ) {
        let stamp = &event.stamp;
        match event.body {
            Body::DirectIoBegin { iocb, id, len_bytes, pos_bytes: _ } => {
                let told = self.direct_ios.begin(stamp, iocb, id, len_bytes);
                direct_io(told, summary, sink);
            }
            Body::DirectIoCompleteBegin { iocb, bytes, error, flags: _ } => {
                let told = self.direct_ios.complete_begin(stamp, iocb, bytes, error);
                direct_io(told, summary, sink);
            }
            Body::DirectIoUncounted { iocb } => {
                let told = self.direct_ios.uncounted(stamp, iocb);
                direct_io(told, summary, sink);
            }
            Body::DirectIoCompleteEnd { iocb, ret } => {
                let told = self.direct_ios.complete_end(stamp, iocb, ret);
                direct_io(told, summary, sink);
            }
            Body::DirectIoReturn { iocb, ret } => {
                let told = self.direct_ios.returned(event, iocb, ret);
                direct_io(told, summary, sink);
            }
            Body::FsyncBegin { inode, id, range, phases_followed: _ } => {
                let told = self.fsyncs.begin(stamp, id, inode, range);
                let begun = !matches!(told, fsync::Told::Full);
                summary.fsyncs_begun += u64::from(begun);
                fsync(told, Orphan::FsyncSuperseded, summary, sink);
            }
            Body::FsyncPhaseBegin { phase } => {
                let told = self.fsyncs.phase_begin(stamp, phase);
                fsync(told, Orphan::FsyncPhase, summary, sink);
            }
            Body::FsyncPhaseEnd { phase, ret: _ } => {
                let told = self.fsyncs.phase_end(stamp, phase);
                fsync(told, Orphan::FsyncPhase, summary, sink);
            }
            Body::EvictionBegin { inode, id } => {
                eviction(self.evictions.begin(stamp, id, inode), summary, sink);
            }
            Body::EvictionEnd { inode } => {
                eviction(self.evictions.end(stamp, inode), summary, sink);
            }
            _ => {}
        }
    }

    /// An fsync returns; what it was, if its begin was seen.
    pub(super) fn fsync_end(
        &mut self,
        stamp: &Stamp,
        ret: i64,
        summary: &mut Summary,
        sink: &mut impl FnMut(Step<'_>),
    ) -> Option<FsyncDone> {
        let told = self.fsyncs.end(stamp, ret);
        let done = if let fsync::Told::Done(done) = told { Some(done) } else { None };
        fsync(told, Orphan::FsyncEnd, summary, sink);
        done
    }
}

fn direct_io(told: direct_io::Told, summary: &mut Summary, sink: &mut impl FnMut(Step<'_>)) {
    use direct_io::{Disorder, Oddity, Told};
    let mut odd = |oddity| {
        summary.note_orphan(match oddity {
            Oddity::CompletionWithoutBegin => Orphan::DirectIoComplete,
            Oddity::ReturnWithoutBegin => Orphan::DirectIoReturn,
            Oddity::Superseded => Orphan::DirectIoSuperseded,
        });
    };
    match told {
        Told::Nothing => {}
        Told::Begun(oddity) => {
            oddity.map(&mut odd);
            summary.direct_ios_begun += 1;
            summary.direct_ios_lost += u64::from(oddity.is_some());
        }
        Told::Done(done) => {
            summary.direct_ios_completed += 1;
            summary.direct_io_errors += u64::from(done.errno.is_some());
            sink(Step::DirectIoDone(done));
        }
        Told::Refused(refused) => {
            summary.direct_ios_refused += 1;
            sink(Step::DirectIoRefused(refused));
        }
        Told::Broken(broken) => {
            if broken.how != Disorder::Uncounted {
                odd(Oddity::CompletionWithoutBegin);
            }
            sink(Step::DirectIoBroken(broken));
        }
        Told::Odd(oddity) => odd(oddity),
        Told::Full(oddity) => {
            oddity.map(&mut odd);
            summary.direct_ios_lost += u64::from(oddity.is_some());
            summary.note_full(Table::DirectIos);
        }
    }
}

fn fsync(
    told: fsync::Told,
    orphan: Orphan,
    summary: &mut Summary,
    sink: &mut impl FnMut(Step<'_>),
) {
    use fsync::Told;
    match told {
        Told::Nothing => {}
        Told::Done(done) => {
            summary.fsyncs_completed += 1;
            summary.fsync_errors += u64::from(done.errno.is_some());
            sink(Step::FsyncDone(done));
        }
        Told::Superseded => {
            summary.fsyncs_lost += 1;
            summary.note_orphan(orphan);
        }
        Told::WithoutBegin => summary.note_orphan(orphan),
        Told::Full => summary.note_full(Table::Fsyncs),
    }
}

fn eviction(told: evictions::Told, summary: &mut Summary, sink: &mut impl FnMut(Step<'_>)) {
    use evictions::Told;
    match told {
        Told::Begun => summary.evictions_begun += 1,
        Told::Done(done) => {
            summary.evictions_completed += 1;
            sink(Step::EvictionDone(done));
        }
        Told::Superseded => {
            summary.evictions_begun += 1;
            summary.evictions_lost += 1;
            summary.note_orphan(Orphan::EvictionSuperseded);
        }
        Told::WithoutBegin => summary.note_orphan(Orphan::EvictionEnd),
        Told::Full => summary.note_full(Table::Evictions),
    }
}
