//! `endiod run`: the daemon. Attach, watch, serve; on SIGTERM or SIGINT detach and say what was seen.
//!
//! The scrape is served by tasks of its own and never makes the one that watches wait. stdout is the
//! last summary, stderr the log.

use std::{net::TcpListener, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use endiod::{
    clock,
    host::Host,
    http::{self, Endpoint, Findings, Heartbeat, Timeouts},
    metrics::Metrics,
    pipeline::names,
    privileges,
    source::kernel::Helper,
};
use tokio::sync::oneshot;

use super::{
    config::{self, Reload},
    helper,
    keep::{KeepArgs, Keeper},
    print,
    watch::{Setup, Signals, Watch, block_on},
};
use crate::cli::RunArgs;

/// A pipeline that is silent for longer is not healthy. Attaching at the first mount keeps it silent for
/// some seconds on a slow machine.
const SILENCE_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    if args.check_config {
        return Ok(config::print_checked(&args.in_force));
    }
    // First what can fail for reasons of the caller, then the kernel. All that takes privileges is begun before the
    // first thread is, and whoever has the network has none of them.
    let listener = http::bind(args.listen)?;
    let host = Host::default();
    let helper = helper::start(&args.watch)?;
    privileges::confine_daemon(helper::kept_by_daemon(&host))?;
    block_on(daemon(args, listener, host, helper))
}

async fn daemon(
    args: &RunArgs,
    listener: TcpListener,
    host: Host,
    helper: Helper,
) -> Result<ExitCode> {
    // From here on a signal is a request to stop in order, even one that comes before everything is attached.
    let mut signals = Signals::new()?;
    let metrics = Metrics::new(names())?;
    metrics.watch_process(&host, Some(helper.pid()))?;
    let mut setup = Setup::new(&args.watch, host, metrics, Heartbeat::new(SILENCE_MAX));
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let mut server = tokio::spawn(http::serve(
        listener,
        endpoint(&setup, &args.watch.keep),
        Timeouts::default(),
        async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.await;
        },
    ));
    let keeper = Keeper::open(&args.watch.keep)?;
    setup.helper = Some(helper);
    setup.reload = args.config.is_some().then(|| Reload::of(args));
    if setup.reload.is_some() {
        setup.metrics.reloaded(clock::since_epoch());
    }
    let mut watch = Watch::start(setup, keeper, || Ok(None))?;
    let stop = tokio::select! {
        stop = watch.watch(&mut signals, args.watch.duration) => stop,
        served = &mut server => Err(match served {
            Ok(Err(error)) => error.into(),
            Ok(Ok(())) => anyhow!("the server stopped by itself"),
            Err(error) => error.into(),
        }),
    };
    log::info!("{}: detaching", stop.as_ref().unwrap_or(&"an error"));
    // Whatever ended it: what was seen is told.
    let (summary, _) = watch.finish().await;
    print(&summary, args.format)?;
    stop?;
    drop(stop_serving);
    server.await.context("the server's task failed")??;
    Ok(ExitCode::SUCCESS)
}

fn endpoint(setup: &Setup, keep: &KeepArgs) -> Endpoint {
    let Setup { metrics, heartbeat, readiness, .. } = setup;
    let (heartbeat, readiness) = (heartbeat.clone(), readiness.clone());
    Endpoint {
        metrics: metrics.clone(),
        healthy: Arc::new(move || heartbeat.check()),
        ready: Arc::new(move || readiness.check()),
        version: env!("CARGO_PKG_VERSION"),
        findings: keep.dir().map(Findings::new),
    }
}
