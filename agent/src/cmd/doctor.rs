//! `endiod doctor`: the page about this host, and whether it meets what is required.
//!
//! Without `--require` nothing is asked of the host, so a page that could be made is exit 0.

use std::process::ExitCode;

use anyhow::Result;
use endiod::{
    doctor::{self, Answer},
    host::Host,
};

use crate::cli::{DoctorArgs, Format, Level};

/// The host does not meet what is required.
const EXIT_LACKS: u8 = 1;
/// It could not be told whether it does.
const EXIT_UNKNOWN: u8 = 2;

pub(crate) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let facts = doctor::gather(&Host::default(), (!args.no_attach).then(|| args.backend.choice()))?;
    let report = doctor::examine(&facts);
    match args.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    let required = match args.require {
        None => return Ok(ExitCode::SUCCESS),
        Some(Level::Basic) => report.basic.answer,
        Some(Level::Full) => report.full.answer,
    };
    Ok(match required {
        Answer::Meets => ExitCode::SUCCESS,
        Answer::Lacks => ExitCode::from(EXIT_LACKS),
        Answer::Unknown => ExitCode::from(EXIT_UNKNOWN),
    })
}
