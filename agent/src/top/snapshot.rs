//! What is shown of one second: plain numbers and names, bounded, and the same for every screen.

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::pipeline::Health;

/// Name of what has none in the stream.
pub(super) const UNKNOWN: &str = "unknown";
/// What found no room in a table, all together.
pub(super) const OTHERS: &str = "~other";
/// All devices together.
pub(super) const ALL: &str = "all";

/// Everything that a screen can show of one second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Snapshot {
    /// Since the first record, seconds.
    pub seconds: f64,
    /// Can it be believed to be all?
    pub health: Health,
    /// Live io_ends by state.
    pub states: Vec<StateRow>,
    /// Open direct writes, fsyncs and evictions.
    pub calls: [StateRow; 3],
    /// By device, all together first.
    pub devices: Vec<DeviceView>,
    /// fsyncs by process, of all devices.
    pub processes: Vec<Caller>,
    /// The same by cgroup.
    pub cgroups: Vec<Caller>,
    /// In the order of their confirmation.
    #[serde(serialize_with = "each")]
    pub findings: Arc<Vec<FindingView>>,
}

/// What is open in one state.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct StateRow {
    /// The state, or the call.
    pub name: &'static str,
    /// How many.
    pub count: u64,
    /// For how long the oldest is, seconds.
    pub oldest: Option<f64>,
}

/// How something goes: durations in seconds, those of the last 10 to 20 seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    /// Since the start.
    pub count: u64,
    /// Per second, in the last one.
    pub rate: f64,
    /// Half took no longer.
    pub p50: Option<f64>,
    /// 99 of 100 took no longer.
    pub p99: Option<f64>,
    /// The longest.
    pub max: Option<f64>,
    /// How many by octave, from 2^-20 s on.
    pub octaves: Vec<u64>,
}

/// What one device does.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DeviceView {
    /// Its kernel name, or its numbers.
    pub name: String,
    /// Phases of io_ends, by [`crate::metrics::IoEndPhase`].
    pub io_end: Vec<(&'static str, Row)>,
    /// fsyncs by what was asked for.
    pub fsync: Vec<(&'static str, Row)>,
    /// Phases of fsyncs.
    pub fsync_phases: Vec<(&'static str, Row)>,
    /// All fsyncs.
    pub fsyncs: Row,
    /// That failed.
    pub fsync_errors: u64,
    /// Direct writes.
    pub direct: Row,
    /// That failed.
    pub direct_errors: u64,
}

/// Who calls fsync.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Caller {
    /// Process id; absent of a cgroup, and of what found no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Name of the process, or path of the cgroup.
    pub name: String,
    /// Path of the cgroup.
    pub cgroup: String,
    /// Its fsyncs.
    pub fsyncs: Row,
    /// That failed.
    pub errors: u64,
}

/// A finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct FindingView {
    /// Its id.
    pub id: String,
    /// What it breaks.
    pub rule: &'static str,
    /// How sure that is.
    pub confidence: &'static str,
    /// Where.
    pub device: String,
    /// The whole of it, as text.
    pub text: String,
}

fn each<S: Serializer>(list: &Arc<Vec<FindingView>>, serializer: S) -> Result<S::Ok, S::Error> {
    list.as_slice().serialize(serializer)
}
