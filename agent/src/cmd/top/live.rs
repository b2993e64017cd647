//! `endiod top` over the kernel: attaches as `record` does, and shows each second what came.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use endiod::{host::Host, http::Heartbeat, metrics::Metrics, pipeline::names, top::Screen};
use tokio::sync::watch::Receiver;

use super::{
    Batch, TopArgs, batch,
    terminal::{self, Feed, Stage},
    viewer::{Shown, Viewer},
};
use crate::cmd::{
    keep::Keeper,
    watch::{Setup, Signals, Watch, block_on},
};

pub(super) fn run(args: &TopArgs, batch: Option<Batch>) -> Result<ExitCode> {
    block_on(watch(args, batch))
}

async fn watch(args: &TopArgs, batch: Option<Batch>) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    let metrics = Metrics::new(names())?;
    let keeper = Keeper::open(&args.watch.keep)?;
    // Nobody asks for this one's health.
    let heartbeat = Heartbeat::new(Duration::MAX);
    let mut setup = Setup::new(&args.watch, Host::default(), metrics, heartbeat);
    let (viewer, newest) = Viewer::new();
    setup.viewer = Some(viewer);
    // Attached first: what it says of errors is on the terminal that was.
    let mut watch = Watch::start(setup, keeper, || Ok(None))?;
    let screen = args.screen();
    let ended = match batch {
        Some(batch) => {
            let mut printer = tokio::spawn(print(screen, newest, batch));
            tokio::select! {
                stop = watch.watch(&mut signals, args.watch.duration) => stop.map(|_| ()),
                printed = &mut printer => printed.context("the printer failed").and_then(|it| it),
            }
        }
        None => {
            let mut stage = Stage::open(screen, Live(newest))?;
            let ended = tokio::select! {
                stop = watch.watch(&mut signals, args.watch.duration) => stop.map(|_| ()),
                () = stage.left() => Ok(()),
            };
            stage.close().and(ended)
        }
    };
    watch.finish().await;
    ended.map(|()| ExitCode::SUCCESS)
}

/// Beside the watch: a reader that is slow costs frames.
async fn print(mut screen: Screen, mut newest: Receiver<Shown>, batch: Batch) -> Result<()> {
    let mut left = batch.frames.unwrap_or(u64::MAX);
    while left > 0 && newest.changed().await.is_ok() {
        let Shown { snapshot, note } = newest.borrow_and_update().clone();
        screen.note = note;
        let go_on = tokio::task::block_in_place(|| batch::print(&screen, &snapshot, batch.format))?;
        left = if go_on { left - 1 } else { 0 };
    }
    Ok(())
}

/// The newest snapshot, or while it is held the one before.
struct Live(Receiver<Shown>);

impl Feed for Live {
    fn advance(&mut self, screen: &mut Screen) -> Result<terminal::Turn> {
        if screen.paused || !self.0.has_changed().unwrap_or(false) {
            return Ok(terminal::Turn::Same);
        }
        let Shown { snapshot, note } = self.0.borrow_and_update().clone();
        screen.note = note;
        Ok(terminal::Turn::New(snapshot))
    }

    fn step(&mut self, _: i8) -> Result<()> {
        Ok(())
    }
}
