//! The agent's tests built for arm64, programs of its kernel included, and run by QEMU's user mode on this
//! machine's kernel.
//!
//! The kernel runs no program of arm64, so where a test starts the agent it finds a script that hands it to
//! QEMU. What QEMU cannot do is in [`NOT_RUN`]. No kernel of arm64 is watched here.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Count, lanes, results_in};
use crate::{
    archive::Gone,
    command::{remove_file, shell_word},
    setup::{self, Arm64, TARGET},
    verdict::{Case, Column},
    workspace::Workspace,
};

const NAME: &str = "arm64";
const CASE: &str = "user_space_tests_of_arm64";
const CASE_NOT_RUN: &str = "user_space_tests_of_arm64_with_linux_aio";

/// Tests that QEMU's user mode cannot run, by how their names begin.
const NOT_RUN: &[&str] = &["stress::aio::tests::", "stress::tests::"];
const WHY_NOT: &str = "QEMU's user mode has no io_setup(2)";

/// Test programs that say nothing of an architecture, and are not built for it: worlds and models, which are
/// integers in any case, and what the files of the repository say. Emulated they take minutes.
const SAME_EVERYWHERE: &[&str] = &[
    "agreement",
    "dashboards",
    "divergence",
    "exhaustive",
    "explain",
    "fixtures",
    "rules",
    "tidy",
];

/// The column of arm64.
pub(super) fn column(workspace: &Workspace) -> Result<Column> {
    let begun = Instant::now();
    let cases = match setup::arm64(workspace) {
        Ok(arm64) => cases(workspace, &arm64)?,
        Err(error) if error.is::<Gone>() => vec![Case::gone(CASE, &format!("{error:#}"))],
        Err(error) => return Err(error),
    };
    let seconds = begun.elapsed().as_secs_f64();
    eprintln!("test: arm64 took {seconds:.0} s");
    Ok(Column { kernel: NAME.to_owned(), cases, seconds })
}

fn cases(workspace: &Workspace, arm64: &Arm64) -> Result<Vec<Case>> {
    let Built { tests, agent } = build(workspace, arm64)?;
    put_aside(&agent, &arm64.qemu())?;
    let run = |test: &PathBuf| run(workspace, arm64, test);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all = Ran::default();
    for ran in lanes::each(&tests, cpus, run) {
        all.add(ran?);
    }
    let Ran { count: Count { passed, failed }, left_out, failures } = all;
    let mut case = match failures.first() {
        Some(_) => Case::failed(CASE, &failures.join("; ")),
        None => Case::passed(CASE),
    };
    case.facts.extend([
        ("programs".to_owned(), tests.len().into()),
        ("passed".to_owned(), passed.into()),
        ("failed".to_owned(), failed.into()),
    ]);
    let why = format!("{WHY_NOT}: {left_out} tests of {}", NOT_RUN.join(" and "));
    Ok(vec![case, Case::absent(CASE_NOT_RUN, &why)])
}

/// What was built.
struct Built {
    /// Test programs.
    tests: Vec<PathBuf>,
    /// The agent that they start.
    agent: PathBuf,
}

fn build(workspace: &Workspace, arm64: &Arm64) -> Result<Built> {
    let mut command = arm64.cargo();
    command.args(["test", "--no-run", "--package", "endiod", "--target", TARGET]);
    command.args(["--lib", "--bins"]);
    command.args(programs(workspace)?.iter().flat_map(|name| ["--test", name]));
    command.args(["--message-format", "json-render-diagnostics", "--target-dir"]);
    command.arg(workspace.store().join("arm64-build"));
    // Nobody debugs these, and emulated our own code takes long unless it is optimised a little.
    command.args(["--config", "profile.dev.package.'*'.opt-level=0"]);
    command.envs([
        ("CARGO_PROFILE_DEV_DEBUG", "0"),
        ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
        ("CARGO_INCREMENTAL", "0"),
    ]);
    command.current_dir(workspace.root()).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output().context("cannot run cargo for arm64")?;
    if !output.status.success() {
        bail!("building the tests for arm64 ended with {}", output.status);
    }
    built(&String::from_utf8_lossy(&output.stdout))
}

/// The test programs to build.
fn programs(workspace: &Workspace) -> Result<Vec<String>> {
    let dir = workspace.root().join("agent/tests");
    let entries = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let sources = entries.flatten().map(|entry| entry.path());
    let sources = sources.filter(|path| path.extension().is_some_and(|it| it == "rs"));
    let names = sources.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    for name in SAME_EVERYWHERE {
        let at = names.iter().position(|it| it == name);
        names.swap_remove(at.with_context(|| format!("there is no test program {name}"))?);
    }
    Ok(names)
}

/// Of what cargo says that it made, a JSON object a line, the programs.
fn built(messages: &str) -> Result<Built> {
    let (mut tests, mut agent) = (Vec::new(), None);
    for message in messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let Some(program) = message["executable"].as_str().map(PathBuf::from) else { continue };
        if message["profile"]["test"] == true {
            tests.push(program);
        } else if message["target"]["name"] == "endiod" {
            agent = Some(program);
        }
    }
    Ok(Built { tests, agent: agent.context("cargo built no agent for arm64")? })
}

/// Puts a script in the agent's place that runs it in QEMU. Cargo puts the agent back when it builds.
fn put_aside(agent: &Path, qemu: &Path) -> Result<()> {
    let real = agent.with_extension("arm64");
    remove_file(&real)?;
    fs::rename(agent, &real).with_context(|| format!("cannot move {}", agent.display()))?;
    let words = [qemu, &real].map(|path| shell_word(&path.to_string_lossy())).join(" ");
    let written = fs::write(agent, format!("#!/bin/sh\nexec {words} \"$@\"\n"));
    written.with_context(|| format!("cannot write {}", agent.display()))?;
    let runnable = fs::set_permissions(agent, Permissions::from_mode(0o755));
    runnable.with_context(|| format!("cannot write {}", agent.display()))
}

/// What came of test programs.
#[derive(Debug, Default, Eq, PartialEq)]
struct Ran {
    count: Count,
    left_out: usize,
    /// A word on each test that failed.
    failures: Vec<String>,
}

impl Ran {
    fn add(&mut self, other: Ran) {
        self.count.passed += other.count.passed;
        self.count.failed += other.count.failed;
        self.left_out += other.left_out;
        self.failures.extend(other.failures);
    }

    /// Of what a test program wrote.
    fn read(output: &str) -> Ran {
        let mut ran = Ran::default();
        for line in output.lines() {
            if let Some(count) = results_in(line) {
                let left_out = line.split("; ").find_map(|part| part.strip_suffix(" filtered out"));
                let left_out = left_out.and_then(|number| number.parse().ok()).unwrap_or(0);
                ran.add(Ran { count, left_out, failures: Vec::new() });
            }
            let name = line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
            ran.failures.extend(name.map(str::to_owned));
        }
        ran
    }
}

fn run(workspace: &Workspace, arm64: &Arm64, test: &Path) -> Result<Ran> {
    let package = workspace.root().join("agent");
    let mut command = Command::new(arm64.qemu());
    command.arg(test).args(NOT_RUN.iter().flat_map(|name| ["--skip", name]));
    // As cargo does, and no test may do without the programs that were built.
    command.current_dir(&package).env("CARGO_MANIFEST_DIR", &package);
    command.env("ENDIOD_REQUIRE_PROGRAMS", "1").stdin(Stdio::null());
    let output = command.output().context("cannot run QEMU's user mode")?;
    let mut ran = Ran::read(&String::from_utf8_lossy(&output.stdout));
    if !output.status.success() {
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        eprintln!("{said}");
        let name = test.file_name().unwrap_or_default().to_string_lossy();
        ran.failures.push(format!("{name} ended with {}", output.status));
    }
    Ok(ran)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_and_the_agent_are_told_apart() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"name":"endiod"},"profile":{"test":true},"executable":"/d/a"}
{"reason":"compiler-artifact","target":{"name":"endiod"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","target":{"name":"endiod"},"profile":{"test":false},"executable":"/d/endiod"}
{"reason":"compiler-artifact","target":{"name":"wire"},"profile":{"test":true},"executable":"/d/b"}
{"reason":"build-finished","success":true}"#;
        let Built { tests, agent } = built(messages).unwrap();
        assert_eq!(tests, [Path::new("/d/a"), Path::new("/d/b")]);
        assert_eq!(agent, Path::new("/d/endiod"));
    }

    #[test]
    fn what_passed_what_failed_and_what_was_left_out_is_read() {
        let output = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\n\ntest result: FAILED. \
                      1 passed; 1 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.1s\n";
        let expected = Ran {
            count: Count { passed: 1, failed: 1 },
            left_out: 7,
            failures: vec!["a::c".to_owned()],
        };
        assert_eq!(Ran::read(output), expected);
    }
}
