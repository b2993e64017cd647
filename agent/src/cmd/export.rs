//! `endiod export`: a recording for other tools. It reads it twice, first to see that it is one to its end.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use endiod::{
    export::{Chronicle, Item, Perfetto, line},
    metrics::Metrics,
    pipeline::{Pipeline, names},
};

use super::replay::records;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExportFormat {
    /// A Perfetto trace (protobuf), for ui.perfetto.dev and its trace processor.
    Perfetto,
    /// One JSON object a line; agent/docs/export.md has the fields.
    Json,
}

/// Flags of `export`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit: 0 written, 2 an error; of a recording that is cut off what there is is written"
)]
pub(crate) struct ExportArgs {
    /// What `endiod record` wrote, or a slice that `endiod run` kept
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// What is written
    #[arg(long, value_enum)]
    format: ExportFormat,
    /// Where to; without it, to stdout
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

pub(crate) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let file = args.file.display();
    // A file that is no recording must not cost the output that is there.
    records(&args.file, |_| Ok(())).with_context(|| format!("cannot export {file}"))?;
    match &args.output {
        None => write(args, io::stdout().lock()),
        Some(path) => {
            let out = create(path)?;
            write(args, out).with_context(|| format!("cannot export to {}", path.display()))
        }
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot create {}", path.display()))
}

fn write(args: &ExportArgs, out: impl Write) -> Result<()> {
    let mut out =
        Out { format: args.format, perfetto: Perfetto::default(), out: BufWriter::new(out) };
    let mut chronicle = Chronicle::default();
    let mut pipeline = Pipeline::new(Metrics::new(names())?);
    let cut = records(&args.file, |record| {
        pipeline.feed_before(record, &mut chronicle);
        chronicle.findings(pipeline.findings());
        out.items(&chronicle.take())
    })?;
    pipeline.finish();
    if let Some(cut) = &cut {
        eprintln!("endiod: {}: {cut}", args.file.display());
    }
    chronicle.finish(pipeline.summary().stream.malformed, cut.is_some());
    out.items(&chronicle.take())?;
    Ok(out.out.flush()?)
}

/// Items to bytes to a file.
struct Out<W: Write> {
    format: ExportFormat,
    perfetto: Perfetto,
    out: BufWriter<W>,
}

impl<W: Write> Out<W> {
    fn items(&mut self, items: &[Item]) -> Result<()> {
        for item in items {
            match self.format {
                ExportFormat::Json => self.out.write_all(&line(item))?,
                ExportFormat::Perfetto => {
                    self.perfetto.item(item);
                    self.out.write_all(&self.perfetto.take())?;
                }
            }
        }
        Ok(())
    }
}
