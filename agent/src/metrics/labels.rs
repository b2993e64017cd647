//! Label values and their bounds.
//!
//! A label's value comes from a fixed list here, from a list of `Names` that other modules own, or
//! from the host through a bound. Nothing in this file may take a value from an event unchecked: an
//! unlisted value becomes [`OTHER`].

use super::MetricsError;

/// A value outside its list.
pub const OTHER: &str = "other";
/// The device label of every device beyond the first [`DEVICES_MAX`].
pub const OTHER_DEVICES: &str = "~other";
/// The device label where a record could not tell the device.
pub const UNKNOWN_DEVICE: &str = "~unknown";
/// The `table` label of the device labels themselves.
pub const DEVICES_TABLE: &str = "metric_devices";

/// Devices with series of their own. A host with more mounted ext4 is rare, each device costs about
/// 500 lines of a scrape, and a name, once given, keeps its series until the agent ends.
pub const DEVICES_MAX: usize = 64;
/// Kinds of wire records; there are about 30.
pub const EVENT_KINDS_MAX: usize = 64;
/// States of the lifecycle; there are about 10.
pub const STATES_MAX: usize = 16;
/// Rules of the detectors; there are about 25.
pub const RULES_MAX: usize = 32;
/// Rows of the probe table.
pub const PROBES_MAX: usize = 64;
/// Fixed-capacity tables of the agent.
pub const TABLES_MAX: usize = 16;
/// Pairs of stage and reason in which an event can be lost.
pub const LOSSES_MAX: usize = 32;
/// Reasons of one kind: for a suppression, a degradation, a miss.
pub const REASONS_MAX: usize = 16;
/// A label value is cut to this: a mount point may have 4096 bytes, a scrape line should not.
pub const VALUE_BYTES_MAX: usize = 256;

/// The lists that other modules own. An empty list means: no such series on this run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names {
    /// Kinds of wire records, in the order of the index that [`super::Metrics::event`] takes.
    pub event_kinds: &'static [&'static str],
    /// States of a live io_end.
    pub states: &'static [&'static str],
    /// Rules of the detectors.
    pub rules: &'static [&'static str],
    /// Probes, in the order of `ProbeId`.
    pub probes: &'static [&'static str],
    /// Fixed-capacity tables.
    pub tables: &'static [&'static str],
    /// Where and why an event can be lost: (stage, reason).
    pub losses: &'static [(&'static str, &'static str)],
    /// Why a violation is not reported.
    pub suppression_reasons: &'static [&'static str],
    /// Why a rule cannot watch fully.
    pub degraded_reasons: &'static [&'static str],
    /// Why a probe missed a hit.
    pub miss_reasons: &'static [&'static str],
}

impl Names {
    /// Whether every list fits its label and has no name twice.
    pub(super) fn check(&self) -> Result<(), MetricsError> {
        check("event_kinds", self.event_kinds, EVENT_KINDS_MAX)?;
        check("states", self.states, STATES_MAX)?;
        check("rules", self.rules, RULES_MAX)?;
        check("probes", self.probes, PROBES_MAX)?;
        check("tables", self.tables, TABLES_MAX)?;
        check("suppression_reasons", self.suppression_reasons, REASONS_MAX)?;
        check("degraded_reasons", self.degraded_reasons, REASONS_MAX)?;
        check("miss_reasons", self.miss_reasons, REASONS_MAX)?;
        let (given, max) = (self.losses.len(), LOSSES_MAX);
        if given > max {
            return Err(MetricsError::TooManyNames { list: "losses", given, max });
        }
        Ok(())
    }
}

fn check(list: &'static str, names: &[&'static str], max: usize) -> Result<(), MetricsError> {
    let given = names.len();
    if given > max {
        return Err(MetricsError::TooManyNames { list, given, max });
    }
    let twice = names.iter().enumerate().find(|(index, name)| names[..*index].contains(name));
    match twice {
        Some((_, name)) => Err(MetricsError::DuplicateName { list, name }),
        None => Ok(()),
    }
}

/// A span in the life of an io_end. Spans overlap: see the help of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IoEndPhase {
    /// Birth to the submitter's put.
    Submit,
    /// First bio attached to last bio ended.
    Device,
    /// Final deferred put to the worker's claim.
    Queue,
    /// Claim to release.
    Convert,
    /// Birth to release.
    Total,
}

impl IoEndPhase {
    /// All phases, in label order of the table.
    pub const ALL: [IoEndPhase; 5] = [
        IoEndPhase::Submit,
        IoEndPhase::Device,
        IoEndPhase::Queue,
        IoEndPhase::Convert,
        IoEndPhase::Total,
    ];

    /// The `phase` label.
    pub const fn label(self) -> &'static str {
        IO_END_PHASES[self as usize]
    }
}

/// The `phase` labels of an io_end.
pub const IO_END_PHASES: &[&str] = &["submit", "device", "queue", "convert", "total"];
/// The `phase` labels of an fsync; `FsyncPhase::label`.
pub const FSYNC_PHASES: &[&str] = &["data_submit", "data_wait", "journal", "barrier"];
/// The `op` labels of an fsync; `FsyncRange::op`.
pub const FSYNC_OPS: &[&str] =
    &["fsync", "fdatasync", "range_sync", "range_datasync", "unknown_sync", "unknown_datasync"];
/// How sure a verdict is.
pub const CONFIDENCES: &[&str] = &["certain", "likely", "symptom"];
/// The `core` labels of the oracle; `Judge::label`.
pub const ORACLE_CORES: &[&str] = &["completed_list", "refcounted"];
/// The `outcome` labels of the oracle; `Outcome::label`.
pub const ORACLE_OUTCOMES: &[&str] = &["allowed", "diverged", "could_not_tell"];
/// The programs' tables of tasks, by `wire::task_table`.
pub const TASK_TABLES: &[&str] = &["open_fsyncs", "open_direct_ios", "releasing"];
/// Back ends of probes; `Backend::label`.
pub const BACKENDS: &[&str] = &["fentry", "raw_tp", "kprobe", "watchpoint"];
/// What became of the stores that watchpoints saw: of a live io_end by somebody who has a name, or by an
/// instruction that has none; before its birth or after its release; not in the stream.
pub const WATCH_HITS: &[&str] = &["named", "unnamed", "between_lives", "lost"];

/// Error numbers with a label of their own: what ext4 and jbd2 return on these paths, and what the
/// block layer makes of a failed bio (`blk_errors`, block/blk-core.c, 5.10 to 7.3).
const ERRNOS: [(i32, &str); 18] = [
    (libc::EIO, "EIO"),
    (libc::ENOSPC, "ENOSPC"),
    (libc::EDQUOT, "EDQUOT"),
    (libc::EROFS, "EROFS"),
    (libc::EUCLEAN, "EUCLEAN"),
    (libc::EINVAL, "EINVAL"),
    (libc::EINTR, "EINTR"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::EFAULT, "EFAULT"),
    (libc::EFBIG, "EFBIG"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::ENODEV, "ENODEV"),
    (libc::ENODATA, "ENODATA"),
    (libc::ENOLINK, "ENOLINK"),
    (libc::EREMOTEIO, "EREMOTEIO"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::EILSEQ, "EILSEQ"),
];

/// The `errno` labels: the names of the list above, and [`OTHER`] last.
pub const ERRNO_NAMES: &[&str] = &{
    let mut names = [OTHER; ERRNOS.len() + 1];
    let mut index = 0;
    while index < ERRNOS.len() {
        names[index] = ERRNOS[index].1;
        index += 1;
    }
    names
};

/// Where a kernel return value stands in [`ERRNO_NAMES`]; takes `-EIO` and `EIO` alike.
pub(super) fn errno_index(ret: i64) -> usize {
    let errno = ret.unsigned_abs();
    ERRNOS
        .iter()
        .position(|(number, _)| u64::from(number.unsigned_abs()) == errno)
        .unwrap_or(ERRNOS.len())
}

/// `value` if its list has it, else [`OTHER`]: an unlisted value is a mistake of the caller.
pub(super) fn listed(list: &'static [&'static str], value: &'static str) -> &'static str {
    let known = list.contains(&value);
    debug_assert!(known, "label value {value:?} is not in its list {list:?}");
    if known { value } else { OTHER }
}

/// `value` cut to [`VALUE_BYTES_MAX`], at a character.
pub(super) fn bounded(value: &str) -> &str {
    let mut end = value.len().min(VALUE_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    &value[..end]
}

#[cfg(test)]
mod tests {
    use super::{ERRNO_NAMES, IoEndPhase, OTHER, VALUE_BYTES_MAX, bounded, errno_index};
    use crate::event::FsyncPhase;

    #[test]
    fn errno_is_symbolic_with_either_sign_and_bounded() {
        assert_eq!(ERRNO_NAMES[errno_index(-5)], "EIO");
        assert_eq!(ERRNO_NAMES[errno_index(28)], "ENOSPC");
        assert_eq!(ERRNO_NAMES[errno_index(-4095)], OTHER);
        assert_eq!(ERRNO_NAMES[errno_index(i64::MIN)], OTHER);
    }

    #[test]
    fn phase_labels_are_those_of_the_events() {
        let fsync: Vec<_> = FsyncPhase::ALL.iter().map(|phase| phase.label()).collect();
        assert_eq!(fsync, super::FSYNC_PHASES);
        let io_end: Vec<_> = IoEndPhase::ALL.iter().map(|phase| phase.label()).collect();
        assert_eq!(io_end, super::IO_END_PHASES);
    }

    #[test]
    fn long_value_is_cut_at_a_character() {
        let long = "é".repeat(VALUE_BYTES_MAX);
        assert_eq!(bounded(&long).len(), VALUE_BYTES_MAX);
        let odd = format!("x{long}");
        assert_eq!(bounded(&odd).len(), VALUE_BYTES_MAX - 1);
        assert_eq!(bounded("vda1"), "vda1");
    }
}
