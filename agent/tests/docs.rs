//! The pages say what is so: their commands are run, their links lead somewhere, their flags exist.

#[path = "docs/links.rs"]
mod links;
#[path = "support/pages.rs"]
mod pages;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use pages::{Block, RUNNERS, blocks_of, pages};

/// What the host replaces in a block: files of a reader by files of this repository, and directories that
/// belong to root by some below `$SCRATCH`.
const HOST: &[(&str, &str)] = &[
    ("SLICE", "agent/tests/data/recordings/evicting-6.1.endiod"),
    (" /etc/", " $SCRATCH/etc/"),
    (">/etc/", ">$SCRATCH/etc/"),
    (" /var/", " $SCRATCH/var/"),
];

/// Commands that nobody runs as they stand: each with why, and with what shows the same.
const ELSEWHERE: &[(&str, &str)] = &[
    ("systemctl restart grafana-server", "Grafana is no program of Debian, and was never run here"),
    ("curl -s -G http://localhost:9090", "the guests' suite `scrape` asks Prometheus the same"),
    ("podman build", "`cargo xtask test` builds the same with buildah, where there is no podman"),
    ("kubectl apply", "`cargo xtask test` has the manifests checked by Kubernetes' schemas"),
    ("endiod run --", "`agent/tests/web_config.rs` serves and checks such files over real sockets"),
    ("chmod", "of the same block as chown"),
    ("chown", "the group and the key are an administrator's"),
    ("journalctl", "finds nothing, and says so by its exit, where no agent let go"),
    ("valgrind", "counts instructions of a benchmark, which a test does not"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the agent lies in a workspace").into()
}

#[test]
fn every_block_of_commands_has_a_runner() {
    let mut commands = 0;
    for page in pages(&root()) {
        for Block { place, info, .. } in page.blocks() {
            let (language, runner) = info.split_once(' ').unwrap_or((&info, ""));
            assert!(!["bash", "shell", "console"].contains(&language), "{place}: write `sh`");
            let is_run = RUNNERS.contains(&runner);
            assert!(language != "sh" || is_run, "{place}: who of {RUNNERS:?} runs it?");
            commands += usize::from(language == "sh");
        }
    }
    assert!(commands > 30, "only {commands} blocks were found");
}

#[test]
fn commands_of_the_host_do_what_the_page_says() {
    let endiod = Path::new(env!("CARGO_BIN_EXE_endiod"));
    let ours = endiod.parent().expect("it lies in a directory").display();
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("docs");
    let (mut wrong, mut page) = (Vec::new(), String::new());
    for block in blocks_of(&root(), "host") {
        // The blocks of one page build on each other.
        if block.page() != page {
            page = block.page().to_owned();
            let _ = fs::remove_dir_all(&scratch);
            for dir in ["etc", "var/tmp"] {
                fs::create_dir_all(scratch.join(dir)).expect("a directory can be made");
            }
        }
        let mut command = Command::new("sh");
        command.args(["-euc", &format!("exec 2>&1\n{}", block.script(HOST))]);
        command.env_clear().env("PATH", format!("{ours}:/usr/bin:/bin:/usr/sbin:/sbin"));
        command.env("SCRATCH", &scratch).env("HOME", &scratch).current_dir(root());
        let output = command.output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stdout);
        wrong.extend(block.differs(output.status.code(), &said));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_nobody_runs_has_its_reason_and_no_reason_is_left_over() {
    let blocks = blocks_of(&root(), "elsewhere");
    let commands: Vec<_> = blocks
        .iter()
        .flat_map(|it| it.commands().into_iter().map(|line| (&it.place, line)))
        .collect();
    for (place, command) in &commands {
        let has_reason = ELSEWHERE.iter().any(|(begin, _)| command.starts_with(begin));
        assert!(has_reason, "{place}: `{command}` has no reason in ELSEWHERE");
    }
    for (begin, _) in ELSEWHERE {
        let is_used = commands.iter().any(|(_, command)| command.starts_with(begin));
        assert!(is_used, "no page says `{begin}`");
    }
}

#[test]
fn what_is_claimed_of_security_has_tests_by_these_names() {
    let page = fs::read_to_string(root().join("agent/docs/security.md")).expect("the page");
    let mut code = String::new();
    let mut dirs = vec![root().join("agent")];
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                code += &fs::read_to_string(path).expect("text");
            }
        }
    }
    let mut claims = 0;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let mut is_table = false;
    for row in rows {
        let (claim, tests) = row.rsplit_once(" | ").expect("two columns");
        match claim {
            "claim" => is_table = true,
            _ if !is_table || claim.starts_with("---") => continue,
            _ => {}
        }
        let names = tests.split('`').skip(1).step_by(2).filter(|name| name.contains('_'));
        let names: Vec<_> = names.filter(|name| !name.contains(['/', '.'])).collect();
        let is_told = claim == "claim" || !names.is_empty() || tests.contains("](");
        assert!(is_told, "no test of: {claim}");
        for name in names {
            let exists =
                code.contains(&format!("fn {name}(")) || code.contains(&format!("\"{name}\""));
            assert!(exists, "no test is called {name}, which is to show: {claim}");
            claims += 1;
        }
    }
    assert!(claims > 15, "only {claims} tests were found");
}

/// Flags of `endiod VERB --help`, and `--subject`, which help hides and the guests' suite `replica` types.
fn flags_of(verb: &str) -> BTreeSet<String> {
    let output =
        Command::new(env!("CARGO_BIN_EXE_endiod")).args([verb, "--help"]).env_clear().output();
    let output = output.expect("endiod can be started");
    assert!(output.status.success(), "endiod has no verb {verb}, which a page names");
    let mut flags = flags_in(&String::from_utf8_lossy(&output.stdout));
    flags.insert("--subject".to_owned());
    flags
}

fn flags_in(text: &str) -> BTreeSet<String> {
    let is_of_word = |letter: char| letter.is_ascii_lowercase() || letter == '-';
    let words = text.split(|letter: char| !is_of_word(letter));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

#[test]
fn flags_of_endiod_that_pages_name_exist() {
    let (mut named, mut verbs) = (0, BTreeMap::new());
    for page in pages(&root()) {
        // Inline code, where odd parts of the text are, and lines that are set off.
        let prose = page.prose();
        let set_off = prose.lines().filter_map(|line| line.strip_prefix("    "));
        for code in prose.split('`').skip(1).step_by(2).chain(set_off) {
            let Some(line) = code.trim().strip_prefix("endiod ") else { continue };
            let verb = line.split_whitespace().next().unwrap_or_default();
            if !verb.starts_with(|letter: char| letter.is_ascii_lowercase()) {
                continue;
            }
            let known = verbs.entry(verb.to_owned()).or_insert_with(|| flags_of(verb));
            for flag in flags_in(line) {
                assert!(known.contains(&flag), "{}: `endiod {line}`: no flag {flag}", page.name);
                named += 1;
            }
        }
    }
    assert!(named > 10, "only {named} flags were found");
}
