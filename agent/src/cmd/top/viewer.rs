//! Between the task that watches and whoever shows: the newest snapshot, and no queue.

use std::sync::Arc;

use endiod::{
    pipeline::Pipeline,
    top::{Model, Snapshot},
};
use tokio::sync::watch;

/// What is to be shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) snapshot: Arc<Snapshot>,
    /// Why nothing is watched, or that it is waited for.
    pub(crate) note: Option<String>,
}

/// The watching side.
pub(crate) struct Viewer {
    model: Model,
    shown: watch::Sender<Shown>,
    /// A whole second was seen: the first TICK comes at once.
    is_primed: bool,
}

impl Viewer {
    pub(crate) fn new() -> (Self, watch::Receiver<Shown>) {
        let (shown, newest) = watch::channel(Shown::default());
        (Viewer { model: Model::default(), shown, is_primed: false }, newest)
    }

    pub(crate) fn onlooker(&mut self) -> &mut Model {
        &mut self.model
    }

    /// A second has passed. Never waits: a snapshot that nobody took is replaced.
    pub(crate) fn show(&mut self, pipeline: &Pipeline, readiness: Result<&'static str, String>) {
        if !std::mem::replace(&mut self.is_primed, true) {
            return;
        }
        let note = match readiness {
            Ok("ok") => None,
            Ok(waiting) => Some(waiting.to_owned()),
            Err(why) => Some(why),
        };
        let snapshot = Arc::new(self.model.snapshot(pipeline));
        self.shown.send_replace(Shown { snapshot, note });
    }
}
