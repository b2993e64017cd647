//! The house rules that a machine can check, over every Rust file of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Above this a file is redesigned.
const LINES_MAX: usize = 600;
/// What may be seen at the top level.
const TOP_LEVEL: [&str; 7] =
    ["Cargo.toml", "Cargo.lock", "README.md", "LICENSE", "agent", "ebpf", "dashboards"];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the agent lies in a workspace").into()
}

/// Every Rust file below a directory, by its path from the workspace.
fn rust_files() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).expect("a source directory").map_while(Result::ok) {
            let path = entry.path();
            if path.is_dir() && !path.ends_with("target") {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    for part in ["agent", "ebpf"] {
        walk(&workspace().join(part), &mut paths);
    }
    assert!(paths.len() > 50, "only {} files were found", paths.len());
    let text = |path: &Path| fs::read_to_string(path).expect("a source file");
    let name =
        |path: &Path| path.strip_prefix(workspace()).expect("below it").display().to_string();
    paths.iter().map(|path| (name(path), text(path))).collect()
}

/// Fails with every file for which `wrong` has something to say.
#[track_caller]
fn check(wrong: impl Fn(&str, &str) -> Option<String>) {
    let files = rust_files();
    let all: Vec<_> = files
        .iter()
        .filter_map(|(name, text)| Some(format!("{name}: {}", wrong(name, text)?)))
        .collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    check(|_, text| (!text.starts_with("//!")).then(|| "does not open with //!".to_owned()));
}

#[test]
fn no_file_outgrows_its_noun() {
    check(|_, text| {
        let lines = text.lines().count();
        (lines > LINES_MAX).then(|| format!("{lines} lines"))
    });
}

#[test]
fn modules_are_named_after_their_file() {
    check(|name, _| name.ends_with("/mod.rs").then(|| "is a mod.rs".to_owned()));
}

#[test]
fn only_the_kernel_source_imports_aya() {
    check(|name, text| {
        let allowed = name.starts_with("agent/src/source/kernel") || !name.starts_with("agent/src");
        let imports = text.lines().any(|line| line.trim_start().starts_with("use aya"));
        (!allowed && imports).then(|| "imports aya".to_owned())
    });
}

#[test]
fn the_core_does_no_input_or_output() {
    const CORE: [&str; 6] = ["decode", "event", "sequence", "lifecycle", "detect", "oracle"];
    check(|name, text| {
        let module = name.strip_prefix("agent/src/")?.split(['/', '.']).next()?;
        let words = ["std::fs", "std::net", "std::time", "std::thread", "log::", "tokio"];
        let found = words.iter().find(|word| text.contains(*word))?;
        CORE.contains(&module).then(|| format!("names {found}"))
    });
}

#[test]
fn the_oracle_shares_no_code_with_what_it_judges_and_the_simulator_none_with_the_oracle() {
    const JUDGED: [&str; 9] = [
        "lifecycle",
        "detect",
        "pipeline",
        "sequence",
        "finding",
        "generation",
        "probes",
        "source",
        "decode",
    ];
    const JUDGES: [&str; 6] =
        ["oracle", "lifecycle", "detect", "pipeline", "sequence", "generation"];
    let uses = |text: &str, modules: &[&str]| {
        let named = |module: &&&str| text.contains(&format!("crate::{module}"));
        modules.iter().find(named).map(|module| format!("uses {module}"))
    };
    check(|name, text| match name.strip_prefix("agent/src/")? {
        name if name.starts_with("oracle") => uses(text, &JUDGED),
        name if name.starts_with("source/sim") => {
            // The words of its own documentation say what it must not use.
            let code: String = text.lines().filter(|line| !line.starts_with("//!")).collect();
            uses(&code, &JUDGES)
        }
        _ => None,
    });
}

#[test]
fn no_check_is_left_out() {
    let ignored = concat!("#[", "ignore");
    let pending = concat!("todo", "!(");
    check(|_, text| {
        [ignored, pending].iter().find(|word| text.contains(**word)).map(|word| (*word).to_owned())
    });
}

#[test]
fn the_top_level_shows_what_it_should_and_nothing_else() {
    let entries = fs::read_dir(workspace()).expect("the workspace").map_while(Result::ok);
    let mut visible: Vec<_> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    visible.sort();
    let mut expected = TOP_LEVEL.map(str::to_owned);
    expected.sort();
    assert_eq!(visible, expected);
}
