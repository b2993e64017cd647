//! What a watch needs from its verb, and what it asks of the host with that.

use anyhow::{Context as _, Result};
use endiod::{
    event::Nanos,
    generation::{self, Upstream},
    host::{Ext4, Host, Process},
    http::Heartbeat,
    metrics::{Build, Kernel, Metrics},
    source::kernel::{self, Choice, Helper, KernelError, KernelSource, Sizes, Subject},
};

use super::Readiness;
use crate::{
    cli::WatchArgs,
    cmd::{config::Reload, top::Viewer},
};

/// What a watch needs from its verb.
pub(crate) struct Setup {
    pub(crate) host: Host,
    pub(crate) sizes: Sizes,
    pub(crate) choice: Choice,
    /// Whether it attaches later than at the start, and lets go.
    attaches_late: bool,
    /// Who attaches; without one, this process does.
    pub(crate) helper: Option<Helper>,
    /// Most CPU time, in percent of one CPU; 0: any.
    pub(super) cpu_max: f64,
    pub(crate) io_ends_max: usize,
    pub(crate) stuck_after: Nanos,
    pub(crate) metrics: Metrics,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) readiness: Readiness,
    /// What SIGHUP reads again; without it, SIGHUP is a request to stop.
    pub(crate) reload: Option<Reload>,
    /// Who is shown what happens.
    pub(crate) viewer: Option<Viewer>,
}

impl Setup {
    /// By the flags of every verb that watches; nothing is read again.
    pub(crate) fn new(
        args: &WatchArgs,
        host: Host,
        metrics: Metrics,
        heartbeat: Heartbeat,
    ) -> Self {
        Setup {
            host,
            sizes: args.sizes(),
            choice: args.choice(),
            attaches_late: args.attaches_late(),
            helper: None,
            cpu_max: args.cpu_max,
            io_ends_max: args.io_ends_max,
            stuck_after: args.stuck_after(),
            metrics,
            heartbeat,
            readiness: Readiness::default(),
            reload: None,
            viewer: None,
        }
    }

    /// Whether there is something to watch. The replica was loaded before, and is held until the end, as is what
    /// is not to be attached to later.
    pub(super) fn presence(&self) -> Ext4 {
        match self.choice.subject {
            Subject::Ext4 if self.attaches_late => self.host.ext4(),
            Subject::Ext4 | Subject::Replica => Ext4::BuiltIn,
        }
    }

    /// What keeps this kernel from ever being watched; a helper has said so at its start.
    pub(super) fn check(&self) -> Result<(), KernelError> {
        if self.helper.is_none() { kernel::check(&self.host) } else { Ok(()) }
    }

    /// What attaches as the caller chose, for any thread.
    pub(super) fn opener(&self) -> impl FnOnce() -> Result<KernelSource, KernelError> + use<> {
        let Setup { host, sizes, choice, helper, .. } = self;
        let (host, sizes, choice, helper) = (host.clone(), *sizes, *choice, helper.clone());
        move || match helper {
            Some(helper) => KernelSource::open_apart(&host, &helper),
            None => KernelSource::open(&host, sizes, choice),
        }
    }

    /// CPU time that watching took so far, seconds: of the first thread, which drains and judges, and of the helper.
    /// What is served is left out: no client may end the watch by asking much.
    pub(super) fn cpu_seconds(&self) -> Option<f64> {
        let helper = self.helper.as_ref().map(|helper| Process::Other(helper.pid()));
        [Process::OwnFirstThread]
            .into_iter()
            .chain(helper)
            .map(|it| self.host.cpu_seconds(it))
            .sum()
    }

    /// What the metrics say of the agent and of the kernel, attached or not.
    pub(super) fn say_who_watches(&self) -> Result<()> {
        let release = self.host.release().context("cannot read the kernel release")?;
        let told = Upstream::parse(&release).map(|upstream| generation::tell(&upstream, None));
        let generation = told.map(|told| generation::join(&told.generations)).unwrap_or_default();
        self.metrics.set_kernel(Kernel { release: &release, generation: &generation });
        self.metrics.set_build(Build {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("ENDIOD_REVISION"),
            wire: endiod_wire::wire::VERSION,
        });
        Ok(())
    }
}
