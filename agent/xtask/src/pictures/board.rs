//! A dashboard and the answers to its queries, joined panel by panel.
//!
//! Answers are a list of `{title, type, unit, queries: [{expr, legend, result}]}`, `result` being the
//! series as Prometheus' API gives them: `values` of a range, or the `value` of a moment. A panel that is
//! repeated for the values of a variable has an answer for each; a board's annotations are one more.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::unit;

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Row,
    TimeSeries,
    HeatMap,
    Stat,
    Table,
}

/// In columns and rows of the board's grid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
}

#[derive(Debug)]
pub(super) struct Board {
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
    /// Moments that the annotations mark.
    pub(super) marks: Vec<f64>,
    pub(super) from_s: f64,
    pub(super) to_s: f64,
}

#[derive(Debug)]
pub(super) struct Panel {
    pub(super) kind: Kind,
    pub(super) title: String,
    pub(super) place: Place,
    /// As the dashboard has it.
    pub(super) json: Value,
    /// One for each of its queries, in their order.
    pub(super) answers: Vec<Answer>,
}

#[derive(Debug)]
pub(super) struct Answer {
    pub(super) ref_id: String,
    pub(super) series: Vec<Series>,
}

#[derive(Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: Labels,
    /// Seconds since 1970, and a number.
    pub(super) points: Vec<(f64, f64)>,
}

impl Board {
    pub(super) fn read(dashboard: &str, answers: &str) -> Result<Self> {
        let dashboard: Value = serde_json::from_str(dashboard)?;
        let answers: Vec<Value> = serde_json::from_str(answers)?;
        let mut panels = Vec::new();
        for panel in list(&dashboard, "panels") {
            read_panel(panel, &answers, &mut panels)?;
        }
        let marks = answers.iter().filter(|answer| answer["type"] == "annotation");
        let marks = marks.flat_map(|answer| list(answer, "queries"));
        let marks = marks.map(|query| series(query, "")).collect::<Result<Vec<_>>>()?;
        let marks = marks.iter().flatten().flat_map(|series| &series.points).map(|(at_s, _)| *at_s);
        let ranges = panels.iter().flat_map(|panel: &Panel| &panel.answers);
        let ranges = ranges.flat_map(|answer| &answer.series).filter(|it| it.points.len() > 1);
        let times = || ranges.clone().flat_map(|series| &series.points).map(|(at_s, _)| *at_s);
        let from_s = times().reduce(f64::min).context("no answer of a range")?;
        let to_s = times().reduce(f64::max).context("no answer of a range")?;
        let title = dashboard["title"].as_str().context("no title")?.to_owned();
        Ok(Self { title, marks: marks.collect(), from_s, to_s, panels })
    }

    /// The length of what is shown, and what is marked in it.
    pub(super) fn when(&self) -> String {
        let minutes = (self.to_s - self.from_s) / 60.0;
        let marks = if self.marks.is_empty() { "" } else { "; red lines: violations" };
        format!("{minutes:.0} minutes, clock in UTC{marks}")
    }
}

impl Series {
    pub(super) fn largest(&self) -> f64 {
        self.points.iter().map(|(_, number)| *number).fold(f64::MIN, f64::max)
    }
}

impl Panel {
    pub(super) fn unit(&self) -> &str {
        self.json["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or("short")
    }

    /// A number as the panel's decimals have it.
    pub(super) fn rounded(&self, number: f64) -> f64 {
        let decimals = &self.json["fieldConfig"]["defaults"]["decimals"];
        if decimals == 0 { number.round() } else { number }
    }

    pub(super) fn custom(&self, name: &str) -> &Value {
        &self.json["fieldConfig"]["defaults"]["custom"][name]
    }

    /// What stands for no answer, as in Grafana.
    pub(super) fn no_value(&self) -> &str {
        self.json["fieldConfig"]["defaults"]["noValue"].as_str().unwrap_or("No data")
    }

    pub(super) fn is_empty(&self) -> bool {
        self.series().all(|series| series.points.is_empty())
    }

    pub(super) fn series(&self) -> impl Iterator<Item = &Series> {
        self.answers.iter().flat_map(|answer| &answer.series)
    }
}

/// A panel, or as many as it is repeated.
fn read_panel(json: &Value, answers: &[Value], panels: &mut Vec<Panel>) -> Result<()> {
    let title = json["title"].as_str().context("a panel without a title")?;
    let kind = kind(json)?;
    if kind == Kind::Row {
        let (title, place) = (title.to_owned(), place(json)?);
        panels.push(Panel { kind, title, place, json: json.clone(), answers: Vec::new() });
        return Ok(());
    }
    let unit = &json["fieldConfig"]["defaults"]["unit"];
    ensure!(unit.as_str().is_some_and(unit::is_known), "`{title}` is in {unit}");
    let constant = title.split('$').next().unwrap_or(title);
    let is_repeated = json["repeat"].is_string();
    let is_of_it = |answer: &&Value| match answer["title"].as_str() {
        Some(of) if is_repeated => of.starts_with(constant),
        of => of == Some(title),
    };
    let mut number = 0;
    let of_kind = answers.iter().filter(|answer| answer["type"] == json["type"]);
    for answer in of_kind.filter(is_of_it) {
        let (targets, queries) = (list(json, "targets"), list(answer, "queries"));
        ensure!(targets.len() == queries.len(), "`{title}` has other queries than are answered");
        let read = targets.iter().zip(queries).map(|(target, query)| {
            let legend = target["legendFormat"].as_str().unwrap_or_default();
            let ref_id = target["refId"].as_str().unwrap_or_default().to_owned();
            Ok(Answer { ref_id, series: series(query, legend)? })
        });
        let place = repeated(json, place(json)?, number)?;
        number += 1;
        panels.push(Panel {
            kind,
            title: answer["title"].as_str().unwrap_or_default().to_owned(),
            place,
            json: json.clone(),
            answers: read.collect::<Result<_>>()?,
        });
    }
    ensure!(number > 0, "no answer to the panel `{title}`");
    Ok(())
}

/// Where the `number`th of a panel's repetitions is: beside each other, and then below.
fn repeated(json: &Value, first: Place, number: u32) -> Result<Place> {
    if json["repeat"].is_null() {
        ensure!(number == 0, "two answers to one panel");
        return Ok(first);
    }
    let per_row = u32::try_from(json["maxPerRow"].as_u64().unwrap_or(4))?;
    let w = 24 / per_row;
    Ok(Place { x: number % per_row * w, y: first.y + number / per_row * first.h, w, ..first })
}

fn kind(json: &Value) -> Result<Kind> {
    Ok(match json["type"].as_str() {
        Some("row") => Kind::Row,
        Some("timeseries") => Kind::TimeSeries,
        Some("heatmap") => Kind::HeatMap,
        Some("stat") => Kind::Stat,
        Some("table") => Kind::Table,
        other => bail!("no picture of a panel of the type {other:?}"),
    })
}

fn place(json: &Value) -> Result<Place> {
    let side = |name: &str| -> Result<u32> {
        let cells = json["gridPos"][name].as_u64().context("a panel without a place")?;
        Ok(cells.try_into()?)
    };
    Ok(Place { x: side("x")?, y: side("y")?, w: side("w")?, h: side("h")? })
}

/// The series of an answer; samples that are no number are gaps.
fn series(query: &Value, legend: &str) -> Result<Vec<Series>> {
    let mut all = Vec::new();
    for series in list(query, "result") {
        let labels: Labels = serde_json::from_value(series["metric"].clone())?;
        let samples = list(series, "values").iter().chain(series.get("value"));
        let points = samples.map(point).collect::<Result<Vec<_>>>()?;
        let points = points.into_iter().filter(|(_, number)| number.is_finite()).collect();
        all.push(Series { name: name(legend, &labels), labels, points });
    }
    Ok(all)
}

/// `[seconds, "number"]`
fn point(sample: &Value) -> Result<(f64, f64)> {
    let at_s = sample[0].as_f64().context("a sample without a time")?;
    let number = sample[1].as_str().context("a sample without a value")?;
    Ok((at_s, number.parse()?))
}

/// A legend with its labels put in.
fn name(legend: &str, labels: &Labels) -> String {
    let mut name = legend.to_owned();
    let used: BTreeSet<_> =
        legend.split("{{").skip(1).filter_map(|it| it.split("}}").next()).collect();
    for label in used {
        let value = labels.get(label).map_or("", String::as_str);
        name = name.replace(&format!("{{{{{label}}}}}"), value);
    }
    name
}

fn list<'a>(json: &'a Value, name: &str) -> &'a [Value] {
    json[name].as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOARD: &str = r#"{"title": "b", "panels": [
        {"type": "row", "title": "r", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
        {"type": "heatmap", "title": "of $p", "fieldConfig": {"defaults": {"unit": "s"}}, "repeat": "p", "maxPerRow": 2,
         "gridPos": {"x": 0, "y": 1, "w": 12, "h": 8},
         "targets": [{"refId": "A", "expr": "a", "legendFormat": "{{x}} is {{y}}"}]}]}"#;

    fn answers(titles: &[&str]) -> String {
        let answer = |title: &&str| {
            serde_json::json!({"title": title, "type": "heatmap", "queries": [{"result": [
                {"metric": {"x": "1"}, "values": [[10, "2"], [20, "NaN"], [30, "4"]]}]}]})
        };
        Value::from(titles.iter().map(answer).collect::<Vec<_>>()).to_string()
    }

    #[test]
    fn a_repeated_panel_is_there_for_each_answer() {
        let board = Board::read(BOARD, &answers(&["of a", "of b", "of c"])).unwrap();
        let places: Vec<_> = board.panels.iter().map(|it| (it.place.x, it.place.y)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (12, 1), (0, 9)]);
        assert_eq!((board.from_s, board.to_s), (10.0, 30.0));
    }

    #[test]
    fn labels_stand_in_the_legend_and_what_is_no_number_is_a_gap() {
        let board = Board::read(BOARD, &answers(&["of a"])).unwrap();
        let series = board.panels[1].series().next().unwrap();
        assert_eq!((series.name.as_str(), series.points.len()), ("1 is ", 2));
    }

    #[test]
    fn a_panel_without_an_answer_is_an_error() {
        let error = Board::read(BOARD, &answers(&["else"])).unwrap_err();
        assert!(error.to_string().contains("`of $p`"), "{error}");
    }
}
