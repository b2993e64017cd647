//! What somebody looks at: the view, its order, the device, the selected row; and what keys do to it.
//!
//! ```text
//!   key ─► Screen ─► Wish (quit, step, suspend: what only the terminal's owner can do)
//! ```
//!
//! It must never hold a number of the snapshot but names and places, which may be gone with the next one.

use super::snapshot::{ALL, Caller, DeviceView, Snapshot};

/// A view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// What is in flight, phases and calls of the device.
    #[default]
    Overview,
    /// fsyncs by process.
    Processes,
    /// fsyncs by cgroup.
    Cgroups,
    /// By device.
    Devices,
    /// What was found.
    Findings,
}

impl Tab {
    /// In the order of their keys, from 1.
    pub const ALL: [Tab; 5] =
        [Tab::Overview, Tab::Processes, Tab::Cgroups, Tab::Devices, Tab::Findings];

    /// Its title.
    pub fn title(self) -> &'static str {
        match self {
            Tab::Overview => "Overview",
            Tab::Processes => "Processes",
            Tab::Cgroups => "Cgroups",
            Tab::Devices => "Devices",
            Tab::Findings => "Findings",
        }
    }

    fn moved(self, by: usize) -> Tab {
        Tab::ALL[(self as usize + by) % Tab::ALL.len()]
    }
}

/// What processes and cgroups are sorted by; the name decides between equals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// fsyncs of the last second, and of equals the count.
    #[default]
    Rate,
    /// fsyncs since the start.
    Count,
    /// What 99 of 100 took.
    P99,
    /// The longest.
    Max,
    /// Those that failed.
    Errors,
    /// By name alone.
    Name,
}

impl Order {
    /// All, as `s` goes through them.
    pub const ALL: [Order; 6] =
        [Order::Rate, Order::Count, Order::P99, Order::Max, Order::Errors, Order::Name];

    /// As it is told.
    pub fn label(self) -> &'static str {
        match self {
            Order::Rate => "rate",
            Order::Count => "count",
            Order::P99 => "p99",
            Order::Max => "max",
            Order::Errors => "errors",
            Order::Name => "name",
        }
    }

    fn next(self) -> Order {
        Order::ALL[(self as usize + 1) % Order::ALL.len()]
    }

    /// A table in this order, the largest first.
    pub(super) fn sorted(self, callers: &[Caller]) -> Vec<&Caller> {
        let key = |caller: &Caller| match self {
            Order::Rate => caller.fsyncs.rate,
            #[expect(clippy::cast_precision_loss, reason = "only the order counts")]
            Order::Count => caller.fsyncs.count as f64,
            Order::P99 => caller.fsyncs.p99.unwrap_or(-1.0),
            Order::Max => caller.fsyncs.max.unwrap_or(-1.0),
            #[expect(clippy::cast_precision_loss, reason = "only the order counts")]
            Order::Errors => caller.errors as f64,
            Order::Name => 0.0,
        };
        let mut sorted: Vec<_> = callers.iter().collect();
        sorted.sort_by(|a, b| {
            let by_key = key(b).total_cmp(&key(a));
            let by_count = b.fsyncs.count.cmp(&a.fsyncs.count).then(b.errors.cmp(&a.errors));
            let by_name = a.name.cmp(&b.name).then(a.pid.cmp(&b.pid));
            let by_count = if self == Order::Name { by_name } else { by_count.then(by_name) };
            by_key.then(by_count)
        });
        sorted
    }
}

/// Where snapshots come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// The kernel, now.
    Live,
    /// A recording.
    Recording {
        /// How fast it is played.
        speed: f64,
        /// It was played to its end.
        over: bool,
    },
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the keys' own names")]
pub enum Key {
    Char(char),
    Tab,
    BackTab,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
    Escape,
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
}

/// What a key asks of whoever owns the terminal and the player.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Draw again.
    Draw,
    /// Be over.
    Quit,
    /// Seconds of the recording, back if negative.
    Step(i8),
    /// To the shell, until it says otherwise.
    Suspend,
}

/// What somebody looks at.
#[derive(Clone, Debug)]
pub struct Screen {
    /// The view.
    pub tab: Tab,
    /// The order of its table.
    pub order: Order,
    /// The device by name; `None`: all together.
    pub device: Option<String>,
    /// Where snapshots come from.
    pub mode: Mode,
    /// They are not shown, or not played, for now.
    pub paused: bool,
    /// Nothing but plain text: `NO_COLOR`.
    pub plain: bool,
    /// What else is to be said: why nothing is attached, where a recording is cut.
    pub note: Option<String>,
    pub(super) help: bool,
    pub(super) selected: usize,
    /// First line of a finding's text.
    pub(super) scrolled: usize,
}

impl Screen {
    /// As it begins.
    pub fn new(mode: Mode) -> Self {
        Screen {
            tab: Tab::default(),
            order: Order::default(),
            device: None,
            mode,
            paused: false,
            plain: false,
            note: None,
            help: false,
            selected: 0,
            scrolled: 0,
        }
    }

    /// A key was pressed.
    pub fn press(&mut self, key: Key, snapshot: &Snapshot) -> Wish {
        let is_live = self.mode == Mode::Live;
        match key {
            Key::Interrupt | Key::Char('q' | 'Q') => return Wish::Quit,
            Key::Suspend => return Wish::Suspend,
            Key::Char('?' | 'h') => self.help = !self.help,
            Key::Escape => self.help = false,
            // Whatever else closes the help, and does nothing but that.
            _ if self.help => self.help = false,
            Key::Tab => self.look_at(self.tab.moved(1)),
            Key::BackTab => self.look_at(self.tab.moved(Tab::ALL.len() - 1)),
            Key::Right if is_live => self.look_at(self.tab.moved(1)),
            Key::Left if is_live => self.look_at(self.tab.moved(Tab::ALL.len() - 1)),
            Key::Right => return Wish::Step(1),
            Key::Left => return Wish::Step(-1),
            Key::Char(digit @ '1'..='5') => {
                self.look_at(Tab::ALL[usize::from(digit as u8 - b'1')]);
            }
            Key::Char('s') => self.order = self.order.next(),
            Key::Char('d') => self.next_device(&snapshot.devices),
            Key::Char('p' | ' ') => self.paused = !self.paused,
            Key::Up | Key::Char('k') => self.select(snapshot, |at, _| at.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.select(snapshot, |at, _| at + 1),
            Key::Home => self.select(snapshot, |_, _| 0),
            Key::End => self.select(snapshot, |_, rows| rows),
            Key::PageUp => self.scrolled = self.scrolled.saturating_sub(5),
            Key::PageDown => self.scrolled += 5,
            Key::Char(_) => {}
        }
        Wish::Draw
    }

    fn look_at(&mut self, tab: Tab) {
        (self.tab, self.selected, self.scrolled) = (tab, 0, 0);
    }

    /// How many rows can be selected.
    pub(super) fn rows(&self, snapshot: &Snapshot) -> usize {
        match self.tab {
            Tab::Overview => 0,
            Tab::Processes => snapshot.processes.len(),
            Tab::Cgroups => snapshot.cgroups.len(),
            Tab::Devices => snapshot.devices.len(),
            Tab::Findings => snapshot.findings.len(),
        }
    }

    fn select(&mut self, snapshot: &Snapshot, to: impl Fn(usize, usize) -> usize) {
        let rows = self.rows(snapshot);
        self.selected = to(self.selected, rows).min(rows.saturating_sub(1));
        self.scrolled = 0;
    }

    fn next_device(&mut self, devices: &[DeviceView]) {
        let shown = self.device.as_deref().unwrap_or(ALL);
        let at = devices.iter().position(|it| it.name == shown);
        let next = at.and_then(|at| devices.get(at + 1));
        self.device = next.map(|it| it.name.clone());
    }

    /// The device that is looked at, if the stream has shown it.
    pub(super) fn device<'a>(&self, snapshot: &'a Snapshot) -> Option<&'a DeviceView> {
        let shown = self.device.as_deref().unwrap_or(ALL);
        snapshot.devices.iter().find(|it| it.name == shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::snapshot::Row;

    fn caller(name: &str, rate: f64, count: u64, errors: u64) -> Caller {
        let fsyncs = Row { rate, count, ..Row::default() };
        Caller { name: name.to_owned(), fsyncs, errors, ..Caller::default() }
    }

    #[track_caller]
    fn check_order(order: Order, expected: &str) {
        let callers = [caller("c", 1.0, 9, 0), caller("a", 3.0, 5, 1), caller("b", 1.0, 9, 2)];
        let names: String = order.sorted(&callers).iter().map(|it| &*it.name).collect();
        assert_eq!(names, expected, "{order:?}");
    }

    #[test]
    fn the_largest_comes_first_and_names_decide_between_equals() {
        check_order(Order::Rate, "abc");
        check_order(Order::Count, "bca");
        check_order(Order::Errors, "bac");
        check_order(Order::Name, "abc");
        check_order(Order::P99, "bca");
    }

    #[test]
    fn keys_turn_views_and_what_only_the_owner_can_do_is_a_wish() {
        let snapshot = Snapshot::default();
        let mut live = Screen::new(Mode::Live);
        assert_eq!(live.press(Key::Right, &snapshot), Wish::Draw);
        assert_eq!(live.tab, Tab::Processes);
        live.press(Key::BackTab, &snapshot);
        live.press(Key::BackTab, &snapshot);
        assert_eq!(live.tab, Tab::Findings);
        live.press(Key::Char('?'), &snapshot);
        live.press(Key::Char('1'), &snapshot);
        assert_eq!((live.help, live.tab), (false, Tab::Findings), "it only closed the help");
        assert_eq!(live.press(Key::Char('q'), &snapshot), Wish::Quit);
        assert_eq!(live.press(Key::Interrupt, &snapshot), Wish::Quit);

        let mut played = Screen::new(Mode::Recording { speed: 1.0, over: false });
        assert_eq!(played.press(Key::Left, &snapshot), Wish::Step(-1));
        played.press(Key::Char(' '), &snapshot);
        assert!(played.paused);
        played.press(Key::Down, &snapshot);
        assert_eq!(played.selected, 0, "there is no row");
    }

    #[test]
    fn devices_are_gone_through_and_all_come_after_the_last() {
        let view = |name: &str| DeviceView { name: name.to_owned(), ..DeviceView::default() };
        let devices = vec![view(ALL), view("vda"), view("vdb")];
        let snapshot = Snapshot { devices, ..Snapshot::default() };
        let mut screen = Screen::new(Mode::Live);
        let mut shown = Vec::new();
        for _ in 0..3 {
            screen.press(Key::Char('d'), &snapshot);
            shown.push(screen.device(&snapshot).unwrap().name.clone());
        }
        assert_eq!(shown, ["vda", "vdb", ALL]);
    }
}
