//! The agent's own `process_*` metrics, read from `/proc/self` at the scrape.
//!
//! A file that cannot be read or understood makes its metrics absent, never zero. It must not be
//! called from the pipeline: it opens five files.

use std::fs;
use std::path::{Path, PathBuf};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use super::table::{METRICS, MetricRow, Scope, Type};

/// USER_HZ, the tick of `/proc/self/stat`: 100 on every architecture that endiod builds for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Descriptors counted at most: the default of `fs.nr_open`, so that a scrape stays bounded.
const OPEN_FDS_MAX: usize = 1 << 20;

/// Reads `proc/` below a root.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    proc_root: PathBuf,
    rows: Vec<(&'static MetricRow, Desc)>,
}

impl ProcessCollector {
    /// For the process whose `/proc` is `root/proc`; `/` but in tests.
    pub(super) fn new(root: &Path) -> prometheus::Result<Self> {
        let rows = METRICS.iter().filter(|row| row.scope == Scope::Process);
        let described = rows.map(|row| {
            let desc = Desc::new(row.name.into(), row.help.into(), vec![], Default::default())?;
            Ok((row, desc))
        });
        let rows = described.collect::<prometheus::Result<_>>()?;
        Ok(ProcessCollector { proc_root: root.join("proc"), rows })
    }

    fn value(&self, name: &str) -> Option<f64> {
        match name {
            "process_cpu_seconds_total" => cpu_seconds(&self.read("self/stat")?),
            "process_resident_memory_bytes" => status_bytes(&self.read("self/status")?, "VmRSS:"),
            "process_virtual_memory_bytes" => status_bytes(&self.read("self/status")?, "VmSize:"),
            "process_open_fds" => self.open_fds(),
            "process_max_fds" => max_fds(&self.read("self/limits")?),
            "process_start_time_seconds" => {
                start_seconds(&self.read("self/stat")?, &self.read("stat")?)
            }
            _ => None,
        }
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.proc_root.join(path)).ok()
    }

    /// Counts the descriptor that the count itself opens, as every such collector does.
    fn open_fds(&self) -> Option<f64> {
        let entries = fs::read_dir(self.proc_root.join("self/fd")).ok()?;
        let open = u32::try_from(entries.take(OPEN_FDS_MAX).count()).ok()?;
        Some(f64::from(open))
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.rows.iter().map(|(_, desc)| desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let family = |(row, _): &(&'static MetricRow, Desc)| {
            let value = self.value(row.name)?;
            let mut metric = Metric::default();
            let kind = if row.kind == Type::Counter {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
                MetricType::COUNTER
            } else {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
                MetricType::GAUGE
            };
            let mut family = MetricFamily::default();
            family.set_name(row.name.into());
            family.set_help(row.help.into());
            family.set_field_type(kind);
            family.set_metric(vec![metric]);
            Some(family)
        };
        self.rows.iter().filter_map(family).collect()
    }
}

/// Field `number` of `/proc/self/stat` as proc(5) counts them; the command, field 2, may hold spaces
/// and parentheses, so counting starts after its last one.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, system_stat: &str) -> Option<f64> {
    let boot = system_stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn status_bytes(status: &str, key: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{ProcessCollector, cpu_seconds, max_fds, start_seconds, status_bytes};
    use prometheus::core::Collector;

    const STAT: &str = "7 (a) b) (c) S 1 7 7 0 -1 4194560 9 0 0 0 150 50 0 0 20 0 4 0 250 1 2";

    #[test]
    fn command_with_parentheses_does_not_shift_the_fields() {
        assert_eq!(cpu_seconds(STAT), Some(2.0));
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1000\n"), Some(1002.5));
    }

    #[test]
    fn unlimited_or_missing_is_absent() {
        assert_eq!(max_fds("Max open files            1024  4096  files"), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited  unlimited  files"), None);
        assert_eq!(status_bytes("VmRSS:\t    12 kB\n", "VmRSS:"), Some(12288.0));
        assert_eq!(status_bytes("Name:\tendiod\n", "VmRSS:"), None);
    }

    #[test]
    fn rows_have_values_on_a_real_host_and_are_absent_without_proc() {
        let process = ProcessCollector::new(Path::new("/")).expect("the rows are valid");
        for (row, _) in &process.rows {
            // The limit may be unlimited.
            let known = process.value(row.name).is_some() || row.name == "process_max_fds";
            assert!(known, "{}", row.name);
        }
        let nowhere = ProcessCollector::new(Path::new("/nonexistent")).expect("same rows");
        assert!(nowhere.collect().is_empty());
    }
}
