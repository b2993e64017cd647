//! `cargo xtask pictures`: what a dashboard shows, drawn from the answers that a Prometheus gave to its
//! queries. It is no Grafana, and each picture says so: it follows a board's places, units, thresholds,
//! legends and kinds of panels, not Grafana's looks.
//!
//! ```text
//! dashboards/grafana/UID.json ─┐
//!                              ├─► board ─► graph, heatmap, stat, table ─► dashboards/pictures/UID.svg
//! answers: PANELS/UID.json ────┘              all on: canvas, axes, unit
//! ```

mod axes;
mod board;
mod canvas;
mod graph;
mod heatmap;
mod legend;
mod stat;
mod table;
mod unit;

use std::{fs, process::ExitCode};

use anyhow::{Context as _, Result};

use self::{
    board::{Board, Kind, Panel},
    canvas::{Canvas, Rect},
};
use crate::{cli::PicturesArgs, workspace::Workspace};

/// What one column and one row of a board's grid take, and what lies between two panels.
const COLUMN_PX: u32 = 49;
const ROW_PX: u32 = 32;
const GAP_PX: u32 = 6;
/// The board's name, and at the end whose picture it is.
const HEAD_PX: u32 = 34;
const FOOT_PX: u32 = 26;
const COLUMNS: u32 = 24;
const CAPTION: &str = "drawn by endiod's xtask from real query results, not by Grafana";

pub(crate) fn main(workspace: &Workspace, args: &PicturesArgs) -> Result<ExitCode> {
    let dashboards = workspace.root().join("dashboards");
    let out = args.out.clone().unwrap_or_else(|| dashboards.join("pictures"));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    for entry in fs::read_dir(dashboards.join("grafana"))?.flatten() {
        let name = entry.file_name();
        let Some(uid) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
        let answers = args.panels.join(&name);
        let read = |path| fs::read_to_string(path).with_context(|| format!("no answers for {uid}"));
        let board = Board::read(&read(entry.path())?, &read(answers)?).context(uid.to_owned())?;
        let picture = draw(&board).with_context(|| format!("cannot draw {uid}"))?;
        let file = out.join(format!("{uid}.svg"));
        fs::write(&file, &picture).with_context(|| format!("cannot write {}", file.display()))?;
        println!("{}: {} panels, {} KB", file.display(), board.panels.len(), picture.len() / 1000);
    }
    Ok(ExitCode::SUCCESS)
}

/// A board as SVG.
fn draw(board: &Board) -> Result<String> {
    let rows = board.panels.iter().map(|panel| panel.place.y + panel.place.h).max().unwrap_or(0);
    let (width, height) = (COLUMNS * COLUMN_PX + GAP_PX, HEAD_PX + rows * ROW_PX + FOOT_PX);
    let mut svg = String::new();
    {
        let canvas = Canvas::new(&mut svg, width, height)?;
        canvas.heading(&board.title, GAP_PX, 9)?;
        canvas.caption(CAPTION, GAP_PX, HEAD_PX + rows * ROW_PX + 7)?;
        canvas.caption_right(&board.when(), width - GAP_PX, HEAD_PX + rows * ROW_PX + 7)?;
        for panel in &board.panels {
            draw_panel(&canvas, board, panel)
                .with_context(|| format!("the panel `{}`", panel.title))?;
        }
        canvas.finish()?;
    }
    // What is so without being said.
    Ok(svg.replace(" opacity=\"1\"", "").replace(" stroke=\"none\"", ""))
}

fn draw_panel(canvas: &Canvas<'_>, board: &Board, panel: &Panel) -> Result<()> {
    let rect = Rect {
        x: panel.place.x * COLUMN_PX + GAP_PX,
        y: HEAD_PX + panel.place.y * ROW_PX,
        w: panel.place.w * COLUMN_PX - GAP_PX,
        h: panel.place.h * ROW_PX - GAP_PX,
    };
    if panel.kind == Kind::Row {
        return canvas.heading(&panel.title, rect.x, rect.y + 6);
    }
    if panel.kind == Kind::Stat {
        return stat::draw(canvas, rect, panel);
    }
    let inside = canvas.panel(rect, &panel.title)?;
    if panel.is_empty() {
        return canvas.nothing(inside, panel.no_value());
    }
    match panel.kind {
        Kind::TimeSeries => graph::draw(canvas, inside, board, panel),
        Kind::HeatMap => heatmap::draw(canvas, inside, board, panel),
        Kind::Table => table::draw(canvas, inside, panel),
        Kind::Row | Kind::Stat => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PLACES: [(&str, &str); 5] = [
        ("row", "a row"),
        ("stat", "a number"),
        ("timeseries", "a graph & more"),
        ("heatmap", "a heat map"),
        ("table", "a table"),
    ];

    fn picture(series: serde_json::Value) -> String {
        let at = |y: usize| json!({"x": 0, "y": 8 * y, "w": 12, "h": 8});
        let panels = PLACES.iter().enumerate().map(|(y, (kind, title))| {
            json!({"type": kind, "title": title, "gridPos": at(y), "targets": [{"refId": "A"}],
                   "fieldConfig": {"defaults": {"unit": "s", "noValue": "nothing at all"}}})
        });
        let dashboard = json!({"title": "a board", "panels": panels.collect::<Vec<_>>()});
        let answers = PLACES[1..].iter().map(|(kind, title)| {
            let series = if *kind == "timeseries" { json!([points()]) } else { series.clone() };
            json!({"type": kind, "title": title, "queries": [{"result": series}]})
        });
        let answers = serde_json::Value::from(answers.collect::<Vec<_>>());
        draw(&Board::read(&dashboard.to_string(), &answers.to_string()).unwrap()).unwrap()
    }

    fn points() -> serde_json::Value {
        json!({"metric": {"le": "0.5"}, "values": [[60, "0.25"], [120, "0.125"]]})
    }

    #[test]
    fn every_kind_of_panel_is_drawn_with_its_title_and_its_numbers() {
        let picture = picture(json!([points()]));
        let lines: Vec<_> = picture.lines().collect();
        for title in ["a board", "a row", "a number", "a graph &amp; more", "a heat map", "a table"]
        {
            assert!(lines.contains(&title), "no {title} in {picture}");
        }
        assert!(lines.contains(&"125 / 250 ms"), "a legend: {picture}");
        assert!(lines.iter().filter(|line| **line == "125 ms").count() >= 2, "stat and table");
        assert!(lines.contains(&"strongest colour: 0.25 in one bucket"), "{picture}");
    }

    #[test]
    fn a_panel_without_an_answer_says_so_in_its_own_words() {
        let picture = picture(json!([]));
        assert_eq!(picture.lines().filter(|line| *line == "nothing at all").count(), 3);
    }
}
