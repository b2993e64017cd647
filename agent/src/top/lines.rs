//! A snapshot as lines of text: what the terminal shows, and what a script is given.
//!
//! Every sign is in the text; a look only repeats it, so that nothing is said by colour alone. Lines are as
//! wide as the terminal at most, long names lose their middle or their head.

use super::{
    screen::{Mode, Screen, Tab},
    snapshot::{ALL, Caller, DeviceView, Row, Snapshot, StateRow},
};
use crate::{pipeline::Health, report::human_seconds};

/// How a line looks, beside what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    /// The head of a table.
    Head,
    /// The selected row, which begins with `>`.
    Selected,
    /// Something to worry about, which begins with `!`.
    Bad,
}

/// A line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

impl Line {
    fn new(look: Look, text: impl Into<String>) -> Line {
        Line { text: text.into(), look }
    }
}

fn plain_line(text: impl ToString) -> Line {
    Line::new(Look::Plain, text.to_string())
}

/// Octaves that one sign of a histogram stands for.
const OCTAVES_A_SIGN: usize = 2;
const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All views of a snapshot below each other, every row of them: for scripts.
pub fn plain(screen: &Screen, snapshot: &Snapshot, width: usize) -> String {
    let mut text = String::new();
    let mut put = |lines: Vec<Line>| {
        for line in lines {
            text.push_str(line.text.trim_end());
            text.push('\n');
        }
    };
    put(head(screen, snapshot, width));
    for tab in Tab::ALL {
        put(vec![plain_line("")]);
        put(match tab {
            Tab::Findings => every_finding(snapshot),
            tab => {
                let mut of_tab = Screen::new(screen.mode.clone());
                (of_tab.tab, of_tab.order) = (tab, screen.order);
                of_tab.device.clone_from(&screen.device);
                view(&of_tab, snapshot, width, None)
            }
        });
    }
    text
}

/// The first two lines of every screen.
pub(super) fn head(screen: &Screen, snapshot: &Snapshot, width: usize) -> Vec<Line> {
    let Snapshot { seconds, health, .. } = snapshot;
    let source = match (&screen.mode, screen.paused) {
        (Mode::Live, false) => "live".to_owned(),
        (Mode::Live, true) => "live, PAUSED".to_owned(),
        (Mode::Recording { over: true, .. }, _) => "recording, at its end".to_owned(),
        (Mode::Recording { speed, .. }, false) => format!("recording, x{speed}"),
        (Mode::Recording { speed, .. }, true) => format!("recording, x{speed}, PAUSED"),
    };
    let kernel = if health.kernel.is_empty() { "kernel unknown" } else { &health.kernel };
    let left = format!("endiod top  {kernel}");
    let right = format!("{source}  {seconds:.1} s");
    let lines = [Line::new(Look::Head, between(&left, &right, width)), health_line(health)];
    let note = screen.note.iter().map(|note| Line::new(Look::Bad, format!("! {note}")));
    lines.into_iter().chain(note).collect()
}

fn health_line(health: &Health) -> Line {
    let Health { attached, failed, missed, lost, left_out, malformed, .. } = health;
    let gone = lost + left_out + malformed;
    let is_bad = gone + missed + health.diverged + health.findings + *failed as u64 > 0;
    let (sign, look) = if is_bad { ('!', Look::Bad) } else { (' ', Look::Plain) };
    let mut text =
        format!("{sign} probes {attached}, {failed} failed; lost {gone}; missed {missed}");
    text += &format!("; suppressed {}; findings {}", health.suppressed, health.findings);
    if health.diverged > 0 {
        text += &format!("; diverged {}", health.diverged);
    }
    Line::new(look, text)
}

/// Which views there are, and the device.
pub(super) fn tabs(screen: &Screen) -> String {
    let of = |(number, tab): (usize, Tab)| match tab == screen.tab {
        true => format!("[{number} {}]", tab.title()),
        false => format!(" {number} {} ", tab.title()),
    };
    let tabs: Vec<_> = (1..).zip(Tab::ALL).map(of).collect();
    format!("{}  device {}", tabs.concat(), screen.device.as_deref().unwrap_or(ALL))
}

/// What the view of the screen says, in at most so many lines.
pub(super) fn view(
    screen: &Screen,
    snapshot: &Snapshot,
    width: usize,
    height: Option<usize>,
) -> Vec<Line> {
    match screen.tab {
        Tab::Overview => overview(screen, snapshot),
        Tab::Processes => processes(screen, snapshot, width, height),
        Tab::Cgroups => cgroups(screen, snapshot, width, height),
        Tab::Devices => devices(screen, snapshot, height),
        Tab::Findings => findings(screen, snapshot, width, height.unwrap_or(usize::MAX)),
    }
}

fn overview(screen: &Screen, snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = vec![Line::new(Look::Head, "in flight, all devices: count and oldest age")];
    let rows: Vec<_> = snapshot.states.iter().chain(&snapshot.calls).map(state).collect();
    lines.extend(rows.chunks(3).map(|row| plain_line(row.join(" "))));
    let Some(device) = screen.device(snapshot) else {
        let name = screen.device.as_deref().unwrap_or(ALL);
        lines.push(Line::new(Look::Bad, format!("! nothing was seen of a device {name}")));
        return lines;
    };
    lines.push(Line::new(
        Look::Head,
        format!(
            "{:<22}{:>8}{:>9}{:>9}{:>9}{:>9}  1µs …   64s",
            "took", "/s", "count", "p50≤", "p99≤", "max"
        ),
    ));
    let DeviceView { io_end, fsync, fsync_phases, direct, direct_errors, fsync_errors, .. } =
        device;
    let named = |what: &str, rows: &[(&'static str, Row)]| -> Vec<Line> {
        rows.iter().map(|(name, row)| plain_line(took(&format!("{what}{name}"), row))).collect()
    };
    lines.extend(named("io_end, ", io_end));
    lines.push(plain_line(took("direct write", direct)));
    lines.extend(named("", fsync));
    lines.extend(named("fsync, ", fsync_phases));
    let errors = direct_errors + fsync_errors;
    if errors > 0 {
        let text = format!("! errors: {fsync_errors} of fsyncs, {direct_errors} of direct writes");
        lines.push(Line::new(Look::Bad, text));
    }
    lines
}

fn state(row: &StateRow) -> String {
    let StateRow { name, count, oldest } = row;
    format!("  {name:<11}{count:>5}{:>8}", seconds(*oldest))
}

fn took(name: &str, row: &Row) -> String {
    let Row { count, rate, p50, p99, max, octaves } = row;
    let [p50, p99, max] = [p50, p99, max].map(|it| seconds(*it));
    format!("{name:<22}{rate:>8.1}{count:>9}{p50:>9}{p99:>9}{max:>9}  {}", bar(octaves))
        .trim_end()
        .to_owned()
}

/// A sign for two octaves: its height is their share of the fullest, and whatever counts is seen.
fn bar(octaves: &[u64]) -> String {
    let pairs: Vec<u64> = octaves.chunks(OCTAVES_A_SIGN).map(|pair| pair.iter().sum()).collect();
    let most = pairs.iter().copied().max().unwrap_or(0).max(1);
    let height = |count: u64| {
        let share = u128::from(count) * (BARS.len() as u128 - 1);
        usize::try_from(share.div_ceil(u128::from(most))).expect("a share is at most one")
    };
    pairs.into_iter().map(|count| BARS[height(count)]).collect()
}

fn seconds(seconds: Option<f64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), human_seconds)
}

fn processes(
    screen: &Screen,
    snapshot: &Snapshot,
    width: usize,
    height: Option<usize>,
) -> Vec<Line> {
    let title = format!("fsync by process, all devices, by {}", screen.order.label());
    let head = format!("  {:>7} {:<16}{} cgroup", "pid", "process", caller_head());
    let room = width.saturating_sub(head.chars().count() - "cgroup".len());
    let rows = screen.order.sorted(&snapshot.processes).into_iter().map(|caller| {
        let pid = caller.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let cgroup = end_of(&caller.cgroup, room);
        format!("{pid:>7} {:<16}{} {cgroup}", caller.name, caller_row(caller))
    });
    table(screen, [title, head], rows.collect(), height)
}

fn cgroups(screen: &Screen, snapshot: &Snapshot, width: usize, height: Option<usize>) -> Vec<Line> {
    let title = format!("fsync by cgroup, all devices, by {}", screen.order.label());
    let head = format!("  {} cgroup", caller_head());
    let columns = caller_head().chars().count();
    let room = width.saturating_sub(columns + 3);
    let rows = screen.order.sorted(&snapshot.cgroups).into_iter();
    let rows = rows.map(|it| format!("{} {}", caller_row(it), end_of(&it.name, room)));
    table(screen, [title, head], rows.collect(), height)
}

fn caller_head() -> String {
    format!("{:>8}{:>9}{:>9}{:>9}{:>7}", "/s", "count", "p99≤", "max", "errors")
}

fn caller_row(caller: &Caller) -> String {
    let Row { count, rate, p99, max, .. } = &caller.fsyncs;
    let [p99, max] = [p99, max].map(|it| seconds(*it));
    format!("{rate:>8.1}{count:>9}{p99:>9}{max:>9}{:>7}", caller.errors)
}

fn devices(screen: &Screen, snapshot: &Snapshot, height: Option<usize>) -> Vec<Line> {
    let title = "by device: a second, and what 99 of 100 took no longer than".to_owned();
    let head = format!(
        "  {:<16}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}",
        "device", "io_end/s", "p99≤", "fsync/s", "p99≤", "direct/s", "p99≤", "errors"
    );
    let rows = snapshot.devices.iter().map(|device| {
        let DeviceView { name, io_end, fsyncs, direct, fsync_errors, direct_errors, .. } = device;
        let total = io_end.last().map(|(_, row)| row.clone()).unwrap_or_default();
        let of = |row: &Row| format!("{:>9.1}{:>9}", row.rate, seconds(row.p99));
        let [total, fsyncs, direct] = [&total, fsyncs, direct].map(of);
        let errors = fsync_errors + direct_errors;
        format!("{:<16}{total}{fsyncs}{direct}{errors:>7}", end_of(name, 15))
    });
    table(screen, [title, head], rows.collect(), height)
}

/// A table whose selected row is in sight.
fn table(
    screen: &Screen,
    [title, head]: [String; 2],
    rows: Vec<String>,
    height: Option<usize>,
) -> Vec<Line> {
    let all = rows.len();
    let room = height.unwrap_or(usize::MAX).saturating_sub(3).max(1);
    let first = screen.selected.saturating_sub(room - 1).min(all.saturating_sub(room));
    let mut lines = vec![Line::new(Look::Head, title), Line::new(Look::Head, head)];
    for (at, row) in rows.into_iter().enumerate().skip(first).take(room) {
        let is_selected = height.is_some() && at == screen.selected;
        let (sign, look) = if is_selected { ('>', Look::Selected) } else { (' ', Look::Plain) };
        lines.push(Line::new(look, format!("{sign} {row}")));
    }
    match all {
        0 => lines.push(plain_line("  none yet")),
        all if all > room => lines.push(plain_line(format!("  {room} of {all} rows; Up and Down"))),
        _ => {}
    }
    lines
}

/// The list above, the text of the selected one below.
fn findings(screen: &Screen, snapshot: &Snapshot, width: usize, height: usize) -> Vec<Line> {
    let title = "findings, in the order of their confirmation".to_owned();
    let head = format!("  {:<27}{:<10}{:<14}id", "rule", "sure", "device");
    let rows = snapshot.findings.iter();
    let rows =
        rows.map(|it| format!("{:<27}{:<10}{:<14}{}", it.rule, it.confidence, it.device, it.id));
    let mut lines = table(screen, [title, head], rows.collect(), Some((height / 2).min(9)));
    let Some(selected) = snapshot.findings.get(screen.selected) else { return lines };
    let text: Vec<_> = selected.text.lines().flat_map(|line| folded(line, width)).collect();
    let room = height.saturating_sub(lines.len() + 1).max(1);
    let first = screen.scrolled.min(text.len().saturating_sub(room));
    let shown = (first + room).min(text.len());
    let scroll = format!("lines {} to {shown} of {}; PageUp and PageDown", first + 1, text.len());
    lines.push(Line::new(Look::Head, if text.len() > room { scroll } else { String::new() }));
    lines.extend(text[first..shown].iter().map(plain_line));
    lines
}

fn every_finding(snapshot: &Snapshot) -> Vec<Line> {
    let mut lines = vec![plain_line("findings, in the order of their confirmation")];
    if snapshot.findings.is_empty() {
        lines.push(plain_line("  none yet"));
    }
    let texts = snapshot.findings.iter().flat_map(|finding| finding.text.lines());
    lines.extend(texts.map(plain_line));
    lines
}

/// What the keys do.
pub(super) fn help(mode: &Mode) -> Vec<Line> {
    let arrows = match mode {
        Mode::Live => "Left Right    another view",
        Mode::Recording { .. } => "Left Right    a second back, a second on",
    };
    let pause = match mode {
        Mode::Live => "p Space       hold what is shown; counting goes on",
        Mode::Recording { .. } => "p Space       stop playing, go on",
    };
    let lines = [
        "q Ctrl-C      quit",
        "? h           this help; any key closes it",
        "Tab 1 … 5     another view",
        arrows,
        "Up Down       select a row or a finding; Home and End",
        "PageUp …Down  through the text of a finding",
        "s             sort by rate, count, p99, max, errors, name",
        "d             the next device; after the last one all",
        pause,
        "Ctrl-Z        to the shell",
        "",
        "/s is of the last second, a count since the start; p50, p99 and max are of the",
        "last 10 to 20 seconds, upper edges of octaves. A bar is a histogram from 1 µs to",
        "64 s, two octaves a sign. An age is that of the oldest in its state.",
        "suppressed: verdicts that a loss could explain, which are not pronounced.",
        "unknown: the process was gone before it could be asked, or an old recording.",
    ];
    lines.into_iter().map(plain_line).collect()
}

/// Left and right of a line.
fn between(left: &str, right: &str, width: usize) -> String {
    let room = width.saturating_sub(right.chars().count());
    format!("{:<room$}{right}", cut(left, room.saturating_sub(1)))
}

/// A line in as many as it needs, at its spaces where there are any.
fn folded(line: &str, width: usize) -> Vec<String> {
    let mut rest: Vec<char> = line.chars().collect();
    let mut lines = Vec::new();
    while rest.len() > width && width > 0 {
        let space = rest[..width].iter().rposition(|it| *it == ' ').filter(|at| *at > width / 2);
        let tail = rest.split_off(space.map_or(width, |at| at + 1));
        lines.push(rest.iter().collect());
        rest = tail;
    }
    lines.push(rest.iter().collect());
    lines
}

fn cut(text: &str, len: usize) -> String {
    text.chars().take(len).collect()
}

/// The end of a text, which names a service or a container.
fn end_of(text: &str, len: usize) -> String {
    let chars = text.chars().count();
    if chars <= len || len == 0 {
        return text.to_owned();
    }
    let end: String = text.chars().skip(chars + 1 - len).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_counts_is_seen_in_a_bar() {
        let mut octaves = vec![0; 28];
        (octaves[0], octaves[3], octaves[27]) = (1000, 1, 500);
        assert_eq!(bar(&octaves), "█▁           ▄");
        assert_eq!(bar(&[]), "");
        assert_eq!(bar(&[0, 0, u64::MAX, 0]), " █");
    }

    #[test]
    fn long_lines_are_folded_at_spaces() {
        assert_eq!(folded("one two three", 9), ["one two ", "three"]);
        assert_eq!(folded("unbroken", 3), ["unb", "rok", "en"]);
        assert_eq!(folded("", 3), [""]);
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(end_of("/system.slice/a.service", 12), "…e/a.service");
        assert_eq!(end_of("short", 12), "short");
    }
}
