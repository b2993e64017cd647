//! `endiod explain`: the story of one io_end of a recording, as a picture in text. Of a direct write, which has
//! none, its finding is the whole story.
//!
//! It reads the recording twice: for what is in it, then for the one that is told. So it must be a file.

use std::{fmt::Display, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use endiod::{
    detect::ObjectKind,
    finding::Finding,
    source::trace::TraceError,
    story::{Collector, Listed, NotThere, Seeker, edit_distance, retell::direct_write},
};
use serde::Serialize;

use super::replay::watched;
use crate::cli::Format;

/// Flags of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --finding and --io-end: the first finding, or if there is none, which \
                        io_ends can be explained.\n\nExit: 0 told, 2 an error, no such finding or io_end"
)]
pub(crate) struct ExplainArgs {
    /// What `endiod record` wrote, or a slice that `endiod run` kept beside a finding
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The finding to explain, by its id
    #[arg(long, value_name = "ID", conflicts_with = "io_end")]
    finding: Option<String>,
    /// The io_end to explain, by its id or how that begins: HASH@BIRTH_NS
    #[arg(long, value_name = "ID")]
    io_end: Option<String>,
    /// How it is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What is told.
enum Target {
    /// An io_end and what is told of its findings: one, or all.
    IoEnd { object: String, finding: Option<String> },
    /// A finding of a direct write, which has all of its few steps.
    DirectWrite(Box<Finding>),
    /// Nothing was asked for, and there is no finding.
    List(Vec<Listed>, u64),
}

pub(crate) fn run(args: &ExplainArgs) -> Result<ExitCode> {
    let file = args.file.display();
    let context = || format!("cannot explain {file}");
    let mut seeker = Seeker::new(args.io_end.as_deref());
    let (pipeline, cut) = watched(&args.file, &mut seeker).map_err(hint).with_context(context)?;
    if let Some(cut) = &cut {
        eprintln!("endiod: {file}: {cut}");
    }
    let findings = pipeline.findings();
    let (object, told) = match target(args, findings, &seeker).with_context(context)? {
        Target::List(listed, total) => return list(&listed, total, args.format),
        Target::DirectWrite(finding) => {
            match args.format {
                Format::Text => println!("{}", direct_write(&finding)),
                Format::Json => print(&finding, args.format)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Target::IoEnd { object, finding } => (object, finding),
    };
    let mut collector = Collector::new(&object);
    watched(&args.file, &mut collector).with_context(context)?;
    let picked = |finding: &Finding| told.as_ref().is_none_or(|id| *id == finding.id);
    let kernel = pipeline.summary().kernel;
    let Some(story) = collector.tell(&kernel, pipeline.protocol(), findings, picked) else {
        bail!("cannot explain {file}: it has no event of {object}");
    };
    print(&story, args.format)?;
    Ok(ExitCode::SUCCESS)
}

/// What the flags ask for.
fn target(args: &ExplainArgs, findings: &[Finding], seeker: &Seeker) -> Result<Target, NotThere> {
    if args.io_end.is_some() {
        return Ok(Target::IoEnd { object: seeker.io_end()?, finding: None });
    }
    let of = |finding: &Finding| match finding.object_kind {
        ObjectKind::DirectWrite => Target::DirectWrite(Box::new(finding.clone())),
        ObjectKind::IoEnd => {
            Target::IoEnd { object: finding.object.clone(), finding: Some(finding.id.clone()) }
        }
    };
    let Some(wanted) = &args.finding else {
        return Ok(match findings.first() {
            Some(first) => of(first),
            None => Target::List(seeker.list(), seeker.total()),
        });
    };
    if let Some(found) = findings.iter().find(|finding| finding.id == *wanted) {
        return Ok(of(found));
    }
    let wanted = wanted.clone();
    let nearest = findings.iter().min_by_key(|finding| edit_distance(&wanted, &finding.id));
    Err(match nearest {
        Some(nearest) => NotThere::Finding { wanted, nearest: nearest.id.clone() },
        None => NotThere::NoFindings { wanted },
    })
}

fn print(told: &(impl Display + Serialize), format: Format) -> Result<()> {
    match format {
        Format::Text => println!("{}", told.to_string().trim_end()),
        Format::Json => println!("{}", serde_json::to_string(told)?),
    }
    Ok(())
}

fn list(listed: &[Listed], total: u64, format: Format) -> Result<ExitCode> {
    match format {
        Format::Json => {
            let told = serde_json::json!({ "schema": 1, "io_ends": total, "listed": listed });
            println!("{told}");
        }
        Format::Text => {
            println!(
                "no finding is in it; of {total} io_ends, those that are open and the longest:"
            );
            for Listed { object, inode, state, age_ns, open } in listed {
                let inode = inode.map_or("unknown".to_owned(), |inode| inode.to_string());
                let over = if *open { "so far" } else { "in all" };
                println!(
                    "  --io-end {object:<37}  inode {inode:<10} {state:<10} {age_ns} ns {over}"
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what to do with the finding itself, whose slice is the file beside it.
fn hint(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<TraceError>() {
        Some(TraceError::NotARecording) => error.context(
            "give what `endiod record` wrote, or the .endiod file beside a finding's .json file",
        ),
        _ => error,
    }
}
