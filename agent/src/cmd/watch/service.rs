//! What systemd is told, where it started the agent (sd_notify(3)): that it is up and what it does, each
//! second that it is alive, and that it stops. Elsewhere nobody listens, and nothing is sent.

use sd_notify::NotifyState;

/// It is up; or it goes on without what it should do, and why.
pub(super) fn state(state: &Result<&'static str, String>) {
    match state {
        Ok(what) => tell(&[NotifyState::Ready, NotifyState::Status(what)]),
        Err(why) => tell(&[NotifyState::Status(why)]),
    }
}

/// The pipeline gets on: systemd kills who has not said so for WatchdogSec.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// It detaches, which takes a second or more.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::debug!("cannot tell systemd: {error}");
    }
}
