//! The process that holds what takes privileges, beside `endiod run`, which then needs none.
//!
//! `start` runs this program again as `endiod helper`, which nobody else calls; it gives up at once whatever
//! attaching does not take, and, once something is attached, whatever is not needed again.

use std::{
    env,
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use clap::Args;
use endiod::{
    host::{Ext4, Host},
    privileges::{self, Capabilities, MAPS_WITHOUT_CAPABILITY_FROM},
    source::kernel::{self, Helper, Subject, Wanted},
};
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    thread::set_name,
};

use crate::cli::WatchArgs;

/// What `ps` calls it: what is asked for by the daemon's name is the daemon.
const NAME: &str = "endiod-helper";

/// What `run` tells it, once.
#[derive(Debug, Args)]
pub(crate) struct HelperArgs {
    /// What is watched and how, as JSON
    wanted: String,
    /// Attach once, and not again
    #[arg(long)]
    once: bool,
}

/// Starts it.
pub(crate) fn start(args: &WatchArgs) -> Result<Helper> {
    let wanted = Wanted { sizes: args.sizes(), choice: args.choice() };
    let program = env::current_exe().context("cannot tell which program this is")?;
    let mut command = Command::new(program);
    command.arg0(NAME).arg("helper").arg(serde_json::to_string(&wanted)?);
    if !args.attaches_late() {
        command.arg("--once");
    }
    Ok(Helper::start(command, wanted)?)
}

/// What the daemon cannot give up: to be told of a map that it has the descriptor of.
pub(crate) fn kept_by_daemon(host: &Host) -> Capabilities {
    if host.version().is_ok_and(|version| version >= MAPS_WITHOUT_CAPABILITY_FROM) {
        Capabilities::NONE
    } else {
        Capabilities::BPF
    }
}

/// Is it, until the daemon is gone.
pub(crate) fn run(args: &HelperArgs) -> Result<ExitCode> {
    let wanted: Wanted = serde_json::from_str(&args.wanted).context("not what `run` says")?;
    outlive_signals();
    end_with_daemon()?;
    set_name(c"endiod-helper").context("cannot name this process")?;
    kernel::raise_limits();
    privileges::confine_helper(Capabilities::ATTACHING)?;
    let line = std::io::stdin().as_fd().try_clone_to_owned().context("no line to a daemon")?;
    let host = Host::default();
    kernel::serve(&host, wanted, UnixStream::from(line), || {
        let Some(kept) = kept_for_good(&host, &wanted, args.once) else { return };
        match privileges::load_no_more(kept) {
            Ok(()) => log::debug!("attached; the helper keeps {kept}"),
            Err(error) => log::error!("the helper keeps more than {kept}: {error}"),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is needed once something is attached; all, where that may come again.
fn kept_for_good(host: &Host, wanted: &Wanted, once: bool) -> Option<Capabilities> {
    let comes_and_goes = wanted.choice.subject == Subject::Ext4 && host.ext4() != Ext4::BuiltIn;
    if comes_and_goes && !once {
        return None;
    }
    // It reads counters from a map, as the daemon asks for one.
    let counting = kept_by_daemon(host);
    let watching = wanted.choice.watchpoints > 0;
    Some(counting.and(if watching { Capabilities::SYS_ADMIN } else { Capabilities::NONE }))
}

/// Ends it with the daemon even while it is stopped and hears nothing.
fn end_with_daemon() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be bound to a daemon")
}

/// A terminal and a service manager send signals to both processes: what they ask for is the daemon's to do, and it
/// needs the helper for it. Its end is the end of the line.
fn outlive_signals() {
    for ignored in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGQUIT] {
        // SAFETY: no handler is given; there is one thread yet.
        unsafe { libc::signal(ignored, libc::SIG_IGN) };
    }
}
