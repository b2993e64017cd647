//! The setters of what changes rarely: rules, probes, tables, the host.
//!
//! None of these is for the hot path: each looks its series up by label.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::device::Armed;
use super::labels::{
    BACKENDS, DEVICES_MAX, ORACLE_CORES, ORACLE_OUTCOMES, TASK_TABLES, UNKNOWN_DEVICE, WATCH_HITS,
    listed,
};
use super::{Metrics, NONE, gauge_value};
use crate::devices::Device;
use crate::event::{Nanos, ProbeId};

/// The files that are read again while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigFile {
    /// `--config`.
    Settings,
    /// `--web-config`, with the certificates and the key that it names.
    Web,
}

impl ConfigFile {
    /// Both.
    pub(super) const ALL: [ConfigFile; 2] = [ConfigFile::Settings, ConfigFile::Web];
}

/// How full the ring buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingUse {
    /// Bytes waiting.
    pub used_bytes: u64,
    /// Its size.
    pub size_bytes: u64,
}

/// How full a fixed-capacity table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// Entries in use.
    pub entries: u64,
    /// Its capacity.
    pub max_entries: u64,
}

/// The watchpoints; counts are what came since the last time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WatchpointsUse {
    /// Slots that there are now.
    pub slots: u32,
    /// Share of the lives of all io_ends that was watched so far.
    pub coverage: Option<f64>,
    /// How long io_ends had one.
    pub armed: Nanos,
    /// Interrupts sent to CPUs.
    pub interrupts: u64,
    /// io_ends that were over before they had one.
    pub late: u64,
    /// Stores seen, by [`WATCH_HITS`].
    pub hits: [u64; WATCH_HITS.len()],
}

/// The running agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build<'a> {
    /// Version of the agent.
    pub version: &'a str,
    /// Revision of the source; empty if unknown.
    pub revision: &'a str,
    /// Version of the wire ABI.
    pub wire: u16,
}

/// The running kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel<'a> {
    /// `uname -r`.
    pub release: &'a str,
    /// Generation of ext4's completion protocol; empty if not determined.
    pub generation: &'a str,
}

impl Metrics {
    /// `rule` watches on this host, with verdicts of these `confidences`: its violations start at 0 for every known device, for every one
    /// to come and for `~unknown`, and so do its suppressions.
    pub fn arm_rule(&self, rule: &'static str, confidences: &'static [&'static str]) {
        let rule = listed(self.0.names.rules, rule);
        let armed = Armed { rule, confidences };
        let mut devices = self.devices();
        if !devices.rules.contains(&armed) {
            devices.rules.push(armed);
        }
        let labels = devices.by_label.keys().map(String::as_str).chain([UNKNOWN_DEVICE]);
        for label in labels {
            self.0.device_families.start_violations(label, armed);
        }
        for reason in self.0.names.suppression_reasons {
            self.0.suppressed.with_label_values(&[rule, reason]);
        }
    }

    /// `rule` no longer watches: devices to come have no series of it. What it counted stays.
    pub fn disarm_rule(&self, rule: &'static str) {
        self.devices().rules.retain(|armed| armed.rule != rule);
    }

    /// `rule` watched for another while.
    pub fn rule_active(&self, rule: &'static str, time: Nanos) {
        let rule = listed(self.0.names.rules, rule);
        self.0.active.with_label_values(&[rule]).inc_by(time.as_secs_f64());
    }

    /// Whether `rule` is limited for `reason`, one of `Names::degraded_reasons`.
    pub fn set_degraded(&self, rule: &'static str, reason: &'static str, degraded: bool) {
        let labels =
            [listed(self.0.names.rules, rule), listed(self.0.names.degraded_reasons, reason)];
        if degraded {
            self.0.degraded.with_label_values(&labels).set(1.0);
        } else {
            // An error means that it was not degraded, which is what was asked for.
            let _ = self.0.degraded.remove_label_values(&labels);
        }
    }

    /// `count` apparent violations of `rule` were not reported for `reason`, one of
    /// `Names::suppression_reasons`.
    pub fn suppressed(&self, rule: &'static str, reason: &'static str, count: u64) {
        let rule = listed(self.0.names.rules, rule);
        let reason = listed(self.0.names.suppression_reasons, reason);
        self.0.suppressed.with_label_values(&[rule, reason]).inc_by(count);
    }

    /// Another `count` events were judged so by a reference core.
    pub fn oracle_events(&self, core: &'static str, outcome: &'static str, count: u64) {
        let labels = [listed(ORACLE_CORES, core), listed(ORACLE_OUTCOMES, outcome)];
        self.0.oracle_events.with_label_values(&labels).inc_by(count);
    }

    /// `probe` is attached to `function` by `backend` (`fentry`, `raw_tp`, `kprobe`).
    pub fn probe_attached(&self, probe: ProbeId, function: &str, backend: &'static str) {
        let name = self.probe(probe);
        self.0.probe_attached.with_label_values(&[name]).set(1.0);
        self.0.probe_info.set(name, &[name, function, listed(BACKENDS, backend)]);
    }

    /// `probe` is not attached any more.
    pub fn probe_detached(&self, probe: ProbeId) {
        let name = self.probe(probe);
        self.0.probe_attached.with_label_values(&[name]).set(0.0);
        self.0.probe_info.remove(name);
    }

    /// The kernel skipped `probe` another `count` times for `reason`, one of `Names::miss_reasons`.
    /// A count of 0 says that the kernel counts and nothing was missed.
    pub fn probe_missed(&self, probe: ProbeId, reason: &'static str, count: u64) {
        let reason = listed(self.0.names.miss_reasons, reason);
        self.0.probe_missed.with_label_values(&[self.probe(probe), reason]).inc_by(count);
    }

    /// `probe` ran another `count` times, for that long in all.
    pub fn probe_ran(&self, probe: ProbeId, count: u64, took: Nanos) {
        let name = self.probe(probe);
        self.0.probe_runs.with_label_values(&[name]).inc_by(count);
        self.0.probe_run_seconds.with_label_values(&[name]).inc_by(took.as_secs_f64());
    }

    /// How full the ring buffer is.
    pub fn set_ring(&self, ring: RingUse) {
        self.0.ring_used.with_label_values(&NONE).set(gauge_value(ring.used_bytes));
        self.0.ring_size.with_label_values(&NONE).set(gauge_value(ring.size_bytes));
    }

    /// How full `table`, one of `Names::tables`, is.
    pub fn set_table(&self, table: &'static str, entries: TableUse) {
        let table = listed(self.0.names.tables, table);
        self.show_table(table, entries.entries, entries.max_entries);
    }

    /// Another `count` entries were struck off `table`, one of [`TASK_TABLES`], because their tasks had
    /// ended. A count of 0 says that this is watched.
    pub fn swept(&self, table: &'static str, count: u64) {
        let table = listed(TASK_TABLES, table);
        self.0.table_swept.with_label_values(&[table]).inc_by(count);
    }

    /// What the watchpoints did.
    pub fn watchpoints(&self, watched: &WatchpointsUse) {
        let WatchpointsUse { slots, coverage, armed, interrupts, late, hits } = *watched;
        self.0.watch_slots.with_label_values(&NONE).set(f64::from(slots));
        if let Some(coverage) = coverage {
            self.0.watch_coverage.with_label_values(&NONE).set(coverage);
        }
        self.0.watch_armed.with_label_values(&NONE).inc_by(armed.as_secs_f64());
        self.0.watch_interrupts.with_label_values(&NONE).inc_by(interrupts);
        self.0.watch_late.with_label_values(&NONE).inc_by(late);
        for (outcome, count) in WATCH_HITS.iter().zip(hits) {
            self.0.watch_hits.with_label_values(&[outcome]).inc_by(count);
        }
    }

    /// Whether the agent let go of the kernel because it took more CPU than it may.
    pub fn set_cpu_limit_exceeded(&self, exceeded: bool) {
        self.0.cpu_limit_exceeded.with_label_values(&NONE).set(f64::from(u8::from(exceeded)));
    }

    /// A configuration file was read without a mistake at that time, since the epoch.
    pub fn reloaded(&self, file: ConfigFile, at: Duration) {
        self.refuse(file, false);
        self.0.reload_success_time.with_label_values(&NONE).set(at.as_secs_f64());
    }

    /// A configuration file was refused.
    pub fn reload_failed(&self, file: ConfigFile) {
        self.refuse(file, true);
    }

    /// One that is refused is not forgotten over another that is taken.
    fn refuse(&self, file: ConfigFile, refused: bool) {
        self.0.config_refused[file as usize].store(refused, Relaxed);
        let any = self.0.config_refused.iter().any(|refused| refused.load(Relaxed));
        self.0.reload_successful.with_label_values(&NONE).set(if any { 0.0 } else { 1.0 });
    }

    /// The mounted ext4 file systems, all of them; the first [`DEVICES_MAX`] are shown.
    pub fn set_devices(&self, devices: &[Device]) {
        let shown = &devices[..devices.len().min(DEVICES_MAX)];
        for device in shown {
            let Device { dev: _, name, disk, mountpoint, uuid } = device;
            let uuid = uuid.as_deref().unwrap_or_default();
            self.0.device_info.set(name, &[name, disk, mountpoint, uuid]);
        }
        self.0.device_info.retain(|name| shown.iter().any(|device| device.name == name));
    }

    /// The running agent.
    pub fn set_build(&self, build: Build<'_>) {
        let wire = build.wire.to_string();
        self.0.build_info.set("", &[build.version, build.revision, &wire]);
    }

    /// The running kernel; again when its generation is learned.
    pub fn set_kernel(&self, kernel: Kernel<'_>) {
        self.0.kernel_info.set("", &[kernel.release, kernel.generation]);
    }
}
