//! `endiod verify`: explores every interleaving of the reference cores in small worlds, and says
//! whether each core holds what it must hold and breaks what it must break.

use std::{
    io::{self, Write},
    process::ExitCode,
    time::Instant,
};

use anyhow::Result;
use clap::Args;
use endiod::oracle::{
    claims::{CLAIMS, Claim, mutants},
    explore::Explored,
    property::Property,
};

/// An expectation did not hold.
const EXIT_BROKEN: u8 = 1;

/// Flags of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Exit: 0 every expectation held, 1 one did not, 2 an error")]
pub(crate) struct VerifyArgs {
    /// Leave the shortest counterexamples out
    #[arg(long)]
    pub(crate) no_stories: bool,
}

pub(crate) fn run(args: &VerifyArgs) -> Result<ExitCode> {
    let mut out = io::stdout().lock();
    for (property, number) in Property::ALL.iter().zip(1..) {
        writeln!(out, "{number:3}  {:<24} {}", property.label(), property.claim())?;
    }
    let explored = explore_all(&mut out)?;
    let mut met = explored.iter().all(|(claim, told)| claim.is_met_by(told));
    met &= kill_mutants(&mut out)?;
    if !args.no_stories {
        tell(&mut out, &explored)?;
    }
    writeln!(out, "\n{}", if met { "every expectation held" } else { "AN EXPECTATION FAILED" })?;
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::from(EXIT_BROKEN) })
}

fn explore_all(out: &mut impl Write) -> io::Result<Vec<(&'static Claim, Explored)>> {
    let numbers = (1..=Property::ALL.len()).map(|number| format!("{number:>4}"));
    writeln!(out, "\nsteps to the shortest breach; a dot: it holds")?;
    write!(out, "{:<26}{:<31}{:>8}{:>9}", "core", "world", "states", "steps")?;
    writeln!(out, "{:>8}  {}", "ms", numbers.collect::<String>())?;
    let mut explored = Vec::new();
    for claim in CLAIMS {
        let begun = Instant::now();
        let told = claim.subject.explore();
        write!(out, "{:<26}{:<31}{:>8}", claim.core, claim.world, told.states)?;
        write!(out, "{:>9}{:>8}  ", told.steps, begun.elapsed().as_millis())?;
        for property in Property::ALL {
            match told.counterexample(*property) {
                Some(way) => write!(out, "{:>4}", way.len())?,
                None => write!(out, "   ·")?,
            }
        }
        writeln!(out, "{}", if claim.is_met_by(&told) { "" } else { "  NOT AS EXPECTED" })?;
        explored.push((claim, told));
    }
    Ok(explored)
}

fn kill_mutants(out: &mut impl Write) -> io::Result<bool> {
    writeln!(out, "\nmutants")?;
    let mut killed = true;
    for mutant in mutants() {
        let told = mutant.subject.explore();
        let verdict = match told.counterexample(mutant.breaks) {
            Some(way) => format!("killed by {} in {} steps", mutant.breaks.label(), way.len()),
            None => "SURVIVED".to_owned(),
        };
        killed &= told.counterexample(mutant.breaks).is_some();
        writeln!(out, "{:<42}{verdict}", mutant.name)?;
    }
    Ok(killed)
}

fn tell(out: &mut impl Write, explored: &[(&Claim, Explored)]) -> io::Result<()> {
    for (claim, told) in explored.iter().filter(|(claim, _)| claim.told) {
        for property in claim.breaks {
            if let Some(story) = claim.subject.story(told, *property) {
                writeln!(out, "\n{}, {}\n{story}", claim.core, claim.world)?;
            }
        }
    }
    Ok(())
}
