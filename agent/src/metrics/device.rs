//! The series of one device, resolved once.
//!
//! The pipeline asks `Metrics::device` for a handle when it learns of a device and keeps it: each
//! method is then a few relaxed atomic operations, without a lock or a hash. Only `violation`, which
//! is rare, looks its series up.

use std::fmt;
use std::sync::Arc;

use prometheus::{IntCounter, IntCounterVec};

use super::exemplars::Exemplars;
use super::families::Families;
use super::labels::{
    CONFIDENCES, ERRNO_NAMES, FSYNC_OPS, FSYNC_PHASES, IO_END_PHASES, IoEndPhase, Names,
    errno_index, listed,
};
use super::octaves::{Octaves, OctavesVec};
use super::openmetrics::VIOLATIONS;
use crate::event::{FsyncPhase, FsyncRange, Nanos};

/// The families that have a device label.
pub(super) struct DeviceFamilies {
    names: Names,
    started: IntCounterVec,
    completed: IntCounterVec,
    phases: OctavesVec,
    direct_io: OctavesVec,
    direct_io_errors: IntCounterVec,
    fsync: OctavesVec,
    fsync_phases: OctavesVec,
    fsync_errors: IntCounterVec,
    eviction: OctavesVec,
    violations: IntCounterVec,
    exemplars: Exemplars,
}

impl DeviceFamilies {
    pub(super) fn new(families: &Families, names: Names) -> Self {
        DeviceFamilies {
            names,
            started: families.counter("endiod_io_end_started_total"),
            completed: families.counter("endiod_io_end_completed_total"),
            phases: families.histogram("endiod_io_end_phase_duration_seconds"),
            direct_io: families.histogram("endiod_direct_io_duration_seconds"),
            direct_io_errors: families.counter("endiod_direct_io_errors_total"),
            fsync: families.histogram("endiod_fsync_duration_seconds"),
            fsync_phases: families.histogram("endiod_fsync_phase_duration_seconds"),
            fsync_errors: families.counter("endiod_fsync_errors_total"),
            eviction: families.histogram("endiod_eviction_duration_seconds"),
            violations: families.counter(VIOLATIONS),
            exemplars: Exemplars::default(),
        }
    }

    /// The handle of the device with this label.
    pub(super) fn resolve(&self, device: &str) -> DeviceMetrics {
        let octaves = |family: &OctavesVec, values: &[&str]| {
            values.iter().map(|value| family.series(&[device, value])).collect::<Box<[_]>>()
        };
        let errors = |family: &IntCounterVec| {
            let names = ERRNO_NAMES.iter();
            names.map(|errno| family.with_label_values(&[device, errno])).collect()
        };
        DeviceMetrics(Arc::new(Series {
            label: device.to_owned(),
            names: self.names,
            started: self.started.with_label_values(&[device]),
            completed: self.completed.with_label_values(&[device]),
            phases: octaves(&self.phases, IO_END_PHASES),
            direct_io: self.direct_io.series(&[device]),
            direct_io_errors: errors(&self.direct_io_errors),
            fsync: octaves(&self.fsync, FSYNC_OPS),
            fsync_phases: octaves(&self.fsync_phases, FSYNC_PHASES),
            fsync_errors: errors(&self.fsync_errors),
            eviction: self.eviction.series(&[device]),
            violations: self.violations.clone(),
            exemplars: self.exemplars.clone(),
        }))
    }

    pub(super) fn exemplars(&self) -> &Exemplars {
        &self.exemplars
    }

    /// Makes the violations of an armed rule start at 0 for a device, so that the first one counts as
    /// an increase.
    pub(super) fn start_violations(&self, device: &str, Armed { rule, confidences }: Armed) {
        for confidence in confidences {
            self.violations.with_label_values(&[device, rule, confidence]);
        }
    }
}

/// A rule that watches, and which confidences its verdicts can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Armed {
    pub(super) rule: &'static str,
    pub(super) confidences: &'static [&'static str],
}

/// Series of one device, by array index where a label has a fixed list.
struct Series {
    label: String,
    names: Names,
    started: IntCounter,
    completed: IntCounter,
    phases: Box<[Arc<Octaves>]>,
    direct_io: Arc<Octaves>,
    direct_io_errors: Box<[IntCounter]>,
    fsync: Box<[Arc<Octaves>]>,
    fsync_phases: Box<[Arc<Octaves>]>,
    fsync_errors: Box<[IntCounter]>,
    eviction: Arc<Octaves>,
    violations: IntCounterVec,
    exemplars: Exemplars,
}

/// Handle on the series of one device; a clone counts into the same series.
#[derive(Clone)]
pub struct DeviceMetrics(Arc<Series>);

impl DeviceMetrics {
    /// The `device` label.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// An io_end was born.
    pub fn io_end_started(&self) {
        self.0.started.inc();
    }

    /// An io_end was released.
    pub fn io_end_completed(&self) {
        self.0.completed.inc();
    }

    /// An io_end was in `phase` for this long.
    pub fn io_end_phase(&self, phase: IoEndPhase, took: Nanos) {
        self.0.phases[phase as usize].observe(took);
    }

    /// A direct write took this long, its completion included.
    pub fn direct_io(&self, took: Nanos) {
        self.0.direct_io.observe(took);
    }

    /// A direct write failed with this return value or error number. `-EIOCBQUEUED` is no failure:
    /// the caller must not pass it.
    pub fn direct_io_error(&self, ret: i64) {
        self.0.direct_io_errors[errno_index(ret)].inc();
    }

    /// An `ext4_sync_file` took this long.
    pub fn fsync(&self, range: FsyncRange, took: Nanos) {
        let op = FSYNC_OPS.iter().position(|op| *op == range.op());
        self.0.fsync[op.expect("FSYNC_OPS lists every value of FsyncRange::op")].observe(took);
    }

    /// A phase of an `ext4_sync_file` took this long.
    pub fn fsync_phase(&self, phase: FsyncPhase, took: Nanos) {
        let index = match phase {
            FsyncPhase::DataSubmit => 0,
            FsyncPhase::DataWait => 1,
            FsyncPhase::Journal => 2,
            FsyncPhase::Barrier => 3,
        };
        self.0.fsync_phases[index].observe(took);
    }

    /// An `ext4_sync_file` returned this error.
    pub fn fsync_error(&self, ret: i64) {
        self.0.fsync_errors[errno_index(ret)].inc();
    }

    /// An eviction of an inode with pages took this long.
    pub fn eviction(&self, took: Nanos) {
        self.0.eviction.observe(took);
    }

    /// The protocol was broken on this device. `rule` is one of `Names::rules`; `confidence` is
    /// `certain`, `likely` or `symptom`; `finding` is the id of the finding that says so, if one is kept,
    /// and when it was.
    pub fn violation(
        &self,
        rule: &'static str,
        confidence: &'static str,
        finding: Option<(&str, Nanos)>,
    ) {
        let series =
            [self.label(), listed(self.0.names.rules, rule), listed(CONFIDENCES, confidence)];
        self.0.violations.with_label_values(&series).inc();
        if let Some((finding_id, at)) = finding {
            self.0.exemplars.set(series, finding_id, at);
        }
    }
}

impl fmt::Debug for DeviceMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceMetrics({})", self.0.label)
    }
}

#[cfg(test)]
mod tests {
    use super::{FSYNC_OPS, FSYNC_PHASES};
    use crate::event::{ByteRange, FsyncRange};

    #[test]
    fn every_op_of_a_range_has_a_series() {
        let bytes = |last| Some(ByteRange { first: 0, last });
        let mut ops = Vec::new();
        for bytes in [bytes(i64::MAX), bytes(4095), None] {
            for datasync in [false, true] {
                ops.push(FsyncRange { bytes, datasync }.op());
            }
        }
        assert_eq!(ops, FSYNC_OPS);
        assert_eq!(FSYNC_PHASES.len(), crate::event::FsyncPhase::ALL.len());
    }
}
