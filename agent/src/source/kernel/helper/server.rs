//! The helper's side: it waits for a request, does it, answers, and ends with the daemon.

use std::os::{
    fd::{AsFd as _, OwnedFd},
    unix::net::UnixStream,
};

use super::{
    super::{
        Holder, KernelError, check,
        holder::{Opened, Told},
    },
    Wanted,
    line::{Line, LineError, Request},
};
use crate::host::Host;

/// Serves the daemon at the other end of `line` until it is gone; `attached` is called once something is, before the
/// daemon is told.
///
/// # Errors
/// The daemon asks for what there is not, or cannot be answered. Everything is detached then.
pub fn serve(
    host: &Host,
    wanted: Wanted,
    line: UnixStream,
    mut attached: impl FnMut(),
) -> Result<(), LineError> {
    let mut line = Line::new(line);
    let mut holder: Option<Holder> = None;
    line.answer(&check(host).map_err(text), &[])?;
    while let Some(request) = line.listen()? {
        match (request, &mut holder) {
            (Request::Attach, _) => {
                // Never twice at once.
                drop(holder.take());
                match Holder::open(host, wanted.sizes, wanted.choice) {
                    Ok((opened, given)) => {
                        holder = Some(opened);
                        attached();
                        give(&mut line, given)?;
                    }
                    Err(error) => line.answer(&Err::<Told, _>(text(error)), &[])?,
                }
            }
            (Request::Totals, Some(holder)) => {
                line.answer(&holder.totals().map_err(|error| error.to_string()), &[])?;
            }
            (Request::Detach, Some(holder)) => {
                line.answer(&Ok::<_, String>(holder.detach()), &[])?;
            }
            (Request::LetGo, _) => {
                drop(holder.take());
                line.answer(&Ok::<_, String>(()), &[])?;
            }
            (Request::Totals | Request::Detach, None) => {
                line.answer(&Err::<(), _>("nothing is attached"), &[])?;
            }
        }
    }
    Ok(())
}

fn give(line: &mut Line, given: Opened) -> Result<(), LineError> {
    let Opened { told, ring, kallsyms } = given;
    let kallsyms = OwnedFd::from(kallsyms);
    line.answer(&Ok::<_, String>(told), &[ring.as_fd(), kallsyms.as_fd()])
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err hands it over")]
fn text(error: KernelError) -> String {
    error.to_string()
}
