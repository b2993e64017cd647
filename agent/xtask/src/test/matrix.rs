//! The matrices of a run, way to make and mount a file system × kernel and mix of I/O × kernel: what each
//! row saw, and what by its nature it never does. Made from the facts of the guests' rows; it must never
//! show a row that did not pass as if it had.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::verdict::{Case, Column, Outcome, put};

/// One matrix.
pub(super) struct Matrix {
    /// What a row is.
    head: &'static str,
    /// How its cases are called, before the name of their row.
    row: &'static str,
}

pub(super) const MOUNTS: Matrix = Matrix { head: "mount", row: "conserved: " };
pub(super) const MIXES: Matrix = Matrix { head: "mix", row: "mix: " };

/// How a row names what it never does, before the count's name.
const NEVER: &str = "never exercises ";
/// Facts of a row and the heads of their columns.
const COUNTS: &[(&str, &str)] = &[
    ("rounds", "rounds"),
    ("io_ends", "io_ends"),
    ("bios", "bios"),
    ("converted", "conversions"),
    ("deferred_puts", "deferred puts"),
    ("queued", "queued"),
    ("direct_ios", "direct writes"),
    ("fsyncs", "fsyncs"),
    ("fsyncs_at_once", "at once"),
    ("in_interrupts", "records in interrupts"),
    ("nested_interrupts", "nested"),
    ("missed", "misses"),
    ("suppressed", "suppressed"),
];
/// What some of the columns can tell and what they cannot.
const NOTES: &str = "
At once: the most fsyncs open at once. Nested: interrupts that met a program between the number of its
record and the record's place in the ring; what met one elsewhere cannot be told from what met none, or
was skipped and is among the misses.
";

/// Writes a matrix of all kernels that had a guest for it; none had: nothing is written.
pub(super) fn write(columns: &[Column], matrix: &Matrix, file: &Path) -> Result<()> {
    let Some(text) = table(columns, matrix) else { return Ok(()) };
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("test: what each {} saw is in {}", matrix.head, file.display());
    Ok(())
}

fn table(columns: &[Column], matrix: &Matrix) -> Option<String> {
    let rows: Vec<_> = columns.iter().flat_map(|column| rows(column, matrix.row)).collect();
    if rows.is_empty() {
        return None;
    }
    let mut text = format!("| {} | kernel |", matrix.head);
    for (_, head) in COUNTS {
        put(&mut text, format_args!(" {head} |"));
    }
    put(&mut text, format_args!(" never |\n| --- | --- |{}", " ---: |".repeat(COUNTS.len())));
    put(&mut text, format_args!(" --- |\n{}\n{NOTES}", rows.join("\n")));
    Some(text)
}

fn rows(column: &Column, row: &str) -> impl Iterator<Item = String> {
    column.cases.iter().filter_map(move |case| {
        let name = case.name.strip_prefix(row)?;
        Some(format!("| {name} | {} |{}", column.kernel, cells(case)))
    })
}

fn cells(case: &Case) -> String {
    if case.outcome != Outcome::Passed {
        let word = match case.outcome {
            Outcome::Absent => format!("absent: {}", case.why),
            _ => "**failed**".to_owned(),
        };
        return format!("{} {word} |", " - |".repeat(COUNTS.len()));
    }
    let mut cells = String::new();
    for (fact, _) in COUNTS {
        let count = case.facts.get(*fact).map_or("-".to_owned(), Value::to_string);
        put(&mut cells, format_args!(" {count} |"));
    }
    let never = case.facts.iter().filter_map(|(fact, why)| {
        Some(format!("{}: {}", fact.strip_prefix(NEVER)?, why.as_str()?))
    });
    let never: Vec<_> = never.collect();
    cells + &format!(" {} |", never.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_shows_its_counts_and_what_it_never_does() {
        let mut passed = Case::passed("conserved: ext3");
        for (fact, value) in [
            ("io_ends", Value::from(7)),
            ("nested_interrupts", 0.into()),
            ("never exercises converted", "blocks are written".into()),
        ] {
            passed.facts.insert(fact.to_owned(), value);
        }
        let cases = vec![
            passed,
            Case::passed("direct_io_is_conserved"),
            Case::failed("conserved: bigalloc", "a | b"),
            Case::absent("conserved: large folios", "from 6.16 on"),
        ];
        let told =
            table(&[Column { kernel: "6.1".to_owned(), cases, seconds: 0.0 }], &MOUNTS).unwrap();
        let rows: Vec<_> = told.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        let dashes = " - |".repeat(COUNTS.len());
        let counts = format!(" - | 7 |{} 0 | - | - |", " - |".repeat(COUNTS.len() - 5));
        let expected = [
            format!("| ext3 | 6.1 |{counts} converted: blocks are written |"),
            format!("| bigalloc | 6.1 |{dashes} **failed** |"),
            format!("| large folios | 6.1 |{dashes} absent: from 6.16 on |"),
        ];
        assert_eq!(rows, expected);
        assert!(told.starts_with("| mount | kernel | rounds |"), "{told}");
    }

    #[test]
    fn without_such_rows_there_is_no_matrix() {
        let cases = vec![Case::passed("direct_io_is_conserved")];
        assert_eq!(
            table(&[Column { kernel: "6.1".to_owned(), cases, seconds: 0.0 }], &MOUNTS),
            None
        );
    }
}
