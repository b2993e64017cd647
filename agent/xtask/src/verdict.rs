//! What the tests found, and how it is told: the guest program's verdict file, one column per
//! kernel, one row per case.
//!
//! ```json
//! {"planned": ["attach", …],
//!  "cases": [{"name": "attach", "outcome": "passed", "why": "", "facts": {"io_ends": 451},
//!             "seconds": 3.2}, …]}
//! ```
//!
//! A planned case that did not report has failed: a guest that died takes nothing with it.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Passed,
    Failed,
    /// Cannot exist on this kernel; `why` says why.
    Absent,
    /// The archive has no such kernel any more.
    Gone,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Failed => "FAILED",
            Outcome::Absent => "absent",
            Outcome::Gone => "gone",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) why: String,
    #[serde(default)]
    pub(crate) facts: BTreeMap<String, Value>,
    /// How long it took in the guest.
    #[serde(default)]
    pub(crate) seconds: f64,
}

/// Why a case failed that was planned and has no verdict.
const UNREPORTED: &str = "planned, and did not report";

#[derive(Debug, Deserialize)]
struct VerdictFile {
    planned: Vec<String>,
    cases: Vec<Case>,
}

/// The cases of one kernel, in the order of the plan.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) kernel: String,
    pub(crate) cases: Vec<Case>,
    /// How long its guests took, boots included.
    pub(crate) seconds: f64,
}

/// How many cases came out how.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) gone: usize,
}

impl Case {
    pub(crate) fn passed(name: &str) -> Self {
        Self::new(name, Outcome::Passed, "")
    }

    pub(crate) fn failed(name: &str, why: &str) -> Self {
        Self::new(name, Outcome::Failed, why)
    }

    pub(crate) fn absent(name: &str, why: &str) -> Self {
        Self::new(name, Outcome::Absent, why)
    }

    pub(crate) fn gone(name: &str, why: &str) -> Self {
        Self::new(name, Outcome::Gone, why)
    }

    /// Was it planned, and has no verdict?
    pub(crate) fn is_unreported(&self) -> bool {
        self.outcome == Outcome::Failed && self.why == UNREPORTED
    }

    fn new(name: &str, outcome: Outcome, why: &str) -> Self {
        let (name, why) = (name.to_owned(), why.to_owned());
        Self { name, outcome, why, facts: BTreeMap::new(), seconds: 0.0 }
    }
}

/// Reads a verdict file: every planned case is in the result, and every case that has reported.
pub(crate) fn parse(text: &str) -> Result<Vec<Case>> {
    let file: VerdictFile = serde_json::from_str(text).context("cannot read the verdict file")?;
    let mut cases = Vec::new();
    let mut reported = file.cases;
    for name in file.planned {
        let (mut of_name, others): (Vec<Case>, Vec<Case>) =
            reported.into_iter().partition(|case| case.name == name);
        reported = others;
        if of_name.is_empty() {
            of_name.push(Case::failed(&name, UNREPORTED));
        }
        cases.append(&mut of_name);
    }
    for stray in &mut reported {
        stray.outcome = Outcome::Failed;
        stray.why = format!("reported, and was not planned ({})", stray.why);
    }
    cases.append(&mut reported);
    Ok(cases)
}

/// Counts the cases of all kernels.
pub(crate) fn tally(columns: &[Column]) -> Tally {
    let of = |outcome| {
        let cases = columns.iter().flat_map(|column| &column.cases);
        cases.filter(|case| case.outcome == outcome).count()
    };
    Tally { passed: of(Outcome::Passed), failed: of(Outcome::Failed), gone: of(Outcome::Gone) }
}

/// The table of all kernels and cases, then what there is to say about single cells.
pub(crate) fn table(columns: &[Column]) -> String {
    let mut rows: Vec<&str> = Vec::new();
    for case in columns.iter().flat_map(|column| &column.cases) {
        if !rows.contains(&case.name.as_str()) {
            rows.push(&case.name);
        }
    }
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0).max("case".len());
    let mut text = format!("{:width$}", "case");
    for column in columns {
        put(&mut text, format_args!("  {:>11}", column.kernel));
    }
    text.push('\n');
    for row in rows {
        put(&mut text, format_args!("{row:width$}"));
        for column in columns {
            let case = column.cases.iter().find(|case| case.name == row);
            let cell = case.map_or("-", |case| case.outcome.word());
            put(&mut text, format_args!("  {cell:>11}"));
        }
        text.push('\n');
    }
    put(&mut text, format_args!("{:width$}", "seconds"));
    for column in columns {
        put(&mut text, format_args!("  {:>11.0}", column.seconds));
    }
    text.push('\n');
    for column in columns {
        for case in &column.cases {
            remarks(&mut text, &column.kernel, case);
        }
    }
    text
}

/// What failed, a line each, for the end of a long output.
pub(crate) fn failures(columns: &[Column]) -> String {
    let mut text = String::new();
    for column in columns {
        let failed = column.cases.iter().filter(|case| case.outcome == Outcome::Failed);
        for case in failed {
            let why = case.why.trim().lines().next().unwrap_or_default();
            put(&mut text, format_args!("FAILED {} {}: {why}\n", column.kernel, case.name));
        }
    }
    text
}

fn remarks(text: &mut String, kernel: &str, case: &Case) {
    if case.outcome == Outcome::Passed && case.facts.is_empty() {
        return;
    }
    put(text, format_args!("\n{kernel} {}: {}", case.name, case.outcome.word()));
    if case.seconds > 0.0 {
        put(text, format_args!(" in {:.1} s", case.seconds));
    }
    if !case.why.is_empty() && case.outcome != Outcome::Passed {
        put(text, format_args!(": {}", case.why.trim().replace('\n', "\n    ")));
    }
    for (name, value) in &case.facts {
        put(text, format_args!("\n    {name} = {value}"));
    }
    text.push('\n');
}

/// Appends to a table.
pub(crate) fn put(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    text.write_fmt(arguments).expect("a String takes all text");
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"planned": ["attach", "life", "modular"], "cases": [
        {"name": "attach", "outcome": "passed", "facts": {"io_ends": 451}},
        {"name": "modular", "outcome": "absent", "why": "ext4 is built in"}]}"#;

    #[test]
    fn a_planned_case_that_did_not_report_failed() {
        let cases = parse(FILE).unwrap();
        let outcomes: Vec<Outcome> = cases.iter().map(|case| case.outcome).collect();
        assert_eq!(outcomes, [Outcome::Passed, Outcome::Failed, Outcome::Absent]);
    }

    #[test]
    fn a_case_that_was_not_planned_fails() {
        let text = r#"{"planned": [], "cases": [{"name": "x", "outcome": "passed"}]}"#;
        let cases = parse(text).unwrap();
        assert_eq!(cases[0].outcome, Outcome::Failed);
    }

    #[test]
    fn an_unknown_outcome_and_half_a_file_are_errors() {
        parse(r#"{"planned": [], "cases": [{"name": "x", "outcome": "skipped"}]}"#).unwrap_err();
        parse(&FILE[..FILE.len() / 2]).unwrap_err();
    }

    #[test]
    fn the_table_has_a_column_per_kernel_and_says_why() {
        let column =
            |kernel: &str, cases| Column { kernel: kernel.to_owned(), cases, seconds: 9.6 };
        let columns =
            [column("6.1", parse(FILE).unwrap()), column("5.10", vec![Case::passed("attach")])];
        assert_eq!(tally(&columns), Tally { passed: 2, failed: 1, gone: 0 });
        let expected = "\
case             6.1         5.10
attach        passed       passed
life          FAILED            -
modular       absent            -
seconds           10           10

6.1 attach: passed
    io_ends = 451

6.1 life: FAILED: planned, and did not report

6.1 modular: absent: ext4 is built in
";
        assert_eq!(table(&columns), expected);
        assert_eq!(failures(&columns), "FAILED 6.1 life: planned, and did not report\n");
    }
}
