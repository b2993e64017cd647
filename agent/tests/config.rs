//! The configuration file as a user meets it: the printed one, the checked one, and one with mistakes.

#[path = "support/page.rs"]
mod page;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn endiod(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_endiod"));
    command.args(args).env_clear().envs(environment.iter().copied());
    command.output().expect("endiod can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it writes text")
}

/// A file of a test's own.
fn file(name: &str, content: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("config-{name}.toml"));
    fs::write(&path, content).expect("the file can be written");
    path
}

/// The settings of `run --check-config`, without their comments.
fn checked(file: &Path, args: &[&str], environment: &[(&str, &str)]) -> Vec<String> {
    let path = file.to_str().expect("the path is text");
    let line = [&["run", "--check-config", "--config", path], args].concat();
    let output = endiod(&line, environment);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let told = text(&output.stdout);
    told.lines().filter(|line| line.contains(" = ")).map(str::to_owned).collect()
}

#[test]
fn the_page_shows_the_printed_defaults() {
    let printed = text(&endiod(&["config"], &[]).stdout);
    page::check_block("configuration.md", "defaults", &printed, str::to_owned);
}

#[test]
fn the_page_shows_the_example_of_a_web_configuration() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/web-config.yml");
    let example = fs::read_to_string(example).expect("the example is there");
    page::check_block("web-config.md", "example", &example, str::to_owned);
}

#[test]
fn the_printed_defaults_change_nothing() {
    let printed = text(&endiod(&["config"], &[]).stdout);
    let with = checked(&file("printed", &printed), &[], &[]);
    let without = checked(&file("empty", ""), &[], &[]);
    assert!(with.iter().all(|line| line.ends_with("  # from the file")), "{with:?}");
    let value = |line: &String| line.split("  #").next().unwrap_or_default().to_owned();
    assert_eq!(
        with.iter().map(value).collect::<Vec<_>>(),
        without.iter().map(value).collect::<Vec<_>>()
    );
}

#[test]
fn flag_environment_file_and_default_go_in_this_order() {
    let path = file("order", "listen = \"127.0.0.1:1\"\nstuck_after = 7.5\nbackend = \"kprobe\"\n");
    let environment = [("ENDIOD_BACKEND", "fentry"), ("ENDIOD_LISTEN", "127.0.0.1:2")];
    let told = checked(&path, &["--listen", "127.0.0.1:3"], &environment);
    for line in [
        "listen = \"127.0.0.1:3\"  # from the command line",
        "backend = \"fentry\"  # from the environment",
        "stuck_after = 7.5  # from the file",
        "findings_files_max = 200  # the default",
    ] {
        assert!(told.iter().any(|it| it == line), "{line} is not in {told:#?}");
    }
}

#[test]
fn every_mistake_is_told_with_its_place_and_nothing_is_run() {
    let path = file("mistakes", "lisen = \"127.0.0.1:1\"\n\nring_bytes = 5000\n");
    let path = path.to_str().expect("the path is text");
    for args in [&["run", "--config", path][..], &["run", "--check-config", "--config", path]] {
        let output = endiod(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        for words in [
            format!("{path}:1:1: no setting is called `lisen`; did you mean `listen`?"),
            format!("{path}:3:14: ring_bytes: "),
            "the kernel takes no ring of 5000 bytes".to_owned(),
        ] {
            assert!(said.contains(&words), "{words:?} is not in {said}");
        }
    }
    let missing = endiod(&["run", "--config", "/nowhere/endiod.toml"], &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("/nowhere/endiod.toml"));
}

#[test]
fn the_web_configuration_is_checked_too() {
    let web = file("web", "basic_auth_usrs: {}\n\ntls_server_config:\n  cert_file: a.crt\n");
    let web = web.to_str().expect("the path is text");
    let settings = file("with-web", &format!("web_config = \"{web}\"\n"));
    let settings = settings.to_str().expect("the path is text");
    for args in [
        &["run", "--check-config", "--config", settings][..],
        &["run", "--check-config", "--web-config", web],
        // As the exporters have it.
        &["run", "--check-config", &format!("--web.config.file={web}")],
        &["run", "--web-config", web],
    ] {
        let output = endiod(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = text(&output.stderr);
        for words in [
            format!(
                "{web}:1:1: no setting is called `basic_auth_usrs`; did you mean `basic_auth_users`?"
            ),
            format!("{web}:3:1: tls_server_config has no key_file"),
        ] {
            assert!(said.contains(&words), "{words:?} is not in {said}");
        }
        assert_eq!(text(&output.stdout), "", "{args:?}");
    }
    let good = file("good-web", "http_server_config:\n  http2: false\n");
    let good = good.to_str().expect("the path is text");
    let told = checked(&file("none", ""), &["--web-config", good], &[]);
    let expected = format!("web_config = \"{good}\"  # from the command line");
    assert!(told.contains(&expected), "{told:#?}");
}
