//! Watching the kernel: what `run` and `record` do alike.
//!
//! ```text
//!  start: attach ─► announce ─► watch: ┌ readable: wait a moment, drain ┐ ─► finish: detach, drain,
//!                                      │ each second: the totals, TICK   │            summary
//!                                      └ signal, duration, tape is full ─┘
//! ```
//!
//! Where ext4 is a module, attaching and detaching are part of the watch (`watch/presence.rs`): it
//! waits for the first mount, and after the last unmount it lets go of the module and waits again. Each
//! attachment, made beside the watch (`watch/attaching.rs`), is a stream of its own that begins with a
//! HOST: everything is looked up afresh, records are numbered anew. So is each wait, which has the seconds
//! and nothing else.
//!
//! One task drains the ring and runs the pipeline. Every record goes to the tape, if there is one, to
//! the flight recorder and to the pipeline, in this order and no other, so that a replay of the tape
//! ends in the same summary. Findings are said at the TICK that confirms them.

mod attaching;
mod callers;
mod cpu;
mod names;
mod presence;
mod readiness;
mod reload;
mod service;
mod setup;
mod signals;
mod source;

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use endiod::{
    devices::{DeviceReader, Mounts},
    event::DevId,
    metrics::{RingUse, TASK_TABLES},
    pipeline::Pipeline,
    probes::PROBES,
    report::Summary,
    source::{
        kernel::{self, KernelError, KernelSource, Subject, Verdict},
        own::Opening,
        waiting::Waiting,
    },
};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{keep::Keeper, record::Tape, top::Viewer};
use attaching::{Attaching, opened};
use callers::Callers;
use cpu::CpuLimit;
use names::TaskNames;
use presence::{Presence, Turn};
pub(crate) use readiness::Readiness;
pub(crate) use setup::Setup;
pub(crate) use signals::Signals;
use source::Source;

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
    let result = runtime.block_on(work);
    // A thread that writes to who does not read must not keep the result.
    runtime.shutdown_background();
    result
}

/// Where every record goes.
struct Takers {
    tape: Option<Tape>,
    keeper: Keeper,
    pipeline: Pipeline,
    names: TaskNames,
    callers: Callers,
    viewer: Option<Viewer>,
}

impl Takers {
    fn take(&mut self, record: &[u8]) {
        if let Some(tape) = &mut self.tape {
            tape.push(record);
            self.names.want_of_record(record);
        }
        if self.tape.is_some() || self.viewer.is_some() {
            self.callers.want_of_record(record);
        }
        self.keeper.push(record);
        match &mut self.viewer {
            Some(viewer) => self.pipeline.feed_before(record, viewer.onlooker()),
            None => self.pipeline.feed(record),
        }
    }

    /// Says and keeps what was found since the last time.
    fn tell_findings(&mut self) {
        self.keeper.findings(self.pipeline.findings());
    }
}

/// The kernel, being watched or waited for.
pub(crate) struct Watch {
    setup: Setup,
    source: Source,
    /// The source while nothing is attached, as it begins.
    waiting: Waiting,
    presence: Presence,
    cpu_limit: CpuLimit,
    /// A late attach, which takes its time in a thread of its own.
    attaching: Option<Attaching>,
    opening: Opening,
    takers: Takers,
    devices: DeviceReader,
    mounts: Mounts,
    /// Devices that the stream has a name for.
    named: BTreeMap<DevId, String>,
}

impl Watch {
    /// Attaches, or begins to wait for something to attach to; `tape` is asked for once that worked.
    pub(crate) fn start(
        mut setup: Setup,
        keeper: Keeper,
        tape: impl FnOnce() -> Result<Option<Tape>>,
    ) -> Result<Watch> {
        let Setup { io_ends_max, stuck_after, .. } = setup;
        let opening = Opening { hash_key: random_key()?, io_ends_max, stuck_after };
        setup.check()?;
        let mut presence = Presence::default();
        let waiting = Waiting::new(&setup.host).context("cannot read /proc and /sys")?;
        let source = match presence.look(setup.presence()) {
            Turn::Attach => Source::Kernel(Box::new(setup.opener()()?)),
            Turn::Stay | Turn::Detach => Source::Waiting(waiting.clone()),
        };
        let tape = tape()?;
        setup.say_who_watches()?;
        let cpu_limit = CpuLimit::new(setup.cpu_max);
        if cpu_limit.is_set() {
            setup.metrics.set_cpu_limit_exceeded(false);
        }
        let mut watch = Watch {
            source,
            waiting,
            presence,
            cpu_limit,
            attaching: None,
            opening,
            takers: Takers {
                tape,
                keeper,
                pipeline: Pipeline::new(setup.metrics.clone()),
                names: TaskNames::default(),
                callers: Callers::default(),
                viewer: setup.viewer.take(),
            },
            setup,
            devices: DeviceReader::default(),
            mounts: Mounts::default(),
            named: BTreeMap::new(),
        };
        watch.begin_stream();
        Ok(watch)
    }

    /// Begins to attach, or detaches, if it is time to.
    fn look(&mut self) {
        if self.attaching.is_some() {
            return;
        }
        let begun = Instant::now();
        match self.presence.look(self.setup.presence()) {
            Turn::Stay => {}
            Turn::Attach => self.attaching = Some(Attaching::begin(&self.setup)),
            Turn::Detach => {
                self.close();
                log::info!("the last ext4 is unmounted: detached in {:?}", begun.elapsed());
                self.begin_stream();
            }
        }
    }

    /// The late attach has come to its end.
    fn attached(&mut self, opened: Result<KernelSource, KernelError>) -> Result<()> {
        let Some(attaching) = self.attaching.take() else { return Ok(()) };
        match opened {
            Ok(source) => {
                log::info!("an ext4 is mounted: attached in {:?}", attaching.elapsed());
                self.source = Source::Kernel(Box::new(source));
                self.begin_stream();
            }
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => self.not_attached(&error),
        }
        Ok(())
    }

    fn not_attached(&mut self, error: &KernelError) {
        log::error!("an ext4 is mounted, but it cannot be watched: {error}; it is tried again");
        self.presence.failed();
        self.setup.readiness.set(Err(error.to_string()));
    }

    /// Ends the stream of the kernel: detaches and takes what is left.
    fn close(&mut self) {
        let Watch { source, waiting, takers, .. } = self;
        let kernel = std::mem::replace(source, Source::Waiting(waiting.clone()));
        kernel.close(&mut |record| takers.take(record));
        // Before the next HOST, with which the slice of the old stream is gone.
        takers.tell_findings();
    }

    /// Writes what a stream begins with, and says what is watched now.
    fn begin_stream(&mut self) {
        let Watch { source, takers, opening, .. } = self;
        source.announce(*opening, &mut |record| takers.take(record));
        self.named.clear();
        self.takers.names.begin();
        self.takers.callers.begin();
        self.mounts = Mounts::default();
        self.refresh_devices();
        match &self.source {
            Source::Kernel(kernel) => {
                self.say_what_is_watched(kernel);
                self.setup.readiness.set(Ok("ok"));
            }
            Source::Waiting(_) => {
                log::info!("waiting for the first ext4 mount: no probe is attached");
                self.setup.readiness.set(Ok("waiting for the first ext4 mount"));
            }
        }
    }

    /// One health summary per attachment; from here on only changes are logged.
    fn say_what_is_watched(&self, kernel: &KernelSource) {
        let verdicts = kernel.verdicts();
        let (mut attached, mut absent, mut failed) = (0, 0, 0);
        for (probe, verdict) in PROBES.iter().zip(verdicts) {
            match verdict {
                Verdict::Attached => attached += 1,
                Verdict::Absent(_) => absent += 1,
                Verdict::Failed(reason) => {
                    failed += 1;
                    log::debug!("probe {} failed: {reason}", probe.program);
                }
            }
        }
        if kernel.layout_is_assumed() {
            log::warn!(
                "ext4 is a module without BTF: io_ends are taken for those of 5.5 to 7.3, and no rule is \
                 armed until one was seen to fit"
            );
        }
        for line in kernel::serving(verdicts) {
            log::info!("{line}");
        }
        for (why, witnesses) in unseen(verdicts) {
            log::warn!("not seen: {}; because: {why}", witnesses.join(", "));
        }
        let names: Vec<_> = self.named.values().map(String::as_str).collect();
        let what = match (self.setup.choice.subject, names.is_empty()) {
            (Subject::Ext4, true) => "ext4 on no device yet".to_owned(),
            (Subject::Ext4, false) => format!("ext4 on {}", names.join(", ")),
            (Subject::Replica, _) => "the replica of 2012, and not ext4,".to_owned(),
        };
        let release = self.setup.host.release().unwrap_or_default();
        log::info!(
            "watching {what} with kernel {release}: {attached} probes attached, {failed} failed, \
             {absent} not needed here"
        );
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
                _ = signals.reload.recv() => match self.setup.reload {
                    Some(_) => self.reload(),
                    None => return Ok("SIGHUP"),
                },
                _ = ticks.tick() => {
                    self.tick()?;
                    // Its drain is bounded as well, and nobody wakes us for what it left.
                    more = true;
                }
                opened = opened(&mut self.attaching) => self.attached(opened?)?,
                () = std::future::ready(()), if more => more = self.drain(),
                readable = self.source.readable() => {
                    readable.context("cannot wait for the ring")?;
                    sleep(DRAIN_DELAY).await;
                    more = self.drain();
                }
            }
            self.setup.heartbeat.beat();
            if let Some(why) = self.takers.tape.as_ref().and_then(Tape::is_over) {
                return Ok(why);
            }
        }
    }

    /// Takes what the ring holds; whether there may be more.
    fn drain(&mut self) -> bool {
        self.refresh_devices();
        let Watch { source, takers, .. } = self;
        let more = source.drain(&mut |record| takers.take(record));
        self.name_callers();
        more
    }

    fn tick(&mut self) -> Result<()> {
        self.look();
        self.refresh_devices();
        let Watch { source, takers, .. } = self;
        match source.tick(&mut |record| takers.take(record)) {
            Err(error) if error.is_final() => return Err(error.into()),
            Err(error) => log::error!("{error}: no verdict is confirmed until it can be"),
            Ok(()) => {}
        }
        self.takers.callers.tick();
        self.name_tasks();
        self.takers.tell_findings();
        if let Some(tape) = &mut self.takers.tape {
            tape.flush();
        }
        self.measure();
        self.bound_cpu();
        if let Takers { viewer: Some(viewer), pipeline, .. } = &mut self.takers {
            viewer.show(pipeline, self.setup.readiness.check());
        }
        service::alive();
        Ok(())
    }

    /// Names those who wrote through to the disk, while they are there to be asked.
    fn name_callers(&mut self) {
        let Watch { source, takers, setup, .. } = self;
        for told in takers.callers.take(&setup.host) {
            if let Some(comm) = told.comm {
                source.announce_task(told.tgid, comm, &mut |record| takers.take(record));
            }
            if let Some(cgroup) = told.cgroup {
                source.announce_cgroup(told.tgid, &cgroup, &mut |record| takers.take(record));
            }
        }
    }

    /// Names the tasks of what was found, or recorded, since the last TICK.
    fn name_tasks(&mut self) {
        let Watch { source, takers, setup, .. } = self;
        let Takers { keeper, pipeline, names, .. } = takers;
        keeper
            .unsaid(pipeline.findings())
            .iter()
            .for_each(|finding| names.want_of_finding(finding));
        for (tid, comm) in names.take(&setup.host) {
            source.announce_task(tid, comm, &mut |record| takers.take(record));
        }
    }

    /// Lets go of the kernel if the agent takes more CPU than it may.
    fn bound_cpu(&mut self) {
        if !self.cpu_limit.is_set() || matches!(self.source, Source::Waiting(_)) {
            return;
        }
        let Some(taken) = self.setup.cpu_seconds() else { return };
        let Some(share) = self.cpu_limit.exceeded(Instant::now(), taken) else { return };
        self.presence.end();
        self.close();
        self.begin_stream();
        let (percent, most) = (100.0 * share, self.setup.cpu_max);
        let why = format!(
            "detached: the agent took {percent:.0} % of a CPU for 30 s, and --cpu-max is {most}; it \
             watches again after its next start"
        );
        log::error!("{why}");
        self.setup.metrics.set_cpu_limit_exceeded(true);
        self.setup.readiness.set(Err(why));
    }

    /// Brings the metrics of what the programs hold up to date.
    fn measure(&mut self) {
        let metrics = &self.setup.metrics;
        let Source::Kernel(kernel) = &mut self.source else {
            return metrics.set_ring(RingUse { used_bytes: 0, size_bytes: 0 });
        };
        let swept = kernel.take_swept().into_iter().flatten();
        for (table, count) in TASK_TABLES.iter().zip(swept) {
            metrics.swept(table, count);
        }
        for (probe, count, took) in kernel.take_runs() {
            metrics.probe_ran(probe, count, took);
        }
        let used_bytes = kernel.take_used_bytes_max() as u64;
        let size_bytes = u64::from(kernel.ring_bytes());
        metrics.set_ring(RingUse { used_bytes, size_bytes });
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
        self.setup.metrics.set_devices(&found.devices);
        for device in found.devices {
            if self.named.get(&device.dev) != Some(&device.name) {
                let Watch { source, takers, .. } = self;
                source.announce_device(device.dev, &device.name, &mut |it| takers.take(it));
                self.named.insert(device.dev, device.name);
            }
        }
    }

    /// Detaches, takes what is left, and tells it all; the tape has the whole stream.
    pub(crate) async fn finish(mut self) -> (Summary, Option<Tape>) {
        service::stopping();
        if self.attaching.is_some() {
            // It ends by itself, and lets go of what it attached.
            drop(opened(&mut self.attaching).await);
        }
        let Watch { source, mut takers, .. } = self;
        source.close(&mut |record| takers.take(record));
        let Takers { tape, mut keeper, mut pipeline, .. } = takers;
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

/// What is not seen, by the reason.
fn unseen(verdicts: &[Verdict]) -> BTreeMap<String, Vec<&'static str>> {
    let mut unseen: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (probe, why) in kernel::lost(verdicts) {
        unseen.entry(why).or_default().push(probe.witnesses);
    }
    unseen
}
