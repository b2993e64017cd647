//! A histogram over time: a row for each bucket, the stronger the colour the more of it. Prometheus'
//! buckets hold all below them too; each row here has its own only.

use anyhow::{Context as _, Result};
use plotters::prelude::*;

use super::{
    axes::{self, Numbers, Scale, minutes},
    board::{Board, Panel},
    canvas::{Canvas, DIM, Rect},
    unit,
};

const COLUMNS: usize = 30;
/// Shades that are told apart; cells of one shade beside each other are one.
const SHADES: f64 = 8.0;
const FOOT_PX: u32 = 18;
/// The colours of few and of most.
const FEW: RGBColor = RGBColor(74, 45, 24);
const MOST: RGBColor = RGBColor(255, 196, 110);

/// One bucket: its upper edge, and per column its rate.
#[derive(Debug)]
struct Row {
    edge: f64,
    rates: Vec<f64>,
}

pub(super) fn draw(canvas: &Canvas<'_>, rect: Rect, board: &Board, panel: &Panel) -> Result<()> {
    let rows = rows(board, panel)?;
    let filled: Vec<_> =
        (0..rows.len()).filter(|row| rows[*row].rates.iter().any(|it| *it > 0.0)).collect();
    let (Some(first), Some(last)) = (filled.first(), filled.last()) else {
        return canvas.nothing(rect, panel.no_value());
    };
    let unit = panel.unit();
    let lower = |row: usize| match row.checked_sub(1) {
        Some(below) => rows[below].edge.log2(),
        None => rows[row].edge.log2() - 1.0,
    };
    let upper = |row: usize| match rows[row].edge.is_finite() {
        true => rows[row].edge.log2(),
        false => lower(row) + 1.0,
    };
    let numbers =
        Numbers { from: lower(*first) - 0.5, to: upper(*last) + 0.5, scale: Scale::Log2, unit };
    let sheet = canvas.part(Rect { h: rect.h - FOOT_PX, ..rect });
    let chart = axes::draw(&sheet, board, numbers)?;
    let most = rows.iter().flat_map(|row| &row.rates).copied().fold(0.0, f64::max);
    let column_s = (board.to_s - board.from_s) / COLUMNS as f64;
    let at = |column: usize| minutes(board, board.from_s + column as f64 * column_s);
    for row in filled {
        let mut column = 0;
        for run in rows[row].rates.chunk_by(|a, b| shade(a / most) == shade(b / most)) {
            let shade = shade(run[0] / most);
            let corners = [(at(column), upper(row)), (at(column + run.len()), lower(row))];
            column += run.len();
            if shade > 0.0 {
                let cell = Rectangle::new(corners, color(shade / SHADES).filled());
                chart.plotting_area().draw(&cell)?;
            }
        }
    }
    let rate_unit = panel.json["options"]["cellValues"]["unit"].as_str().unwrap_or("short");
    let told = format!("strongest colour: {} in one bucket", unit::format(most, rate_unit));
    canvas.text_right(&told, rect.x + rect.w - 8, rect.y + rect.h - FOOT_PX + 4, &DIM)
}

/// Buckets from the fastest up, each without those below it.
fn rows(board: &Board, panel: &Panel) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for series in panel.series() {
        let edge = series.labels.get("le").context("a heat map of no buckets")?;
        let edge = if edge == "+Inf" { f64::INFINITY } else { edge.parse()? };
        let mut columns = vec![(0.0, 0.0); COLUMNS];
        for (at_s, rate) in &series.points {
            let part = (at_s - board.from_s) / (board.to_s - board.from_s);
            let column = ((part * COLUMNS as f64) as usize).min(COLUMNS - 1);
            columns[column].0 += rate;
            columns[column].1 += 1.0;
        }
        let mean = |(sum, count): (f64, f64)| if count > 0.0 { sum / count } else { 0.0 };
        rows.push(Row { edge, rates: columns.into_iter().map(mean).collect() });
    }
    rows.sort_by(|a, b| a.edge.total_cmp(&b.edge));
    for row in (1..rows.len()).rev() {
        let (below, this) = rows.split_at_mut(row);
        for (rate, under) in this[0].rates.iter_mut().zip(&below[row - 1].rates) {
            // Quotients of sums that are equal may differ in their last digits.
            *rate = if *rate - under > 1e-9 { *rate - under } else { 0.0 };
        }
    }
    Ok(rows)
}

/// The eye takes squares for linear; what is there at all has a shade.
fn shade(share: f64) -> f64 {
    (share.sqrt() * SHADES).ceil()
}

/// Between few and most.
fn color(share: f64) -> RGBColor {
    let between = |few: u8, most: u8| {
        (f64::from(few) + (f64::from(most) - f64::from(few)) * share).round() as u8
    };
    RGBColor(between(FEW.0, MOST.0), between(FEW.1, MOST.1), between(FEW.2, MOST.2))
}
