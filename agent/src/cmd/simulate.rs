//! `endiod simulate`: a seeded world of a simulated protocol, with faults on demand, through the same
//! pipeline as a recording.
//!
//! What is not given is drawn from the seed, and printed. With findings, or where it could not tell,
//! the last line of stderr is the command that shows the same again with nothing left to the seed but
//! the schedule.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser, value_parser};
use endiod::{
    metrics::Metrics,
    pipeline::{Pipeline, names},
    source::{
        sim::{Chosen, Faults, Options, Release, Simulated, Slip, World, simulate},
        trace::{Existing, TraceError, Writer},
    },
};

use super::{print, replay};
use crate::cli::Format;

/// Flags of `simulate`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit: as of replay. stderr names what was drawn from the seed; unless the exit \
                        is 0, its last line is the command that shows the same again"
)]
pub(crate) struct SimulateArgs {
    /// The simulated core: that of 2012 with commit 491caa43639a, without it, without either half of
    /// it, or that of 5.5 to 7.3
    #[arg(long, value_name = "CORE", default_value = "refcounted", value_parser = core())]
    core: World,
    /// Something that the kernel of 5.5 to 7.3 does wrong, now and then
    #[arg(long, value_parser = slip())]
    slip: Option<Slip>,
    /// The seed of everything that is not given
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// io_ends
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(..=10_000_000))]
    lives: u32,
    /// What is not left to the seed.
    #[command(flatten)]
    chosen: ChosenArgs,
    /// What happens to the records.
    #[command(flatten)]
    faults: FaultArgs,
    /// Keep the stream as a recording, which `endiod replay` reads
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over FILE if it is there
    #[arg(long, requires = "output")]
    force: bool,
    /// How the summary is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What a seed gives where nothing is chosen.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Drawn from the seed unless given")]
struct ChosenArgs {
    /// Kernel that the stream claims to be of
    #[arg(long, value_parser = release())]
    release: Option<Release>,
    /// CPUs
    #[arg(long, value_parser = value_parser!(u16).range(1..=256))]
    cpus: Option<u16>,
    /// Addresses that io_ends share
    #[arg(long, value_parser = value_parser!(u16).range(1..))]
    addresses: Option<u16>,
    /// Freed addresses that are the next to be given out, of 1000
    #[arg(long, value_name = "N", value_parser = per_mille())]
    reused: Option<u32>,
    /// Bios that fail, of 1000
    #[arg(long, value_name = "N", value_parser = per_mille())]
    failing: Option<u32>,
    /// Mounted with data_err=abort, which an io_end of 6.15 or later knows of
    #[arg(long, value_name = "BOOL")]
    data_err_abort: Option<bool>,
}

/// How often, of 1,000 records.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Faults")]
struct FaultArgs {
    /// Records that are lost, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = per_mille())]
    lost: u32,
    /// Records that are cut short, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = per_mille())]
    cut: u32,
    /// Records that come twice, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = per_mille())]
    doubled: u32,
    /// Pairs of overlapping probes of two CPUs that come in the other order, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = per_mille())]
    exchanged: u32,
}

pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode> {
    let options = options(args)?;
    let Options { world, seed, lives, .. } = options;
    let simulated = simulate(&options);
    let Simulated { derived, done, breached, .. } = &simulated;
    let breaches = breached.len();
    eprintln!("endiod: core {}, seed {seed}, {lives} lives; {breaches} breaches", world.core());
    eprintln!("endiod: {derived}");
    eprintln!("endiod: {done}");
    let exit = tell(args, &simulated).unwrap_or_else(|error| {
        eprintln!("endiod: {error:#}");
        crate::EXIT_ERROR
    });
    if exit != 0 {
        eprintln!("{}", simulated.command());
    }
    Ok(ExitCode::from(exit))
}

fn options(args: &SimulateArgs) -> Result<Options> {
    let SimulateArgs { core, slip, seed, lives, .. } = *args;
    let ChosenArgs { release, cpus, addresses, reused, failing, data_err_abort } = args.chosen;
    let FaultArgs { lost, cut, doubled, exchanged } = args.faults;
    let world = match (core, slip) {
        (World::Refcounted(_), slip) => World::Refcounted(slip),
        (World::CompletedList(_), None) => core,
        (World::CompletedList(_), Some(_)) => {
            anyhow::bail!(
                "--slip is of the core refcounted; --core {} is wrong by itself or not at all",
                core.core()
            )
        }
    };
    if let Some(release) = release {
        let all: Vec<_> = world.releases().iter().map(|release| release.label()).collect();
        let (core, given) = (world.core(), release.label());
        ensure!(
            all.contains(&given),
            "{given} never had the core {core}: --release {}",
            all.join(", ")
        );
    }
    let chosen = Chosen { release, cpus, addresses, reused, failing, data_err_abort };
    let faults = Faults { lost, cut, doubled, exchanged };
    Ok(Options { world, seed, lives, chosen, faults })
}

/// Keeps the stream if asked to, and says what the pipeline makes of it; the exit code.
fn tell(args: &SimulateArgs, simulated: &Simulated) -> Result<u8> {
    if let Some(path) = &args.output {
        let existing = if args.force { Existing::Replace } else { Existing::Keep };
        let write = |mut writer: Writer<_>| -> Result<(), TraceError> {
            simulated.records.iter().try_for_each(|record| writer.push(record))?;
            writer.finish().map(|_| ())
        };
        let written = Writer::create(path, existing).and_then(write);
        written.with_context(|| format!("cannot write {}; see --force", path.display()))?;
    }
    let mut pipeline = Pipeline::new(Metrics::new(names())?);
    simulated.records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    let summary = pipeline.summary();
    print(&summary, args.format)?;
    Ok(replay::verdict(&summary, true))
}

fn core() -> impl TypedValueParser<Value = World> {
    named(World::CORES)
}

fn slip() -> impl TypedValueParser<Value = Slip> {
    named(Slip::ALL.map(|slip| (slip.label(), slip)))
}

fn release() -> impl TypedValueParser<Value = Release> {
    named(Release::ALL.map(|release| (release.label(), release)))
}

/// One of a table, by its name.
fn named<T: Copy + Send + Sync + 'static, const N: usize>(
    rows: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(rows.map(|(name, _)| name)).map(move |given| {
        let row = rows.iter().find(|(name, _)| *name == given);
        row.expect("it is one of the possible values").1
    })
}

fn per_mille() -> impl TypedValueParser<Value = u32> {
    value_parser!(u32).range(..=1000)
}
