//! `endiod replay`: the whole pipeline over a recording. The same bytes out every time, and the same
//! that the recorder printed.

use std::{
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::Args;
use endiod::{
    metrics::Metrics,
    pipeline::{Pipeline, names},
    report::Summary,
    source::trace::{Reader, TraceError},
};

use super::print;
use crate::cli::Format;

/// Something was found.
const EXIT_FINDINGS: u8 = 1;
/// Nothing was found, but not all was there to look at.
const EXIT_COULD_NOT_TELL: u8 = 2;

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "Exit: 0 nothing found, 1 findings, 2 an error, or nothing found in a \
                        recording that is cut off")]
pub(crate) struct ReplayArgs {
    /// What `endiod record` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// How the summary is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode> {
    let (summary, cut) =
        replay(&args.file).with_context(|| format!("cannot replay {}", args.file.display()))?;
    if let Some(cut) = &cut {
        eprintln!("endiod: {}: {cut}", args.file.display());
    }
    print(&summary, args.format)?;
    Ok(ExitCode::from(match (summary.findings.is_empty(), cut) {
        (false, _) => EXIT_FINDINGS,
        (true, Some(_)) => EXIT_COULD_NOT_TELL,
        (true, None) => 0,
    }))
}

/// What the recording tells, and whether it was cut.
fn replay(path: &Path) -> Result<(Summary, Option<TraceError>)> {
    let mut reader = Reader::new(BufReader::new(File::open(path)?))?;
    let metrics = Metrics::new(names())?;
    let mut pipeline = Pipeline::new(metrics);
    let cut = loop {
        match reader.next_record() {
            Ok(Some(record)) => pipeline.feed(record),
            Ok(None) => break None,
            Err(cut @ TraceError::Truncated { .. }) => break Some(cut),
            Err(error) => return Err(error.into()),
        }
    };
    pipeline.finish();
    Ok((pipeline.summary(), cut))
}
