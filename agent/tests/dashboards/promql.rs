//! Which metrics and labels an expression of PromQL names: enough of its grammar to hold it against the
//! table of metrics. promtool checks the rest (`cargo xtask test`).

use std::collections::{BTreeMap, BTreeSet};

use endiod::metrics::{METRICS, table::Type};

/// Labels by the name of a series.
pub(crate) type Known = BTreeMap<String, BTreeSet<String>>;

/// What an expression names.
#[derive(Debug, Default)]
pub(crate) struct Named {
    /// Series, each with the labels that it is selected by.
    pub(crate) series: Vec<(String, BTreeSet<String>)>,
    /// Labels of `by`, `on`, `group_left` and their like.
    pub(crate) grouping: BTreeSet<String>,
    /// String literals outside of selectors: the arguments of `label_replace`.
    strings: Vec<String>,
}

/// The agent's series, and those of others that are used with them.
pub(crate) fn known() -> Known {
    let mut known = Known::new();
    let of_target = ["instance", "job"].map(str::to_owned);
    for row in METRICS {
        let mut labels: BTreeSet<_> =
            row.labels.iter().map(|label| label.name.to_owned()).collect();
        labels.extend(of_target.clone());
        if row.kind == Type::Histogram {
            known.insert(format!("{}_sum", row.name), labels.clone());
            known.insert(format!("{}_count", row.name), labels.clone());
            labels.insert("le".to_owned());
            known.insert(format!("{}_bucket", row.name), labels);
        } else {
            known.insert(row.name.to_owned(), labels);
        }
    }
    known.insert("up".to_owned(), of_target.clone().into());
    let of_disk = of_target.into_iter().chain(["device".to_owned()]).collect();
    known.insert("node_disk_writes_completed_total".to_owned(), of_disk);
    known
}

/// Every label that the result may have, or what is wrong with the expression.
pub(crate) fn check(expression: &str, known: &Known) -> Result<BTreeSet<String>, String> {
    let named = Named::of(expression);
    let mut labels = BTreeSet::new();
    for (series, selected) in &named.series {
        let of_series = known.get(series).ok_or(format!("no metric {series} in {expression}"))?;
        if let Some(label) = selected.difference(of_series).next() {
            return Err(format!("{series} has no label {label} in {expression}"));
        }
        labels.extend(of_series.iter().cloned());
    }
    if named.series.is_empty() {
        return Err(format!("no metric in {expression}"));
    }
    for replaced in named.strings.chunks(4) {
        let [to, _, from, _] = replaced else {
            return Err(format!("a text that is no argument of label_replace in {expression}"));
        };
        if !labels.contains(from) {
            return Err(format!("no label {from} in {expression}"));
        }
        labels.insert(to.clone());
    }
    match named.grouping.difference(&labels).next() {
        Some(label) => Err(format!("no label {label} in {expression}")),
        None => Ok(labels),
    }
}

impl Named {
    /// Reads an expression; what it does not understand it passes over.
    pub(crate) fn of(expression: &str) -> Named {
        const GROUPING: [&str; 6] =
            ["by", "without", "on", "ignoring", "group_left", "group_right"];
        let mut named = Named::default();
        let mut rest = expression;
        while let Some(first) = rest.chars().next() {
            if first == '"' {
                let (text, after) = string(rest);
                named.strings.push(text.to_owned());
                rest = after;
            } else if first == '[' {
                rest = rest.split_once(']').map_or("", |(_, after)| after);
            } else if starts_word(first) {
                let (word, after) = word(rest);
                let next = after.trim_start();
                rest = after;
                if GROUPING.contains(&word) {
                    if let Some((list, after)) =
                        next.strip_prefix('(').and_then(|n| n.split_once(')'))
                    {
                        let labels = list.split(',').map(|label| label.trim().to_owned());
                        named.grouping.extend(labels.filter(|label| !label.is_empty()));
                        rest = after;
                    }
                } else if is_series(word) {
                    let (selected, after) = selector(next);
                    named.series.push((word.to_owned(), selected));
                    rest = after;
                }
            } else if first.is_ascii_digit() || first == '$' {
                rest =
                    rest[1..].trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            } else {
                rest = &rest[first.len_utf8()..];
            }
        }
        named
    }
}

fn starts_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || c == ':'
}

fn word(text: &str) -> (&str, &str) {
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    text.split_at(text.find(ends).unwrap_or(text.len()))
}

/// Series are told from functions and operators by how they are named.
fn is_series(word: &str) -> bool {
    let prefixes = ["endiod_", "process_", "node_"];
    word == "up" || word.contains(':') || prefixes.iter().any(|prefix| word.starts_with(prefix))
}

/// The text of a literal in double quotes, and what follows it.
fn string(text: &str) -> (&str, &str) {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return (&text[1..at], &text[at + 1..]),
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    (&text[1..], "")
}

/// The labels between braces, and what follows them.
fn selector(text: &str) -> (BTreeSet<String>, &str) {
    let mut labels = BTreeSet::new();
    let Some(mut rest) = text.strip_prefix('{') else { return (labels, text) };
    while let Some(first) = rest.chars().next() {
        if first == '}' {
            return (labels, &rest[1..]);
        } else if first == '"' {
            rest = string(rest).1;
        } else if starts_word(first) {
            let (label, after) = word(rest);
            labels.insert(label.to_owned());
            rest = after;
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    (labels, rest)
}
