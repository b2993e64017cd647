//! `cargo xtask`: everything that is not the agent itself. It fetches what a build and a
//! guest need, boots real kernels in QEMU, runs the tests in them, and shows the demo.
//!
//! It never changes the machine: what it fetches lands under `target/endiod/`, unpacked from
//! the distribution's own packages. Modules, in the order in which a run passes them:
//!
//! ```text
//! cli ─► setup ─► archive (packages)      setup/<what>: one file per thing that is fetched
//!   └──► vm ────► image, disks, machine   boots a kernel of the `KERNELS` table, runs a command
//!   └──► fixtures                         our own kernel modules, for guests
//!   └──► package                          the release program and its .deb
//!   └──► documented                       commands of the repository's pages
//!   └──► test, soak, demo                 on top of all
//!   └──► pictures                         the dashboards, drawn from answers to their queries
//! ```

mod archive;
mod binaries;
mod cli;
mod command;
mod demo;
mod documented;
mod fixtures;
mod guests;
mod kernels;
mod package;
#[allow(dead_code, reason = "each program that includes it runs blocks of its own")]
#[path = "../../tests/support/pages.rs"]
mod pages;
mod pictures;
mod progress;
mod setup;
mod test;
mod verdict;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    cli::{Cli, Verb},
    workspace::Workspace,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return cli::usage_exit(&error),
    };
    let workspace = Workspace::find();
    match cli.verb {
        Verb::Setup(args) => exit_on_error(setup::main(&workspace, &args)),
        Verb::Vm(args) => vm::main(&workspace, &args),
        Verb::Test(args) => exit_on_error(test::main(&workspace, &args)),
        Verb::Soak(args) => exit_on_error(test::soak(&workspace, &args)),
        Verb::Fixtures(args) => exit_on_error(fixtures::main(&workspace, &args)),
        Verb::Pictures(args) => exit_on_error(pictures::main(&workspace, &args)),
        Verb::Package => exit_on_error(package::main(&workspace)),
        Verb::Demo(args) => exit_on_error(demo::main(&workspace, &args)),
    }
}

/// 2 where the machine lacks something that needs root, else 1.
fn exit_on_error(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        if error.is::<setup::NeedsRoot>() { ExitCode::from(2) } else { ExitCode::FAILURE }
    })
}
