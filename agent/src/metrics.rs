//! The agent's metrics: a cheap handle, written by the pipeline and read by the scrape.
//!
//! ```text
//!  METRICS (table) ──► Families ──► registry ──┬► text ────────┬► GET /metrics
//!                          ▲                   └► openmetrics ─┘
//!  pipeline ──► Metrics, DeviceMetrics             ▲
//!                  └─ the latest finding ──► Exemplars
//! ```
//!
//! Invariants: every metric is a row of [`METRICS`]; every label is bounded; a metric that nothing on
//! this host observes is absent, never zero (see [`Metrics::observing`]). A handle on the hot path is
//! a few relaxed atomic additions; encoding runs on the caller's thread and never blocks a counter.
//! Times come in as [`Nanos`] and leave as seconds.

mod device;
mod exemplars;
mod families;
mod info;
pub mod labels;
mod octaves;
mod openmetrics;
mod process;
pub mod reference;
mod state;
pub mod table;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, IntCounter, IntCounterVec, Registry};

pub use self::device::DeviceMetrics;
use self::device::{Armed, DeviceFamilies};
pub use self::exemplars::Date;
use self::families::Families;
use self::info::Info;
use self::labels::{
    DEVICES_MAX, ORACLE_CORES, ORACLE_OUTCOMES, OTHER_DEVICES, UNKNOWN_DEVICE, bounded, listed,
};
pub use self::labels::{IoEndPhase, Names, TASK_TABLES};
use self::process::ProcessCollector;
pub use self::state::{Build, ConfigFile, Kernel, RingUse, TableUse, WatchpointsUse};
pub use self::table::{METRICS, Scope};
use crate::event::{DevId, Nanos, ProbeId};
use crate::host::Host;

/// Content type of [`Metrics::encode`].
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of [`Metrics::encode_openmetrics`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// A list of names is longer than the label's bound.
    #[error(
        "{list} has {given} names, its label takes at most {max}: raise the bound in metrics/labels.rs"
    )]
    TooManyNames {
        /// The field of [`Names`].
        list: &'static str,
        /// How many it has.
        given: usize,
        /// How many it may have.
        max: usize,
    },
    /// A list has a name twice.
    #[error("{list} has {name:?} twice")]
    DuplicateName {
        /// The field of [`Names`].
        list: &'static str,
        /// The name.
        name: &'static str,
    },
    /// The registry refused a family.
    #[error("cannot register the metrics: {0}")]
    Register(#[source] prometheus::Error),
}

/// Handle on the metrics; a clone is the same metrics.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    names: Names,
    registry: Registry,
    /// By `Scope as usize`: whether rows of the scope are exported.
    observed: [AtomicBool; Scope::ALL.len()],
    device_families: DeviceFamilies,
    devices: Mutex<Devices>,
    events: Box<[IntCounter]>,
    losses: IntCounterVec,
    in_flight: GaugeVec,
    oldest_age: GaugeVec,
    bios_attached: IntCounter,
    bios_ended: IntCounter,
    suppressed: IntCounterVec,
    active: CounterVec,
    degraded: GaugeVec,
    oracle_events: IntCounterVec,
    probe_info: Info,
    probe_attached: GaugeVec,
    probe_missed: IntCounterVec,
    probe_runs: IntCounterVec,
    probe_run_seconds: CounterVec,
    ring_used: GaugeVec,
    ring_size: GaugeVec,
    table_entries: GaugeVec,
    table_max: GaugeVec,
    table_swept: IntCounterVec,
    watch_slots: GaugeVec,
    watch_coverage: GaugeVec,
    watch_armed: CounterVec,
    watch_interrupts: IntCounterVec,
    watch_late: IntCounterVec,
    watch_hits: IntCounterVec,
    cpu_limit_exceeded: GaugeVec,
    reload_successful: GaugeVec,
    reload_success_time: GaugeVec,
    config_refused: [AtomicBool; ConfigFile::ALL.len()],
    device_info: Info,
    build_info: Info,
    kernel_info: Info,
}

/// The devices that have a label, and the rules that start at 0 for each.
#[derive(Default)]
struct Devices {
    by_label: BTreeMap<String, DeviceMetrics>,
    /// Labels of `by_label` that count against [`DEVICES_MAX`].
    named: usize,
    rules: Vec<Armed>,
}

impl Metrics {
    /// Registers every row of [`METRICS`]; event kinds, losses and probes start at 0.
    ///
    /// # Errors
    /// If a list of `names` exceeds its bound or has a name twice.
    pub fn new(names: Names) -> Result<Self, MetricsError> {
        names.check()?;
        let registry = Registry::new();
        let families = Families::register(&registry).map_err(MetricsError::Register)?;
        let events = families.counter("endiod_events_total");
        let events = names.event_kinds.iter().map(|kind| events.with_label_values(&[kind]));
        let inner = Inner {
            names,
            observed: Default::default(),
            device_families: DeviceFamilies::new(&families, names),
            devices: Mutex::default(),
            events: events.collect(),
            losses: families.counter("endiod_events_lost_total"),
            in_flight: families.gauge("endiod_io_end_in_flight"),
            oldest_age: families.gauge("endiod_io_end_oldest_age_seconds"),
            bios_attached: families.counter("endiod_bios_attached_total").with_label_values(&NONE),
            bios_ended: families.counter("endiod_bios_ended_total").with_label_values(&NONE),
            suppressed: families.counter("endiod_violations_suppressed_total"),
            active: families.seconds("endiod_detector_active_seconds_total"),
            degraded: families.gauge("endiod_detector_degraded"),
            oracle_events: families.counter("endiod_oracle_events_total"),
            probe_info: Info::new(families.gauge("endiod_probe_info")),
            probe_attached: families.gauge("endiod_probe_attached"),
            probe_missed: families.counter("endiod_probe_missed_total"),
            probe_runs: families.counter("endiod_probe_runs_total"),
            probe_run_seconds: families.seconds("endiod_probe_run_seconds_total"),
            ring_used: families.gauge("endiod_ringbuf_used_bytes"),
            ring_size: families.gauge("endiod_ringbuf_size_bytes"),
            table_entries: families.gauge("endiod_table_entries"),
            table_max: families.gauge("endiod_table_max_entries"),
            table_swept: families.counter("endiod_table_swept_total"),
            watch_slots: families.gauge("endiod_watchpoint_slots"),
            watch_coverage: families.gauge("endiod_watchpoint_coverage_ratio"),
            watch_armed: families.seconds("endiod_watchpoint_armed_seconds_total"),
            watch_interrupts: families.counter("endiod_watchpoint_interrupts_total"),
            watch_late: families.counter("endiod_watchpoint_late_total"),
            watch_hits: families.counter("endiod_watchpoint_hits_total"),
            cpu_limit_exceeded: families.gauge("endiod_cpu_limit_exceeded"),
            reload_successful: families.gauge("endiod_config_last_reload_successful"),
            reload_success_time: families
                .gauge("endiod_config_last_reload_success_timestamp_seconds"),
            config_refused: Default::default(),
            device_info: Info::new(families.gauge("endiod_device_info")),
            build_info: Info::new(families.gauge("endiod_build_info")),
            kernel_info: Info::new(families.gauge("endiod_kernel_info")),
            registry,
        };
        let metrics = Metrics(Arc::new(inner));
        metrics.start_at_zero();
        Ok(metrics)
    }

    /// Exports the agent's own `process_*`, read from the host's `/proc` at each scrape; `helper` is the process
    /// that holds its programs, if another does.
    ///
    /// # Errors
    /// If it was called before.
    pub fn watch_process(&self, host: &Host, helper: Option<u32>) -> Result<(), MetricsError> {
        let process = ProcessCollector::new(host, helper).map_err(MetricsError::Register)?;
        self.0.registry.register(Box::new(process)).map_err(MetricsError::Register)?;
        self.observing(Scope::Process);
        Ok(())
    }

    /// From now on this host observes `scope`: its rows are exported, zeros included. It stays so
    /// when the probes detach: what was counted stays true.
    pub fn observing(&self, scope: Scope) {
        self.0.observed[scope as usize].store(true, Relaxed);
    }

    /// The series of a device, by the kernel's name if it is known, else by `major:minor`; the first
    /// [`DEVICES_MAX`] labels have their own, the rest share `~other`. Takes a lock: keep the handle.
    pub fn device(&self, dev: DevId, name: Option<&str>) -> DeviceMetrics {
        let numbers = dev.to_string();
        let label = name.map(bounded).filter(|name| !name.is_empty()).unwrap_or(&numbers);
        let mut devices = self.devices();
        let full = devices.named >= DEVICES_MAX && !devices.by_label.contains_key(label);
        self.resolve(&mut devices, if full { OTHER_DEVICES } else { label })
    }

    /// The series for what could not be told the device of.
    pub fn unknown_device(&self) -> DeviceMetrics {
        self.resolve(&mut self.devices(), UNKNOWN_DEVICE)
    }

    /// The series that every device beyond the bound shares.
    pub fn other_devices(&self) -> DeviceMetrics {
        self.resolve(&mut self.devices(), OTHER_DEVICES)
    }

    /// A record of the kind with this index in `Names::event_kinds` was decoded.
    pub fn event(&self, kind_index: usize) {
        match self.0.events.get(kind_index) {
            Some(events) => events.inc(),
            None => debug_assert!(false, "event kind {kind_index} has no name"),
        }
    }

    /// `count` records were lost at a (stage, reason) of `Names::losses`.
    pub fn events_lost(&self, stage: &'static str, reason: &'static str, count: u64) {
        let known = self.0.names.losses.contains(&(stage, reason));
        debug_assert!(known, "loss {stage}/{reason} is not in its list");
        let labels = if known { [stage, reason] } else { [labels::OTHER; 2] };
        self.0.losses.with_label_values(&labels).inc_by(count);
    }

    /// A bio was submitted for an io_end.
    pub fn bio_attached(&self) {
        self.0.bios_attached.inc();
    }

    /// A bio of an io_end ended.
    pub fn bio_ended(&self) {
        self.0.bios_ended.inc();
    }

    /// So many io_ends are in `state`, the oldest of them for `oldest_age`. A state that the probes
    /// of this host cannot tell must not be set: it is absent then.
    pub fn set_in_flight(&self, state: &'static str, io_ends: u64, oldest_age: Option<Nanos>) {
        let state = listed(self.0.names.states, state);
        self.0.in_flight.with_label_values(&[state]).set(gauge_value(io_ends));
        match oldest_age {
            Some(age) => self.0.oldest_age.with_label_values(&[state]).set(age.as_secs_f64()),
            // An error means that the series is gone already, which is what was asked for.
            None => drop(self.0.oldest_age.remove_label_values(&[state])),
        }
    }

    /// The scrape, in the text format 0.0.4 of [`TEXT`]. Takes some milliseconds on a host
    /// with many devices: never call it from the pipeline.
    pub fn encode(&self) -> String {
        text::encode(&self.gather())
    }

    /// The same in the format of [`OPENMETRICS`], violations with the finding that they counted last; `date`
    /// says when a moment was.
    pub fn encode_openmetrics(&self, date: Date<'_>) -> String {
        openmetrics::encode(&self.gather(), self.0.device_families.exemplars(), date)
    }

    /// What a scrape holds now, on the same terms as [`Metrics::encode`].
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.0.registry.gather();
        families.retain(|family| self.is_shown(family.name()));
        families
    }

    fn is_shown(&self, name: &str) -> bool {
        let row = METRICS.iter().find(|row| row.name == name).expect("families come from rows");
        matches!(row.scope, Scope::Agent | Scope::Rules)
            || self.0.observed[row.scope as usize].load(Relaxed)
    }

    fn start_at_zero(&self) {
        for (stage, reason) in self.0.names.losses {
            self.events_lost(stage, reason, 0);
        }
        for core in ORACLE_CORES {
            for outcome in ORACLE_OUTCOMES {
                self.oracle_events(core, outcome, 0);
            }
        }
        for probe in self.0.names.probes {
            self.0.probe_attached.with_label_values(&[probe]).set(0.0);
        }
        self.show_devices(&self.devices());
    }

    fn resolve(&self, devices: &mut Devices, label: &str) -> DeviceMetrics {
        if let Some(known) = devices.by_label.get(label) {
            return known.clone();
        }
        let device = self.0.device_families.resolve(label);
        for rule in &devices.rules {
            self.0.device_families.start_violations(label, *rule);
        }
        devices.by_label.insert(label.to_owned(), device.clone());
        devices.named += usize::from(label != OTHER_DEVICES && label != UNKNOWN_DEVICE);
        self.show_devices(devices);
        device
    }

    fn show_devices(&self, devices: &Devices) {
        self.show_table(labels::DEVICES_TABLE, devices.named as u64, DEVICES_MAX as u64);
    }

    fn show_table(&self, table: &str, entries: u64, max_entries: u64) {
        self.0.table_entries.with_label_values(&[table]).set(gauge_value(entries));
        self.0.table_max.with_label_values(&[table]).set(gauge_value(max_entries));
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a probe, [`labels::OTHER`] if it has none.
    fn probe(&self, probe: ProbeId) -> &'static str {
        let name = usize::try_from(probe.0).ok().and_then(|index| self.0.names.probes.get(index));
        debug_assert!(name.is_some(), "probe {probe:?} has no name");
        name.copied().unwrap_or(labels::OTHER)
    }
}

/// The label values of a metric without labels.
const NONE: [&str; 0] = [];

#[expect(clippy::cast_precision_loss, reason = "a gauge is a double: exact up to 2^53")]
fn gauge_value(value: u64) -> f64 {
    value as f64
}
