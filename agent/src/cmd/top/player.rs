//! A recording, played second by second in its own time.
//!
//! ```text
//!   records ─► pipeline + model ── TICK ─► kept seconds ─► the one that the clock has come to
//!                                            ◄── a step back; before the first one kept: read again
//! ```
//!
//! What is behind the last TICK is shown with the rates of the last whole second. Errors are those of `replay`.

use std::{
    collections::VecDeque,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use endiod::{
    limits::TOP_SECONDS_MAX,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    source::trace::{Reader, TraceError},
    top::{Mode, Model, Screen, Snapshot},
};

use super::{
    Batch, EXIT_CUT, TopArgs, batch,
    terminal::{Feed, Stage, Turn},
};
use crate::cmd::watch::{Signals, block_on};

pub(super) fn run(args: &TopArgs, file: &Path, batch: Option<Batch>) -> Result<ExitCode> {
    let cut = Arc::new(OnceLock::new());
    let player = Player::open(file, args.speed, Arc::clone(&cut));
    let played = player.and_then(|mut player| {
        player.seek(args.at, args.once)?;
        match batch {
            Some(batch) => player.print(args.screen(), batch),
            None => block_on(on_stage(args.screen(), player)),
        }
    });
    played.with_context(|| format!("cannot replay {}", file.display()))?;
    let Some(cut) = cut.get() else { return Ok(ExitCode::SUCCESS) };
    eprintln!("endiod: {}: {cut}", file.display());
    Ok(ExitCode::from(EXIT_CUT))
}

async fn on_stage(screen: Screen, player: Player) -> Result<()> {
    let mut signals = Signals::new()?;
    let mut stage = Stage::open(screen, player)?;
    tokio::select! {
        _ = signals.stop() => {}
        () = stage.left() => {}
    }
    stage.close()
}

/// Longest time between two looks that is played: a process that was stopped goes on where it was.
const STALL_MAX: Duration = Duration::from_secs(1);

/// What reads the recording.
struct Reading {
    reader: Reader<BufReader<File>>,
    pipeline: Pipeline,
    model: Model,
}

impl Reading {
    fn begin(path: &Path) -> Result<Self> {
        Ok(Reading {
            reader: Reader::new(BufReader::new(File::open(path)?))?,
            pipeline: Pipeline::new(Metrics::new(names())?),
            model: Model::default(),
        })
    }

    fn snapshot(&mut self) -> Arc<Snapshot> {
        Arc::new(self.model.snapshot(&self.pipeline))
    }
}

struct Player {
    path: PathBuf,
    reading: Reading,
    is_over: bool,
    /// Seconds that can be gone to at once, and the place of the first.
    kept: VecDeque<Arc<Snapshot>>,
    first: usize,
    /// The one that is shown, and whether it was drawn.
    at: usize,
    is_shown: bool,
    speed: f64,
    /// Where the clock stands, seconds of the recording, and when it was looked at.
    clock: f64,
    looked: Instant,
    cut: Arc<OnceLock<String>>,
}

impl Player {
    fn open(path: &Path, speed: f64, cut: Arc<OnceLock<String>>) -> Result<Player> {
        Ok(Player {
            path: path.to_owned(),
            reading: Reading::begin(path)?,
            is_over: false,
            kept: VecDeque::with_capacity(TOP_SECONDS_MAX),
            first: 0,
            at: 0,
            is_shown: false,
            speed,
            clock: 0.0,
            looked: Instant::now(),
            cut,
        })
    }

    /// To a second; without one to the end, if that is asked for.
    fn seek(&mut self, second: Option<f64>, to_end: bool) -> Result<()> {
        let second = second.unwrap_or(if to_end { f64::INFINITY } else { 0.0 });
        while let Some(next) = self.second(self.at + 1)? {
            if next.seconds > second {
                break;
            }
            self.at += 1;
        }
        self.goto(self.at)
    }

    fn print(&mut self, mut screen: Screen, batch: Batch) -> Result<()> {
        for _ in 0..batch.frames.unwrap_or(u64::MAX) {
            let Some(shown) = self.second(self.at)? else { break };
            let is_last = self.second(self.at + 1)?.is_none();
            self.tell(&mut screen, is_last);
            if !batch::print(&screen, &shown, batch.format)? {
                break;
            }
            self.at += 1;
        }
        Ok(())
    }

    /// A second by its place; `None` behind the last one.
    fn second(&mut self, place: usize) -> Result<Option<Arc<Snapshot>>> {
        if place < self.first {
            self.reading = Reading::begin(&self.path)?;
            self.kept.clear();
            (self.first, self.is_over) = (0, false);
        }
        while place >= self.first + self.kept.len() && !self.is_over {
            self.read_second()?;
        }
        Ok(self.kept.get(place - self.first).cloned())
    }

    /// Reads up to the next TICK, or to the end.
    fn read_second(&mut self) -> Result<()> {
        let mut records = 0_u64;
        let is_cut = loop {
            let Reading { reader, pipeline, model } = &mut self.reading;
            match reader.next_record() {
                Ok(Some(record)) => pipeline.feed_before(record, model),
                Ok(None) => break false,
                Err(cut @ TraceError::Truncated { .. }) => {
                    // The same each time that it is read.
                    let _ = self.cut.set(cut.to_string());
                    break true;
                }
                Err(error) => return Err(error.into()),
            }
            records += 1;
            if model.ticked() {
                self.keep();
                return Ok(());
            }
        };
        self.is_over = true;
        self.reading.pipeline.finish();
        if records > 0 || is_cut || self.kept.is_empty() {
            self.keep();
        }
        Ok(())
    }

    fn keep(&mut self) {
        if self.kept.len() == TOP_SECONDS_MAX {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(self.reading.snapshot());
    }

    fn goto(&mut self, place: usize) -> Result<()> {
        if let Some(shown) = self.second(place)? {
            (self.at, self.is_shown, self.clock) = (place, false, shown.seconds);
        }
        // What it took to read is no time of the recording.
        self.looked = Instant::now();
        Ok(())
    }

    /// What the screen says of the recording.
    fn tell(&self, screen: &mut Screen, is_last: bool) {
        screen.mode = Mode::Recording { speed: self.speed, over: is_last };
        screen.note = self.cut.get().filter(|_| is_last).cloned();
    }
}

impl Feed for Player {
    fn advance(&mut self, screen: &mut Screen) -> Result<Turn> {
        let now = Instant::now();
        let passed = now.duration_since(std::mem::replace(&mut self.looked, now)).min(STALL_MAX);
        let next = self.second(self.at + 1)?;
        if !screen.paused {
            self.clock += passed.as_secs_f64() * self.speed;
            if next.as_ref().is_some_and(|next| next.seconds <= self.clock) {
                (self.at, self.is_shown) = (self.at + 1, false);
            }
        }
        if std::mem::replace(&mut self.is_shown, true) {
            return Ok(Turn::Same);
        }
        let Some(shown) = self.second(self.at)? else { return Ok(Turn::Same) };
        let is_last = self.second(self.at + 1)?.is_none();
        self.tell(screen, is_last);
        let is_late = !screen.paused && shown.seconds + 1.0 < self.clock;
        Ok(if is_late && !is_last { Turn::NewAndMore(shown) } else { Turn::New(shown) })
    }

    fn step(&mut self, seconds: i8) -> Result<()> {
        self.goto(self.at.saturating_add_signed(seconds.into()))
    }
}
