//! The fixtures' page says what their sources do. (They are built and run by `cargo xtask`.)

#[path = "support/crimes.rs"]
mod crimes;

use std::{fs, path::Path};

use crimes::{Crimes, crimes_of_the_table};

const LINES_MAX: usize = 400;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
    fs::read_to_string(path).expect("a file of the fixtures")
}

/// From `| crime | rule | what | kernels | guest |` in the saboteur's section.
fn crimes_of_the_page(page: &str) -> Crimes {
    let section = page.split("\n## ").find(|section| section.starts_with("The saboteur"));
    let page = section.expect("a section on the saboteur");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let row = |row: &str| {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [name, rule, _, kernels, guest, ""] = cells[..] else { panic!("not a row: {row}") };
        let (name, rule) = (name.to_owned(), rule.to_owned());
        (name, (rule, kernels.starts_with("from 6.12"), guest == "dies"))
    };
    rows.map(row).collect()
}

#[test]
fn the_page_lists_every_crime_with_its_rule() {
    let table = crimes_of_the_table(&read("saboteur/table.c"));
    assert!(table.len() > 30, "only {} crimes were found", table.len());
    assert_eq!(crimes_of_the_page(&read("README.md")), table);
}

#[test]
fn no_crime_is_listed_twice() {
    let table = read("saboteur/table.c");
    let names: Vec<&str> =
        table.split("\tCRIME(").skip(1).filter_map(|row| row.split(',').next()).collect();
    assert_eq!(names.len(), crimes_of_the_table(&table).len());
}

#[test]
fn every_source_says_its_licence_and_what_it_is() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut sources = 0;
    for fixture in ["saboteur", "replica"] {
        let entries = fs::read_dir(root.join(fixture)).expect("a fixture").flatten();
        for path in entries.map(|entry| entry.path()) {
            let name = path.display().to_string();
            if !name.ends_with(".c") && !name.ends_with(".h") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let (first, rest) = text.split_once('\n').expect("more than a line");
            assert!(
                first.contains("SPDX-License-Identifier: MIT OR GPL-2.0-only"),
                "{name}: {first}"
            );
            assert!(rest.starts_with("/*"), "{name} does not say what it is");
            assert!(text.lines().count() <= LINES_MAX, "{name} outgrew its noun");
            sources += 1;
        }
    }
    assert!(sources > 10, "only {sources} sources were found");
}
