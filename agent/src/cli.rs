//! The command line: types only, no work. Help texts are the reference.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use endiod_wire::wire::{LIVE_IO_ENDS_MAX, WATCH_SLOTS_MAX};

use endiod::{
    event::{Backend, Nanos},
    limits::{CPU_PERCENT_MAX, IO_ENDS_MAX, STUCK_AFTER, WATCHPOINTS},
    source::kernel::{Choice, Sizes, Subject},
};

use crate::cmd::{
    config::InForce, explain::ExplainArgs, export::ExportArgs, extras::ExtrasArgs,
    helper::HelperArgs, keep::KeepArgs, record::RecordArgs, replay::ReplayArgs,
    simulate::SimulateArgs, stress::StressArgs, top::TopArgs, verify::VerifyArgs,
};

/// A day: nobody waits longer to be told.
const STUCK_AFTER_S_MAX: f64 = 86_400.0;
/// In place of a web configuration: there is none.
const NO_WEB_CONFIG: &str = "none";

/// Watches ext4's write completions in the running kernel.
#[derive(Debug, Parser)]
#[command(
    name = "endiod",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("ENDIOD_REVISION"), ")"),
    about = "Rebuilds the life of every ext4 io_end and reports when the kernel's completion protocol \
             is broken, stuck or slow",
    after_help = "stdout is the result, stderr the talk. Exit: 0 done, 1 findings \
                  (replay), 2 an error that stderr names."
)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// The daemon: attach, watch, serve /metrics /healthz /readyz; stops on SIGTERM or SIGINT
    Run(RunArgs),
    /// Prints the settings of `run` as a file for --config, with their defaults
    Config,
    /// What this host lets us observe: kernel, privileges, every probe tried, rules, known defects
    Doctor(DoctorArgs),
    /// Writes and fsyncs a canary file and checks that one whole life of its io_end is seen
    Selftest(SelftestArgs),
    /// Watches as `run` does, without serving, and keeps the stream in a file
    Record(RecordArgs),
    /// Reads a recording as if it happened now; the same bytes out every time
    Replay(ReplayArgs),
    /// What happens now, or happened in a recording, on a screen: io_ends in flight, phases, who calls fsync
    Top(Box<TopArgs>),
    /// Draws the story of one io_end of a recording, or tells the finding of a direct write: who did what in
    /// which order, and what it means
    Explain(ExplainArgs),
    /// Writes a recording for other tools: a Perfetto trace, or JSON lines
    Export(ExportArgs),
    /// A seeded world of a simulated protocol, as a stream, with faults on demand
    Simulate(SimulateArgs),
    /// Explores every interleaving of the reference cores in small worlds
    Verify(VerifyArgs),
    /// The reproducer of commit 491caa43639a, with aio-stress's own flags
    Stress(StressArgs),
    /// Writes what a package ships beside the program: default configuration, man pages, completions
    #[command(hide = true)]
    Extras(ExtrasArgs),
    /// The process that `run` leaves its privileges to
    #[command(hide = true)]
    Helper(HelperArgs),
}

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How the kernel is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackendChoice {
    /// For each thing to see the first of the others that this kernel takes.
    Auto,
    /// Functions' entries and returns: everything is seen.
    Fentry,
    /// Raw tracepoints: lives, fsyncs and worker runs; no puts, no claims, no phases of fsync.
    #[value(name = "raw_tp")]
    RawTracepoint,
    /// Functions' entries by kprobe: the kernel skips hits, so no verdict is certain.
    Kprobe,
}

/// Whether a part is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Where it is needed.
    Auto,
    /// Never.
    Off,
}

/// What is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SubjectChoice {
    /// The kernel's ext4.
    Ext4,
    /// The fixture module of that name: the completion core of 2012.
    Replica,
}

/// Flags of every verb that attaches.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct BackendArgs {
    /// How the kernel is hooked; a back end that is named is the only one
    #[arg(long, env = "ENDIOD_BACKEND", value_enum, default_value_t = BackendChoice::Auto)]
    backend: BackendChoice,
    /// Whether raw tracepoints may be put on the slab allocator: births and deaths of io_ends where
    /// fentry is refused, at the price of a program at every slab allocation of the host, tens of ns each
    #[arg(long, env = "ENDIOD_SLAB_TRACEPOINTS", value_enum, default_value_t = Part::Auto)]
    slab_tracepoints: Part,
    /// Hardware watchpoints on the flags of live io_ends, 0 to 4: of x86's four debug registers per CPU, so
    /// what is taken here a debugger cannot have; 0: none is touched
    #[arg(
        long,
        env = "ENDIOD_WATCHPOINTS",
        value_name = "COUNT",
        default_value_t = WATCHPOINTS as u32,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(WATCH_SLOTS_MAX))
    )]
    watchpoints: u32,
}

impl BackendArgs {
    pub(crate) fn choice(self) -> Choice {
        Choice {
            backend: match self.backend {
                BackendChoice::Auto => None,
                BackendChoice::Fentry => Some(Backend::Fentry),
                BackendChoice::RawTracepoint => Some(Backend::RawTracepoint),
                BackendChoice::Kprobe => Some(Backend::Kprobe),
            },
            slab_tracepoints: self.slab_tracepoints == Part::Auto,
            watchpoints: self.watchpoints,
            ..Choice::default()
        }
    }
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A file with settings, as `endiod config` prints them; flags and environment go before it
    #[arg(long, env = "ENDIOD_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Print the settings that this run would have and where each comes from, and attach nothing
    #[arg(long)]
    pub(crate) check_config: bool,
    /// Address that /metrics is served on
    #[arg(
        long,
        env = "ENDIOD_LISTEN",
        value_name = "ADDR:PORT",
        default_value = "127.0.0.1:10491"
    )]
    pub(crate) listen: SocketAddr,
    /// A file with what protects that address, in the format of Prometheus' exporters: TLS, clients'
    /// certificates, users and their passwords; read again when it changes; `none`: everyone is served
    #[arg(
        long,
        env = "ENDIOD_WEB_CONFIG",
        value_name = "FILE",
        default_value = NO_WEB_CONFIG,
        alias = "web.config.file"
    )]
    web_config: PathBuf,
    /// How to watch.
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
    /// How the last summary is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
    /// What all of that came to, by setting.
    #[arg(skip)]
    pub(crate) in_force: InForce,
}

impl RunArgs {
    /// The web configuration, if there is one.
    pub(crate) fn web_config(&self) -> Option<&Path> {
        Some(&*self.web_config).filter(|path| *path != Path::new(NO_WEB_CONFIG))
    }
}

/// Flags of every verb that watches the kernel.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Size of the ring between programs and agent: a power of two from 4096 to 1073741824
    #[arg(
        long,
        env = "ENDIOD_RING_BYTES",
        value_name = "BYTES",
        default_value = "8388608",
        value_parser = ring_bytes
    )]
    ring_bytes: u32,
    /// Most io_ends that are followed at once, those just released included, from 1 to the default; one
    /// that finds no room is counted and not followed
    #[arg(
        long,
        env = "ENDIOD_IO_ENDS_MAX",
        value_name = "COUNT",
        default_value_t = IO_ENDS_MAX,
        value_parser = io_ends_max
    )]
    pub(crate) io_ends_max: usize,
    /// Most entries of each table of the programs, from 1 to the default: fsyncs and direct
    /// writes that are open, io_ends that live where the slab's tracepoints see them die; what finds no
    /// room is counted
    #[arg(
        long,
        env = "ENDIOD_PROGRAM_ENTRIES_MAX",
        value_name = "COUNT",
        default_value_t = LIVE_IO_ENDS_MAX,
        value_parser = clap::value_parser!(u32).range(1..=i64::from(LIVE_IO_ENDS_MAX))
    )]
    program_entries_max: u32,
    /// Age in one state, 1 to 86400, from which an io_end is told as stuck, with who waits; 0: never. By
    /// default the time after which the kernel aborts a command of a SCSI or NVMe disk: one that works
    /// never takes it
    #[arg(
        long,
        env = "ENDIOD_STUCK_AFTER",
        value_name = "SECONDS",
        default_value_t = STUCK_AFTER.as_secs_f64(),
        value_parser = stuck_after
    )]
    stuck_after: f64,
    /// Back ends.
    #[command(flatten)]
    backend: BackendArgs,
    /// Whether programs may be attached and taken away while the agent runs, as a module ext4 comes and goes;
    /// off: at the start or never, so the module stays in use, and no privilege to attach is kept
    #[arg(long, env = "ENDIOD_LATE_ATTACH", value_enum, default_value_t = Part::Auto)]
    late_attach: Part,
    /// Most CPU time that the agent may take, as a mean of 30 s and in percent of one CPU; above it lets go of the
    /// kernel until its next start, and says so; 0: no limit
    #[arg(
        long,
        env = "ENDIOD_CPU_MAX",
        value_name = "PERCENT",
        default_value_t = CPU_PERCENT_MAX as f64,
        value_parser = cpu_percent
    )]
    pub(crate) cpu_max: f64,
    /// What is watched: for fixtures, `replica` is the module of `cargo xtask fixtures`, loaded before
    #[arg(long, value_enum, default_value_t = SubjectChoice::Ext4, hide = true)]
    subject: SubjectChoice,
    /// Stop by itself after that many seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) duration: Option<Duration>,
    /// Findings on the way.
    #[command(flatten)]
    pub(crate) keep: KeepArgs,
}

impl WatchArgs {
    pub(crate) fn sizes(&self) -> Sizes {
        let WatchArgs { ring_bytes, program_entries_max, .. } = *self;
        Sizes { ring_bytes, entries_max: program_entries_max }
    }

    pub(crate) fn attaches_late(&self) -> bool {
        self.late_attach == Part::Auto
    }

    pub(crate) fn choice(&self) -> Choice {
        let subject = match self.subject {
            SubjectChoice::Ext4 => Subject::Ext4,
            SubjectChoice::Replica => Subject::Replica,
        };
        Choice { subject, ..self.backend.choice() }
    }

    pub(crate) fn stuck_after(&self) -> Nanos {
        let age = Duration::try_from_secs_f64(self.stuck_after).unwrap_or_default();
        Nanos(u64::try_from(age.as_nanos()).expect("a day of nanoseconds fits 64 bits"))
    }
}

/// What can be required of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Level {
    /// An io_end from birth to release, and fsync.
    Basic,
    /// Every probe that this kernel needs, and every rule armed.
    Full,
}

/// Flags of `doctor`. Exit: 0 the requirement is met, 1 it is not, 2 it could not be told.
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What the host must allow; without it, exit 0 says only that the page could be made
    #[arg(long, value_enum, value_name = "LEVEL")]
    pub(crate) require: Option<Level>,
    /// Load and attach nothing: say only what can be told without
    #[arg(long)]
    pub(crate) no_attach: bool,
    /// Back ends.
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// How the page is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

/// Flags of `selftest`. Exit: 0 a whole life was seen, 1 it was not, 2 the test could not run.
#[derive(Debug, Args)]
pub(crate) struct SelftestArgs {
    /// Directory on an ext4 that the canary is written to [default: the first writable mounted ext4]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Back ends.
    #[command(flatten)]
    pub(crate) backend: BackendArgs,
    /// How the result is written to stdout
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub(crate) format: Format,
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    let fix = "give a power of two from 4096 to 1073741824, 8388608 say";
    let bytes: u32 = text.parse().map_err(|_| format!("not a number of bytes; {fix}"))?;
    if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(format!("the kernel takes no ring of {bytes} bytes; {fix}"))
    }
}

fn io_ends_max(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a number of io_ends".to_owned())?;
    if (1..=IO_ENDS_MAX).contains(&count) {
        Ok(count)
    } else {
        Err(format!("the table holds 1 to {IO_ENDS_MAX} io_ends; give one of these"))
    }
}

fn stuck_after(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let is_one = seconds == 0.0 || (1.0..=STUCK_AFTER_S_MAX).contains(&seconds);
    is_one.then_some(seconds).ok_or_else(|| {
        format!("ages are looked at once a second, for a day: give 0 or 1 to {STUCK_AFTER_S_MAX}")
    })
}

fn cpu_percent(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number of percent".to_owned())?;
    let is_one = percent.is_finite() && percent >= 0.0;
    is_one.then_some(percent).ok_or_else(|| "give 0, for no limit, or more".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("cannot run for {seconds} seconds; give a positive number"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ages_that_no_tick_can_tell_are_refused() {
        assert_eq!(stuck_after("2.5"), Ok(2.5));
        assert_eq!(stuck_after("0"), Ok(0.0));
        assert!(["0.5", "-1", "86401", "NaN", "soon"].iter().all(|it| stuck_after(it).is_err()));
    }

    #[test]
    fn ring_sizes_that_the_kernel_refuses_are_refused_first() {
        assert_eq!(ring_bytes("4096"), Ok(4096));
        assert!(ring_bytes("5000").unwrap_err().contains("5000"));
        assert!(ring_bytes("2048").is_err());
        assert!(ring_bytes("8M").unwrap_err().contains("8388608"));
    }
}
