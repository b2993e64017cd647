//! The agent's own `process_*` metrics, read from `/proc/self` at the scrape.
//!
//! A file that cannot be read or understood makes its metrics absent, never zero. It must not be
//! called from the pipeline: it opens five files.

use std::fs;
use std::path::PathBuf;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, Metric, MetricFamily, MetricType};

use super::table::{METRICS, MetricRow, Scope, Type};
use crate::host::{Host, Process};

/// Descriptors counted at most: the default of `fs.nr_open`, so that a scrape stays bounded.
const OPEN_FDS_MAX: usize = 1 << 20;

/// Reads `proc/` of a host.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    host: Host,
    /// The agent's: the daemon, and the one that holds its programs.
    processes: Vec<Process>,
    rows: Vec<(&'static MetricRow, Desc)>,
}

impl ProcessCollector {
    /// For this process and its helper.
    pub(super) fn new(host: &Host, helper: Option<u32>) -> prometheus::Result<Self> {
        let rows = METRICS.iter().filter(|row| row.scope == Scope::Process);
        let described = rows.map(|row| {
            let desc = Desc::new(row.name.into(), row.help.into(), vec![], Default::default())?;
            Ok((row, desc))
        });
        let rows = described.collect::<prometheus::Result<_>>()?;
        let helper = helper.map(Process::Other);
        let processes = [Process::Own].into_iter().chain(helper).collect();
        Ok(ProcessCollector { host: host.clone(), processes, rows })
    }

    fn value(&self, name: &str) -> Option<f64> {
        match name {
            "process_cpu_seconds_total" => self.sum(|it| self.host.cpu_seconds(it)),
            "process_resident_memory_bytes" => self.sum(|it| self.host.status_bytes(it, "VmRSS:")),
            "process_virtual_memory_bytes" => self.sum(|it| self.host.status_bytes(it, "VmSize:")),
            "process_open_fds" => self.open_fds(),
            "process_max_fds" => max_fds(&fs::read_to_string(self.own("limits")).ok()?),
            "process_start_time_seconds" => self.host.start_seconds(Process::Own),
            _ => None,
        }
    }

    /// Of all processes; none if one of them cannot be told.
    fn sum(&self, of: impl Fn(Process) -> Option<f64>) -> Option<f64> {
        self.processes.iter().map(|process| of(*process)).sum()
    }

    fn own(&self, file: &str) -> PathBuf {
        self.host.root().join("proc/self").join(file)
    }

    /// Counts the descriptor that the count itself opens, as every such collector does.
    fn open_fds(&self) -> Option<f64> {
        let entries = fs::read_dir(self.own("fd")).ok()?;
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

fn max_fds(limits: &str) -> Option<f64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use prometheus::core::Collector;

    use super::{ProcessCollector, max_fds};
    use crate::host::Host;

    #[test]
    fn an_unlimited_count_is_absent() {
        assert_eq!(max_fds("Max open files            1024  4096  files"), Some(1024.0));
        assert_eq!(max_fds("Max open files            unlimited  unlimited  files"), None);
    }

    #[test]
    fn rows_have_values_on_a_real_host_and_are_absent_without_proc() {
        let process = ProcessCollector::new(&Host::default(), None).expect("the rows are valid");
        for (row, _) in &process.rows {
            // The limit may be unlimited.
            let known = process.value(row.name).is_some() || row.name == "process_max_fds";
            assert!(known, "{}", row.name);
        }
        let nowhere = ProcessCollector::new(&Host::at("/nonexistent"), None).expect("same rows");
        assert!(nowhere.collect().is_empty());
        // A sum without one of its parts would be wrong.
        let lost = ProcessCollector::new(&Host::default(), Some(u32::MAX)).expect("same rows");
        assert_eq!(lost.value("process_cpu_seconds_total"), None);
    }
}
