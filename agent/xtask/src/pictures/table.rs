//! A panel of rows: one for each set of labels, the answers of several queries joined by them, columns
//! left out and named as the dashboard's transformations say.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use plotters::prelude::RGBColor;
use serde_json::Value;

use super::{
    board::{Labels, Panel},
    canvas::{Canvas, DIM, Rect, TEXT, fit, width_px},
    stat, unit,
};

const LINE_PX: u32 = 18;
const PAD_PX: u32 = 14;

/// Columns by name, and of each row its cells.
#[derive(Debug, Default, PartialEq)]
struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Cell {
    text: String,
    number: Option<f64>,
    color: Option<RGBColor>,
}

pub(super) fn draw(canvas: &Canvas<'_>, rect: Rect, panel: &Panel) -> Result<()> {
    let Table { columns, rows } = table(panel);
    let widths = widths(&columns, &rows, rect.w);
    let room = (rect.h / LINE_PX - 1) as usize;
    let shown = if rows.len() > room { room - 1 } else { rows.len() };
    let mut x = rect.x;
    for (at, (name, width)) in columns.iter().zip(&widths).enumerate() {
        let is_number = rows.iter().any(|row| row[at].number.is_some());
        let cell = |text: &str, line: usize, color: &RGBColor| {
            let (text, y) = (fit(text, width - PAD_PX / 2), rect.y + line as u32 * LINE_PX);
            match is_number {
                true => canvas.text_right(&text, x + width - PAD_PX, y, color),
                false => canvas.text(&text, x, y, color),
            }
        };
        cell(name, 0, &DIM)?;
        for (line, row) in rows.iter().take(shown).enumerate() {
            cell(&row[at].text, line + 1, row[at].color.as_ref().unwrap_or(&TEXT))?;
        }
        x += width;
    }
    if shown < rows.len() {
        let y = rect.y + (shown as u32 + 1) * LINE_PX;
        canvas.text(&format!("and {} rows more", rows.len() - shown), rect.x, y, &DIM)?;
    }
    Ok(())
}

/// What each column's longest cell takes, and room to spare spread over all; where it is too much, the
/// widest give.
fn widths(columns: &[String], rows: &[Vec<Cell>], all_px: u32) -> Vec<u32> {
    let longest = columns.iter().enumerate().map(|(at, name)| {
        let cells = rows.iter().map(|row| width_px(&row[at].text));
        cells.chain([width_px(name)]).max().unwrap_or(0) + PAD_PX
    });
    let mut widths: Vec<_> = longest.collect();
    let count = u32::try_from(widths.len()).unwrap_or(u32::MAX).max(1);
    let spare = all_px.saturating_sub(widths.iter().sum()) / count;
    widths.iter_mut().for_each(|width| *width += spare);
    while widths.iter().sum::<u32>() > all_px {
        let widest = widths.iter_mut().max().expect("there is a column that takes something");
        *widest -= 1;
    }
    widths
}

/// Labels are columns by their name, then come the values in the order of the queries.
fn table(panel: &Panel) -> Table {
    let mut labels = BTreeSet::new();
    let mut rows: BTreeMap<&Labels, BTreeMap<&str, f64>> = BTreeMap::new();
    for answer in &panel.answers {
        for series in &answer.series {
            let Some((_, number)) = series.points.last() else { continue };
            labels.extend(series.labels.keys().map(String::as_str));
            rows.entry(&series.labels).or_default().insert(&answer.ref_id, *number);
        }
    }
    let is_one = panel.answers.len() == 1;
    let values = panel.answers.iter().map(|answer| match is_one {
        true => (answer.ref_id.as_str(), "Value".to_owned()),
        false => (answer.ref_id.as_str(), format!("Value #{}", answer.ref_id)),
    });
    let organize = organize(panel);
    let is_shown = |name: &str| organize["excludeByName"][name] != true;
    let named = |name: &str| organize["renameByName"][name].as_str().unwrap_or(name).to_owned();
    let labels: Vec<_> = labels.into_iter().filter(|name| is_shown(name)).collect();
    let values: Vec<_> = values.filter(|(_, name)| is_shown(name)).collect();
    let names = labels.iter().copied().chain(values.iter().map(|(_, name)| name.as_str()));
    let cells = rows.iter().map(|(of, numbers)| {
        let texts = labels.iter().map(|label| Cell {
            text: of.get(*label).cloned().unwrap_or_default(),
            ..Cell::default()
        });
        let numbers = values.iter().map(|(ref_id, name)| match numbers.get(ref_id) {
            Some(number) => cell(panel, &named(name), *number),
            None => Cell::default(),
        });
        texts.chain(numbers).collect()
    });
    let mut table = Table { rows: cells.collect(), columns: names.map(named).collect() };
    for sort in panel.json["options"]["sortBy"].as_array().into_iter().flatten() {
        let Some(at) = table.columns.iter().position(|it| sort["displayName"] == *it) else {
            continue;
        };
        let number = |row: &Vec<Cell>| row[at].number.unwrap_or(f64::MIN);
        table.rows.sort_by(|a, b| number(b).total_cmp(&number(a)));
    }
    table
}

fn organize(panel: &Panel) -> Value {
    let all = panel.json["transformations"].as_array();
    let found = all.and_then(|all| all.iter().find(|it| it["id"] == "organize"));
    found.map_or(Value::Null, |it| it["options"].clone())
}

/// A number as the column's overrides have it.
fn cell(panel: &Panel, column: &str, number: f64) -> Cell {
    let overrides = panel.json["fieldConfig"]["overrides"].as_array();
    let of_column = overrides.into_iter().flatten().filter(|it| it["matcher"]["options"] == column);
    let properties: Vec<_> =
        of_column.filter_map(|it| it["properties"].as_array()).flatten().collect();
    let property = |id: &str| properties.iter().find(|it| it["id"] == id).map(|it| &it["value"]);
    let unit = property("unit").and_then(Value::as_str).unwrap_or_else(|| panel.unit());
    let color = property("thresholds").and_then(|thresholds| stat::color(thresholds, number));
    let is_whole = property("decimals").is_some_and(|it| it == 0);
    let shown = if is_whole { number.round() } else { panel.rounded(number) };
    Cell { text: unit::format(shown, unit), number: Some(number), color: color.map(brighter) }
}

/// A background's colour, for a text.
fn brighter(RGBColor(r, g, b): RGBColor) -> RGBColor {
    let up = |part: u8| part.saturating_add(60);
    RGBColor(up(r), up(g), up(b))
}
