//! What Prometheus and Alertmanager answer.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stack::{ALERTMANAGER, PROMETHEUS};
use crate::http;

/// The series that a query gives now: each `{metric, value: [time, text]}`.
pub(super) fn query(expr: &str) -> Result<Vec<Value>> {
    vector(ask("query", &[("query", expr)])?)
}

/// The same at that time.
pub(super) fn query_at(expr: &str, at_s: f64) -> Result<Vec<Value>> {
    vector(ask("query", &[("query", expr), ("time", &at_s.to_string())])?)
}

/// What it gives over time: each `{metric, values: [[time, text], …]}`.
pub(super) fn query_range(expr: &str, from_s: f64, to_s: f64, step_s: u32) -> Result<Vec<Value>> {
    let [from, to] = [from_s, to_s].map(|time| time.to_string());
    let step = step_s.to_string();
    vector(ask("query_range", &[("query", expr), ("start", &from), ("end", &to), ("step", &step)])?)
}

/// The exemplars of the series of a query.
pub(super) fn exemplars(expr: &str, from_s: f64, to_s: f64) -> Result<Vec<Value>> {
    let [from, to] = [from_s, to_s].map(|time| time.to_string());
    let asked = ask("query_exemplars", &[("query", expr), ("start", &from), ("end", &to)])?;
    list(asked).context("no list of exemplars")
}

/// The alerts that Alertmanager was told of.
pub(super) fn alerts() -> Result<Vec<Value>> {
    let (status, body) = http::get(ALERTMANAGER.parse()?, "/api/v2/alerts")?;
    ensure!(status == 200, "Alertmanager answers {status}: {body}");
    list(serde_json::from_str(&body)?).context("no list of alerts")
}

/// The number of the only series of a query; `None` without one.
pub(super) fn number(expr: &str) -> Result<Option<f64>> {
    let series = query(expr)?;
    ensure!(series.len() < 2, "{expr} gives {} series", series.len());
    series.first().map(|series| value(&series["value"])).transpose()
}

/// Of a sample, `[time, text]`.
pub(super) fn value(sample: &Value) -> Result<f64> {
    let text = sample[1].as_str().context("a sample without a value")?;
    text.parse().with_context(|| format!("no number: {text}"))
}

fn ask(what: &str, parameters: &[(&str, &str)]) -> Result<Value> {
    let words = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    let path = format!("/api/v1/{what}?{}", words.collect::<Vec<_>>().join("&"));
    let (status, body) = http::get(PROMETHEUS.parse()?, &path)?;
    ensure!(status == 200, "{what} of {parameters:?} answers {status}: {body}");
    let mut answer: Value = serde_json::from_str(&body).context("no JSON")?;
    ensure!(answer["status"] == "success", "{parameters:?}: {answer}");
    Ok(answer["data"].take())
}

fn vector(mut data: Value) -> Result<Vec<Value>> {
    let kind = data["resultType"].take();
    ensure!(kind == "vector" || kind == "matrix", "an answer of type {kind}");
    list(data["result"].take()).context("no list of series")
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

/// For a URL.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a string takes all text");
        }
    }
    escaped
}
