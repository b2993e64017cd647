//! The dashboards and rules as Prometheus itself takes them: the rules and their own tests, and every
//! query of every panel over two hosts whose metrics are the golden scrape, growing.
//!
//! A query that is wrong, or that gives nothing where all it needs is there, fails.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::panels::{self, Query, Times};
use crate::{command::run, setup, workspace::Workspace};

const INSTANCES: [&str; 2] = ["db1:10491", "db2:10491"];
/// Samples of each series, [`INTERVAL`] apart.
const SAMPLES: usize = 240;
const INTERVAL: &str = "15s";
/// When the queries are asked.
const ASKED_AT: &str = "59m";
const TIMES: Times = Times { rate_interval: "1m", range: "30m" };
/// What Prometheus says of a target.
const OF_PROMETHEUS: &str = "up 1\n";
/// The golden scrape has one phase of an io_end; a host has them all.
const PHASE: &str = "phase=\"total\"";
const OTHER_PHASES: [&str; 4] = ["submit", "device", "queue", "convert"];

/// Fails with what promtool says.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let promtool = setup::promtool(workspace)?;
    let dashboards = workspace.root().join("dashboards");
    let rules = files_of(&dashboards.join("rules"), "yml")?;
    run(Command::new(&promtool).args(["check", "rules"]).args(rules))?;
    let tests = files_of(&dashboards.join("rules/tests"), "yml")?;
    run(Command::new(&promtool).args(["test", "rules"]).args(tests))?;
    let panels = panels::dashboards(&dashboards.join("grafana"), TIMES)?;
    let panels = panels.iter().flat_map(|dashboard| &dashboard.panels);
    let queries: Vec<_> = panels.flat_map(|panel| &panel.queries).collect();
    eprintln!("test: {} queries of the dashboards", queries.len());
    let golden = workspace.root().join("agent/tests/data/metrics/golden.prom");
    let scrape = fs::read_to_string(golden).context("cannot read the golden scrape")?;
    let out = workspace.store().join("out/dashboards");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let test = out.join("queries.json");
    fs::write(&test, promtool_test(&series(&(scrape + OF_PROMETHEUS))?, &queries).to_string())?;
    run(Command::new(&promtool).args(["test", "rules"]).arg(test))
}

/// A file for `promtool test rules`, which reads JSON as the YAML that it is.
fn promtool_test(series: &[Value], queries: &[&Query]) -> Value {
    let asked = queries.iter().map(|Query { expr, .. }| {
        // A comparison with NaN is false, so a quantile of nothing is nothing.
        json!({
            "expr": format!("count(({expr}) > -Inf) > bool 0"),
            "eval_time": ASKED_AT,
            "exp_samples": [{"labels": "{}", "value": 1}],
        })
    });
    json!({
        "evaluation_interval": INTERVAL,
        "tests": [{
            "interval": INTERVAL,
            "input_series": series,
            "promql_expr_test": asked.collect::<Vec<_>>(),
        }],
    })
}

/// The series of a scrape, of each host, counters growing.
fn series(scrape: &str) -> Result<Vec<Value>> {
    let mut series = Vec::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').context("a line without a value")?;
        let value: f64 = value.parse().with_context(|| format!("no number: {line}"))?;
        let values = format!("{value}+{}x{SAMPLES}", growth(name, value));
        let others = OTHER_PHASES.iter().filter(|_| name.contains(PHASE));
        let others = others.map(|other| name.replace(PHASE, &format!("phase=\"{other}\"")));
        for name in others.chain([name.to_owned()]) {
            series.extend(INSTANCES.map(
                |instance| json!({"series": with_instance(&name, instance), "values": values}),
            ));
        }
    }
    Ok(series)
}

/// What a series gains from one sample to the next: a gauge nothing, a histogram itself, so that its
/// buckets keep their order, and a counter something even if it was 0.
fn growth(name: &str, value: f64) -> f64 {
    let family = name.split('{').next().unwrap_or_default();
    if family.ends_with("_total") {
        value + 1.0
    } else if ["_bucket", "_sum", "_count"].iter().any(|end| family.ends_with(end)) {
        value
    } else {
        0.0
    }
}

fn with_instance(name: &str, instance: &str) -> String {
    let (family, labels) = name.split_once('{').unwrap_or((name, "}"));
    format!("{family}{{job=\"endiod\",instance=\"{instance}\",{labels}")
}

/// Files of a folder that end so, sorted.
pub(super) fn files_of(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|it| it == extension)).collect();
    files.sort();
    ensure!(!files.is_empty(), "no .{extension} in {}", folder.display());
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_grow_on_every_host_and_gauges_stay() {
        let text =
            |line: &str| series(line).unwrap().iter().map(Value::to_string).collect::<String>();
        let counter = text("a_total{x=\"1\"} 0");
        assert!(counter.contains(r#"a_total{job=\"endiod\",instance=\"db2:10491\",x=\"1\"}"#));
        assert!(counter.contains("\"0+1x240\""), "{counter}");
        assert!(text("a_bytes 7").contains("\"7+0x240\""));
        assert!(text("a_seconds_bucket{le=\"1\"} 3").contains("\"3+3x240\""));
        assert_eq!(series("# HELP a a\na_sum{phase=\"total\"} 2").unwrap().len(), 10);
    }
}
