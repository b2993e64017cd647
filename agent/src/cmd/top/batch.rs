//! Frames for scripts: text with every row of every view, or a line of JSON each.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use endiod::top::{Screen, Snapshot, plain};

use crate::cli::Format;

/// Columns of a frame of text.
const WIDTH: usize = 80;

/// Prints one; whether somebody still reads.
pub(super) fn print(screen: &Screen, snapshot: &Snapshot, format: Format) -> Result<bool> {
    let text = match format {
        Format::Text => plain(screen, snapshot, WIDTH) + "\n",
        Format::Json => serde_json::to_string(snapshot)? + "\n",
    };
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error).context("cannot write to stdout"),
    }
}
