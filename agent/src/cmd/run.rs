//! `endiod run`: the daemon. Attach, watch, serve; on SIGTERM or SIGINT detach and say what was seen.
//!
//! The scrape is served on a thread of its own and never makes the one that watches wait. stdout is the
//! last summary, stderr the log.

use std::{net::TcpListener, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use endiod::{
    clock,
    host::Host,
    http::{self, Endpoint, Findings, Guard, Heartbeat, Timeouts},
    metrics::{ConfigFile, Metrics},
    pipeline::names,
    privileges,
    source::kernel::Helper,
};
use tokio::{runtime::Builder, sync::oneshot, task::JoinHandle};

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
    args.web_config().map_or(Ok(()), Guard::check)?;
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
    // With no more rights than it will be read again with.
    let guard = Arc::new(match args.web_config() {
        Some(file) => Guard::load(file, metrics.clone())?,
        None => Guard::open(),
    });
    if let Some(warning) = guard.warning(args.listen) {
        log::warn!("{warning}");
    }
    let mut setup = Setup::new(&args.watch, host, metrics, Heartbeat::new(SILENCE_MAX));
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let endpoint = endpoint(&setup, &args.watch.keep);
    let mut server = serve(listener, Arc::clone(&guard), endpoint, stopped);
    let keeper = Keeper::open(&args.watch.keep)?;
    setup.helper = Some(helper);
    let web = args.web_config().map(|_| guard);
    for (file, is_there) in
        [(ConfigFile::Settings, args.config.is_some()), (ConfigFile::Web, web.is_some())]
    {
        if is_there {
            setup.metrics.reloaded(file, clock::since_epoch());
            setup.reload.get_or_insert_with(|| Reload::of(args, web.clone()));
        }
    }
    let mut watch = Watch::start(setup, keeper, || Ok(None))?;
    let stop = tokio::select! {
        stop = watch.watch(&mut signals, args.watch.duration) => stop,
        served = &mut server => Err(match served {
            Ok(Err(error)) => error,
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

/// Serves on a thread of its own: handshakes of TLS are work, and whoever watches must not wait for them.
fn serve(
    listener: TcpListener,
    guard: Arc<Guard>,
    endpoint: Endpoint,
    stopped: oneshot::Receiver<()>,
) -> JoinHandle<Result<()>> {
    tokio::task::spawn_blocking(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the server's runtime")?;
        // An error means that the sender is gone, which is a stop as well.
        let stopped = async { drop(stopped.await) };
        let timeouts = Timeouts::default();
        let serving = http::serve_guarded(listener, guard, endpoint, timeouts, stopped);
        runtime.block_on(serving).map_err(Into::into)
    })
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
