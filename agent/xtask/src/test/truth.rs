//! The truth table of a run, rule × fixture × kernel: what each crime of the saboteur was expected to
//! show and what the agent showed, from the files that the guests left (`crimes.json`).
//!
//! A crime that was expected and of which none was found is printed bold: that cell is red.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::page::Place;
use crate::verdict::put;

/// What a guest with the saboteur leaves, in the directory of its part.
const FILE: &str = "crimes/crimes.json";

#[derive(Debug, Deserialize)]
struct Report {
    rows: Vec<Row>,
}

/// A crime on one kernel.
#[derive(Debug, Deserialize)]
struct Row {
    crime: String,
    rule: String,
    committed: u64,
    found: u64,
    /// Why none can be found, if so.
    missed_because: Option<String>,
}

/// Writes the table of all kernels that had a guest with the saboteur; none had: nothing is written.
pub(super) fn write(places: &[Place], file: &Path) -> Result<()> {
    let mut kernels = Vec::new();
    for Place { kernel, out } in places {
        let Ok(text) = fs::read_to_string(out.join(FILE)) else { continue };
        let report: Report =
            serde_json::from_str(&text).with_context(|| format!("{FILE} of {kernel}"))?;
        kernels.push((kernel.as_str(), report.rows));
    }
    if kernels.is_empty() {
        return Ok(());
    }
    fs::write(file, table(&kernels)).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("test: what was found of each crime is in {}", file.display());
    Ok(())
}

fn table(kernels: &[(&str, Vec<Row>)]) -> String {
    let mut crimes = BTreeMap::new();
    for row in kernels.iter().flat_map(|(_, rows)| rows) {
        crimes.insert((&row.rule, &row.crime), row.missed_because.as_deref());
    }
    let mut text = "| rule | crime | expected |".to_owned();
    kernels.iter().for_each(|(kernel, _)| put(&mut text, format_args!(" {kernel} |")));
    put(&mut text, format_args!("\n| --- | --- | --- |{}\n", " --- |".repeat(kernels.len())));
    for ((rule, crime), missed) in crimes {
        let expected = missed.unwrap_or("found");
        put(&mut text, format_args!("| `{rule}` | `{crime}` | {expected} |"));
        for (_, rows) in kernels {
            let row = rows.iter().find(|row| row.crime == *crime);
            put(&mut text, format_args!(" {} |", row.map_or("no crime".to_owned(), cell)));
        }
        text.push('\n');
    }
    text
}

fn cell(row: &Row) -> String {
    let Row { committed, found, missed_because, .. } = row;
    let seen = format!("{found} of {committed}");
    if *found == 0 && missed_because.is_none() { format!("**{seen}**") } else { seen }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rule: &str, crime: &str, found: u64, missed: Option<&str>) -> Row {
        Row {
            crime: crime.to_owned(),
            rule: rule.to_owned(),
            committed: 3,
            found,
            missed_because: missed.map(str::to_owned),
        }
    }

    #[test]
    fn a_cell_is_red_where_nothing_was_found_that_should_have_been() {
        let old = vec![row("b", "x", 3, None), row("a", "silent", 0, Some("no probe sees it"))];
        let new = vec![row("b", "x", 0, None), row("b", "y", 1, None)];
        let told = table(&[("6.1", old), ("7.3", new)]);
        let expected = "\
| rule | crime | expected | 6.1 | 7.3 |
| --- | --- | --- | --- | --- |
| `a` | `silent` | no probe sees it | 0 of 3 | no crime |
| `b` | `x` | found | 3 of 3 | **0 of 3** |
| `b` | `y` | found | no crime | 1 of 3 |
";
        assert_eq!(told, expected);
    }
}
