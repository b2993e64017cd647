//! A screen on a terminal: head, views, the view, and the keys at the bottom.
//!
//! It is made for 80 columns by 24 lines. On less it is cut and says so, below 40 by 10 that is all it says.

use ratatui::{
    Frame,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::Line as StyledLine,
    widgets::Paragraph,
};

use super::{
    lines::{Line, Look, head, help, tabs, view},
    screen::{Mode, Screen},
    snapshot::Snapshot,
};

/// Columns and lines that all is seen on.
const WHOLE: (u16, u16) = (80, 24);
/// Fewer columns show nothing that makes sense.
pub const WIDTH_MIN: u16 = 40;
/// Fewer lines neither.
pub const HEIGHT_MIN: u16 = 10;

/// Draws the screen.
pub fn draw(frame: &mut Frame<'_>, screen: &Screen, snapshot: &Snapshot) {
    let area = frame.area();
    let (width, height) = (area.width, area.height);
    if width < WIDTH_MIN || height < HEIGHT_MIN {
        let text =
            format!("endiod top needs {WIDTH_MIN}x{HEIGHT_MIN}\nthis is {width}x{height}\nq quits");
        return frame.render_widget(Paragraph::new(text), area);
    }
    let columns = usize::from(width);
    let mut lines = head(screen, snapshot, columns);
    lines.push(Line { text: tabs(screen), look: Look::Head });
    let room = usize::from(height).saturating_sub(lines.len() + 1);
    let body =
        if screen.help { help(&screen.mode) } else { view(screen, snapshot, columns, Some(room)) };
    lines.extend(body.into_iter().take(room));
    let paint = |line: Line| StyledLine::styled(line.text, style(line.look, screen.plain));
    let lines: Vec<_> = lines.into_iter().map(paint).collect();
    let above = Rect { height: height - 1, ..area };
    frame.render_widget(Paragraph::new(lines), above);
    let below = Rect { y: height - 1, height: 1, ..area };
    let foot = Line { text: foot(screen, (width, height)), look: Look::Head };
    frame.render_widget(Paragraph::new(paint(foot)), below);
}

fn foot(screen: &Screen, size: (u16, u16)) -> String {
    let (width, height) = size;
    if width < WHOLE.0 || height < WHOLE.1 {
        return format!("{width}x{height} is cut, 80x24 shows all  q quit ? help");
    }
    let arrows = match screen.mode {
        Mode::Live => "",
        Mode::Recording { .. } => "  Left Right step",
    };
    format!("q quit  ? help  Tab view  s sort  d device  p pause{arrows}")
}

fn style(look: Look, is_plain: bool) -> Style {
    let style = Style::default();
    match look {
        Look::Plain => style,
        Look::Head => style.add_modifier(Modifier::BOLD),
        Look::Selected => style.add_modifier(Modifier::REVERSED),
        Look::Bad if is_plain => style.add_modifier(Modifier::BOLD),
        Look::Bad => style.fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}
