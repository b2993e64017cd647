//! `endiod simulate`: a seeded world of a simulated protocol, with faults on demand, through the same
//! pipeline as a recording.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use endiod::{
    metrics::Metrics,
    pipeline::{Pipeline, names},
    source::sim::{Faults, Half, Options, World, simulate},
};

use super::{print, replay};
use crate::cli::Format;

/// Cores that can be simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Core {
    /// The completion core of 2012 with commit 491caa43639a.
    Fixed,
    /// The same without it.
    Unfixed,
    /// The core of 5.5 to 7.3.
    Refcounted,
}

/// Flags of `simulate`.
#[derive(Debug, Args)]
#[command(after_help = "Exit: as of replay")]
pub(crate) struct SimulateArgs {
    /// The simulated core
    #[arg(long, value_enum, default_value_t = Core::Refcounted)]
    pub(crate) core: Core,
    /// The seed of everything
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// io_ends
    #[arg(long, default_value_t = 1000)]
    pub(crate) lives: u32,
    /// Records that are lost, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) lost: u32,
    /// Records that are cut short, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) cut: u32,
    /// Records that come twice, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) doubled: u32,
    /// Pairs of overlapping probes that come in the other order, of 1000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    pub(crate) exchanged: u32,
    /// How the summary is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

pub(crate) fn run(args: &SimulateArgs) -> Result<ExitCode> {
    let SimulateArgs { core, seed, lives, lost, cut, doubled, exchanged, format } = args;
    let world = match core {
        Core::Fixed => World::CompletedList(Half::FIXED),
        Core::Unfixed => World::CompletedList(Half::UNFIXED),
        Core::Refcounted => World::Refcounted(None),
    };
    let faults = Faults { lost: *lost, cut: *cut, doubled: *doubled, exchanged: *exchanged };
    let simulated = simulate(&Options { world, seed: *seed, lives: *lives, faults });
    let name = core.to_possible_value().map(|value| value.get_name().to_owned());
    eprintln!("endiod: core {}, seed {seed}, {lives} lives", name.unwrap_or_default());
    eprintln!("endiod: {}; {} breaches", simulated.derived, simulated.breaches);
    let mut pipeline = Pipeline::new(Metrics::new(names())?);
    simulated.records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    let summary = pipeline.summary();
    print(&summary, *format)?;
    Ok(ExitCode::from(replay::verdict(&summary, true)))
}
