//! The command line of `cargo xtask`: types only, no work.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{kernels, vm};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Set-up, VM harness, tests and demo of endiod")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Fetches what is missing into target/endiod/ (other verbs do it by themselves)
    Setup(SetupArgs),
    /// Runs a command in a guest and exits with its status
    Vm(Box<VmArgs>),
    /// Runs every test: on the host, then in a guest of each kernel
    Test(TestArgs),
    /// Lets mixes of I/O run for long on healthy kernels: nothing may be found and nothing lost
    Soak(SoakArgs),
    /// Builds our own kernel modules for guests, and prints where they are
    Fixtures(FixturesArgs),
    /// Draws the dashboards from answers to their queries
    Pictures(PicturesArgs),
    /// Builds the release program, its man pages and completions, and the .deb, and prints where they are
    Package,
    /// Shows the agent at work on the reproducer, in a guest
    Demo(DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetupArgs {
    /// What to set up
    #[arg(long, value_enum, default_value_t = SetupPart::All)]
    pub(crate) only: SetupPart,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum SetupPart {
    /// What building the BPF programs needs: a compiler with `core`'s source, and bpf-linker
    Programs,
    /// What guests need: QEMU, user land, and the kernels of `cargo xtask test`
    Guest,
    /// Both, and what judges metrics, rules and dashboards
    All,
}

/// The default of each value is part of what others rely on.
#[derive(Clone, Debug, Args)]
#[command(after_help = vm::EXIT_HELP)]
pub(crate) struct VmArgs {
    /// The kernel to boot
    #[arg(long, value_name = "NAME", value_parser = kernels::names())]
    pub(crate) kernel: String,
    /// CPUs of the guest
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub(crate) smp: u32,
    /// Memory of the guest, as QEMU writes it
    #[arg(long, value_name = "SIZE", default_value = "2G")]
    pub(crate) mem: String,
    /// Seconds the command may take once it has begun
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub(crate) timeout: u64,
    /// Throttles /dev/vda, which stretches the life of every io_end
    #[arg(long, value_name = "N")]
    pub(crate) iops: Option<u32>,
    /// Options of mkfs.ext4 for /dev/vda, in place of `-b 4096` where they set a block size
    #[arg(long, value_name = "OPTS", allow_hyphen_values = true)]
    pub(crate) mkfs: Option<String>,
    /// Mount options of /mnt; `none` leaves /dev/vda unmounted
    #[arg(long, value_name = "OPTS")]
    pub(crate) mount: Option<String>,
    /// Loads a module before the command: a file of this machine, or the name of a module of
    /// the kernel's own, then its parameters
    #[arg(long, value_name = "FILE a=b")]
    pub(crate) module: Vec<String>,
    /// Loads FILE instead of the kernel's own module NAME
    #[arg(long, value_name = "NAME=FILE")]
    pub(crate) replace: Vec<String>,
    /// Puts a file or a directory of this machine into the guest's /in
    #[arg(long, value_name = "PATH")]
    pub(crate) copy_in: Vec<PathBuf>,
    /// Puts what the guest left in /out into this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) copy_out: Option<PathBuf>,
    /// The guest's user land
    #[arg(long, value_enum, default_value_t = Root::Initramfs)]
    pub(crate) root: Root,
    /// Forwards a port of this machine's loopback to the guest
    #[arg(long, value_name = "HOST:GUEST")]
    pub(crate) forward: Vec<String>,
    /// Counts guest instructions as time: one CPU, one instruction is one nanosecond
    #[arg(long)]
    pub(crate) icount: bool,
    /// Passes (exit 0) only if the guest's kernel panicked while the command ran
    #[arg(long)]
    pub(crate) expect_panic: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Root {
    /// A busybox in memory
    Initramfs,
    /// Debian 12 with systemd and dpkg; its packages are unpacked by root
    Debian,
}

impl Root {
    /// Its name on the command line, and for the guest's init.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Root::Initramfs => "initramfs",
            Root::Debian => "debian",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// A kernel to test on, repeatable [default: all]
    #[arg(long, value_name = "NAME", value_parser = kernels::names())]
    pub(crate) kernel: Vec<String>,
    /// Runs only the cases whose name contains S
    #[arg(long, value_name = "S")]
    pub(crate) filter: Option<String>,
    /// Host tests only
    #[arg(long)]
    pub(crate) no_vm: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// A kernel to run on, repeatable [default: all that `cargo xtask test` has mixes for]
    #[arg(long, value_name = "NAME", value_parser = kernels::names())]
    pub(crate) kernel: Vec<String>,
    /// How long each mix goes on, in the guest's time
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=1440))]
    pub(crate) minutes: u64,
    /// Runs only the mixes whose name contains S
    #[arg(long, value_name = "S")]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct FixturesArgs {
    /// A kernel to build them for, repeatable
    #[arg(long, value_name = "NAME", required = true, value_parser = kernels::names())]
    pub(crate) kernel: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PicturesArgs {
    /// A directory with a file of answers per dashboard, UID.json
    pub(crate) panels: PathBuf,
    /// Where the pictures go [default: dashboards/pictures]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// The kernel to show it on
    #[arg(long, value_name = "NAME", default_value = "6.1", value_parser = kernels::names())]
    pub(crate) kernel: String,
}

/// A usage error of `vm` is 126, as `--help` says; of the other verbs clap's own 2.
pub(crate) fn usage_exit(error: &clap::Error) -> ExitCode {
    let for_vm = std::env::args().nth(1).is_some_and(|verb| verb == "vm");
    if for_vm && error.use_stderr() {
        eprint!("{error}");
        let kernel = std::env::args().skip_while(|arg| arg != "--kernel").nth(1);
        let detail = error.to_string().lines().next().unwrap_or_default().to_owned();
        return vm::report_failure(kernel.as_deref().unwrap_or(""), 126, "usage", &detail);
    }
    error.exit()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn vm(args: &[&str]) -> Result<VmArgs, clap::Error> {
        let args = ["xtask", "vm"].iter().chain(args);
        match Cli::try_parse_from(args)?.verb {
            Verb::Vm(args) => Ok(*args),
            other => panic!("parsed as {other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn defaults_of_vm_are_those_that_help_names() {
        let args = vm(&["--kernel", "6.1", "--", "true"]).unwrap();
        assert_eq!((args.smp, args.mem.as_str(), args.timeout), (2, "2G", 120));
        assert_eq!((args.iops, args.root, args.icount), (None, Root::Initramfs, false));
        assert_eq!(args.command, ["true"]);
    }

    #[test]
    fn values_with_hyphens_and_spaces_reach_their_option() {
        let args = vm(&[
            "--kernel=6.1",
            "--mkfs",
            "-b 1024 -O ^has_journal",
            "--mount",
            "data=journal",
            "--module",
            "x.ko a=1 b=2",
            "--module",
            "dm-flakey",
            "--",
            "sh",
            "-c",
            "exit 3",
        ])
        .unwrap();
        assert_eq!(args.mkfs.as_deref(), Some("-b 1024 -O ^has_journal"));
        assert_eq!(args.module, ["x.ko a=1 b=2", "dm-flakey"]);
        assert_eq!(args.command, ["sh", "-c", "exit 3"]);
    }

    #[test]
    fn an_unknown_kernel_and_a_missing_command_are_refused() {
        assert!(vm(&["--kernel", "4.19", "--", "true"]).is_err());
        assert!(vm(&["--kernel", "6.1"]).is_err());
        assert!(vm(&["--kernel", "6.1", "true"]).is_err());
    }
}
