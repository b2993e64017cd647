//! A panel of one number, coloured by its thresholds.

use anyhow::Result;
use plotters::prelude::RGBColor;
use serde_json::Value;

use super::{
    board::Panel,
    canvas::{Canvas, Rect, fit, width_px},
    unit,
};

const GREEN: RGBColor = RGBColor(38, 115, 61);
const ORANGE: RGBColor = RGBColor(176, 96, 16);
const RED: RGBColor = RGBColor(184, 42, 60);
const PLAIN: RGBColor = RGBColor(28, 31, 36);

pub(super) fn draw(canvas: &Canvas<'_>, rect: Rect, panel: &Panel) -> Result<()> {
    let last = panel.series().find_map(|series| Some((series, series.points.last()?.1)));
    let options = &panel.json["options"];
    let color = match last {
        Some((_, number)) if options["colorMode"] == "background" => {
            color(&panel.json["fieldConfig"]["defaults"]["thresholds"], number).unwrap_or(PLAIN)
        }
        _ => PLAIN,
    };
    let inside = canvas.panel(rect, &fit(&panel.title, rect.w - 10))?;
    canvas
        .fill(Rect { x: rect.x, y: inside.y, w: rect.w, h: rect.h + rect.y - inside.y }, &color)?;
    let middle = inside.x + inside.w / 2;
    let Some((series, number)) = last else {
        return canvas.nothing(inside, panel.no_value());
    };
    let text = unit::format(panel.rounded(number), panel.unit());
    let scale = (f64::from(inside.w) / f64::from(width_px(&text))).min(2.4);
    let is_named = options["textMode"] == "value_and_name";
    canvas.large(&text, middle, inside.y + if is_named { 40 } else { 26 }, scale)?;
    if is_named {
        canvas.large(&fit(&series.name, inside.w), middle, inside.y + 12, 1.2)?;
    }
    Ok(())
}

/// The colour of the last step that a number reaches; none where that is no colour of these.
pub(super) fn color(thresholds: &Value, number: f64) -> Option<RGBColor> {
    let steps = thresholds["steps"].as_array()?;
    let is_reached = |step: &&Value| step["value"].as_f64().is_none_or(|value| number >= value);
    match steps.iter().rfind(is_reached)?["color"].as_str()? {
        "green" => Some(GREEN),
        "orange" => Some(ORANGE),
        "red" => Some(RED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_colour_of_the_step_that_it_reaches() {
        let thresholds = serde_json::json!({"steps": [
            {"color": "green", "value": null}, {"color": "red", "value": 0.5}]});
        assert_eq!(color(&thresholds, 0.4), Some(GREEN));
        assert_eq!(color(&thresholds, 0.5), Some(RED));
    }
}
