//! What a package ships beside the program: made by the program, so it must know every verb and setting.

use std::{fs, path::Path, process::Command};

fn endiod(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_endiod")).args(args).env_clear().output();
    let output = output.expect("endiod can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it writes text")
}

/// The verbs that `endiod --help` lists.
fn verbs() -> Vec<String> {
    let help = endiod(&["--help"]);
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let words = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    words.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

#[test]
fn every_verb_has_a_page_and_completions_and_the_settings_are_the_printed_ones() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("extras");
    let read = |name: &str| {
        fs::read_to_string(dir.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    endiod(&["extras", dir.to_str().expect("the path is text")]);

    assert_eq!(read("endiod.toml"), endiod(&["config"]));
    let verbs: Vec<_> = verbs().into_iter().filter(|verb| verb != "help").collect();
    assert!(verbs.len() > 5 && verbs.iter().any(|verb| verb == "run"), "{verbs:?}");
    let scripts = ["endiod.bash", "_endiod", "endiod.fish"]
        .map(|it| (it, read(&format!("completions/{it}"))));
    let first_page = read("man/endiod.1");
    for verb in &verbs {
        let page = read(&format!("man/endiod-{verb}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "the page of {verb} is none");
        assert!(first_page.contains(&format!("endiod\\-{verb}(1)")), "no word of {verb}");
        for (script, text) in &scripts {
            assert!(text.contains(verb.as_str()), "{script} does not know {verb}");
        }
    }
    assert!(!dir.join("man/endiod-extras.1").exists(), "a hidden verb has a page");
}
