//! `endiod top`: what happens now, or happened in a recording, on a screen, or as text for a script.
//!
//! ```text
//!   kernel ─► Watch, at each TICK ─► newest snapshot ──┐
//!                                                      ├─► a thread: Screen ─► terminal
//!   FILE ─► Player, in the recording's own time ───────┘      keys
//! ```
//!
//! The task that watches hands over a snapshot and goes on: a terminal that takes nothing costs frames, never
//! records. Whatever ends the screen, the terminal is as it was.

mod batch;
mod live;
mod player;
mod terminal;
mod viewer;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use endiod::top::{Mode, Order, Screen};

use crate::cli::{Format, WatchArgs};

pub(crate) use viewer::Viewer;

/// A recording is cut: not all was there to look at.
const EXIT_CUT: u8 = 2;

/// Flags of `top`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without FILE it attaches, as `record` does. ? shows the keys.\n\nExit: 0 done, 2 an \
                        error, or the end of a recording that is cut off"
)]
pub(crate) struct TopArgs {
    /// What `endiod record` wrote; without it the kernel is watched
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// How much faster than it was the recording is played
    #[arg(long, value_name = "N", default_value_t = 1.0, requires = "file", value_parser = speed)]
    speed: f64,
    /// Second of the recording to begin at
    #[arg(long, value_name = "SECONDS", requires = "file", value_parser = second)]
    at: Option<f64>,
    /// Print one frame to stdout and be done: of a recording its end, or what --at says
    #[arg(long, conflicts_with = "frames")]
    once: bool,
    /// Print that many frames to stdout, one of each second
    #[arg(short = 'n', long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// Print frames to stdout in that form, until the end if neither --once nor -n says how many
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// The device to look at, by its kernel's name
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// What processes and cgroups are sorted by
    #[arg(long, value_enum, default_value_t = Sort::Rate)]
    sort: Sort,
    /// How to watch.
    #[command(flatten)]
    watch: WatchArgs,
}

/// What a table is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// fsyncs in the last second.
    Rate,
    /// fsyncs since the start.
    Count,
    /// What 99 of 100 took.
    P99,
    /// The longest.
    Max,
    /// Those that failed.
    Errors,
    /// By name.
    Name,
}

/// How frames are printed.
#[derive(Clone, Copy, Debug)]
struct Batch {
    format: Format,
    /// How many; `None`: all.
    frames: Option<u64>,
}

impl TopArgs {
    fn batch(&self) -> Option<Batch> {
        let frames = if self.once { Some(1) } else { self.frames };
        let asked = frames.is_some() || self.format.is_some();
        asked.then_some(Batch { format: self.format.unwrap_or(Format::Text), frames })
    }

    fn screen(&self) -> Screen {
        let mode = match self.file {
            None => Mode::Live,
            Some(_) => Mode::Recording { speed: self.speed, over: false },
        };
        let mut screen = Screen::new(mode);
        screen.device.clone_from(&self.device);
        screen.order = match self.sort {
            Sort::Rate => Order::Rate,
            Sort::Count => Order::Count,
            Sort::P99 => Order::P99,
            Sort::Max => Order::Max,
            Sort::Errors => Order::Errors,
            Sort::Name => Order::Name,
        };
        // https://no-color.org: set to anything but nothing.
        screen.plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        screen
    }
}

pub(crate) fn run(args: &TopArgs) -> Result<ExitCode> {
    let batch = args.batch();
    if batch.is_none() && !std::io::stdout().is_terminal() {
        bail!("stdout is not a terminal: give --once, -n COUNT or --format text to print frames");
    }
    match &args.file {
        Some(file) => player::run(args, file, batch),
        None => live::run(args, batch),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let is_one = (0.01..=1000.0).contains(&speed);
    is_one.then_some(speed).ok_or_else(|| "give 0.01 to 1000".to_owned())
}

fn second(text: &str) -> Result<f64, String> {
    let second: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let is_one = second >= 0.0 && second.is_finite();
    is_one.then_some(second).ok_or_else(|| "give a second from 0 on".to_owned())
}
