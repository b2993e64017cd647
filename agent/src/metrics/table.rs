//! `METRICS`: every metric of the agent, once.
//!
//! The registry, the reference page (`agent/docs/metrics.md`) and the tests are made from this table;
//! a metric that is not here cannot be exported. Units are base units; a row's labels each say where
//! their values come from and how many there can be.

use super::labels::{
    CONFIDENCES, DEVICES_MAX, ERRNO_NAMES, EVENT_KINDS_MAX, FSYNC_OPS, FSYNC_PHASES, IO_END_PHASES,
    LOSSES_MAX, ORACLE_CORES, ORACLE_OUTCOMES, PROBES_MAX, REASONS_MAX, RULES_MAX, STATES_MAX,
    TABLES_MAX, TASK_TABLES, WATCH_HITS,
};
use crate::octaves::{OCTAVE_MAX, OCTAVE_MIN};

/// The exposition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// One bucket per octave.
    Histogram,
}

/// What one unit of the value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A number of these.
    Count(&'static str),
    /// 1 if so, 0 if not.
    Flag,
    /// Always 1: the labels are the fact.
    Info,
}

/// What must be observed on this host before the rows are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Nothing: the agent's own state.
    Agent,
    /// First sight and release of io_ends.
    IoEnd,
    /// Bios of io_ends.
    Bio,
    /// Direct writes.
    DirectIo,
    /// `ext4_sync_file`.
    Fsync,
    /// `ext4_evict_inode`.
    Eviction,
    /// The rules: a row appears with its rule.
    Rules,
    /// Watchpoints.
    Watchpoints,
    /// `/proc/self`, read at the scrape.
    Process,
}

impl Scope {
    /// All scopes, by discriminant.
    pub const ALL: [Scope; 9] = [
        Scope::Agent,
        Scope::IoEnd,
        Scope::Bio,
        Scope::DirectIo,
        Scope::Fsync,
        Scope::Eviction,
        Scope::Rules,
        Scope::Watchpoints,
        Scope::Process,
    ];
}

/// Where a label's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These.
    Fixed(&'static [&'static str]),
    /// A list of another module, through `Names`.
    Names {
        /// What it lists.
        list: &'static str,
        /// How many it may have.
        max: usize,
    },
    /// Facts of the host.
    Host {
        /// Which.
        source: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// One value for each value of the label before it.
    Follows(&'static str),
}

impl Values {
    /// How many values there can be.
    pub fn max(self) -> usize {
        match self {
            Values::Fixed(values) => values.len(),
            Values::Names { max, .. } | Values::Host { max, .. } => max,
            Values::Follows(_) => 1,
        }
    }
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricRow {
    /// Full name.
    pub name: &'static str,
    /// Type.
    pub kind: Type,
    /// Unit.
    pub unit: Unit,
    /// Labels.
    pub labels: &'static [Label],
    /// When it is exported.
    pub scope: Scope,
    /// One line for `# HELP` and the reference page.
    pub help: &'static str,
}

impl MetricRow {
    /// The most lines that this metric can have in one scrape.
    pub fn series_max(&self) -> usize {
        // The finite buckets, `+Inf`, sum and count.
        const LINES: usize = (OCTAVE_MAX - OCTAVE_MIN + 1) as usize + 3;
        let sets: usize = self.labels.iter().map(|label| label.values.max()).product();
        if self.kind == Type::Histogram { sets * LINES } else { sets }
    }
}

const fn fixed(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: Values::Fixed(values) }
}

const fn names(name: &'static str, list: &'static str, max: usize) -> Label {
    Label { name, values: Values::Names { list, max } }
}

const fn host(name: &'static str, source: &'static str, max: usize) -> Label {
    Label { name, values: Values::Host { source, max } }
}

const fn follows(name: &'static str, source: &'static str) -> Label {
    Label { name, values: Values::Follows(source) }
}

const DEVICE: Label = host(
    "device",
    "the kernel's name of the block device (`nvme0n1p2`), `major:minor` while the name is unknown, \
     `~unknown` where a record could not tell the device, `~other` for every device after the first 64",
    DEVICES_MAX + 2,
);
const STATE: Label = names("state", "the states of a live io_end", STATES_MAX);
const ERRNO: Label = fixed("errno", ERRNO_NAMES);
const RULE: Label = names("rule", "the detectors' rules", RULES_MAX);
const PROBE: Label = names("probe", "the programs of the probe table", PROBES_MAX);
const TABLE: Label =
    names("table", "the agent's fixed-capacity tables, and `metric_devices`", TABLES_MAX + 1);
const MOUNTED: Label = host("device", "block devices with a mounted ext4", DEVICES_MAX);

const fn row(
    name: &'static str,
    kind: Type,
    unit: Unit,
    labels: &'static [Label],
    scope: Scope,
    help: &'static str,
) -> MetricRow {
    MetricRow { name, kind, unit, labels, scope, help }
}

/// Every metric.
#[rustfmt::skip]
pub const METRICS: &[MetricRow] = &[
    row("endiod_io_end_started_total", Type::Counter, Unit::Count("io_ends"), &[DEVICE], Scope::IoEnd,
        "ext4 io_ends that were seen, from their birth or from a later event on; one whose device is not known yet counts when it is, at the latest when it is over."),
    row("endiod_io_end_completed_total", Type::Counter, Unit::Count("io_ends"), &[DEVICE], Scope::IoEnd,
        "Of those, io_ends that are over: their release was seen, or must have gone unseen (its probe was skipped, its record lost)."),
    row("endiod_io_end_in_flight", Type::Gauge, Unit::Count("io_ends"), &[STATE], Scope::IoEnd,
        "Live io_ends now, by state."),
    row("endiod_io_end_oldest_age_seconds", Type::Gauge, Unit::Seconds, &[STATE], Scope::IoEnd,
        "Time since the oldest io_end of a state entered it; absent for a state that nobody is in."),
    row("endiod_io_end_phase_duration_seconds", Type::Histogram, Unit::Seconds, &[DEVICE, fixed("phase", IO_END_PHASES)], Scope::IoEnd,
        "Time an io_end spent in a phase. submit: birth to the submitter's put; device: first bio attached to last bio ended (or the device done with it, where its end is not seen); queue: final deferred put to the worker's claim; convert: claim to release; total: birth to release. Phases overlap: do not add them up."),
    row("endiod_bios_attached_total", Type::Counter, Unit::Count("bios"), &[], Scope::Bio,
        "Bios submitted for an io_end."),
    row("endiod_bios_ended_total", Type::Counter, Unit::Count("bios"), &[], Scope::Bio,
        "Bios of io_ends that ended; where that is not seen, those that the device was done with."),
    row("endiod_direct_io_duration_seconds", Type::Histogram, Unit::Seconds, &[DEVICE], Scope::DirectIo,
        "Time from the begin of a direct write to the end of its completion handler."),
    row("endiod_direct_io_errors_total", Type::Counter, Unit::Count("errors"), &[DEVICE, ERRNO], Scope::DirectIo,
        "Direct writes that failed, by error."),
    row("endiod_fsync_duration_seconds", Type::Histogram, Unit::Seconds, &[DEVICE, fixed("op", FSYNC_OPS)], Scope::Fsync,
        "Time in ext4_sync_file by what was asked for; the range operations also come from O_SYNC and O_DSYNC writes and from msync, and the unknown ones are what a raw tracepoint sees, which has no range."),
    row("endiod_fsync_phase_duration_seconds", Type::Histogram, Unit::Seconds, &[DEVICE, fixed("phase", FSYNC_PHASES)], Scope::Fsync,
        "Time in a phase of ext4_sync_file. data_submit: dirty pages are submitted; data_wait: writeback, conversion included, is waited for; journal: the commit is waited for; barrier: the device's cache is flushed. A call passes only the phases it needs."),
    row("endiod_fsync_errors_total", Type::Counter, Unit::Count("errors"), &[DEVICE, ERRNO], Scope::Fsync,
        "Calls of ext4_sync_file that returned an error, by error."),
    row("endiod_eviction_duration_seconds", Type::Histogram, Unit::Seconds, &[DEVICE], Scope::Eviction,
        "Time in ext4_evict_inode of an inode that had pages, as of a file that is removed or a file system that is unmounted: its pages' writeback is waited for, then the blocks of a removed file are freed."),
    row("endiod_violations_total", Type::Counter, Unit::Count("violations"), &[DEVICE, RULE, fixed("confidence", CONFIDENCES)], Scope::Rules,
        "Breaches of the completion protocol; with confidence symptom no breach but its usual sign: an object that is in one state for longer than --stuck-after. A rule that is armed on this host starts at 0 for every known device and for ~unknown; a rule that is not armed is absent."),
    row("endiod_violations_suppressed_total", Type::Counter, Unit::Count("violations"), &[RULE, names("reason", "what else could explain it", REASONS_MAX)], Scope::Rules,
        "Apparent breaches that were not reported, by reason: lost events, say, or what a program left out at a bound of its own (program_bound) could explain them."),
    row("endiod_detector_active_seconds_total", Type::Counter, Unit::Seconds, &[RULE], Scope::Rules,
        "Time for which a rule watched, in full or in part, up to the last second: what the number of its violations is to be held against. What was lost meanwhile takes nothing off it: that is endiod_violations_suppressed_total."),
    row("endiod_detector_degraded", Type::Gauge, Unit::Flag, &[RULE, names("reason", "what limits the rule", REASONS_MAX)], Scope::Rules,
        "1 while a rule cannot watch, or can watch only in part, by reason; absent when nothing limits it."),
    row("endiod_oracle_events_total", Type::Counter, Unit::Count("events"), &[fixed("core", ORACLE_CORES), fixed("outcome", ORACLE_OUTCOMES)], Scope::IoEnd,
        "Events of io_ends as a reference core judged them. allowed: it has a run with this event; diverged: it has none, and nothing was lost; could_not_tell: something was lost, its birth or a bio was not seen, a probe is missing or is not fentry, or no core describes this kernel."),
    row("endiod_watchpoint_slots", Type::Gauge, Unit::Count("slots"), &[], Scope::Watchpoints,
        "Hardware watchpoints on flags of io_ends that there are now, each one debug register of each watched CPU; fewer than --watchpoints while a debugger has some."),
    row("endiod_watchpoint_armed_seconds_total", Type::Counter, Unit::Seconds, &[], Scope::Watchpoints,
        "Time that io_ends had a watchpoint, all slots together."),
    row("endiod_watchpoint_coverage_ratio", Type::Gauge, Unit::Count("share"), &[], Scope::Watchpoints,
        "Share of the lives of all io_ends, by time, that a watchpoint was on since the start: the chance that a store at a random moment of one was seen."),
    row("endiod_watchpoint_late_total", Type::Counter, Unit::Count("io_ends"), &[], Scope::Watchpoints,
        "io_ends that were over before the watchpoint that was meant for them was on."),
    row("endiod_watchpoint_hits_total", Type::Counter, Unit::Count("stores"), &[fixed("outcome", WATCH_HITS)], Scope::Watchpoints,
        "Stores to flags that watchpoints saw. named: of a live io_end, by a function that is known; unnamed: by an instruction that kallsyms has no name for; between_lives: before its birth or after its release, as the allocator writes; lost: found no room in the ring."),
    row("endiod_watchpoint_interrupts_total", Type::Counter, Unit::Count("interrupts"), &[], Scope::Watchpoints,
        "Interrupts sent to CPUs to put watchpoints on and to take them off; at most 4,000 a second, all CPUs together."),
    row("endiod_probe_info", Type::Gauge, Unit::Info, &[PROBE, follows("function", "the kernel function or tracepoint it is attached to"), follows("backend", "its back end: `fentry`, `raw_tp`, `kprobe` or `watchpoint`")], Scope::Agent,
        "What an attached probe is attached to, and how."),
    row("endiod_probe_attached", Type::Gauge, Unit::Flag, &[PROBE], Scope::Agent,
        "1 if the probe is attached, 0 if not."),
    row("endiod_probe_missed_total", Type::Counter, Unit::Count("hits"), &[PROBE, names("reason", "why the kernel skipped the probe: `recursion`, its program was running on that CPU; `kprobe`, of a kprobe: that, another kprobe, or a program of one or of a classic tracepoint was", REASONS_MAX)], Scope::Agent,
        "Hits for which the kernel did not run the probe, by reason; absent where the kernel does not count them: those of kprobes, which every kernel skips, before 6.7, and all others before 5.12, which skips none."),
    row("endiod_probe_runs_total", Type::Counter, Unit::Count("runs"), &[PROBE], Scope::Agent,
        "Runs of a probe's program; absent unless the kernel counts them, which costs every program of the host some time: sysctl kernel.bpf_stats_enabled=1."),
    row("endiod_probe_run_seconds_total", Type::Counter, Unit::Seconds, &[PROBE], Scope::Agent,
        "Time in the bodies of a probe's program, its trampoline not included; absent unless the kernel counts it: sysctl kernel.bpf_stats_enabled=1."),
    row("endiod_events_total", Type::Counter, Unit::Count("records"), &[names("kind", "the kinds of wire records", EVENT_KINDS_MAX)], Scope::Agent,
        "Records decoded, by kind."),
    row("endiod_events_lost_total", Type::Counter, Unit::Count("records"), &[names("stage", "where on the way from the kernel", LOSSES_MAX), follows("reason", "why; each stage has its own reasons")], Scope::Agent,
        "Records that were lost, by stage and reason. Stage program counts what the programs left out at their own bounds: a full table of open fsyncs and evictions, of open direct writes or of live io_ends, a walk of a request's bios or of a worker's list that was cut, by the walk."),
    row("endiod_ringbuf_used_bytes", Type::Gauge, Unit::Bytes, &[], Scope::Agent,
        "Bytes waiting in the ring buffer when the pipeline last looked."),
    row("endiod_ringbuf_size_bytes", Type::Gauge, Unit::Bytes, &[], Scope::Agent,
        "Size of the ring buffer."),
    row("endiod_table_entries", Type::Gauge, Unit::Count("entries"), &[TABLE], Scope::Agent,
        "Entries of a fixed-capacity table; metric_devices is the set of device labels."),
    row("endiod_table_max_entries", Type::Gauge, Unit::Count("entries"), &[TABLE], Scope::Agent,
        "Capacity of a fixed-capacity table."),
    row("endiod_table_swept_total", Type::Counter, Unit::Count("entries"), &[fixed("table", TASK_TABLES)], Scope::Agent,
        "Entries of ended tasks that were struck off a table of the programs: the returns that should have taken them out were skipped, which endiod_probe_missed_total counts. Absent where the kernel refuses the program that does it."),
    row("endiod_cpu_limit_exceeded", Type::Gauge, Unit::Flag, &[], Scope::Agent,
        "1 since the agent detached its programs because it took more CPU than --cpu-max; it watches again after its next start. Absent without a limit."),
    row("endiod_config_last_reload_successful", Type::Gauge, Unit::Flag, &[], Scope::Agent,
        "1 if the configuration file and the web configuration were read without a mistake when each was last read, 0 if one was refused and everything stayed as it was. Absent without a file."),
    row("endiod_config_last_reload_success_timestamp_seconds", Type::Gauge, Unit::Seconds, &[], Scope::Agent,
        "When one of them was last read without a mistake, since the epoch."),
    row("endiod_device_info", Type::Gauge, Unit::Info, &[MOUNTED, follows("disk", "the whole disk of a partition, as node_exporter names it; else the device itself"), follows("mountpoint", "where the whole file system is mounted, the first place if there are several"), follows("uuid", "of the file system; empty if unknown")], Scope::Agent,
        "A mounted ext4 file system; joins the device label to disks, mount points and file systems."),
    row("endiod_build_info", Type::Gauge, Unit::Info, &[host("version", "of the agent", 1), follows("revision", "of the source"), follows("wire", "of the wire ABI")], Scope::Agent,
        "The running agent."),
    row("endiod_kernel_info", Type::Gauge, Unit::Info, &[host("release", "of the kernel", 1), follows("generation", "of ext4's completion protocol")], Scope::Agent,
        "The running kernel and the completion protocol that it speaks."),
    row("process_cpu_seconds_total", Type::Counter, Unit::Seconds, &[], Scope::Process,
        "User and system CPU time of the agent, its helper included."),
    row("process_resident_memory_bytes", Type::Gauge, Unit::Bytes, &[], Scope::Process,
        "Resident memory of the agent, its helper included."),
    row("process_virtual_memory_bytes", Type::Gauge, Unit::Bytes, &[], Scope::Process,
        "Virtual memory of the agent, its helper included."),
    row("process_open_fds", Type::Gauge, Unit::Count("descriptors"), &[], Scope::Process,
        "Open file descriptors of the agent."),
    row("process_max_fds", Type::Gauge, Unit::Count("descriptors"), &[], Scope::Process,
        "Soft limit on the agent's open file descriptors; absent if unlimited."),
    row("process_start_time_seconds", Type::Gauge, Unit::Seconds, &[], Scope::Process,
        "When the agent started, since the epoch."),
];
