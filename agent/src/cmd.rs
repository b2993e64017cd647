//! The verbs, one file each: they do the I/O that the library must not.

pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod export;
pub(crate) mod extras;
pub(crate) mod helper;
pub(crate) mod keep;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod simulate;
pub(crate) mod stress;
pub(crate) mod top;
pub(crate) mod verify;
mod watch;

use endiod::report::Summary;

use crate::cli::Format;

/// Writes the result to stdout.
fn print(summary: &Summary, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Text => print!("{summary}"),
        Format::Json => println!("{}", serde_json::to_string(summary)?),
    }
    Ok(())
}
