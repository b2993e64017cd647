//! The privileged side in a process of its own: what the daemon says to it, and what it hears.
//!
//! ```text
//!  daemon                                     helper
//!    start ───── runs the program again ───────► checks this kernel ─► Ok, or why not
//!    attach ──────────────── a ────────────────► Holder::open ───────► Told, with the ring and kallsyms
//!    each second ─────────── t ────────────────► Holder::totals ─────► Totals
//!    last unmount, stop ──── d ────────────────► Holder::detach ─────► which probes
//!                            x ────────────────► lets go ────────────► Ok
//!    gone: end of file ────────────────────────► detaches all, ends
//! ```
//!
//! A request is one byte without an argument: no address, length or name can be asked for, so whoever takes the
//! daemon over can have it attach, count and detach, and nothing else. What is watched was said once, at the start,
//! before the daemon had a network. Answers are JSON behind their length; descriptors come with that.

mod line;
mod server;

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    Choice, KernelError, Sizes, TotalsError,
    holder::{Opened, Told, Totals},
};
use crate::{event::ProbeId, host::Kallsyms};
use line::{Line, LineError, Request};
pub use server::serve;

/// How long attaching or detaching may take: each program waits until no CPU is in what it replaces.
const SLOW_MAX: Duration = Duration::from_secs(180);
/// How long it may take to end: what it holds is let go of before, or is taken by its end.
const END_MAX: Duration = Duration::from_secs(10);
const END_POLL: Duration = Duration::from_millis(10);
/// How long counting may take, on a host that is busy.
const QUICK_MAX: Duration = Duration::from_secs(30);

/// What the helper is to watch, said at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Sizes of what the programs hold.
    pub sizes: Sizes,
    /// What is watched, and how.
    pub choice: Choice,
}

/// Why there is no helper, or no answer of it.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// It could not be started.
    #[error("cannot start the process that holds privileges: {0}")]
    Start(std::io::Error),
    /// It started, and says why nothing can be watched here.
    #[error("{0}")]
    Refused(String),
    /// It went away or does not answer.
    #[error("the process that holds privileges does not answer: {0}")]
    Gone(LineError),
}

/// The helper, running; a clone is the same one. Dropping the last ends it.
#[derive(Clone, Debug)]
pub struct Helper(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    wanted: Wanted,
    line: Mutex<Line>,
    child: Mutex<Child>,
    pid: u32,
}

impl Drop for Shared {
    fn drop(&mut self) {
        // It ends when it hears nobody any more, and detaches what there is.
        self.line.get_mut().unwrap_or_else(PoisonError::into_inner).hang_up();
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        while matches!(child.try_wait(), Ok(None)) && begun.elapsed() < END_MAX {
            thread::sleep(END_POLL);
        }
        // One that was stopped ends by nothing else; one that ended is left alone by this.
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            log::debug!("the helper's end was not seen: {error}");
        }
    }
}

impl Helper {
    /// Starts it by `command`, whose standard input becomes the line to it: it is to call [`serve`].
    ///
    /// # Errors
    /// It does not start, or this kernel cannot be watched by it.
    pub fn start(mut command: Command, wanted: Wanted) -> Result<Self, HelperError> {
        let (ours, theirs) = UnixStream::pair().map_err(HelperError::Start)?;
        let child = command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).spawn();
        // The command holds their end of the line, whose end would else never be seen.
        drop(command);
        let child = child.map_err(HelperError::Start)?;
        let (pid, line) = (child.id(), Mutex::new(Line::new(ours)));
        let helper = Helper(Arc::new(Shared { wanted, line, child: Mutex::new(child), pid }));
        let hello = helper.line().hear::<Result<(), String>>(QUICK_MAX);
        let (hello, _) = hello.map_err(HelperError::Gone)?;
        hello.map_err(HelperError::Refused)?;
        Ok(helper)
    }

    /// What it was told to watch.
    pub fn wanted(&self) -> Wanted {
        self.0.wanted
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// Has it attach.
    pub(super) fn attach(&self) -> Result<(Attachment, Opened), KernelError> {
        let (told, descriptors) = self.ask::<Told>(Request::Attach, SLOW_MAX)?;
        let attachment = Attachment(self.clone());
        let [ring, kallsyms] = <[OwnedFd; 2]>::try_from(descriptors)
            .map_err(|_| HelperError::Gone(LineError::Descriptors))?;
        Ok((attachment, Opened { told, ring, kallsyms: Kallsyms::from(kallsyms) }))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        request: Request,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), HelperError> {
        let (answer, descriptors) =
            self.line().ask::<Result<T, String>>(request, within).map_err(HelperError::Gone)?;
        Ok((answer.map_err(HelperError::Refused)?, descriptors))
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the helper attached; it lets go when this is dropped.
#[derive(Debug)]
pub(super) struct Attachment(Helper);

impl Attachment {
    pub(super) fn totals(&mut self) -> Result<Totals, TotalsError> {
        let (totals, _) = self.0.ask(Request::Totals, QUICK_MAX).map_err(TotalsError::Helper)?;
        Ok(totals)
    }

    pub(super) fn detach(&mut self) -> Vec<ProbeId> {
        match self.0.ask(Request::Detach, SLOW_MAX) {
            Ok((detached, _)) => detached,
            Err(error) => {
                log::error!("cannot detach in order: {error}");
                Vec::new()
            }
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Err(error) = self.0.ask::<()>(Request::LetGo, SLOW_MAX) {
            log::debug!("the helper was not told to let go: {error}");
        }
    }
}
