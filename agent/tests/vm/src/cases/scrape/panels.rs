//! Every query of every panel, asked of the guest's Prometheus as Grafana would, and what the panel
//! promises of the answer. The answers go to `panels/DASHBOARD.json`, from which others draw.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::{query_at, query_range, value};
use crate::{Facts, Guest};

/// The queries, variables put in, as the harness put them into the guest.
const PANELS: &str = "/in/panels.json";
/// Between two points of a panel.
const STEP_S: u32 = 2;

/// A query that need not give anything here.
struct Empty {
    panel: &'static str,
    /// A word of the query.
    query: &'static str,
    /// Whether it must give nothing.
    must: bool,
    why: &'static str,
}

const fn must(panel: &'static str, query: &'static str, why: &'static str) -> Empty {
    Empty { panel, query, must: true, why }
}

const fn may(panel: &'static str, query: &'static str, why: &'static str) -> Empty {
    Empty { panel, query, must: false, why }
}

/// Every other query gives a number.
const EMPTY: &[Empty] = &[
    must("Failed direct writes", "", "no crime of this case makes a direct write fail"),
    must("Calls and errors", "endiod_fsync_errors_total", "nor an fsync"),
    may("Lost records", "", "the ring takes this load unless the guest gets no CPU for long"),
    may("Missed hits", "", "an interrupt hits a probe on top of itself, or does not"),
    may("Held back by rule and reason", "", "only a verdict beside a missed hit is"),
    may("Oldest io_end", "", "at that moment nothing may be in flight"),
    may("Hosts", "endiod_io_end_oldest_age_seconds", "at that moment nothing may be in flight"),
];

#[derive(Deserialize)]
struct Dashboard {
    name: String,
    panels: Vec<Panel>,
}

#[derive(Deserialize, Serialize)]
struct Panel {
    title: String,
    #[serde(rename = "type")]
    kind: String,
    unit: String,
    queries: Vec<Query>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Query {
    expr: String,
    legend: String,
    instant: bool,
    /// As the API gave it: series with `values`, or with `value` where `instant`.
    #[serde(default)]
    result: Vec<Value>,
}

/// Asks them all of the time from `from_s` to `to_s`.
pub(super) fn ask_all(guest: &Guest, facts: &mut Facts, from_s: f64, to_s: f64) -> Result<()> {
    let text = fs::read(PANELS).with_context(|| format!("no {PANELS}"))?;
    let mut dashboards: Vec<Dashboard> = serde_json::from_slice(&text)?;
    let out = guest.out.join("panels");
    fs::create_dir_all(&out)?;
    let (mut asked, mut empty, mut broken) = (0_u32, Vec::new(), Vec::new());
    for Dashboard { name, panels } in &mut dashboards {
        for Panel { title, queries, .. } in &mut *panels {
            for query in queries {
                asked += 1;
                query.result = answer(query, from_s, to_s)?;
                let gives = has_a_number(&query.result)?;
                match (gives, row_of(title, &query.expr)) {
                    (true, Some(Empty { must: true, why, .. })) => {
                        broken.push(format!("{name}, {title}: a number, though {why}"));
                    }
                    (true, _) => {}
                    (false, Some(Empty { why, .. })) => empty.push(format!("{title} ({why})")),
                    (false, None) => broken.push(format!("{name}, {title}: no number, {query:?}")),
                }
            }
        }
        let file = out.join(format!("{name}.json"));
        fs::write(&file, serde_json::to_vec(panels)?)?;
    }
    for Empty { panel, query, .. } in EMPTY {
        let mut panels = dashboards.iter().flat_map(|dashboard| &dashboard.panels);
        let is_there = panels
            .any(|it| it.title == *panel && it.queries.iter().any(|its| its.expr.contains(query)));
        ensure!(is_there, "there is no panel {panel} that asks {query}");
    }
    facts.insert("queries".into(), asked.into());
    facts.insert("empty".into(), empty.join("; ").into());
    ensure!(broken.is_empty(), "{}", broken.join("\n"));
    Ok(())
}

fn answer(query: &Query, from_s: f64, to_s: f64) -> Result<Vec<Value>> {
    if query.instant {
        query_at(&query.expr, to_s)
    } else {
        query_range(&query.expr, from_s, to_s, STEP_S)
    }
}

/// Whether any sample is a number: a quantile of nothing is NaN.
fn has_a_number(series: &[Value]) -> Result<bool> {
    for series in series {
        let values = series["values"].as_array().map_or(&[][..], Vec::as_slice);
        for sample in values.iter().chain(series.get("value")) {
            if !value(sample)?.is_nan() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn row_of(title: &str, expr: &str) -> Option<&'static Empty> {
    EMPTY.iter().find(|row| row.panel == title && expr.contains(row.query))
}
