//! Tests that need a kernel: run in a guest by `cargo xtask test`, as root, with an ext4 on `/mnt`.
//!
//! Every case runs the real agent on the guest's kernel and asserts conservation: what the workload
//! issued is what the agent saw. A case reports `passed`, `failed` or, where the kernel cannot have
//! it, `absent` with the reason; the harness fails a planned case that did not report.

mod agent;
mod cases;
mod checked;
mod disk;
mod dm;
mod findings;
mod folios;
mod fscrypt;
mod hindrance;
mod http;
#[allow(dead_code, reason = "each program that includes it runs blocks of its own")]
#[path = "../../support/pages.rs"]
mod pages;
mod patience;
mod registers;
mod workload;

use std::{
    fs,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use serde::Serialize;
use serde_json::Map;

use cases::Suite;

/// Numbers that a case stands on, shown beside its verdict.
type Facts = Map<String, serde_json::Value>;

#[derive(Parser)]
struct Args {
    /// The kernel's name in the harness's table
    #[arg(long)]
    kernel: String,
    /// Where the verdicts go, as JSON
    #[arg(long)]
    verdicts: PathBuf,
    /// Run only cases of these suites
    #[arg(long, value_enum, value_delimiter = ',')]
    suite: Vec<Suite>,
    /// Run only cases whose name contains this
    #[arg(long, default_value = "")]
    filter: String,
    /// How long each mix of I/O goes on, in rounds that are ended
    #[arg(long, default_value_t = 8)]
    mix_seconds: u64,
    /// Run only what comes after the case of this name
    #[arg(long)]
    after: Option<String>,
}

/// What the cases are told about the guest.
pub(crate) struct Guest {
    /// The kernel's name in the harness's table.
    kernel: String,
    /// Directory that comes back to the host.
    out: PathBuf,
    /// How long a mix of I/O goes on.
    mix_time: Duration,
}

#[derive(Serialize)]
struct Verdicts {
    planned: Vec<&'static str>,
    cases: Vec<Verdict>,
}

#[derive(Serialize)]
struct Verdict {
    name: &'static str,
    outcome: &'static str,
    why: String,
    facts: Facts,
    /// How long it took, which under emulation says something of the emulation only.
    seconds: f64,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let out = args.verdicts.parent().context("--verdicts names a file in a directory")?;
    let mix_time = Duration::from_secs(args.mix_seconds);
    let guest = Guest { kernel: args.kernel.clone(), out: out.to_path_buf(), mix_time };
    let is_wanted = |case: &cases::Case| {
        let of_suite = match args.suite.is_empty() {
            true => {
                use Suite::{Crimes, Mixes, Native, Package, Replica, Scrape};
                !matches!(case.suite, Native | Replica | Crimes | Mixes | Scrape | Package)
            }
            false => args.suite.contains(&case.suite),
        };
        of_suite && case.name.contains(&args.filter)
    };
    let mut selected: Vec<_> = cases::all().filter(is_wanted).collect();
    if let Some(after) = &args.after {
        let at = selected.iter().position(|case| case.name == after);
        selected.drain(..=at.with_context(|| format!("--after {after}: not one of the cases"))?);
    }
    let planned = selected.iter().map(|case| case.name).collect();
    let mut verdicts = Verdicts { planned, cases: Vec::new() };
    write(&args.verdicts, &verdicts)?;
    for case in &selected {
        let verdict = run(case, &guest);
        let Verdict { outcome, name, why, seconds, .. } = &verdict;
        println!("{outcome} {name} in {seconds:.1} s {why}");
        verdicts.cases.push(verdict);
        // After each case, so that a guest that dies later leaves what was learned.
        write(&args.verdicts, &verdicts)?;
    }
    let failed = verdicts.cases.iter().any(|verdict| verdict.outcome == "failed");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn run(case: &cases::Case, guest: &Guest) -> Verdict {
    let begun = Instant::now();
    let mut facts = Facts::new();
    let (outcome, why) = match (case.absent)(&guest.kernel) {
        Some(why) => ("absent", why.to_owned()),
        None => {
            println!("running {}", case.name);
            match case.run(guest, &mut facts) {
                Ok(()) => ("passed", show(&facts)),
                Err(error) => ("failed", format!("{error:#}")),
            }
        }
    };
    // A tenth is as fine as anyone will read it.
    let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    Verdict { name: case.name, outcome, why, facts, seconds }
}

fn show(facts: &Facts) -> String {
    let facts: Vec<_> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
    facts.join(", ")
}

fn write(path: &PathBuf, verdicts: &Verdicts) -> Result<()> {
    fs::write(path, serde_json::to_vec_pretty(verdicts)?)
        .with_context(|| format!("cannot write {}", path.display()))
}
