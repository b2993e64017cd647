//! The terminal and its thread: draws what a feed has, hands keys to the screen, and gives the terminal back.
//!
//! ```text
//!   open ─► raw mode, other screen, no log ─► (advance, draw, keys)… ─► close: all as it was
//!                                                 │ q, Ctrl-C, error, panic, or whoever opened it
//! ```
//!
//! It has a thread of its own, since a terminal may take nothing for a while.

use std::{
    io::IsTerminal as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use endiod::top::{Key, Screen, Snapshot, Wish, draw};
use log::LevelFilter;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};
use tokio::sync::oneshot;

/// How long a key waits at most, and a new snapshot to be drawn.
const POLL: Duration = Duration::from_millis(50);
/// How long a terminal that takes nothing keeps the process.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What a feed has.
pub(super) enum Turn {
    Same,
    New(Arc<Snapshot>),
    /// And there may be more at once.
    NewAndMore(Arc<Snapshot>),
}

/// Where snapshots come from.
pub(super) trait Feed: Send + 'static {
    /// What is to be shown now.
    fn advance(&mut self, screen: &mut Screen) -> Result<Turn>;
    /// So many seconds on, or back.
    fn step(&mut self, seconds: i8) -> Result<()>;
}

/// The thread that has the terminal.
pub(super) struct Stage {
    stop: Arc<AtomicBool>,
    left: oneshot::Receiver<()>,
    ended: mpsc::Receiver<Result<()>>,
    level: LevelFilter,
}

impl Stage {
    pub(super) fn open(screen: Screen, feed: impl Feed) -> Result<Stage> {
        let level = log::max_level();
        if std::io::stderr().is_terminal() {
            // A line of it would be drawn into the screen, which shows the findings itself.
            log::set_max_level(LevelFilter::Off);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (leaves, left) = oneshot::channel();
        let (ends, ended) = mpsc::channel();
        let asked = Arc::clone(&stop);
        let work = move || {
            let _leaves = leaves;
            // It is asked for below, unless it took too long.
            let _ = ends.send(play(screen, feed, &asked));
        };
        thread::Builder::new()
            .name("screen".into())
            .spawn(work)
            .context("cannot start a thread")?;
        Ok(Stage { stop, left, ended, level })
    }

    /// Waits until it ended by itself.
    pub(super) async fn left(&mut self) {
        // Nobody sends: that the sender is gone is the word.
        let _ = (&mut self.left).await;
    }

    /// Gives the terminal back; how the screen ended.
    pub(super) fn close(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.ended.recv_timeout(CLOSE_MAX).unwrap_or_else(|error| match error {
            mpsc::RecvTimeoutError::Timeout => Err(anyhow!("the terminal takes nothing")),
            mpsc::RecvTimeoutError::Disconnected => Err(anyhow!("the screen's thread panicked")),
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        log::set_max_level(self.level);
    }
}

/// Gives the terminal back.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn play(mut screen: Screen, mut feed: impl Feed, stop: &AtomicBool) -> Result<()> {
    let _restore = Restore;
    // With a hook that gives it back at a panic, of whichever thread.
    let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
    let mut shown = Arc::new(Snapshot::default());
    let mut is_stale = true;
    while !stop.load(Ordering::Relaxed) {
        let mut wait = POLL;
        match feed.advance(&mut screen)? {
            Turn::Same => {}
            Turn::New(snapshot) => (shown, is_stale) = (snapshot, true),
            Turn::NewAndMore(snapshot) => {
                (shown, is_stale, wait) = (snapshot, true, Duration::ZERO);
            }
        }
        if std::mem::take(&mut is_stale) {
            terminal.draw(|frame| draw(frame, &screen, &shown)).context("cannot draw")?;
        }
        if !event::poll(wait).context("cannot wait for keys")? {
            continue;
        }
        is_stale = true;
        let Event::Key(pressed) = event::read().context("cannot read keys")? else { continue };
        let Some(key) = key(&pressed) else { continue };
        match screen.press(key, &shown) {
            Wish::Draw => {}
            Wish::Quit => return Ok(()),
            Wish::Step(seconds) => feed.step(seconds)?,
            Wish::Suspend => suspend(&mut terminal)?,
        }
    }
    Ok(())
}

fn key(pressed: &KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let has_control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    Some(match pressed.code {
        KeyCode::Char('c') if has_control => Key::Interrupt,
        KeyCode::Char('z') if has_control => Key::Suspend,
        KeyCode::Char(_) if has_control => return None,
        KeyCode::Char(char) => Key::Char(char),
        KeyCode::Tab => Key::Tab,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Esc => Key::Escape,
        _ => return None,
    })
}

/// Stops, as Ctrl-Z does outside of raw mode, and takes the terminal again after it.
fn suspend(terminal: &mut DefaultTerminal) -> Result<()> {
    ratatui::restore();
    // To this thread: one to the process may be taken by another, and this one would have taken the terminal again
    // before it is stopped.
    // SAFETY: raise(3) reads no memory; what is stopped by it is this process.
    let sent = unsafe { libc::raise(libc::SIGTSTP) };
    anyhow::ensure!(sent == 0, "cannot stop: {}", std::io::Error::last_os_error());
    *terminal = ratatui::try_init().context("cannot take the terminal again")?;
    Ok(())
}
