//! The sheet that panels are drawn on: its colours, its texts, and the box of a panel. Lengths are pixels;
//! how wide a text comes out depends on the reader's fonts, so it is estimated, on the wide side.

use anyhow::Result;
use plotters::{
    coord::Shift,
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

pub(super) type Sheet<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const BACKGROUND: RGBColor = RGBColor(17, 18, 23);
const PANEL: RGBColor = RGBColor(28, 31, 36);
pub(super) const GRID: RGBColor = RGBColor(52, 56, 64);
pub(super) const TEXT: RGBColor = RGBColor(216, 217, 226);
pub(super) const DIM: RGBColor = RGBColor(150, 153, 165);
const FONT: &str = "sans-serif";
/// plotters writes four fifths of the size that it is told.
const SIZE: f64 = 15.0;
/// What a letter takes, on average, of a text of that size.
const LETTER_PX: f64 = 6.6;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rect {
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) w: u32,
    pub(super) h: u32,
}

pub(super) struct Canvas<'a> {
    sheet: Sheet<'a>,
}

impl<'a> Canvas<'a> {
    pub(super) fn new(svg: &'a mut String, width: u32, height: u32) -> Result<Self> {
        let sheet = SVGBackend::with_string(svg, (width, height)).into_drawing_area();
        sheet.fill(&BACKGROUND)?;
        Ok(Self { sheet })
    }

    pub(super) fn finish(&self) -> Result<()> {
        Ok(self.sheet.present()?)
    }

    /// A part of the sheet, for a chart.
    pub(super) fn part(&self, Rect { x, y, w, h }: Rect) -> Sheet<'a> {
        self.sheet.clone().shrink((x, y), (w, h))
    }

    pub(super) fn heading(&self, text: &str, x: u32, y: u32) -> Result<()> {
        self.write(text, (x, y), HPos::Left, &TEXT, 1.15, FontStyle::Bold)
    }

    pub(super) fn caption(&self, text: &str, x: u32, y: u32) -> Result<()> {
        self.write(text, (x, y), HPos::Left, &DIM, 1.0, FontStyle::Italic)
    }

    pub(super) fn caption_right(&self, text: &str, x: u32, y: u32) -> Result<()> {
        self.write(text, (x, y), HPos::Right, &DIM, 1.0, FontStyle::Italic)
    }

    pub(super) fn text(&self, text: &str, x: u32, y: u32, color: &RGBColor) -> Result<()> {
        self.write(text, (x, y), HPos::Left, color, 1.0, FontStyle::Normal)
    }

    pub(super) fn text_right(&self, text: &str, x: u32, y: u32, color: &RGBColor) -> Result<()> {
        self.write(text, (x, y), HPos::Right, color, 1.0, FontStyle::Normal)
    }

    /// A text `scale` times as large, about the middle `x`.
    pub(super) fn large(&self, text: &str, x: u32, y: u32, scale: f64) -> Result<()> {
        self.write(text, (x, y), HPos::Center, &RGBColor(255, 255, 255), scale, FontStyle::Bold)
    }

    pub(super) fn fill(&self, rect: Rect, color: &RGBColor) -> Result<()> {
        let corners = [at(rect.x, rect.y), at(rect.x + rect.w, rect.y + rect.h)];
        Ok(self.sheet.draw(&Rectangle::new(corners, color.filled()))?)
    }

    /// The box of a panel with its title; what is left for its content.
    pub(super) fn panel(&self, rect: Rect, title: &str) -> Result<Rect> {
        self.fill(rect, &PANEL)?;
        self.write(title, (rect.x + 8, rect.y + 7), HPos::Left, &TEXT, 1.0, FontStyle::Bold)?;
        Ok(Rect { x: rect.x + 8, y: rect.y + 27, w: rect.w - 16, h: rect.h - 33 })
    }

    /// A panel's word for no answer, in its middle.
    pub(super) fn nothing(&self, rect: Rect, said: &str) -> Result<()> {
        let middle = (rect.x + rect.w / 2, rect.y + rect.h / 2 - 10);
        self.write(said, middle, HPos::Center, &DIM, 1.1, FontStyle::Normal)
    }

    fn write(
        &self,
        text: &str,
        (x, y): (u32, u32),
        anchor: HPos,
        color: &RGBColor,
        scale: f64,
        style: FontStyle,
    ) -> Result<()> {
        let font = FontDesc::new(FontFamily::Name(FONT), SIZE * scale, style);
        let style = font.color(color).pos(Pos::new(anchor, VPos::Top));
        Ok(self.sheet.draw(&Text::new(text, at(x, y), style))?)
    }
}

/// The style of an axis' labels.
pub(super) fn label_style() -> TextStyle<'static> {
    FontDesc::new(FontFamily::Name(FONT), SIZE * 0.92, FontStyle::Normal).color(&DIM)
}

/// As much of a text as fits.
pub(super) fn fit(text: &str, width_px: u32) -> String {
    let room = (f64::from(width_px) / LETTER_PX) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let kept: String = text.chars().take(room.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// What a text takes.
pub(super) fn width_px(text: &str) -> u32 {
    (text.chars().count() as f64 * LETTER_PX) as u32
}

fn at(x: u32, y: u32) -> (i32, i32) {
    let pixel = |pixel| i32::try_from(pixel).expect("a sheet is smaller than that");
    (pixel(x), pixel(y))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        assert_eq!(fit("short", 100), "short");
        assert_eq!(fit("a text that is far too long", 66), "a text th…");
    }
}
