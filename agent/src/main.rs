//! The command line: parse, run the verb, turn its result into an exit code.

mod cli;
mod cmd;

use std::process::ExitCode;

use anyhow::Result;

/// An error that stderr names.
pub(crate) const EXIT_ERROR: u8 = 2;

fn main() -> ExitCode {
    let filter = env_logger::Env::new().filter_or("ENDIOD_LOG", "info,aya=warn,aya_obj=warn");
    env_logger::Builder::from_env(filter).init();
    let result = cmd::config::parse(std::env::args_os()).and_then(work);
    result.unwrap_or_else(|error| {
        eprintln!("endiod: {error:#}");
        ExitCode::from(EXIT_ERROR)
    })
}

fn work(cli: cli::Cli) -> Result<ExitCode> {
    match cli.verb {
        cli::Verb::Config => cmd::config::print_defaults(),
        cli::Verb::Run(args) => cmd::run::run(&args),
        cli::Verb::Doctor(args) => cmd::doctor::run(&args),
        cli::Verb::Selftest(args) => cmd::selftest::run(&args),
        cli::Verb::Record(args) => cmd::record::run(&args),
        cli::Verb::Replay(args) => cmd::replay::run(&args),
        cli::Verb::Top(args) => cmd::top::run(&args),
        cli::Verb::Explain(args) => cmd::explain::run(&args),
        cli::Verb::Export(args) => cmd::export::run(&args),
        cli::Verb::Extras(args) => cmd::extras::run(&args),
        cli::Verb::Helper(args) => cmd::helper::run(&args),
        cli::Verb::Simulate(args) => cmd::simulate::run(&args),
        cli::Verb::Verify(args) => cmd::verify::run(&args),
        cli::Verb::Stress(args) => cmd::stress::run(&args),
    }
}
