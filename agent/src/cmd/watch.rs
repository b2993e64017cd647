//! Watching the kernel: what `run` and `record` do alike.
//!
//! ```text
//!  start: attach ─► announce ─► watch: ┌ readable: wait a moment, drain ┐ ─► finish: detach, drain,
//!                                      │ each second: LOSS, MISSES, TICK │            summary
//!                                      └ signal, duration, tape is full ─┘
//! ```
//!
//! One task drains the ring and runs the pipeline. Every record goes to the tape, if there is one, to
//! the flight recorder and to the pipeline, in this order and no other, so that a replay of the tape
//! ends in the same summary. Findings are said at the TICK that confirms them.

use std::{collections::BTreeMap, fs::File, io::Read as _, time::Duration};

use anyhow::{Context as _, Result};
use endiod::{
    devices::{DeviceReader, Mounts},
    event::DevId,
    generation::{self, Upstream},
    host::Host,
    http::Heartbeat,
    metrics::{Build, Kernel, Metrics, RingUse},
    pipeline::{PROGRAM, Pipeline, SPANS},
    probes::PROBES,
    report::Summary,
    source::kernel::{self, KernelSource, Verdict},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{keep::Keeper, record::Tape};
use crate::cli::WatchArgs;

/// How long records may wait in the ring: the programs wake the agent for the first one only.
const DRAIN_DELAY: Duration = Duration::from_millis(5);
/// Length of an epoch.
const TICK: Duration = Duration::from_secs(1);

/// Runs a verb that waits for the kernel.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(work)
}

/// The signals that ask for a stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    dump: Signal,
}

impl Signals {
    /// From here on a signal is a request to stop in order.
    pub(crate) fn new() -> Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?,
            interrupt: signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?,
            dump: signal(SignalKind::user_defined1()).context("cannot watch for SIGUSR1")?,
        })
    }
}

/// Where every record goes.
struct Takers {
    tape: Option<Tape>,
    keeper: Keeper,
    pipeline: Pipeline,
}

impl Takers {
    fn take(&mut self, record: &[u8]) {
        if let Some(tape) = &mut self.tape {
            tape.push(record);
        }
        self.keeper.push(record);
        self.pipeline.feed(record);
    }
}

/// The kernel, being watched.
pub(crate) struct Watch {
    source: KernelSource,
    takers: Takers,
    metrics: Metrics,
    heartbeat: Heartbeat,
    devices: DeviceReader,
    mounts: Mounts,
    /// Devices that the stream has a name for.
    named: BTreeMap<DevId, String>,
    untracked: u64,
    walks_cut: u64,
}

impl Watch {
    /// Attaches; `tape` is asked for once that worked.
    pub(crate) fn start(
        host: &Host,
        args: &WatchArgs,
        metrics: Metrics,
        heartbeat: Heartbeat,
        keeper: Keeper,
        tape: impl FnOnce() -> Result<Option<Tape>>,
    ) -> Result<Watch> {
        let key = random_key()?;
        let source = KernelSource::open(host, args.ring_bytes, args.backend.choice())?;
        let tape = tape()?;
        let mut watch = Watch {
            source,
            takers: Takers { tape, keeper, pipeline: Pipeline::new(metrics.clone()) },
            metrics,
            heartbeat,
            devices: DeviceReader::default(),
            mounts: Mounts::default(),
            named: BTreeMap::new(),
            untracked: 0,
            walks_cut: 0,
        };
        watch.source.announce(key, &mut |record| watch.takers.take(record));
        watch.refresh_devices();
        watch.say_what_is_watched(host)?;
        Ok(watch)
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
                    log::debug!("probe {} failed: {reason}", probe.program);
                }
            }
        }
        for line in kernel::serving(self.source.verdicts()) {
            log::info!("{line}");
        }
        for (why, witnesses) in self.unseen() {
            log::warn!("not seen: {}; because: {why}", witnesses.join(", "));
        }
        let told = Upstream::parse(&release).map(|upstream| generation::tell(&upstream, None));
        let generation = told.map(|told| generation::join(&told.generations)).unwrap_or_default();
        self.metrics.set_kernel(Kernel { release: &release, generation: &generation });
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

    /// What is not seen, by the reason.
    fn unseen(&self) -> BTreeMap<String, Vec<&'static str>> {
        let mut unseen: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (probe, why) in kernel::lost(self.source.verdicts()) {
            unseen.entry(why).or_default().push(probe.witnesses);
        }
        unseen
    }

    /// Watches until a signal, the end of `duration` or of the tape; says which it was.
    pub(crate) async fn watch(
        &mut self,
        signals: &mut Signals,
        duration: Option<Duration>,
    ) -> Result<&'static str> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = sleep(duration.unwrap_or(Duration::MAX));
        tokio::pin!(over);
        let mut more = false;
        loop {
            tokio::select! {
                biased;
                _ = signals.terminate.recv() => return Ok("SIGTERM"),
                _ = signals.interrupt.recv() => return Ok("SIGINT"),
                () = &mut over => return Ok("the time is over"),
                _ = signals.dump.recv() => self.takers.keeper.dump(),
                _ = ticks.tick() => {
                    self.tick();
                    // Its drain is bounded as well, and nobody wakes us for what it left.
                    more = true;
                }
                () = std::future::ready(()), if more => more = self.drain(),
                readable = self.source.readable() => {
                    readable.context("cannot wait for the ring")?;
                    sleep(DRAIN_DELAY).await;
                    more = self.drain();
                }
            }
            self.heartbeat.beat();
            if let Some(why) = self.takers.tape.as_ref().and_then(Tape::is_over) {
                return Ok(why);
            }
        }
    }

    /// Takes what the ring holds; whether there may be more.
    fn drain(&mut self) -> bool {
        self.refresh_devices();
        self.source.drain(&mut |record| self.takers.take(record))
    }

    fn tick(&mut self) {
        self.refresh_devices();
        if let Err(error) = self.source.tick(&mut |record| self.takers.take(record)) {
            log::error!("{error}: no verdict is confirmed until it can be");
        }
        self.takers.keeper.findings(self.takers.pipeline.findings());
        if let Some(tape) = &mut self.takers.tape {
            tape.flush();
        }
        let used_bytes = self.source.take_used_bytes_max() as u64;
        let size_bytes = u64::from(self.source.ring_bytes());
        self.metrics.set_ring(RingUse { used_bytes, size_bytes });
        if let Some(untracked) = self.source.untracked() {
            let more = untracked.saturating_sub(self.untracked);
            self.metrics.events_lost(PROGRAM, SPANS, more);
            self.untracked = untracked;
        }
        if let Some(walks_cut) = self.source.walks_cut().filter(|cut| *cut > self.walks_cut) {
            if self.walks_cut == 0 {
                log::warn!("a request or an inode's list was longer than what a program walks");
            }
            self.walks_cut = walks_cut;
        }
    }

    /// Names the devices that were mounted since the last look, before their first record is taken.
    fn refresh_devices(&mut self) {
        if !self.mounts.changed() {
            return;
        }
        let found = match self.devices.read() {
            Ok(found) => found,
            Err(error) => return log::debug!("{error}"),
        };
        self.metrics.set_devices(&found.devices);
        for device in found.devices {
            if self.named.get(&device.dev) != Some(&device.name) {
                let Watch { source, takers, .. } = self;
                source.announce_device(device.dev, &device.name, &mut |record| takers.take(record));
                self.named.insert(device.dev, device.name);
            }
        }
    }

    /// Detaches, takes what is left, and tells it all; the tape has the whole stream.
    pub(crate) async fn finish(self) -> (Summary, Option<Tape>) {
        let Watch { source, mut takers, .. } = self;
        source.close(&mut |record| takers.take(record));
        let Takers { tape, mut keeper, mut pipeline } = takers;
        keeper.findings(pipeline.findings());
        keeper.finish().await;
        pipeline.finish();
        (pipeline.summary(), tape)
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
