//! The guests' share of `cargo xtask test`: some guests at once, a column for each kernel, and what is
//! checked on the host of what they left behind.

use std::{cmp::Reverse, fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};

use super::{lanes, left_behind, page::Place, panels};
use crate::{
    archive::Gone,
    cli::Root,
    command::{remove_dir_all, remove_file, tail_lines},
    documented, fixtures,
    guests::{self, BUDGETS_MAX, Fixture, GuestRun, MIXES, SILENCE_MAX},
    package,
    setup::{self, KernelFiles},
    verdict::{self, Case, Column},
    vm::{Vm, VmOutcome, VmStatus},
    workspace::Workspace,
};

pub(super) const GUEST_PROGRAM: &str = "endiod-guest-tests";
/// The guest program's report, in the directory that comes back.
const VERDICTS: &str = "verdicts.json";
/// The row of what befell a guest as a whole.
const GUEST_CASE: &str = "guest";
/// Guests for one row of the table: the first, and one for each case that takes a guest with it.
const BOOTS_MAX: usize = 3;
/// More than there are mixes of I/O.
const MIXES_MAX: u32 = 10;
/// Lines of a guest's output and of its kernel log that a dead guest's case quotes.
const QUOTED_LINES: usize = 30;

/// What all guests are given.
pub(super) struct Bench<'a> {
    pub(super) workspace: &'a Workspace,
    /// The guest program, on the host.
    pub(super) program: PathBuf,
    pub(super) promtool: PathBuf,
    /// Cases whose name does not contain this are left out.
    pub(super) filter: Option<&'a str>,
    /// How long mixes of I/O go on, where they alone are to be run.
    pub(super) soak: Option<Duration>,
}

impl Bench<'_> {
    /// All guests of these kernels, as a column for each, and where each kernel's files lie. Two names
    /// of one kernel share a column.
    pub(super) fn columns(&self, kernels: &[&str]) -> Result<(Vec<Column>, Vec<Place>)> {
        let mut plans: Vec<Plan> = Vec::new();
        let mut places = Vec::new();
        for kernel in kernels {
            let plan = self.plan(kernel)?;
            let same = |other: &&Plan| !plan.release.is_empty() && other.release == plan.release;
            let kernel = (*kernel).to_owned();
            if let Some(same) = plans.iter().find(same) {
                eprintln!("test: {kernel} is the same kernel as {}, run once", same.column.kernel);
                places.push(Place { kernel, out: self.out(&same.column.kernel) });
                continue;
            }
            places.push(Place { out: self.out(&kernel), kernel });
            plans.push(plan);
        }
        self.run(&mut plans)?;
        Ok((plans.into_iter().map(|plan| plan.column).collect(), places))
    }

    /// What a kernel's column begins with.
    fn plan(&self, kernel: &str) -> Result<Plan> {
        let (cases, files) = match setup::kernel_files(self.workspace, kernel) {
            Ok(files) => (Vec::new(), Some(files)),
            Err(error) if error.is::<Gone>() => {
                (vec![Case::gone(GUEST_CASE, &format!("{error:#}"))], None)
            }
            Err(error) => return Err(error),
        };
        let release = files.as_ref().map_or(Ok(String::new()), KernelFiles::release)?;
        Ok(Plan {
            column: Column { kernel: kernel.to_owned(), cases, seconds: 0.0 },
            release,
            files,
        })
    }

    /// Boots every guest, some at once, and fills the columns.
    fn run(&self, plans: &mut [Plan]) -> Result<()> {
        let mut boots = Vec::new();
        for (at, Plan { column: Column { kernel, .. }, files, .. }) in plans.iter().enumerate() {
            let Some(files) = files else { continue };
            remove_dir_all(&self.out(kernel))?;
            let runs = guests::of(kernel).filter(|run| self.soak.is_none() || run.part == MIXES);
            boots.extend(runs.map(|run| (at, run, files.clone())));
        }
        // What takes longest first: a long one at the end leaves the other lanes idle.
        boots.sort_by_key(|(_, run, _)| Reverse(run.budget));
        let ran = lanes::each(&boots, lanes::count(), |(_, run, files)| self.guest(run, files));
        for ((at, ..), ran) in boots.iter().zip(ran) {
            let (cases, took) = ran?;
            let Column { cases: all, seconds, .. } = &mut plans[*at].column;
            all.extend(cases);
            *seconds += took.as_secs_f64();
        }
        for Plan { column: Column { kernel, cases, .. }, files, .. } in plans {
            if files.is_some() {
                let out = self.out(kernel);
                cases.extend(left_behind::check(self.workspace, &self.promtool, &out)?);
            }
        }
        Ok(())
    }

    /// What a kernel's guests leave behind.
    fn out(&self, kernel: &str) -> PathBuf {
        self.workspace.store().join("out").join(kernel)
    }

    /// Boots one guest: the cases it reported, and how long it took. A case that takes the guest with
    /// it has failed; the cases after it are run in a guest of their own.
    fn guest(&self, run: &GuestRun, files: &KernelFiles) -> Result<(Vec<Case>, Duration)> {
        if let Some(why) = guests::why_not(run) {
            let name = [GUEST_CASE, run.part].join(" ");
            return Ok((vec![Case::absent(&name, why)], Duration::ZERO));
        }
        let (mut cases, mut elapsed, mut after) = (Vec::new(), Duration::ZERO, None);
        for _ in 0..BOOTS_MAX {
            let (mut boot, took) = self.boot(run, files, after.as_deref())?;
            elapsed += took;
            let fatal = boot.fatal();
            cases.extend(boot.cases);
            match fatal {
                Some(case) => after = Some(case),
                None => break,
            }
        }
        Ok((cases, elapsed))
    }

    /// Boots a guest once, for the cases after one that took an earlier guest with it.
    fn boot(
        &self,
        run: &GuestRun,
        files: &KernelFiles,
        after: Option<&str>,
    ) -> Result<(Boot, Duration)> {
        let GuestRun { kernel, part, suites, smp, budget } = run;
        let out = self.out(kernel).join(part);
        let tree = files.modules()?;
        let modules = guests::MODULES.iter().filter(|module| tree.has(module));
        let label = [*kernel, *part].join(" ");
        let vm = Vm::new(kernel).labelled(label.trim_end()).smp(*smp).modules(modules);
        let vm = vm.silence(SILENCE_MAX);
        let budget = *budget + self.soak.map_or(Duration::ZERO, |each| each * MIXES_MAX);
        let mut vm = vm.timeout(budget * BUDGETS_MAX).copy_in(&self.program).copy_out(&out);
        for fixture in run.fixtures() {
            vm = self.equip(vm, kernel, fixture)?;
        }
        let in_guest = format!("/in/{GUEST_PROGRAM}");
        let mut command = vec![&*in_guest, "--kernel", kernel, "--suite", suites];
        let verdicts = format!("/out/{VERDICTS}");
        command.extend(["--verdicts", &verdicts]);
        command.extend(self.filter.iter().flat_map(|filter| ["--filter", filter]));
        command.extend(after.iter().flat_map(|after| ["--after", after]));
        let seconds = self.soak.map(|each| each.as_secs().to_string());
        command.extend(seconds.iter().flat_map(|seconds| ["--mix-seconds", seconds]));
        eprintln!("test: kernel {kernel} {part}: {suites}, {smp} CPUs");
        // What an earlier boot reported must not be taken for this one's.
        remove_file(&out.join(VERDICTS))?;
        let outcome = vm.run(self.workspace, &command)?;
        let (boot, elapsed) = (outcome.boot.as_secs_f64(), outcome.elapsed.as_secs_f64());
        eprintln!(
            "test: kernel {kernel} {part}: {boot:.1} s to boot, {elapsed:.1} s of tests (of {} s)",
            budget.as_secs()
        );
        let name = [GUEST_CASE, part].join(" ");
        let reported = Boot::read(&outcome, name.trim_end(), self.filter.is_none());
        Ok((reported, outcome.boot + outcome.elapsed))
    }

    /// Gives a guest what its cases need.
    fn equip(&self, vm: Vm, kernel: &str, fixture: Fixture) -> Result<Vm> {
        let workspace = self.workspace;
        Ok(match fixture {
            Fixture::Loaded(name) => {
                let module = fixtures::ensure(workspace, kernel)?.module(name);
                let module = module.to_str().context("the path of a module is text")?;
                vm.modules([module].iter())
            }
            Fixture::AtHand(name) => vm.copy_in(&fixtures::ensure(workspace, kernel)?.module(name)),
            Fixture::Programs(set) => vm.copy_in(&setup::programs_of_debian(workspace, set)?),
            Fixture::Packages => {
                let agent = self.program.with_file_name("endiod");
                vm.root(Root::Debian).copy_in(&package::two_versions(workspace, &agent)?)
            }
            Fixture::Pages => vm.copy_in(&documented::copied(workspace)?),
            Fixture::Dashboards => {
                vm.copy_in(&workspace.root().join("dashboards")).copy_in(&panels::file(workspace)?)
            }
        })
    }
}

/// A kernel's column to be.
struct Plan {
    column: Column,
    /// Empty where the kernel is gone from the archive.
    release: String,
    /// `None` where it is gone.
    files: Option<KernelFiles>,
}

/// What one boot reported.
struct Boot {
    cases: Vec<Case>,
    /// Whether the guest program came to its end.
    ended: bool,
}

impl Boot {
    fn read(outcome: &VmOutcome, name: &str, must_plan: bool) -> Boot {
        let mut cases = match fs::read_to_string(outcome.out_dir.join(VERDICTS)) {
            Ok(text) => verdict::parse(&text)
                .unwrap_or_else(|error| vec![Case::failed("verdicts", &format!("{error:#}"))]),
            Err(error) => vec![Case::failed("verdicts", &format!("no verdict file: {error}"))],
        };
        if cases.is_empty() && must_plan {
            cases.push(Case::failed("verdicts", "no case was planned"));
        }
        cases.push(guest_case(name, outcome, &cases));
        Boot { cases, ended: matches!(outcome.status, VmStatus::Exited(_)) }
    }

    /// The case that took the guest with it: the first that did not report. Those after it have not
    /// begun and are taken out, if there are any.
    fn fatal(&mut self) -> Option<String> {
        if self.ended {
            return None;
        }
        let at = self.cases.iter().position(Case::is_unreported)?;
        let is_last = !self.cases[at + 1..].iter().any(Case::is_unreported);
        let mut seen = 0;
        self.cases.retain(|case| {
            seen += usize::from(case.is_unreported());
            !case.is_unreported() || seen == 1
        });
        (!is_last).then(|| self.cases[at].name.clone())
    }
}

/// Whether the guest itself came to a good end; failures that its verdicts tell are told by them.
fn guest_case(name: &str, outcome: &VmOutcome, cases: &[Case]) -> Case {
    let has_failures = cases.iter().any(|case| case.outcome == verdict::Outcome::Failed);
    let why = match &outcome.status {
        VmStatus::Exited(0) => return Case::passed(name),
        VmStatus::Exited(_) if has_failures => return Case::passed(name),
        VmStatus::Exited(status) => format!("{GUEST_PROGRAM} exited with {status}"),
        VmStatus::TimedOut(after) => format!("not at its end after {} s", after.as_secs()),
        VmStatus::Silent(since) => format!("a case was not at its end after {} s", since.as_secs()),
        VmStatus::Dead(why) => why.clone(),
    };
    let said = tail_lines(&outcome.stdout, QUOTED_LINES);
    let log = tail_lines(&outcome.kernel_log, QUOTED_LINES);
    Case::failed(name, &format!("{why}\nit said last:\n{said}\nits kernel log:\n{log}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"{"planned": ["a", "b", "c", "d"],
        "cases": [{"name": "a", "outcome": "passed"}]}"#;

    fn boot(text: &str, ended: bool) -> Boot {
        let mut cases = verdict::parse(text).unwrap();
        cases.push(Case::failed("guest", "not at its end"));
        Boot { cases, ended }
    }

    fn names(boot: &Boot) -> Vec<&str> {
        boot.cases.iter().map(|case| case.name.as_str()).collect()
    }

    #[test]
    fn the_case_that_took_the_guest_with_it_is_the_only_one_that_has_not_reported() {
        let mut boot = boot(REPORT, false);
        assert_eq!(boot.fatal().as_deref(), Some("b"));
        assert_eq!(names(&boot), ["a", "b", "guest"]);
    }

    #[test]
    fn after_the_last_case_nothing_is_left_to_run() {
        let mut boot = boot(&REPORT.replace(r#", "c", "d""#, ""), false);
        assert_eq!(boot.fatal(), None);
        assert_eq!(names(&boot), ["a", "b", "guest"]);
    }

    #[test]
    fn a_program_that_ended_and_left_cases_out_is_not_run_again() {
        let mut boot = boot(REPORT, true);
        assert_eq!(boot.fatal(), None);
        assert_eq!(names(&boot), ["a", "b", "c", "d", "guest"]);
    }
}
