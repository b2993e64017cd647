//! What the tracker tells: small borrowed steps, in the order of the stream.
//!
//! A step borrows its object for the length of the call, so nothing is copied for it. This module
//! must never hold a verdict.

use super::act::Act;
use super::direct_io::{DirectIoBroken, DirectIoDone, DirectIoRefused};
use super::evictions::EvictionDone;
use super::fsync::FsyncDone;
use super::gap::Irregular;
use super::io_end::IoEnd;
use super::lingering::Lingering;
use super::model::FLAG_FAILED;
use super::snapshots::Snapshots;
use super::state::{Move, State};
use super::writers::Writer;
use crate::event::{IoEndImage, Stamp};

/// One step of one object's life, as metrics and detectors consume it.
pub enum Step<'a> {
    /// An io_end was born.
    IoEndBorn(&'a IoEnd),
    /// An io_end was first seen after its birth.
    IoEndAdopted(&'a IoEnd),
    /// The inode of an io_end became known after its first sight.
    IoEndIdentified(&'a IoEnd),
    /// Something happened to an io_end, or to the tombstone of one.
    IoEndMoved(IoEndStep<'a>),
    /// An io_end was released; its `IoEndMoved` came just before.
    IoEndReleased(&'a IoEnd),
    /// An io_end is over though its release was not seen.
    IoEndLost(&'a IoEnd),
    /// A direct write completed.
    DirectIoDone(DirectIoDone),
    /// A direct write returned without a completion.
    DirectIoRefused(DirectIoRefused),
    /// A completion broke the order of a direct write.
    DirectIoBroken(DirectIoBroken),
    /// An fsync returned.
    FsyncDone(FsyncDone),
    /// An eviction returned.
    EvictionDone(EvictionDone),
}

impl Step<'_> {
    /// Does it show that this kernel has `EXT4_IO_END_FAILED`: an io_end of which a bio failed, and
    /// which has that bit?
    pub fn shows_failed_flag(&self) -> bool {
        let Step::IoEndMoved(moved) = self else { return false };
        moved.earlier.saw_bio_fail()
            && moved.before != State::Released
            && moved.image.is_some_and(|image| image.flag & FLAG_FAILED != 0)
    }

    /// Does it show an io_end with a bio chained to it?
    pub fn shows_chained_bio(&self) -> bool {
        let Step::IoEndMoved(moved) = self else { return false };
        moved.before != State::Released && moved.image.is_some_and(|image| image.bio != 0)
    }
}

/// What happened to an io_end.
#[derive(Clone, Copy)]
pub struct IoEndStep<'a> {
    /// The object after it.
    pub object: &'a IoEnd,
    /// Its state before.
    pub before: State,
    /// What the kernel did.
    pub act: Act,
    /// What that is for the model.
    pub action: Move,
    /// When and where.
    pub stamp: Stamp,
    /// The object's bytes at that moment.
    pub image: Option<IoEndImage>,
    /// What was seen of its words before this step.
    pub earlier: Snapshots,
    /// How it departs from the protocol.
    pub irregular: Option<Irregular>,
    /// Who wrote its flag, if that is what happened.
    pub writer: Option<Writer>,
    /// At a TICK: what is stuck with it.
    pub lingers: Option<&'a Lingering>,
}
