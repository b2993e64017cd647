//! `endiod stress`: aio-stress's command line, and the report of what was issued.
//!
//! stdout is the report, also after a Ctrl-C; stderr says what was adjusted. Exit code 0 if all I/O
//! succeeded, 2 otherwise; an error that `run` returns is for the caller to print and to turn into 2.
//! Must never issue I/O itself.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{io, ptr};

use anyhow::Context;
use clap::Args;
use endiod::stress::{self, Bytes, Op, Options, Plan, Seed, StressError};

use crate::cli::Format;

/// Reproduce commit 491caa43639a: many threads of asynchronous, synchronous-on-disk random writes.
///
/// The flags are those of aio-stress 0.21. Sizes take b, k, m or g. The commit's own line is
/// `-t 20 -s 10 -O -S -o 2 -I 1000` and 20 files. Direct writes make no io_end on Linux 5.5 and
/// later; add --buffered for those. Existing files are overwritten in place.
#[derive(Args, Clone, Debug)]
pub(crate) struct StressArgs {
    /// Align buffers and random offsets to SIZE [KiB]; without it: page, record
    #[arg(short = 'a', value_name = "SIZE", value_parser = kib)]
    alignment: Option<Bytes>,
    /// Most I/Os of one io_submit [default: a turn of every file]
    #[arg(short = 'b', value_name = "NUM")]
    submit_max: Option<u32>,
    /// Contexts (independently worked parts) of each file
    #[arg(short = 'c', value_name = "NUM", default_value_t = 1)]
    contexts: u32,
    /// Offset between contexts [MiB]
    #[arg(short = 'C', value_name = "SIZE", value_parser = mib, default_value = "2m")]
    context_offset: Bytes,
    /// I/Os in flight for each file
    #[arg(short = 'd', value_name = "NUM", default_value_t = 64)]
    depth: u32,
    /// I/Os of a file's turn before the next file has its own
    #[arg(short = 'i', value_name = "NUM", default_value_t = 8)]
    turn: u32,
    /// Most rounds (one io_submit each) of every thread in every stage [default: no limit]
    #[arg(short = 'I', value_name = "NUM")]
    rounds_max: Option<u64>,
    /// Report latencies of io_submit
    #[arg(short = 'l')]
    submit_latency: bool,
    /// Report latencies of completions
    #[arg(short = 'L')]
    completion_latency: bool,
    /// Not supported: buffers in shared memory
    #[arg(short = 'm', value_name = "KIND", hide = true)]
    shared_memory: Option<String>,
    /// No fsync after each stage
    #[arg(short = 'n')]
    no_stage_sync: bool,
    /// Stage to run: 0 write, 1 read, 2 random write, 3 random read; repeatable [default: all]
    #[arg(short = 'o', value_name = "OP")]
    ops: Vec<Op>,
    /// Use O_DIRECT
    #[arg(short = 'O')]
    direct: bool,
    /// Bytes of each I/O [KiB]
    #[arg(short = 'r', value_name = "SIZE", value_parser = kib, default_value = "64k")]
    record: Bytes,
    /// Bytes of each file [MiB]
    #[arg(short = 's', value_name = "SIZE", value_parser = mib, default_value = "1g")]
    size: Bytes,
    /// Use O_SYNC
    #[arg(short = 'S')]
    sync: bool,
    /// Threads; files are dealt out to them in turn
    #[arg(short = 't', value_name = "NUM", default_value_t = 1)]
    threads: u32,
    /// Unlink the files at the end
    #[arg(short = 'u')]
    unlink: bool,
    /// Verify what is read against what was written
    #[arg(short = 'v', long = "verify")]
    verify: bool,
    /// No stonewalling: every thread finishes its stage
    #[arg(short = 'x')]
    no_stonewall: bool,
    /// Go through the page cache, even with -O; without -S, fsync after each write
    #[arg(long)]
    buffered: bool,
    /// Use fdatasync instead of fsync
    #[arg(long)]
    fdatasync: bool,
    /// Seed of the random offsets and data
    #[arg(long, value_name = "N", default_value_t = Seed::default())]
    seed: Seed,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Files to work on, created if missing
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl StressArgs {
    fn options(&self) -> Result<Options, StressError> {
        let args = self.clone();
        if args.shared_memory.is_some() {
            let reason = "buffers are ordinary memory; leave it out";
            return Err(StressError::Unsupported { flag: "-m", reason });
        }
        Ok(Options {
            files: args.files,
            threads: args.threads,
            size: args.size,
            record: args.record,
            alignment: args.alignment,
            depth: args.depth,
            turn: args.turn,
            submit_max: args.submit_max,
            rounds_max: args.rounds_max,
            contexts: args.contexts,
            context_offset: args.context_offset,
            ops: args.ops,
            direct: args.direct,
            sync: args.sync,
            buffered: args.buffered,
            fdatasync: args.fdatasync,
            stage_sync: !args.no_stage_sync,
            stonewall: !args.no_stonewall,
            verify: args.verify,
            unlink: args.unlink,
            submit_latency: args.submit_latency,
            completion_latency: args.completion_latency,
            seed: args.seed,
        })
    }
}

/// Set by SIGINT and SIGTERM.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the stress and prints its report.
pub(crate) fn run(args: &StressArgs) -> anyhow::Result<ExitCode> {
    let plan = args.options().and_then(Plan::new).context("stress")?;
    for adjustment in plan.adjustments() {
        eprintln!("stress: {adjustment}");
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        stop_on(signal).with_context(|| format!("stress: catch signal {signal}"))?;
    }
    let report = stress::run(&plan, &STOP).context("stress")?;
    match args.format {
        Format::Text => print!("{report}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    Ok(if report.errors == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) })
}

/// Makes `signal` ask for an orderly end. A second one does not kill, because `timeout` and some
/// shells send it to the process and to its group; SIGQUIT does.
fn stop_on(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: sigaction is integers and an optional function pointer, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = stop as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: the handler only stores to an atomic, which is async-signal-safe, and lives for ever.
    match unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

extern "C" fn stop(_signal: libc::c_int) {
    STOP.store(true, Ordering::Relaxed);
}

fn kib(text: &str) -> Result<Bytes, StressError> {
    Bytes::parse(text, Bytes::KIB)
}

fn mib(text: &str) -> Result<Bytes, StressError> {
    Bytes::parse(text, Bytes::MIB)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: StressArgs,
    }

    fn parse(line: &str) -> Result<StressArgs, clap::Error> {
        let words = std::iter::once("stress").chain(line.split_whitespace());
        Command::try_parse_from(words).map(|command| command.args)
    }

    fn options(line: &str) -> Options {
        parse(line).unwrap().options().unwrap()
    }

    #[test]
    fn the_commits_line_is_read_as_aio_stress_reads_it() {
        let files: Vec<String> = (1..=20).map(|n| format!("f{n}")).collect();
        let line = format!("-t 20 -s 10 -O -S -o 2 -I 1000 {}", files.join(" "));
        let options = options(&line);
        assert_eq!(options.files, files.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!((options.threads, options.size.0), (20, 10 << 20));
        assert_eq!((options.direct, options.sync, options.buffered), (true, true, false));
        assert_eq!((options.ops.clone(), options.rounds_max), (vec![Op::RandomWrite], Some(1000)));
        assert_eq!((options.record.0, options.depth, options.turn), (64 << 10, 64, 8));
        let plan = Plan::new(options).unwrap();
        assert_eq!((plan.adjustments(), plan.planned_ios()), (&[][..], 20 * 160));
    }

    #[test]
    fn every_flag_reaches_its_option() {
        let line = "-a 8 -b 5 -c 2 -C 1 -d 3 -i 4 -l -L -n -o 0 -o 3 -r 16 -s 4k -u -v -x \
                    --fdatasync --buffered --seed 0x10 f";
        let given = options(line);
        assert_eq!(given.alignment, Some(Bytes(8 << 10)));
        assert_eq!((given.submit_max, given.contexts, given.depth, given.turn), (Some(5), 2, 3, 4));
        assert_eq!((given.context_offset.0, given.record.0), (1 << 20, 16 << 10));
        assert_eq!((given.size.0, given.ops.clone()), (4096, vec![Op::Write, Op::RandomRead]));
        assert!(given.submit_latency && given.completion_latency && given.unlink && given.verify);
        assert!(!given.stage_sync && !given.stonewall && given.fdatasync && given.buffered);
        assert_eq!(given.seed, Seed(16));
        let defaults = options("f");
        assert!(defaults.stage_sync && defaults.stonewall && !defaults.verify);
        assert_eq!((defaults.size.0, defaults.context_offset.0), (1 << 30, 2 << 20));
    }

    #[test]
    fn bad_input_is_named_with_its_fix() {
        let refused = |line: &str| match parse(line) {
            Err(error) => error.to_string(),
            Ok(args) => args.options().and_then(Plan::new).unwrap_err().to_string(),
        };
        assert!(refused("").contains("no files given; name at least one"));
        assert!(refused("-o 4 f").contains("unknown op \"4\" for -o; 0 is write"));
        assert!(refused("-t 0 f").contains("-t is 0"));
        assert!(refused("-s 10x f").contains("\"10x\" is no size"));
        assert!(refused("-s 32k f").contains("raise -s, or lower -r"));
        assert!(refused("-m shm f").contains("aio-stress's -m is not supported"));
        assert!(refused("-z f").contains("unexpected argument '-z'"));
    }
}
