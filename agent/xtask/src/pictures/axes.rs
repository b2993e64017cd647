//! The axes that charts over time share. Time is in minutes of the day; a logarithmic axis of numbers is a
//! linear one of their logarithms to base 2.

use anyhow::Result;
use plotters::{coord::types::RangedCoordf64, prelude::*};

use super::{
    board::Board,
    canvas::{GRID, Sheet, label_style},
    unit,
};

pub(super) type Chart<'s, 'svg> =
    ChartContext<'s, SVGBackend<'svg>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

const NUMBERS_PX: u32 = 76;
const TIMES_PX: u32 = 22;
pub(super) const MARK: RGBColor = RGBColor(242, 73, 92);

/// How numbers lie on their axis.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    Log2,
    /// In steps of this, so that ticks are round in the unit that they are written in.
    Linear(f64),
}

/// The axis of numbers, from and to places on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers<'a> {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) scale: Scale,
    pub(super) unit: &'a str,
}

impl Scale {
    pub(super) fn place(self, number: f64) -> f64 {
        match self {
            Self::Log2 => number.log2(),
            Self::Linear(step) => number / step,
        }
    }

    fn number(self, place: f64) -> f64 {
        match self {
            Self::Log2 => place.exp2(),
            Self::Linear(step) => place * step,
        }
    }
}

/// Minutes of the day.
pub(super) fn minutes(board: &Board, at_s: f64) -> f64 {
    const DAY_S: f64 = 86_400.0;
    (at_s - (board.from_s / DAY_S).floor() * DAY_S) / 60.0
}

/// Axes with a thin mesh, and a line where the board's annotations are.
pub(super) fn draw<'s, 'svg>(
    sheet: &'s Sheet<'svg>,
    board: &Board,
    numbers: Numbers<'_>,
) -> Result<Chart<'s, 'svg>> {
    let (from, to) = (minutes(board, board.from_s), minutes(board, board.to_s));
    let mut builder = ChartBuilder::on(sheet);
    builder.margin_right(8).margin_top(4);
    builder.set_label_area_size(LabelAreaPosition::Left, NUMBERS_PX);
    builder.set_label_area_size(LabelAreaPosition::Bottom, TIMES_PX);
    let mut chart = builder.build_cartesian_2d(from..to, numbers.from..numbers.to)?;
    let width_px = sheet.dim_in_pixel().0.saturating_sub(NUMBERS_PX);
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .set_all_tick_mark_size(0)
        .x_labels((width_px / 70) as usize)
        .y_labels(5)
        .label_style(label_style())
        .x_label_formatter(&|minute| clock(*minute))
        .y_label_formatter(&|place| unit::format(numbers.scale.number(*place), numbers.unit))
        .draw()?;
    let marks = board.marks.iter().map(|at_s| minutes(board, *at_s));
    for minute in marks.filter(|minute| (from..=to).contains(minute)) {
        let line = [(minute, numbers.from), (minute, numbers.to)];
        chart.plotting_area().draw(&PathElement::new(line, MARK.mix(0.35)))?;
    }
    Ok(chart)
}

/// `13:05`, with seconds where there are any.
fn clock(minute: f64) -> String {
    let second = (minute * 60.0).round() as u64;
    let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
    match second {
        0 => format!("{hour:02}:{minute:02}"),
        _ => format!("{hour:02}:{minute:02}:{second:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_of_the_day_is_written_as_a_clock_shows_it() {
        assert_eq!(clock(785.0), "13:05");
        assert_eq!(clock(785.5), "13:05:30");
        assert_eq!(clock(1441.0), "00:01");
    }
}
