//! `endiod record`: watch as `run` does, without serving, and keep the stream in a file.
//!
//! The file has every record that the summary stands on, so `endiod replay` prints the same summary.
//! What was recorded is on its way to the disk once a second: a recorder that is killed leaves a file
//! that reads up to its last second. A file that takes no more bytes ends the recording, with an error
//! that says up to where it is whole.

use std::{fs::File, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use endiod::{
    host::Host,
    http::Heartbeat,
    metrics::Metrics,
    pipeline::names,
    source::trace::{Existing, TraceError, Writer, Written},
};

use super::{
    keep::Keeper,
    print,
    watch::{Setup, Signals, Watch, block_on},
};
use crate::cli::{Format, WatchArgs};

/// Flags of `record`.
#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The file to write; it holds kernel addresses, so only its owner may read it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Write over FILE if it is there
    #[arg(long)]
    pub(crate) force: bool,
    /// Stop by itself once FILE has that many bytes; what is in the ring then is still written
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    pub(crate) max_bytes: u64,
    /// How to watch.
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// How the last summary is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

pub(crate) fn run(args: &RecordArgs) -> Result<ExitCode> {
    block_on(record(args))
}

async fn record(args: &RecordArgs) -> Result<ExitCode> {
    let mut signals = Signals::new()?;
    refuse_output(args)?;
    let metrics = Metrics::new(names())?;
    // Nobody asks for this one's health.
    let heartbeat = Heartbeat::new(Duration::MAX);
    let tape = || Tape::create(args).map(Some);
    let keeper = Keeper::open(&args.watch.keep)?;
    let setup = Setup::new(&args.watch, Host::default(), metrics, heartbeat);
    let mut watch = Watch::start(setup, keeper, tape)?;
    let stop = watch.watch(&mut signals, args.watch.duration).await;
    log::info!("{}: detaching", stop.as_ref().unwrap_or(&"an error"));
    let (summary, tape) = watch.finish().await;
    print(&summary, args.format)?;
    let written = tape.expect("the watch was started with a tape").finish();
    stop?;
    let Written { records, bytes, .. } =
        written.with_context(|| format!("cannot record to {}", args.output.display()))?;
    log::info!("{}: {records} records in {bytes} bytes", args.output.display());
    Ok(ExitCode::SUCCESS)
}

/// What would fail later, before anything is attached.
fn refuse_output(args: &RecordArgs) -> Result<()> {
    if args.output.as_os_str() == "-" {
        bail!("cannot record to stdout, which is for the summary: give -o a file");
    }
    if args.output.exists() && !args.force {
        bail!("{} is there already: give -o another file, or --force", args.output.display());
    }
    Ok(())
}

/// The file that a stream goes to, up to its first error.
pub(crate) struct Tape {
    writer: Writer<File>,
    bytes_max: u64,
    error: Option<TraceError>,
}

impl Tape {
    fn create(args: &RecordArgs) -> Result<Tape> {
        let existing = if args.force { Existing::Replace } else { Existing::Keep };
        let writer = Writer::create(&args.output, existing)
            .with_context(|| format!("cannot record to {}", args.output.display()))?;
        Ok(Tape { writer, bytes_max: args.max_bytes, error: None })
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        self.attempt(|writer| writer.push(record));
    }

    pub(crate) fn flush(&mut self) {
        self.attempt(Writer::flush);
    }

    /// Why nothing more should be recorded, if so.
    pub(crate) fn is_over(&self) -> Option<&'static str> {
        match () {
            () if self.error.is_some() => Some("the recording cannot be written"),
            () if self.writer.written().bytes >= self.bytes_max => Some("the recording is full"),
            () => None,
        }
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Writer<File>) -> Result<(), TraceError>) {
        if self.error.is_none() {
            self.error = work(&mut self.writer).err();
        }
    }

    fn finish(self) -> Result<Written, TraceError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(self.writer.finish()?.1),
        }
    }
}
