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
    pipeline::{Onlooker, Pipeline, names},
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
                        recording that is cut off, or of a kernel that no reference core describes")]
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
    if !summary.oracle_knows() {
        let kernel = &summary.kernel;
        eprintln!("endiod: no reference core describes the kernel {kernel:?}: it was not judged");
    }
    Ok(ExitCode::from(verdict(&summary, cut.is_none())))
}

/// The exit code: what was found, or whether all was there to look at.
pub(crate) fn verdict(summary: &Summary, whole: bool) -> u8 {
    let found = !summary.findings.is_empty() || summary.diverged() > 0;
    match (found, whole && summary.oracle_knows()) {
        (true, _) => EXIT_FINDINGS,
        (false, false) => EXIT_COULD_NOT_TELL,
        (false, true) => 0,
    }
}

/// What the recording tells, and whether it was cut.
fn replay(path: &Path) -> Result<(Summary, Option<TraceError>)> {
    let mut pipeline = Pipeline::new(Metrics::new(names())?);
    let cut = records(path, |record| {
        pipeline.feed(record);
        Ok(())
    })?;
    pipeline.finish();
    Ok((pipeline.summary(), cut))
}

/// The pipeline over a recording while somebody looks on; whether it was cut.
pub(crate) fn watched(
    path: &Path,
    onlooker: &mut impl Onlooker,
) -> Result<(Pipeline, Option<TraceError>)> {
    let mut pipeline = Pipeline::new(Metrics::new(names())?);
    let cut = records(path, |record| {
        pipeline.feed_before(record, onlooker);
        Ok(())
    })?;
    pipeline.finish();
    Ok((pipeline, cut))
}

/// Every record of a recording, in its order; where it was cut, if it was.
pub(crate) fn records(
    path: &Path,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<Option<TraceError>> {
    let mut reader = Reader::new(BufReader::new(File::open(path)?))?;
    loop {
        match reader.next_record() {
            Ok(Some(record)) => take(record)?,
            Ok(None) => return Ok(None),
            Err(cut @ TraceError::Truncated { .. }) => return Ok(Some(cut)),
            Err(error) => return Err(error.into()),
        }
    }
}
