//! `cargo xtask test`: every test there is. On the host, then in a guest of each kernel, then
//! what the guests' metrics look like to Prometheus. It ends with a table and a count.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    archive::Gone,
    binaries,
    cli::TestArgs,
    command::{cargo, remove_dir_all, run, tail, tail_lines},
    kernels::KERNELS,
    setup,
    verdict::{self, Case, Column},
    vm::{Vm, VmOutcome, VmStatus},
    workspace::Workspace,
};

/// What one kernel may take; three of them and the builds fit into 40 minutes on two cores.
const KERNEL_BUDGET: Duration = Duration::from_secs(600);
const GUEST_PACKAGE: &str = "endiod-vm-tests";
const GUEST_PROGRAM: &str = "endiod-guest-tests";
/// The row of what befell the guest as a whole.
const GUEST_CASE: &str = "guest";
/// Lines of the guest's output and of its kernel log that a dead guest's case quotes.
const QUOTED_LINES: usize = 30;

pub(crate) fn main(workspace: &Workspace, args: &TestArgs) -> Result<ExitCode> {
    setup::programs(workspace)?;
    let mut host = host_tests(workspace, args.filter.as_deref())?;
    if args.filter.is_none() {
        match without_programs(workspace) {
            Ok(()) => host.passed += 1,
            Err(error) => {
                eprintln!("test: {error:#}");
                host.failed += 1;
            }
        }
    }
    let mut columns = Vec::new();
    if !args.no_vm {
        let promtool = setup::promtool(workspace)?;
        setup::guest(workspace)?;
        let built = binaries::build_static(workspace, &["endiod", GUEST_PACKAGE])?;
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for kernel in kernels(args) {
            let column = match setup::kernel_files(workspace, kernel) {
                Ok(files) => {
                    if let Some(same) = seen.insert(files.release()?, kernel) {
                        eprintln!("test: {kernel} is the same kernel as {same}, run once");
                        continue;
                    }
                    let program = built.join(GUEST_PROGRAM);
                    let filter = args.filter.as_deref();
                    on_kernel(workspace, kernel, &program, filter, &promtool)?
                }
                Err(error) if error.is::<Gone>() => {
                    vec![Case::failed(GUEST_CASE, &format!("{error:#}"))]
                }
                Err(error) => return Err(error),
            };
            columns.push(Column { kernel: kernel.to_owned(), cases: column });
        }
    }
    Ok(summary(host, &columns))
}

/// Host tests that passed and that failed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Count {
    passed: usize,
    failed: usize,
}

fn summary(host: Count, columns: &[Column]) -> ExitCode {
    if !columns.is_empty() {
        println!("\n{}", verdict::table(columns));
    }
    let (passed, failed) = verdict::count(columns);
    println!("on the host {} passed and {} failed, in all:", host.passed, host.failed);
    let (passed, failed) = (host.passed + passed, host.failed + failed);
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn kernels(args: &TestArgs) -> Vec<&str> {
    if args.kernel.is_empty() {
        return KERNELS.iter().filter(|kernel| kernel.tested).map(|kernel| kernel.name).collect();
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

/// `test result: ok. 12 passed; 0 failed; …`
fn results_in(line: &str) -> Option<Count> {
    let rest = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let number = |what: &str| {
        let parts = rest.split(';').map(str::trim);
        parts.filter_map(|part| part.strip_suffix(what)).next()?.trim().parse().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

fn on_kernel(
    workspace: &Workspace,
    kernel: &str,
    program: &Path,
    filter: Option<&str>,
    promtool: &Path,
) -> Result<Vec<Case>> {
    eprintln!("test: kernel {kernel}");
    let out = workspace.store().join("out").join(kernel);
    remove_dir_all(&out)?;
    let vm = Vm::new(kernel).copy_in(program).copy_out(&out).timeout(KERNEL_BUDGET);
    let in_guest = format!("/in/{GUEST_PROGRAM}");
    let mut command = vec![&*in_guest, "--kernel", kernel, "--verdicts", "/out/verdicts.json"];
    command.extend(filter.iter().flat_map(|filter| ["--filter", filter]));
    let outcome = vm.run(workspace, &command)?;
    let boot = outcome.boot.as_secs_f64();
    let elapsed = outcome.elapsed.as_secs_f64();
    eprintln!("test: kernel {kernel}: {boot:.1} s to boot, {elapsed:.1} s of tests");
    let mut cases = match fs::read_to_string(outcome.out_dir.join("verdicts.json")) {
        Ok(text) => verdict::parse(&text)
            .unwrap_or_else(|error| vec![Case::failed("verdicts", &format!("{error:#}"))]),
        Err(error) => vec![Case::failed("verdicts", &format!("no verdict file: {error}"))],
    };
    if cases.is_empty() && filter.is_none() {
        cases.push(Case::failed("verdicts", "no case was planned"));
    }
    cases.push(guest_case(&outcome, &cases));
    for scrape in files_ending(&outcome.out_dir, "prom")? {
        cases.push(check_metrics(promtool, &outcome.out_dir, &scrape));
    }
    for recording in files_ending(&outcome.out_dir, "endiod")? {
        cases.push(check_replay(workspace, &outcome.out_dir, &recording));
    }
    Ok(cases)
}

/// Whether the guest itself came to a good end; failures that its verdicts tell are told by them.
fn guest_case(outcome: &VmOutcome, cases: &[Case]) -> Case {
    let has_failures = cases.iter().any(|case| case.outcome == verdict::Outcome::Failed);
    let why = match &outcome.status {
        VmStatus::Exited(0) => return Case::passed(GUEST_CASE),
        VmStatus::Exited(_) if has_failures => return Case::passed(GUEST_CASE),
        VmStatus::Exited(status) => format!("{GUEST_PROGRAM} exited with {status}"),
        VmStatus::TimedOut(after) => format!("not at its end after {} s", after.as_secs()),
        VmStatus::Dead(why) => why.clone(),
    };
    let said = tail_lines(&outcome.stdout, QUOTED_LINES);
    let log = tail_lines(&outcome.kernel_log, QUOTED_LINES);
    Case::failed(GUEST_CASE, &format!("{why}\nit said last:\n{said}\nits kernel log:\n{log}"))
}

fn check_metrics(promtool: &Path, out: &Path, scrape: &Path) -> Case {
    let shown = scrape.strip_prefix(out).unwrap_or(scrape).display();
    let name = format!("promtool {shown}");
    let checked = fs::File::open(scrape).and_then(|file| {
        Command::new(promtool).args(["check", "metrics"]).stdin(Stdio::from(file)).output()
    });
    match checked {
        Ok(output) if output.status.success() => Case::passed(&name),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Case::failed(&name, &tail(&String::from_utf8_lossy(&said)))
        }
        Err(error) => Case::failed(&name, &format!("cannot run promtool: {error}")),
    }
}

/// A recording that came back tells the host's build what the live run told in the guest, to the
/// byte; the live summary lies beside it.
fn check_replay(workspace: &Workspace, out: &Path, recording: &Path) -> Case {
    let shown = recording.strip_prefix(out).unwrap_or(recording).display();
    let name = format!("replay {shown}");
    let live = match fs::read(recording.with_extension("live.json")) {
        Ok(live) => live,
        Err(error) => return Case::failed(&name, &format!("no live summary: {error}")),
    };
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "endiod", "--"]);
    command.args(["replay", "--format", "json"]).arg(recording).current_dir(workspace.root());
    match command.output() {
        Ok(output) if output.stdout == live && output.status.success() => Case::passed(&name),
        Ok(output) => {
            let [told, live, said] = [&output.stdout, &live, &output.stderr]
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
            let why = format!("{}: {said}\nlive   {live}\nreplay {told}", output.status);
            Case::failed(&name, &why)
        }
        Err(error) => Case::failed(&name, &format!("cannot run the agent: {error}")),
    }
}

fn files_ending(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            files.extend(files_ending(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
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
