//! `cargo xtask test`: every test there is. On the host, then in guests of each kernel, then what
//! the guests' metrics look like to Prometheus. It ends with a table and a count.

mod arm64;
mod browser;
mod dashboards;
mod grafana;
mod kernel;
mod lanes;
mod left_behind;
mod matrix;
mod native;
mod openmetrics;
mod packages;
mod page;
mod panels;
mod perfetto;
mod screen;
mod service_monitor;
mod truth;
mod web_config;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use self::kernel::{Bench, GUEST_PROGRAM};
use crate::{
    binaries,
    cli::{SoakArgs, TestArgs},
    command::{cargo, run},
    documented, guests, setup,
    verdict::{self, Column, Tally},
    workspace::Workspace,
};

const GUEST_PACKAGE: &str = "endiod-vm-tests";

pub(crate) fn main(workspace: &Workspace, args: &TestArgs) -> Result<ExitCode> {
    let begun = Instant::now();
    setup::programs(workspace)?;
    let mut host = host_tests(workspace, args.filter.as_deref())?;
    if args.filter.is_none() {
        thread::scope(|scope| {
            // A browser waits for its pages, and these for it.
            let pages = scope.spawn(|| browser::check(workspace));
            host.add(without_programs(workspace));
            host.add(perfetto::check(workspace));
            host.add(dashboards::check(workspace));
            let promtool = setup::promtool(workspace);
            host.add(promtool.and_then(|it| documented::prometheus(workspace, &it)));
            host.add(openmetrics::check(workspace));
            host.add(grafana::check(workspace));
            host.add(packages::licences(workspace));
            host.add(packages::manifests(workspace));
            host.add(service_monitor::check(workspace));
            host.add(web_config::check(workspace));
            host.add(pages.join().unwrap_or_else(|_| bail!("looking at the pages panicked")));
        });
        host.add(screen::check(workspace));
    }
    eprintln!("test: builds and host tests took {:.0} s", begun.elapsed().as_secs_f64());
    let mut columns = Vec::new();
    let is_whole = args.filter.is_none() && args.kernel.is_empty();
    if is_whole {
        columns.push(arm64::column(workspace)?);
    }
    if !args.no_vm {
        let promtool = setup::promtool(workspace)?;
        setup::guest(workspace)?;
        let built = binaries::build_static(workspace, &["endiod", GUEST_PACKAGE])?;
        if args.filter.is_none() {
            host.add(verify(&built));
            host.add(packages::check(workspace, &built));
        }
        if is_whole {
            columns.push(native::column(workspace, &built, GUEST_PROGRAM)?);
        }
        let filter = args.filter.as_deref();
        let program = built.join(GUEST_PROGRAM);
        let bench = Bench { workspace, program, promtool, filter, soak: None };
        let (of_guests, places) = bench.columns(&kernels(args))?;
        columns.extend(of_guests);
        page::write(&places, &workspace.store().join("out/kernels.md"))?;
        matrix::write(&columns, &matrix::MOUNTS, &workspace.store().join("out/mounts.md"))?;
        matrix::write(&columns, &matrix::MIXES, &workspace.store().join("out/mixes.md"))?;
        truth::write(&places, &workspace.store().join("out/truth-table.md"))?;
    }
    if is_whole && !args.no_vm {
        host.add(native::served(&columns).map(|place| println!("\n{place}")));
    }
    eprintln!("test: everything took {:.0} s", begun.elapsed().as_secs_f64());
    Ok(summary(host, &columns))
}

/// The mixes of I/O alone, each for so many minutes.
pub(crate) fn soak(workspace: &Workspace, args: &SoakArgs) -> Result<ExitCode> {
    setup::programs(workspace)?;
    setup::guest(workspace)?;
    let promtool = setup::promtool(workspace)?;
    let built = binaries::build_static(workspace, &["endiod", GUEST_PACKAGE])?;
    let bench = Bench {
        workspace,
        program: built.join(GUEST_PROGRAM),
        promtool,
        filter: args.filter.as_deref(),
        soak: Some(Duration::from_secs(60 * args.minutes)),
    };
    let named: Vec<_> = args.kernel.iter().map(String::as_str).collect();
    let kernels = if named.is_empty() { guests::with_mixes().collect() } else { named };
    if let Some(without) =
        kernels.iter().find(|it| guests::with_mixes().all(|kernel| kernel != **it))
    {
        bail!("--kernel {without}: no guest of it has mixes of I/O (agent/xtask/src/guests.rs)");
    }
    let (columns, _) = bench.columns(&kernels)?;
    matrix::write(&columns, &matrix::MIXES, &workspace.store().join("out/soak.md"))?;
    Ok(summary(Count::default(), &columns))
}

/// Host tests that passed and that failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    passed: usize,
    failed: usize,
}

impl Count {
    fn add(&mut self, test: Result<()>) {
        match test {
            Ok(()) => self.passed += 1,
            Err(error) => {
                eprintln!("test: {error:#}");
                self.failed += 1;
            }
        }
    }
}

fn summary(host: Count, columns: &[Column]) -> ExitCode {
    if !columns.is_empty() {
        println!("\n{}\n{}", verdict::table(columns), verdict::failures(columns));
    }
    let Tally { passed, failed, gone } = verdict::tally(columns);
    println!("on the host {} passed and {} failed, in all:", host.passed, host.failed);
    let (passed, failed) = (host.passed + passed, host.failed + failed);
    if gone > 0 {
        println!("{gone} kernels gone from the archive");
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn kernels(args: &TestArgs) -> Vec<&str> {
    if args.kernel.is_empty() {
        return guests::kernels().collect();
    }
    args.kernel.iter().map(String::as_str).collect()
}

/// `cargo test`, its output passed on and its results added up.
fn host_tests(workspace: &Workspace, filter: Option<&str>) -> Result<Count> {
    let mut command = cargo();
    command.args(["test", "--no-fail-fast"]).args(filter);
    // Set up above, so a build without them is a failure and no reason to leave tests out.
    command.env("ENDIOD_REQUIRE_PROGRAMS", "1");
    command.current_dir(workspace.root()).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo test")?;
    let mut count = Count::default();
    let stdout = child.stdout.take().context("cargo test has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read the output of cargo test")?;
        println!("{line}");
        let of_line = results_in(&line).unwrap_or_default();
        count.passed += of_line.passed;
        count.failed += of_line.failed;
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    if !status.success() && count.failed == 0 {
        // It did not build, or a test program died without a result.
        eprintln!("test: cargo test ended with {status}");
        count.failed = 1;
    }
    Ok(count)
}

/// An agent that was built without the programs says so, and how to get them.
fn without_programs(workspace: &Workspace) -> Result<()> {
    let target = workspace.store().join("without-programs");
    let mut build = cargo();
    build.args(["build", "--quiet", "--package", "endiod", "--target-dir"]).arg(&target);
    run(build.env("ENDIOD_SKIP_PROGRAMS", "1").current_dir(workspace.root()))?;
    let agent = target.join("debug/endiod");
    let output = Command::new(agent).args(["run", "--listen", "127.0.0.1:0"]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(2) && said.contains("built without probes") {
        return Ok(());
    }
    bail!("an agent without programs ended with {} and said: {said}", output.status)
}

/// Every interleaving of the reference cores, which takes the optimised build.
fn verify(built: &Path) -> Result<()> {
    run(Command::new(built.join("endiod")).args(["verify", "--no-stories"]))
}

/// `test result: ok. 12 passed; 0 failed; …`
fn results_in(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| {
        let parts = rest.split(';').map(str::trim);
        parts.filter_map(|part| part.strip_suffix(what)).next()?.trim().parse().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: Option<Count>) {
        assert_eq!(results_in(line), expected, "{line}");
    }

    #[test]
    fn results_of_cargo_test_are_added_up() {
        let line = "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out";
        check(line, Some(Count { passed: 12, failed: 0 }));
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured";
        check(line, Some(Count { passed: 1, failed: 2 }));
        check("test tests::a ... ok", None);
        check("running 12 tests", None);
    }
}
