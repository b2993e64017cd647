//! `endiod run`: the daemon. Attach, watch, serve; on SIGTERM or SIGINT detach and say what was seen.
//!
//! ```text
//!  bind ─► attach ─► announce ─► ┌ readable: wait a moment, drain ┐ ─► detach ─► drain ─► summary
//!                                │ each second: LOSS, MISSES, TICK │
//!                                └ signal, --duration ─────────────┘
//! ```
//!
//! One task drains the ring and runs the pipeline; the scrape is served by others and never makes it
//! wait. stdout is the last summary, stderr the log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use endiod::{
    devices::DeviceReader,
    event::DevId,
    host::Host,
    http::{self, Endpoint, Heartbeat, Timeouts},
    metrics::{Build, Kernel, Metrics, RingUse},
    pipeline::{Pipeline, names},
    probes::PROBES,
    report::Summary,
    source::kernel::{KernelSource, Verdict},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};

use crate::cli::{Format, RunArgs};

/// How long records may wait in the ring: the programs wake the agent for the first one only.
const DRAIN_DELAY: Duration = Duration::from_millis(5);
/// Length of an epoch.
const TICK: Duration = Duration::from_secs(1);
/// A pipeline that is silent for longer is not healthy.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(daemon(args))
}

async fn daemon(args: &RunArgs) -> Result<ExitCode> {
    // First what can fail for reasons of the caller, then the kernel. From here on a signal is a
    // request to stop in order, even one that comes before everything is attached.
    let mut signals = Signals::new()?;
    let listener = http::bind(args.listen)?;
    let host = Host::default();
    let metrics = Metrics::new(names())?;
    let watching = Arc::new(OnceLock::new());
    let heartbeat = Heartbeat::new(SILENCE_MAX);
    let (stop_serving, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(http::serve(
        listener,
        endpoint(&metrics, &heartbeat, &watching),
        Timeouts::default(),
        async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.await;
        },
    ));
    let mut daemon = Daemon::start(&host, args, metrics, heartbeat)?;
    // Set once, here.
    let _ = watching.set(());
    let stop = daemon.watch(&mut signals, args.duration).await?;
    log::info!("{stop}: detaching");
    let summary = daemon.finish();
    drop(stop_serving);
    server.await.context("the server's task failed")??;
    print(&summary, args.format)?;
    Ok(ExitCode::SUCCESS)
}

fn endpoint(metrics: &Metrics, heartbeat: &Heartbeat, watching: &Arc<OnceLock<()>>) -> Endpoint {
    let (heartbeat, watching) = (heartbeat.clone(), Arc::clone(watching));
    Endpoint {
        metrics: metrics.clone(),
        healthy: Arc::new(move || heartbeat.check()),
        ready: Arc::new(move || match watching.get() {
            Some(()) => Ok(()),
            None => Err("the probes are not attached yet".to_owned()),
        }),
        version: env!("CARGO_PKG_VERSION"),
    }
}

fn print(summary: &Summary, format: Format) -> Result<()> {
    match format {
        Format::Text => print!("{summary}"),
        Format::Json => println!("{}", serde_json::to_string(summary)?),
    }
    Ok(())
}

/// The signals that ask for a stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
        })
    }
}

struct Daemon {
    source: KernelSource,
    pipeline: Pipeline,
    metrics: Metrics,
    heartbeat: Heartbeat,
    devices: DeviceReader,
    /// Devices that the stream has a name for.
    named: BTreeMap<DevId, String>,
    untracked: u64,
}

impl Daemon {
    fn start(
        host: &Host,
        args: &RunArgs,
        metrics: Metrics,
        heartbeat: Heartbeat,
    ) -> Result<Daemon> {
        metrics.watch_process(host.root())?;
        let source = KernelSource::open(host, args.ring_bytes)?;
        let mut daemon = Daemon {
            source,
            pipeline: Pipeline::new(metrics.clone()),
            metrics,
            heartbeat,
            devices: DeviceReader::default(),
            named: BTreeMap::new(),
            untracked: 0,
        };
        let key = random_key()?;
        daemon.source.announce(key, &mut |record| daemon.pipeline.feed(record));
        daemon.refresh_devices();
        daemon.say_what_is_watched(host)?;
        Ok(daemon)
    }

    /// One health summary at start; from here on only changes are logged.
    fn say_what_is_watched(&self, host: &Host) -> Result<()> {
        let release = host.release().context("cannot read the kernel release")?;
        let (mut attached, mut absent, mut failed) = (0, 0, 0);
        for (probe, verdict) in PROBES.iter().zip(self.source.verdicts()) {
            match verdict {
                Verdict::Attached => attached += 1,
                Verdict::Absent(_) => absent += 1,
                Verdict::Failed(reason) => {
                    failed += 1;
                    let (program, lost) = (probe.program, probe.without);
                    log::warn!("probe {program} failed: {reason}; lost: {lost}");
                }
            }
        }
        self.metrics.set_kernel(Kernel { release: &release, generation: "" });
        self.metrics.set_build(Build {
            version: env!("CARGO_PKG_VERSION"),
            revision: env!("ENDIOD_REVISION"),
            wire: endiod_wire::wire::VERSION,
        });
        let names: Vec<_> = self.named.values().map(String::as_str).collect();
        let names = if names.is_empty() { "no device yet".to_owned() } else { names.join(", ") };
        log::info!(
            "watching ext4 on {names} with kernel {release}: {attached} probes attached, {failed} \
             failed, {absent} not needed here"
        );
        Ok(())
    }

    /// Watches until a signal or the end of `duration`; says which it was.
    async fn watch(
        &mut self,
        signals: &mut Signals,
        duration: Option<Duration>,
    ) -> Result<&'static str> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = sleep(duration.unwrap_or(Duration::MAX));
        tokio::pin!(over);
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => return Ok("SIGTERM"),
                _ = signals.interrupt.recv() => return Ok("SIGINT"),
                () = &mut over => return Ok("the time is over"),
                _ = ticks.tick() => self.tick(),
                readable = self.source.readable() => {
                    readable.context("cannot wait for the ring")?;
                    sleep(DRAIN_DELAY).await;
                    self.source.drain(&mut |record| self.pipeline.feed(record));
                }
            }
            self.heartbeat.beat();
        }
    }

    fn tick(&mut self) {
        self.refresh_devices();
        self.source.tick(&mut |record| self.pipeline.feed(record));
        let used_bytes = self.source.take_used_bytes_max() as u64;
        let size_bytes = u64::from(self.source.ring_bytes());
        self.metrics.set_ring(RingUse { used_bytes, size_bytes });
        let untracked = self.source.untracked();
        self.metrics.events_lost("program", "open_spans", untracked - self.untracked);
        self.untracked = untracked;
    }

    /// Names the devices that were mounted since the last look.
    fn refresh_devices(&mut self) {
        let found = match self.devices.read() {
            Ok(found) => found,
            Err(error) => return log::debug!("{error}"),
        };
        self.metrics.set_devices(&found.devices);
        for device in found.devices {
            if self.named.get(&device.dev) != Some(&device.name) {
                let Daemon { source, pipeline, .. } = self;
                source.announce_device(device.dev, &device.name, &mut |record| {
                    pipeline.feed(record);
                });
                self.named.insert(device.dev, device.name);
            }
        }
    }

    fn finish(self) -> Summary {
        let Daemon { source, mut pipeline, .. } = self;
        source.close(&mut |record| pipeline.feed(record));
        pipeline.finish();
        pipeline.summary()
    }
}

/// The key of the hashes that stand for kernel addresses.
fn random_key() -> Result<u64> {
    let mut key = [0; 8];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut key))
        .context("cannot read /dev/urandom")?;
    Ok(u64::from_ne_bytes(key))
}
