//! The reference page `agent/docs/metrics.md`, made from the table.

use std::fmt::Write as _;

use super::table::{METRICS, MetricRow, Scope, Type, Unit, Values};
use crate::octaves::{OCTAVE_MAX, OCTAVE_MIN};

/// The groups of the page, with what must be observed before a group is exported.
const GROUPS: [(Scope, &str, &str); 8] = [
    (Scope::IoEnd, "io_ends", "Exported once birth and release of io_ends are observed."),
    (Scope::Bio, "Bios", "Exported once the bios of io_ends are observed."),
    (Scope::DirectIo, "Direct I/O", "Exported once direct writes are observed."),
    (Scope::Fsync, "fsync", "Exported once `ext4_sync_file` is observed."),
    (
        Scope::Eviction,
        "Evictions",
        "Exported once `ext4_evict_inode` is observed, which takes fentry.",
    ),
    (Scope::Rules, "The protocol", "Exported rule by rule."),
    (Scope::Agent, "The agent", "Each line appears when its fact is known."),
    (
        Scope::Process,
        "The process",
        "Read from `/proc/self` at each scrape; what cannot be read is absent.",
    ),
];

/// The text of the page.
pub fn page() -> String {
    let mut page = format!(
        "# Metrics\n\n\
         Generated from `METRICS` in `agent/src/metrics/table.rs`. Regenerate with \
         `ENDIOD_BLESS=1 cargo test --test metrics`.\n\n\
         - At `/metrics`, as Prometheus text 0.0.4, or as OpenMetrics 1.0.0 to a request whose `Accept` \
         names `application/openmetrics-text` (version 1.0.0 or 0.0.1) and wants it no less than text, \
         which every Prometheus does.\n\
         - In OpenMetrics a series of `endiod_violations_total` has an exemplar: `finding_id`, the `id` of \
         the latest finding that it counted, and when that was. Prometheus keeps it if it runs with \
         `--enable-feature=exemplar-storage`. Names and values are those of the text, but for whole upper \
         bounds: `le=\"1.0\"` instead of `le=\"1\"`. When a series was created is not told.\n\
         - A metric is absent while nothing on this host can observe it: a zero always means that \
         something was watched and did not happen.\n\
         - Counters of errors and violations start at 0 for every label value that can occur, so \
         that `increase()` sees the first one. Histogram series appear with their first value.\n\
         - Histograms have one bucket per octave: upper bounds 2^{OCTAVE_MIN} s to 2^{OCTAVE_MAX} \
         s, inclusive, and `+Inf`.\n\
         - No label holds a process, an inode or an address. Every label is bounded; the bound \
         below is the most lines that a metric can have in one scrape.\n\
         - The `device` label joins to mount points and, by `disk`, to node_exporter: \
         `rate(endiod_io_end_started_total[5m]) * on (instance, device) group_left (mountpoint) \
         endiod_device_info`.\n"
    );
    for (scope, title, when) in GROUPS {
        write!(page, "\n## {title}\n\n{when}\n").expect("a string takes all text");
        for row in METRICS.iter().filter(|row| row.scope == scope) {
            entry(&mut page, row);
        }
    }
    page
}

fn entry(page: &mut String, row: &MetricRow) {
    let kind = match row.kind {
        Type::Counter => "counter",
        Type::Gauge => "gauge",
        Type::Histogram => "histogram",
    };
    let unit = match row.unit {
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Count(things) => things,
        Unit::Flag => "0 or 1",
        Unit::Info => "always 1",
    };
    let bound = row.series_max();
    let lines = if bound == 1 { "line" } else { "lines" };
    write!(
        page,
        "\n### `{}`\n\n{}\n\n{kind}, {unit}, at most {bound} {lines}\n",
        row.name, row.help
    )
    .expect("a string takes all text");
    if !row.labels.is_empty() {
        page.push_str("\n| label | values |\n| --- | --- |\n");
    }
    for label in row.labels {
        writeln!(page, "| `{}` | {} |", label.name, values(label.values))
            .expect("a string takes all text");
    }
}

fn values(values: Values) -> String {
    match values {
        Values::Fixed(fixed) => {
            fixed.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ")
        }
        Values::Names { list, max } => format!("{list} (at most {max})"),
        Values::Host { source, max: 1 } | Values::Follows(source) => source.to_owned(),
        Values::Host { source, max } => format!("{source} (at most {max})"),
    }
}
