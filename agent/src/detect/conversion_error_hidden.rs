//! A conversion fails, and an fsync that had to tell returns 0 (5.10 to 7.3).
//!
//! ```text
//!   conversion < 0, FAILED clear ──► … fsync of that range ──► 0
//! ```
//!
//! The data is on the disk and its extent is still unwritten: it reads as zeros. `ext4_end_io_end` says
//! "failed to convert unwritten extents to written extents -- potential data loss!" in the kernel's log and
//! sets no error on the mapping, on all versions up to 7.3. So this is no broken order but a defect of
//! the kernel as it is, and whoever called fsync believes that the write is safe.
//!
//! This rule must never charge after an error of that inode was told: the caller knows then. Where a bio
//! failed (FAILED) the mapping has the error.

use super::{Charge, Confidence, Detector, Need, Rule, Way};
use crate::lifecycle::{Act, IoEndStep, State};
use crate::probes::Witness;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::ConversionErrorHidden,
    claim: "a conversion failed, and the fsync that had to tell returned 0",
    ways: &[Way {
        needs: &[
            Need::function(Witness::Birth),
            Need::function(Witness::BioEnd),
            Need::function(Witness::Put),
            Need::function(Witness::PutDefer),
            Need::function(Witness::ConvertEnd),
            Need::function(Witness::Release),
            Need::function(Witness::FsyncBegin),
            Need::function(Witness::FsyncEnd),
            Need::function(Witness::DataWait),
        ],
        fixture: "conversion_error_hidden.trace",
        check,
    }],
    despite: &[],
    sound: "both are return values, of one inode at one address. The fsync waited for the write: it is \
            of the whole file, or its task made the io_end within this call, and the wait began after \
            the submitter's put. An fsync of that inode that failed in between takes the conversion \
            out, and so does the end of the inode.",
    misses: "range syncs that another task's writeback served; msync, sync and sync_file_range; the \
            oldest where more than failed_conversions_max wait for an fsync; a file that nobody syncs",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let failed = step.object.convert_ret() < 0 && !step.object.was_failed();
    let converted = matches!(step.before, State::Converted | State::Released);
    (step.act == Act::FsyncReturned && failed && converted).then_some(Charge {
        confidence: Confidence::Certain,
        what: "its conversion failed, and an fsync that had to tell returned 0",
        first: step.object.claim(),
    })
}
