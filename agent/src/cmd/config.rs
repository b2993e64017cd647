//! The configuration file of `endiod run`, and the verb that prints one.
//!
//! ```text
//!   --listen ADDR  ►  ENDIOD_LISTEN  ►  listen = "…" in the file  ►  the default        the first that is there
//! ```
//!
//! The settings are the flags of `run`, with `_` for `-`: what a file says becomes the default of its flag
//! before the command line is read, so the flag's own parser judges it, and the list of settings is the
//! command line's. A file with a mistake is refused as a whole, each mistake with its place.

mod reload;

use std::{
    collections::BTreeMap, ffi::OsString, fmt::Write as _, fs, ops::Range, path::Path,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{
    Arg, ArgMatches, Command, CommandFactory as _, FromArgMatches as _, parser::ValueSource,
};
use toml_edit::{ImDocument, Item, Value};

use crate::cli::{Cli, Verb};

pub(crate) use reload::{Reload, Reloaded};

/// Flags of `run` that say what one run is to do, and have no place in a file.
const OF_ONE_RUN: &[&str] = &["config", "check_config", "duration", "format"];
/// How alike a known key must be to be suggested, of 1.
const LIKENESS_MIN: f64 = 0.7;
/// What a flag's value is called where it is a number.
const NUMBERS: &[&str] = &["BYTES", "COUNT", "SECONDS"];
/// Longest line of a comment, bytes.
const LINE_MAX: usize = 96;

/// What a file says, by setting.
type Settings = BTreeMap<String, String>;

/// What a run goes by and where each value is from, by setting.
pub(crate) type InForce = BTreeMap<String, (String, &'static str)>;

/// Reads the command line, and for `run` the file that it names.
pub(crate) fn parse(line: impl IntoIterator<Item = OsString>) -> Result<Cli> {
    let line: Vec<_> = line.into_iter().collect();
    let mut cli = cli(Cli::command().get_matches_from(&line));
    if let Verb::Run(args) = &cli.verb {
        let settings = args.config.as_deref().map_or(Ok(Settings::new()), read)?;
        cli = with_settings(&settings, &line);
    }
    Ok(cli)
}

/// Prints the settings of `run` as a file, at their defaults.
pub(crate) fn print_defaults() -> Result<ExitCode> {
    print!("{}", defaults());
    Ok(ExitCode::SUCCESS)
}

/// That file.
pub(crate) fn defaults() -> String {
    page(&Cli::command(), |arg| Some((default_of(arg)?, "")))
}

/// Prints them as they are for a run, with where each comes from.
pub(crate) fn print_checked(in_force: &InForce) -> ExitCode {
    print!("{}", page(&Cli::command(), |arg| in_force.get(arg.get_id().as_str()).cloned()));
    ExitCode::SUCCESS
}

/// An error of the command line is clap's to tell.
fn cli(mut matches: ArgMatches) -> Cli {
    Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// The command line of a run, over what a file says.
fn with_settings(settings: &Settings, line: &[OsString]) -> Cli {
    let command = Cli::command().mut_subcommand("run", |run| {
        run.mut_args(|arg| match settings.get(arg.get_id().as_str()) {
            Some(value) => arg.default_value(value),
            None => arg,
        })
    });
    let matches = command.clone().get_matches_from(line);
    let mut cli = cli(matches.clone());
    if let (Verb::Run(args), Some(of_this)) = (&mut cli.verb, matches.subcommand_matches("run")) {
        let values = of_run(&command)
            .filter_map(|arg| Some((arg.get_id().to_string(), effective(of_this, settings, arg)?)));
        args.in_force = values.collect();
    }
    cli
}

fn effective(
    of_this: &ArgMatches,
    settings: &Settings,
    arg: &Arg,
) -> Option<(String, &'static str)> {
    let id = arg.get_id().as_str();
    let value = of_this.get_raw(id)?.next()?.to_string_lossy().into_owned();
    let from = match of_this.value_source(id)? {
        ValueSource::CommandLine => "from the command line",
        ValueSource::EnvVariable => "from the environment",
        _ if settings.contains_key(id) => "from the file",
        _ => "the default",
    };
    Some((value, from))
}

/// What a file says.
fn read(file: &Path) -> Result<Settings> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the configuration {}", file.display()))?;
    settings(&text).map_err(|mistakes| {
        let lines = mistakes.into_iter().map(|(at, what)| {
            let (line, column) = place(&text, at);
            format!("{}:{line}:{column}: {what}", file.display())
        });
        anyhow::anyhow!("{}", lines.collect::<Vec<_>>().join("\n"))
    })
}

/// The settings of a text, or all its mistakes with the byte at which each begins.
fn settings(text: &str) -> Result<Settings, Vec<(usize, String)>> {
    let document = ImDocument::parse(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        vec![(at, error.message().to_owned())]
    })?;
    let command = Cli::command();
    let known: Vec<_> = of_run(&command).collect();
    let (mut found, mut mistakes) = (Settings::new(), Vec::new());
    for (key, item) in document.iter() {
        let start = |span: Option<Range<usize>>| span.map_or(0, |span| span.start);
        let of_key = start(document.key(key).and_then(toml_edit::Key::span));
        let Some(arg) = known.iter().find(|arg| arg.get_id() == key) else {
            mistakes.push((of_key, unknown(key, &known)));
            continue;
        };
        match text_of(item).and_then(|value| judge(arg, &value).map(|()| value)) {
            Ok(value) => drop(found.insert(key.to_owned(), value)),
            Err(why) => mistakes.push((start(item.span()).max(of_key), format!("{key}: {why}"))),
        }
    }
    mistakes.sort_unstable();
    if mistakes.is_empty() { Ok(found) } else { Err(mistakes) }
}

fn unknown(key: &str, known: &[&Arg]) -> String {
    let likeness = |arg: &&&Arg| strsim::jaro_winkler(key, arg.get_id().as_str());
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|arg| likeness(arg) >= LIKENESS_MIN) {
        Some(arg) => format!("no setting is called `{key}`; did you mean `{}`?", arg.get_id()),
        None => format!("no setting is called `{key}`; `endiod config` lists them all"),
    }
}

/// A value as it would be written behind its flag.
fn text_of(item: &Item) -> Result<String, String> {
    match item {
        Item::Value(Value::String(text)) => Ok(text.value().clone()),
        Item::Value(Value::Integer(number)) => Ok(number.value().to_string()),
        Item::Value(Value::Float(number)) => Ok(number.value().to_string()),
        other => Err(format!("a {} is no value here; give a text or a number", other.type_name())),
    }
}

/// Asks the flag's own parser.
fn judge(arg: &Arg, value: &str) -> Result<(), String> {
    let long = arg.get_long().unwrap_or_default();
    let flag = Command::new("run").no_binary_name(true).arg(arg.clone());
    let judged = flag.try_get_matches_from([format!("--{long}={value}")]);
    judged.map(drop).map_err(|error| {
        // `error: invalid value …: why`, what may be given, and a hint at --help.
        let told = error.to_string();
        let lines = told.lines().map(str::trim).take_while(|line| !line.starts_with("For more"));
        let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
        lines.join(" ").trim_start_matches("error: ").to_owned()
    })
}

/// The flags of `run` that are settings.
fn of_run(command: &Command) -> impl Iterator<Item = &Arg> {
    let run = command.find_subcommand("run").expect("a test holds the verb");
    run.get_arguments().filter(|arg| {
        let is_of_one_run = OF_ONE_RUN.iter().any(|id| arg.get_id() == *id);
        arg.get_long().is_some()
            && default_of(arg).is_some()
            && !arg.is_hide_set()
            && !is_of_one_run
    })
}

fn default_of(arg: &Arg) -> Option<String> {
    Some(arg.get_default_values().first()?.to_string_lossy().into_owned())
}

/// A file with every setting, each under what its flag's help says.
fn page(command: &Command, value: impl Fn(&Arg) -> Option<(String, &'static str)>) -> String {
    let mut page =
        "# Settings of `endiod run --config FILE`. A flag goes before an environment variable, \
                    and both before\n# this file.\n"
            .to_owned();
    for arg in of_run(command) {
        let Some((value, from)) = value(arg) else { continue };
        page.push('\n');
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        comment(&mut page, &help);
        let values: Vec<_> =
            arg.get_possible_values().iter().map(|it| it.get_name().to_owned()).collect();
        if !values.is_empty() {
            comment(&mut page, &format!("One of: {}.", values.join(", ")));
        }
        let unit =
            arg.get_value_names().and_then(|names| names.first()).map_or("", |it| it.as_str());
        let is_number = NUMBERS.contains(&unit);
        if is_number {
            comment(&mut page, &format!("Unit: {}.", unit.to_lowercase()));
        }
        if let Some(variable) = arg.get_env() {
            comment(&mut page, &format!("Environment: {}.", variable.to_string_lossy()));
        }
        let value = if is_number { value } else { Value::from(value).to_string() };
        let from = if from.is_empty() { String::new() } else { format!("  # {from}") };
        writeln!(page, "{} = {value}{from}", arg.get_id()).expect("a String takes all");
    }
    page
}

/// Words in lines of bounded length.
fn comment(page: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + word.len() + 1 > LINE_MAX {
            page.push_str(&line);
            page.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    page.push_str(&line);
    page.push('\n');
}

/// Line and column of a byte, from 1.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before.chars().rev().take_while(|letter| *letter != '\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::RunArgs;

    fn run(line: &[&str], settings: &Settings) -> RunArgs {
        let line: Vec<_> = ["endiod", "run"].iter().chain(line).map(OsString::from).collect();
        match with_settings(settings, &line).verb {
            Verb::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn refused(text: &str, expected: &[(usize, usize, &str)]) {
        let mistakes = settings(text).unwrap_err();
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:?}");
        for ((at, what), (line, column, words)) in mistakes.iter().zip(expected) {
            assert_eq!(place(text, *at), (*line, *column), "{what}");
            assert!(what.contains(words), "{what:?} does not say {words:?}");
        }
    }

    #[test]
    fn the_printed_defaults_are_read_back_as_the_defaults() {
        let told = settings(&defaults()).unwrap();
        let command = Cli::command();
        let expected: Settings = of_run(&command)
            .map(|arg| (arg.get_id().to_string(), default_of(arg).unwrap()))
            .collect();
        assert_eq!(told, expected);
        assert!(told.contains_key("listen") && told.contains_key("findings_bytes_max"), "{told:?}");
    }

    #[test]
    fn a_flag_goes_before_the_file_and_the_file_before_the_default() {
        let settings = settings("listen = \"127.0.0.1:7\"\nio_ends_max = 5\n").unwrap();
        let args = run(&["--listen", "127.0.0.1:8"], &settings);
        assert_eq!((args.listen.port(), args.watch.io_ends_max), (8, 5));
        let args = run(&[], &settings);
        assert_eq!(args.listen.port(), 7);
        assert_eq!(args.in_force["io_ends_max"], ("5".to_owned(), "from the file"));
    }

    #[test]
    fn a_mistake_is_told_with_its_place_and_what_was_meant() {
        refused("listen = \"127.0.0.1:7\"\nlisten = 1\n", &[(2, 1, "duplicate key")]);
        refused("\n  lisen = 1\n", &[(2, 3, "did you mean `listen`?")]);
        refused("duration = 3\n", &[(1, 1, "no setting is called `duration`")]);
        refused("[listen]\n", &[(1, 2, "table")]);
        refused(
            "ring_bytes = 5000\nbackend = \"bpf\"\n",
            &[(1, 14, "the kernel takes no ring of 5000 bytes"), (2, 11, "fentry")],
        );
    }
}
