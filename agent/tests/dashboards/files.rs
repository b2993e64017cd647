//! The files under `dashboards/`, read.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

/// A file of that folder.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards").join(name)
}

/// Its text.
#[track_caller]
pub(crate) fn text(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Names of the files of a folder that end so, sorted.
#[track_caller]
pub(crate) fn names(folder: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(path(folder)).expect("the folder is there").map_while(Result::ok);
    let mut names: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    assert!(!names.is_empty(), "no .{extension} in {folder}");
    names
}

/// Every dashboard.
pub(crate) fn dashboards() -> Vec<Value> {
    let read = |name: &String| {
        serde_json::from_str(&text(&format!("grafana/{name}")))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    names("grafana", "json").iter().map(read).collect()
}

/// A file of YAML.
#[track_caller]
pub(crate) fn yaml(name: &str) -> Value {
    serde_yaml_ng::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The elements of a list that must be one.
#[track_caller]
pub(crate) fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of[name].as_array().unwrap_or_else(|| panic!("{name} is no list in {of}"))
}

/// A text that must be one.
#[track_caller]
pub(crate) fn word<'a>(of: &'a Value, name: &str) -> &'a str {
    of[name].as_str().unwrap_or_else(|| panic!("{name} is no text in {of}"))
}

/// Every rule of every group, recording rules first.
pub(crate) fn rules() -> Vec<Value> {
    let mut rules = Vec::new();
    for name in names("rules", "yml") {
        for group in list(&yaml(&format!("rules/{name}")), "groups") {
            rules.extend(list(group, "rules").iter().cloned());
        }
    }
    rules.sort_by_key(|rule| rule["record"].is_null());
    rules
}

/// Every alert.
pub(crate) fn alerts() -> Vec<Value> {
    rules().into_iter().filter(|rule| rule["alert"].is_string()).collect()
}
