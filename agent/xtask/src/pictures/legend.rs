//! What the series of a chart are, below it: colour, name, last and largest value. It takes two fifths of a
//! panel at most and says how many it leaves out.

use anyhow::Result;
use plotters::prelude::RGBColor;

use super::{
    board::{Panel, Series},
    canvas::{Canvas, DIM, Rect, TEXT, fit, width_px},
    unit,
};

/// Told apart by those who see few colours.
const COLORS: [RGBColor; 8] = [
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 190, 140),
    RGBColor(240, 228, 66),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(150, 130, 220),
    RGBColor(170, 170, 170),
];
const LINE_PX: u32 = 16;
/// Before a name, and between a name and its numbers.
const MARK_PX: u32 = 18;
const GAP_PX: u32 = 16;
const RIGHT_PX: u32 = 10;
/// What has room for two columns.
const WIDE_PX: u32 = 400;

pub(super) fn colors() -> impl Iterator<Item = &'static RGBColor> {
    COLORS.iter().cycle()
}

#[derive(Debug)]
pub(super) struct Legend {
    /// Names and values, of those that it has room for.
    entries: Vec<(String, String)>,
    left_out: usize,
    columns: u32,
    lines: u32,
}

impl Legend {
    /// Of a panel that takes all of `rect`.
    pub(super) fn of(rect: Rect, panel: &Panel, series: &[&Series]) -> Self {
        let mut entries: Vec<_> = series.iter().map(|series| entry(series, panel)).collect();
        let taken = |(name, told): &(String, String)| {
            MARK_PX + width_px(name) + GAP_PX + width_px(told) + RIGHT_PX
        };
        let longest = entries.iter().map(taken).max().unwrap_or(0);
        // The longest name may lose its end, where there is much of it.
        let columns = if rect.w >= WIDE_PX && rect.w / 2 >= longest * 4 / 5 { 2 } else { 1 };
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let lines = count.div_ceil(columns).min(rect.h * 2 / 5 / LINE_PX - 1);
        let places = (lines * columns) as usize;
        let left_out = if entries.len() > places { entries.len() + 1 - places } else { 0 };
        entries.truncate(entries.len() - left_out);
        Self { entries, left_out, columns, lines }
    }

    pub(super) fn height_px(&self) -> u32 {
        (self.lines + 1) * LINE_PX + 2
    }

    pub(super) fn draw(&self, canvas: &Canvas<'_>, rect: Rect) -> Result<()> {
        let top = rect.y + rect.h - self.height_px() + 4;
        let width = rect.w / self.columns;
        let mut places = (1..=self.lines).flat_map(|line| {
            (0..self.columns).map(move |column| (rect.x + column * width, top + line * LINE_PX))
        });
        let used = u32::try_from(self.entries.len()).unwrap_or(u32::MAX).min(self.columns);
        for column in 1..=used {
            canvas.text_right("last / max", rect.x + column * width - RIGHT_PX, top, &DIM)?;
        }
        for (((name, told), color), (x, y)) in self.entries.iter().zip(colors()).zip(&mut places) {
            canvas.fill(Rect { x, y: y + 6, w: 12, h: 4 }, color)?;
            let room = width.saturating_sub(MARK_PX + GAP_PX + width_px(told) + RIGHT_PX);
            canvas.text(&fit(name, room), x + MARK_PX, y, &TEXT)?;
            canvas.text_right(told, x + width - RIGHT_PX, y, &TEXT)?;
        }
        match places.next() {
            Some((x, y)) if self.left_out > 0 => {
                canvas.text(&format!("and {} more", self.left_out), x + MARK_PX, y, &DIM)
            }
            _ => Ok(()),
        }
    }
}

fn entry(series: &Series, panel: &Panel) -> (String, String) {
    let last = series.points.last().map_or(0.0, |(_, number)| *number);
    let numbers = [last, series.largest()].map(|number| panel.rounded(number));
    (series.name.clone(), unit::pair(numbers, panel.unit()))
}
