//! The table of `agent/docs/kernels.md`, made from a run: what each back end saw of the same load on
//! each kernel. The guests' case of the back ends leaves a summary and a scrape per back end.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Back ends and what their files are called.
pub(super) const BACKENDS: &[(&str, &str)] =
    &[("fentry", "agree_fentry"), ("raw_tp", "agree_raw_tp"), ("kprobe", "kprobe")];

const HEAD: &str = "\
| kernel | back end | release | probes | events | misses | lost | rules | seconds |
| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
";

/// One kernel that the run was asked for: its name, and where its guests left their files. Two names
/// of one kernel share a directory.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) kernel: String,
    pub(super) out: PathBuf,
}

/// Writes the table to a file, and says where.
pub(super) fn write(places: &[Place], file: &Path) -> Result<()> {
    let mut text = HEAD.to_owned();
    for Place { kernel, out } in places {
        for (backend, name) in BACKENDS {
            let cells = cells(out, name).unwrap_or_else(|| "- | - | - | - | - | - | -".to_owned());
            writeln!(text, "| {kernel} | {backend} | {cells} |").context("no room for a row")?;
        }
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    eprintln!("test: what each back end saw on each kernel is in {}", file.display());
    Ok(())
}

/// Whether that kernel counts the hits it skips: those of kprobes from 6.7 on, all others from 5.12 on.
fn counts_misses(release: &str, name: &str) -> bool {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= if name == "kprobe" { (6, 7) } else { (5, 12) }
}

/// `None` where the guest left no such files.
fn cells(out: &Path, name: &str) -> Option<String> {
    let summary = fs::read(out.join(format!("{name}.summary.json"))).ok()?;
    let summary: Value = serde_json::from_slice(&summary).ok()?;
    let scrape = fs::read_to_string(out.join(format!("{name}.prom"))).ok()?;
    let release = summary["kernel"].as_str()?;
    let attached = summary["probes"]["attached"].as_u64()?;
    let missed = summary["probes"]["missed"].as_object()?;
    let missed: u64 = missed.values().filter_map(Value::as_u64).sum();
    let missed = match counts_misses(release, name) {
        true => missed.to_string(),
        false => "not counted".to_owned(),
    };
    let cpus = summary["stream"]["cpus"].as_array()?;
    let of_cpus = |member: &str| cpus.iter().filter_map(|cpu| cpu[member].as_u64()).sum::<u64>();
    let (emitted, dropped) = (of_cpus("emitted"), of_cpus("dropped"));
    let rules = rules(&scrape).len();
    let seconds = summary["seconds"].as_f64()?;
    Some(format!(
        "{release} | {attached} | {emitted} | {missed} | {dropped} | {rules} | {seconds:.0}"
    ))
}

/// Rules that can fire: theirs are the rows of violations that a scrape has.
fn rules(scrape: &str) -> BTreeSet<&str> {
    let rows = scrape.lines().filter(|line| line.starts_with("endiod_violations_total{"));
    rows.filter_map(|row| row.split("rule=\"").nth(1)?.split('"').next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guests;

    /// Kernel and back end of each row of a table.
    fn rows(text: &str) -> Vec<(&str, &str)> {
        let after_head = text.lines().skip_while(|line| !line.starts_with("| kernel | back end |"));
        let rows = after_head.skip(2).take_while(|line| line.starts_with("| "));
        rows.filter_map(|row| {
            let mut cells = row.trim_matches('|').split('|').map(str::trim);
            Some((cells.next()?, cells.next()?))
        })
        .collect()
    }

    #[test]
    fn the_page_has_a_row_for_every_kernel_and_back_end() {
        let page = include_str!("../../../docs/kernels.md");
        let expected: Vec<_> = guests::kernels()
            .flat_map(|kernel| BACKENDS.iter().map(move |(backend, _)| (kernel, *backend)))
            .collect();
        assert_eq!(rows(page), expected);
        assert!(page.contains(HEAD), "the page's table has another head");
    }

    #[test]
    fn rules_are_counted_once() {
        let scrape = "endiod_violations_total{device=\"vda\",rule=\"a\",confidence=\"certain\"} 0\n\
                      endiod_violations_total{device=\"vda\",rule=\"a\",confidence=\"likely\"} 0\n\
                      endiod_violations_total{device=\"vda\",rule=\"b\",confidence=\"likely\"} 0\n\
                      endiod_violations_suppressed_total{rule=\"c\"} 0\n";
        assert_eq!(rules(scrape), BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn a_kernel_that_left_nothing_has_a_row_of_dashes() {
        let dir = std::env::temp_dir().join(format!("xtask-page-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("kernels.md");
        write(&[Place { kernel: "6.1".to_owned(), out: dir.join("none") }], &file).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(rows(&text).len(), BACKENDS.len());
        fs::remove_dir_all(dir).unwrap();
    }
}
