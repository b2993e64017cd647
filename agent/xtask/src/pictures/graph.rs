//! A panel of series over time: lines, stacked areas or stacked bars, and below them their legend.

use std::collections::BTreeMap;

use anyhow::Result;
use plotters::prelude::*;

use super::{
    axes::{self, Chart, MARK, Numbers, Scale, minutes},
    board::{Board, Panel, Series},
    canvas::{Canvas, Rect},
    legend::{self, Legend},
    unit,
};

/// Top of each point's stack by time.
type Stack = BTreeMap<u64, f64>;

pub(super) fn draw(canvas: &Canvas<'_>, rect: Rect, board: &Board, panel: &Panel) -> Result<()> {
    let mut series: Vec<_> = panel.series().filter(|it| !it.points.is_empty()).collect();
    // What the legend has no room for should be the least.
    series.sort_by(|a, b| b.largest().total_cmp(&a.largest()));
    let legend = Legend::of(rect, panel, &series);
    let chart_rect = Rect { h: rect.h - legend.height_px(), ..rect };
    let sheet = canvas.part(chart_rect);
    let numbers = numbers(panel, &series);
    let mut chart = axes::draw(&sheet, board, numbers)?;
    levels(&chart, board, panel, numbers)?;
    let step_s = step_s(board, &series);
    let mut stack = Stack::new();
    for (series, color) in series.iter().zip(legend::colors()) {
        if !is_stacked(panel) {
            lines(&mut chart, board, series, step_s, numbers, color)?;
        } else if panel.custom("drawStyle") == "bars" {
            bars(&chart, board, series, step_s, (&mut stack, numbers.scale), color)?;
        } else {
            area(&chart, board, series, step_s, (&mut stack, numbers.scale), color)?;
        }
    }
    legend.draw(canvas, rect)
}

fn is_stacked(panel: &Panel) -> bool {
    panel.custom("stacking")["mode"] == "normal"
}

/// The time between two samples; a larger one is a gap.
fn step_s(board: &Board, series: &[&Series]) -> f64 {
    let steps = series.iter().flat_map(|series| series.points.windows(2));
    let smallest = steps.map(|pair| pair[1].0 - pair[0].0).fold(f64::MAX, f64::min);
    smallest.min((board.to_s - board.from_s) / 40.0)
}

/// What the axis must show.
fn numbers<'a>(panel: &'a Panel, series: &[&Series]) -> Numbers<'a> {
    let unit = panel.unit();
    let all = || series.iter().flat_map(|series| &series.points).map(|(_, number)| *number);
    if panel.custom("scaleDistribution")["type"] == "log" {
        let scale = Scale::Log2;
        let places = || all().filter(|number| *number > 0.0).map(|number| scale.place(number));
        let (from, to) = (places().fold(0.0, f64::min), places().fold(f64::MIN, f64::max));
        return Numbers { from: from - 0.5, to: to.max(from) + 0.5, scale, unit };
    }
    let mut top = Stack::new();
    for (at_s, number) in series.iter().flat_map(|series| &series.points) {
        let sum = top.entry(at_s.to_bits()).or_default();
        *sum = if is_stacked(panel) { *sum + number } else { sum.max(*number) };
    }
    let most = top.into_values().fold(0.0, f64::max);
    let least = all().fold(0.0, f64::min);
    let most = if most > least { most * 1.08 } else { 1.0 };
    let scale = Scale::Linear(unit::step(most, unit));
    Numbers { from: scale.place(least), to: scale.place(most), scale, unit }
}

/// The thresholds that the panel shows as lines.
fn levels(chart: &Chart<'_, '_>, board: &Board, panel: &Panel, numbers: Numbers<'_>) -> Result<()> {
    if panel.custom("thresholdsStyle")["mode"] != "line" {
        return Ok(());
    }
    let steps = panel.json["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array();
    let levels = steps.into_iter().flatten().filter_map(|step| step["value"].as_f64());
    for place in levels.map(|level| numbers.scale.place(level)) {
        if (numbers.from..=numbers.to).contains(&place) {
            let ends = [board.from_s, board.to_s].map(|at_s| (minutes(board, at_s), place));
            let line = PathElement::new(ends, MARK.stroke_width(1));
            chart.plotting_area().draw(&line)?;
        }
    }
    Ok(())
}

/// Lines between samples that are a step apart; a sample alone is a dot.
fn lines(
    chart: &mut Chart<'_, '_>,
    board: &Board,
    series: &Series,
    step_s: f64,
    numbers: Numbers<'_>,
    color: &RGBColor,
) -> Result<()> {
    let place = |(at_s, number): &(f64, f64)| {
        (minutes(board, *at_s), numbers.scale.place(*number).max(numbers.from))
    };
    for run in series.points.chunk_by(|a, b| b.0 - a.0 < step_s * 1.5) {
        if let [alone] = run {
            let dot = Circle::new(place(alone), 2, color.filled());
            chart.plotting_area().draw(&dot)?;
        } else {
            let line = LineSeries::new(run.iter().map(place), color.stroke_width(2));
            chart.draw_series(line)?;
        }
    }
    Ok(())
}

fn bars(
    chart: &Chart<'_, '_>,
    board: &Board,
    series: &Series,
    step_s: f64,
    (stack, scale): (&mut Stack, Scale),
    color: &RGBColor,
) -> Result<()> {
    for (at_s, number) in &series.points {
        let base = stack.entry(at_s.to_bits()).or_default();
        let corners = [
            (minutes(board, at_s - step_s * 0.45), scale.place(*base)),
            (minutes(board, at_s + step_s * 0.45), scale.place(*base + number)),
        ];
        *base += number;
        chart.plotting_area().draw(&Rectangle::new(corners, color.mix(0.8).filled()))?;
    }
    Ok(())
}

/// The band between what is below and this on top of it.
fn area(
    chart: &Chart<'_, '_>,
    board: &Board,
    series: &Series,
    step_s: f64,
    (stack, scale): (&mut Stack, Scale),
    color: &RGBColor,
) -> Result<()> {
    for run in series.points.chunk_by(|a, b| b.0 - a.0 < step_s * 1.5) {
        let mut below = Vec::new();
        let mut above = Vec::new();
        for (at_s, number) in run {
            let base = stack.entry(at_s.to_bits()).or_default();
            below.push((minutes(board, *at_s), scale.place(*base)));
            *base += number;
            above.push((minutes(board, *at_s), scale.place(*base)));
        }
        let line = PathElement::new(above.clone(), color.stroke_width(1));
        above.extend(below.into_iter().rev());
        chart.plotting_area().draw(&Polygon::new(above, color.mix(0.45)))?;
        chart.plotting_area().draw(&line)?;
    }
    Ok(())
}
