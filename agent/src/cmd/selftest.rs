//! `endiod selftest`: proves on the running kernel that one whole life of an io_end is seen.
//!
//! ```text
//!  canary on an ext4 ─► attach ─► write, fsync ─► its io_end: birth ─► bio ─► end ─► release, its fsync
//!                                   ▲    └ not whole within a second: more blocks ─┐
//!                                   └──────────────────────────────────────────────┘ at most ROUNDS_MAX
//! ```
//!
//! Several rounds, because a kernel may skip hits of a probe by chance. Every wait is bounded; an fsync
//! that does not return is the device's doing, so the test could not run. stdout is the result.

mod canary;
mod sighting;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use endiod::{
    decode::decode,
    host::Host,
    layout::Layout,
    lifecycle::Lifecycle,
    limits,
    probes::PROBES,
    source::{
        kernel::{Choice, KernelSource, Sizes, Verdict},
        own::Opening,
    },
    witnesses::Witnesses,
};
use tokio::time::{sleep, timeout};

use super::watch::block_on;
use crate::cli::{Format, SelftestArgs};
use canary::Canary;
use sighting::{Outcome, Sighting};

/// Nothing of the stream leaves the process, so its addresses need no key.
const OPENING: Opening =
    Opening { hash_key: 0, io_ends_max: limits::IO_ENDS_MAX, stuck_after: limits::STUCK_AFTER };

/// No whole life was seen.
const EXIT_UNSEEN: u8 = 1;
/// Writes and fsyncs before giving up.
const ROUNDS_MAX: u32 = 5;
/// How long after its fsync a life may take to be whole.
const ROUND: Duration = Duration::from_secs(1);
/// How long an fsync may take: a device that is slower is stuck or overwhelmed.
const FSYNC_MAX: Duration = Duration::from_secs(30);
/// How long records may wait in the ring.
const DRAIN_DELAY: Duration = Duration::from_millis(5);
/// Room for what the rest of the host writes meanwhile.
const SIZES: Sizes = Sizes { ring_bytes: 1 << 20, entries_max: u32::MAX };

pub(crate) fn run(args: &SelftestArgs) -> Result<ExitCode> {
    // Also where a thread is stuck in fsync: it does not keep the result.
    let outcome = block_on(selftest(args))?;
    match args.format {
        Format::Text => print!("{outcome}"),
        Format::Json => println!("{}", serde_json::to_string_pretty(&outcome)?),
    }
    Ok(if outcome.seen { ExitCode::SUCCESS } else { ExitCode::from(EXIT_UNSEEN) })
}

async fn selftest(args: &SelftestArgs) -> Result<Outcome> {
    let host = Host::default();
    let canary = match &args.dir {
        Some(dir) => Canary::create(dir)?,
        None => Canary::on_first_writable(&host)?,
    };
    let mut watch = Watch::open(&host, &canary, args.backend.choice())?;
    let mut rounds = 0;
    while rounds < ROUNDS_MAX && !watch.story.sighting.is_whole() {
        rounds += 1;
        let write = canary.write_and_sync(rounds)?;
        match timeout(FSYNC_MAX, tokio::task::spawn_blocking(write)).await {
            Ok(written) => written.context("the writing thread failed")??,
            Err(_) => bail!(
                "fsync of the canary in {} did not return within {} s: the device is stuck or \
                 overwhelmed; try --dir on another one",
                canary.dir().display(),
                FSYNC_MAX.as_secs()
            ),
        }
        watch.until_whole().await;
    }
    let outcome = watch.story.sighting.outcome(&canary, rounds);
    watch.close();
    Ok(outcome)
}

/// The stream, followed by the same lifecycle as in the daemon.
struct Watch {
    source: KernelSource,
    story: Story,
}

/// What records tell.
struct Story {
    layout: Layout,
    lifecycle: Lifecycle,
    sighting: Sighting,
}

impl Watch {
    fn open(host: &Host, canary: &Canary, choice: Choice) -> Result<Watch> {
        let source = KernelSource::open(host, SIZES, choice)?;
        let mut lifecycle = Lifecycle::default();
        let rows = PROBES.iter().zip(source.verdicts());
        let attached = rows.filter(|(_, verdict)| **verdict == Verdict::Attached);
        lifecycle.set_witnesses(&Witnesses::of(attached.map(|(row, _)| row)));
        let failed = PROBES.iter().zip(source.verdicts()).filter_map(|(probe, verdict)| {
            matches!(verdict, Verdict::Failed(_)).then_some(probe.program)
        });
        let sighting = Sighting::new(canary.inode(), failed.collect());
        let story = Story { layout: Layout::default(), lifecycle, sighting };
        let mut watch = Watch { source, story };
        let Watch { source, story } = &mut watch;
        // The key hides addresses, and none is shown here.
        source.announce(OPENING, &mut |record| story.take(record));
        Ok(watch)
    }

    /// Drains until the canary's life is whole or the round is over.
    async fn until_whole(&mut self) {
        let start = Instant::now();
        loop {
            let Watch { source, story } = self;
            source.drain(&mut |record| story.take(record));
            if story.sighting.is_whole() || start.elapsed() > ROUND {
                return;
            }
            sleep(DRAIN_DELAY).await;
        }
    }

    fn close(self) {
        let Watch { source, mut story } = self;
        source.close(&mut |record| story.take(record));
    }
}

impl Story {
    fn take(&mut self, record: &[u8]) {
        let event = match decode(record) {
            Ok(event) => event,
            Err(malformed) => return log::warn!("a record was malformed: {malformed}"),
        };
        let Story { layout, lifecycle, sighting } = self;
        layout.observe(&event.body);
        if let Some(event) = layout.admit(&event) {
            lifecycle.observe(&event, &mut |step| sighting.step(&step));
        }
    }
}
