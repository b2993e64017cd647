//! SIGHUP: the configuration is read again, and what can change changes.
//!
//! A threshold goes through the stream as a CONFIG record, so that a replay comes to the same verdicts.

use endiod::{clock, metrics::ConfigFile};

use super::Watch;
use crate::cmd::config::Reloaded;

impl Watch {
    /// Reads the file again; one with a mistake changes nothing. Only asked where there is a file.
    pub(super) fn reload(&mut self) {
        let Some(reload) = &mut self.setup.reload else { return };
        reload.web_again();
        match reload.again() {
            Ok(reloaded) => self.take_settings(&reloaded),
            Err(error) => {
                log::error!("{error:#}");
                log::error!("SIGHUP: every setting stays as it was");
                self.setup.metrics.reload_failed(ConfigFile::Settings);
            }
        }
    }

    fn take_settings(&mut self, reloaded: &Reloaded) {
        let Reloaded { args, changed, waiting } = reloaded;
        let stuck_after = args.watch.stuck_after();
        if stuck_after != self.opening.stuck_after {
            self.opening.stuck_after = stuck_after;
            let Watch { source, takers, .. } = self;
            source.announce_stuck_after(stuck_after, &mut |record| takers.take(record));
        }
        self.takers.keeper.bound(&args.watch.keep);
        self.setup.metrics.reloaded(ConfigFile::Settings, clock::since_epoch());
        let changed =
            if changed.is_empty() { "nothing changed".into() } else { changed.join(", ") };
        log::info!("SIGHUP: {changed}");
        if !waiting.is_empty() {
            log::warn!("SIGHUP: changes at the next start only: {}", waiting.join(", "));
        }
    }
}
