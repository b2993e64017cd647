//! Pictures of findings, drawn when somebody asks: a replay of the slice beside the finding, one at a time,
//! whoever asks, and the last few kept.
//!
//! A replay costs memory like a second agent's tables for its while and a CPU some tenths of a second; so the
//! bounds here are what a page may cost the host.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::store::shelf::{FindingId, Shelf, Slice};
use crate::story::retell;

/// Bytes of records that are replayed: four times what the recorder keeps unless somebody says otherwise.
const SLICE_BYTES_MAX: u64 = 64 << 20;
/// Pictures kept; one of 4,096 steps, the most there are, has 600 KiB.
const DRAWINGS_MAX: usize = 8;

/// A picture, or why there is none, and the slice that it was drawn from.
#[derive(Clone, Debug)]
pub(super) struct Drawing {
    pub(super) slice: Option<Slice>,
    pub(super) picture: Result<Arc<str>, Arc<str>>,
}

/// The last ones, and whose turn it is.
#[derive(Debug)]
pub(super) struct Drawings {
    turn: Arc<Semaphore>,
    last: Mutex<VecDeque<(FindingId, Drawing)>>,
}

impl Default for Drawings {
    fn default() -> Self {
        Drawings { turn: Arc::new(Semaphore::new(1)), last: Mutex::default() }
    }
}

impl Drawings {
    /// The picture of a finding. Waits without a thread for those that are drawn before.
    pub(super) async fn of(self: &Arc<Self>, shelf: Shelf, id: FindingId) -> Drawing {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let this = Arc::clone(self);
        let drawn = tokio::task::spawn_blocking(move || {
            // Until the work is over, even if nobody waits for it any more.
            let _turn = turn;
            this.kept_or_drawn(&shelf, &id)
        });
        let failed = |error: tokio::task::JoinError| Drawing {
            slice: None,
            picture: Err(error.to_string().into()),
        };
        drawn.await.unwrap_or_else(failed)
    }

    fn kept_or_drawn(&self, shelf: &Shelf, id: &FindingId) -> Drawing {
        let slice = shelf.slice(id);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |(of, kept): &&(FindingId, Drawing)| of == id && kept.slice == slice;
        if let Some((_, kept)) = last.iter().find(of) {
            return kept.clone();
        }
        let picture = draw(slice.as_ref(), id);
        let drawing = Drawing { slice, picture: picture.map(Into::into).map_err(Into::into) };
        last.truncate(DRAWINGS_MAX - 1);
        last.push_front((id.clone(), drawing.clone()));
        drawing
    }
}

fn draw(slice: Option<&Slice>, id: &FindingId) -> Result<String, String> {
    let Some(Slice { path, .. }) = slice else {
        return Err("no slice of the stream is kept with it".to_owned());
    };
    retell::picture(|| File::open(path).map(BufReader::new), id.as_str(), SLICE_BYTES_MAX)
        .map_err(|error| error.to_string())
}
