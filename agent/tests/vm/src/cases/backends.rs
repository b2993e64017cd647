//! Two back ends over one load see the same, as far as both can see it.

use anyhow::{Context as _, Result, ensure};
use endiod::{event::ProgramBound, report::Summary};

use super::conservation::{buffered_line, check_misses, check_stream};
use crate::{
    Facts, Guest,
    agent::{Agent, LISTEN, LISTEN_TOO},
    disk,
    dm::{self, Linear, Part},
    http,
    workload::{COMMIT_LINE, make_room, stress, stress_in, sync},
};

/// Something that both back ends see.
struct Common {
    name: &'static str,
    count: fn(&Summary) -> u64,
    /// The programs of both that see it.
    programs: &'static [&'static str],
}

pub(super) fn event(summary: &Summary, kind: &str) -> u64 {
    summary.stream.events.get(kind).copied().unwrap_or(0)
}

/// Bios that have ended, or that the device was done with where their ends are not seen.
fn bios_over(summary: &Summary) -> u64 {
    summary.io_ends.bios_ended + summary.io_ends.bios_done
}

/// What both see, by fentry and by raw tracepoints: events as they came, before a skipped hit costs
/// more than itself by taking a life's other events with it. One does so at once: a free is known by
/// the table of live io_ends, and whose birth was skipped is not in it.
const COMMON: &[Common] = &[
    Common {
        name: "births",
        count: |summary| event(summary, "io_end_birth"),
        programs: &["ext4_init_io_end_exit", "tp_kmem_cache_alloc"],
    },
    Common {
        name: "bios attached",
        count: |summary| event(summary, "bio_attach"),
        programs: &["submit_bio", "tp_block_bio_queue"],
    },
    Common {
        name: "worker runs",
        count: |summary| event(summary, "worker_begin"),
        programs: &["ext4_end_io_rsv_work", "tp_workqueue_execute_start"],
    },
    Common {
        name: "deaths",
        count: |summary| event(summary, "release"),
        programs: &["ext4_release_io_end", "tp_kmem_cache_free", "tp_kmem_cache_alloc"],
    },
    Common {
        name: "fsyncs begun",
        count: |summary| event(summary, "fsync_begin"),
        programs: &["ext4_sync_file", "tp_ext4_sync_file_enter"],
    },
    Common {
        name: "fsyncs returned",
        count: |summary| event(summary, "fsync_end"),
        programs: &["ext4_sync_file_exit", "tp_ext4_sync_file_exit"],
    },
];

/// Hits of these programs that the kernel skipped, in both runs.
pub(super) fn missed_by(programs: &[&str], summaries: [&Summary; 2]) -> u64 {
    let of = |summary: &Summary| -> u64 {
        programs.iter().filter_map(|program| summary.probes.missed.get(*program)).sum()
    };
    summaries.into_iter().map(of).sum()
}

/// Runs a load under both back ends at once and compares what they saw.
fn compare(
    guest: &Guest,
    name: &str,
    facts: &mut Facts,
    load: impl FnOnce() -> Result<()>,
) -> Result<[Summary; 2]> {
    sync();
    let fentry = Agent::start_at(LISTEN, &["--backend", "fentry"])?;
    let raw = Agent::start_at(LISTEN_TOO, &["--backend", "raw_tp"])?;
    load()?;
    sync();
    for (backend, agent) in [("fentry", &fentry), ("raw_tp", &raw)] {
        keep_scrape(guest, agent, &format!("{name}_{backend}"))?;
    }
    let raw = raw.stop(guest, &format!("{name}_raw_tp"))?.summary;
    let fentry = fentry.stop(guest, &format!("{name}_fentry"))?.summary;
    for Common { name, count, programs } in COMMON {
        let seen = [count(&fentry), count(&raw)];
        facts.insert((*name).into(), seen.to_vec().into());
        let missed = missed_by(programs, [&fentry, &raw]);
        ensure!(seen[0] > 0, "{name}: fentry saw none, so this proves nothing");
        ensure!(
            seen[0].abs_diff(seen[1]) <= missed,
            "{name}: fentry saw {}, raw tracepoints {}, and the kernel skipped {missed} hits only: \
             {fentry}{raw}",
            seen[0],
            seen[1]
        );
    }
    for (backend, summary) in [("fentry", &fentry), ("raw_tp", &raw)] {
        facts.insert(format!("missed by {backend}"), summary.missed().into());
        check_stream(summary)?;
        let found = &summary.findings;
        ensure!(found.is_empty(), "{backend}: findings on a healthy kernel: {found:?}");
        ensure!(summary.dropped() == 0, "{backend}: records were lost, the ring is too small");
        check_misses(summary).context(backend)?;
    }
    Ok([fentry, raw])
}

/// Leaves a scrape for the host, beside the summary of that name.
fn keep_scrape(guest: &Guest, agent: &Agent, name: &str) -> Result<String> {
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    std::fs::write(guest.out.join(format!("{name}.prom")), &scrape)?;
    Ok(scrape)
}

/// On the guest's own disk.
pub(crate) fn agree(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let [fentry, raw] = compare(guest, "agree", facts, || {
        stress("agree1", &COMMIT_LINE)?;
        let line = buffered_line();
        stress("agree2", &line).map(drop)
    })?;
    // No bio is split here, so each is done once.
    let over = [event(&fentry, "bio_end"), event(&raw, "bio_done")];
    facts.insert("bios over".into(), over.to_vec().into());
    let ends = ["ext4_end_bio", "tp_block_rq_complete", "tp_block_bio_complete"];
    let missed = missed_by(&ends, [&fentry, &raw]);
    // A request of more bios than a program walks is told up to there, and counted.
    let cut = raw.left_out(ProgramBound::RequestWalk);
    facts.insert("walks cut".into(), cut.into());
    ensure!(
        over[0].abs_diff(over[1]) <= missed || cut > 0,
        "bios over: {over:?}, {missed} hits skipped, no walk cut"
    );
    check_handed_over(&fentry, &raw, facts)
}

/// A batch is handed over when a list was empty (`ext4_add_complete_io` queues the work, 5.5 to 7.3), so
/// each has an io_end that fentry counts as queued, unless a skipped hit hides one.
fn check_handed_over(fentry: &Summary, raw: &Summary, facts: &mut Facts) -> Result<()> {
    let (batches, queued) = (event(raw, "work_queued"), fentry.io_ends.queued);
    facts.insert("batches handed over".into(), batches.into());
    facts.insert("io_ends queued".into(), queued.into());
    let missed = fentry.missed();
    ensure!(batches > 0, "no batch was seen handed to the worker");
    ensure!(
        batches <= queued + missed,
        "{batches} batches were handed over, but fentry saw {queued} io_ends queued and the kernel \
         skipped {missed} of its hits only: {fentry}{raw}"
    );
    Ok(())
}

/// On a device of the device mapper whose parts lie on two disks in turn, so that it splits large
/// bios.
pub(crate) fn agree_on_split_bios(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let linear = striped()?;
    disk::make(linear.path(), "-t ext4 -b 4096")?;
    let mounted = disk::mount(linear.path(), "split", "ext4", "")?;
    let splits = Splits::count()?;
    let seen = compare(guest, "split", facts, || {
        let large = ["--buffered", "-t", "4", "-s", "8", "-r", "1024", "-S", "-o", "0"];
        stress_in(mounted.dir(), 4, &large)?;
        let direct = ["-t", "4", "-s", "4", "-r", "1024", "-O", "-S", "-o", "2"];
        stress_in(mounted.dir(), 4, &direct).map(drop)
    });
    let splits = splits.end()?;
    facts.insert("bios split".into(), splits.into());
    let [fentry, raw] = seen?;
    ensure!(splits > 0, "no bio was split: this proves nothing");
    // A split bio is done with its last part. Which part belongs to which bio hangs on every event
    // of the life, so any skipped hit may cost one.
    let over = [bios_over(&fentry), bios_over(&raw)];
    facts.insert("bios over".into(), over.to_vec().into());
    let missed = fentry.missed() + raw.missed();
    ensure!(over[0].abs_diff(over[1]) <= missed, "bios over: {over:?}, {missed} hits skipped");
    mounted.unmount()
}

/// A device of 48 parts, each too short for the largest bio, on vdb and vdc in turn.
fn striped() -> Result<Linear> {
    const PARTS: u64 = 48;
    const SECTORS: u64 = 4 * 2048 - 8;
    let disks = [dm::disk("vdb")?, dm::disk("vdc")?];
    let parts: Vec<_> = (0..PARTS)
        .map(|at| {
            let (device, _) = &disks[usize::from(at % 2 == 1)];
            Part { device: device.clone(), from: at / 2 * SECTORS, sectors: SECTORS, fails: false }
        })
        .collect();
    Linear::create("split", &parts)
}

/// Counts the kernel's own word for it, block_split, in a trace buffer of its own.
struct Splits;

impl Splits {
    const INSTANCE: &str = "/sys/kernel/tracing/instances/endiod_splits";

    fn count() -> Result<Splits> {
        std::fs::create_dir(Self::INSTANCE).context("cannot make a trace instance")?;
        std::fs::write(format!("{}/events/block/block_split/enable", Self::INSTANCE), "1")
            .context("no event block_split")?;
        Ok(Splits)
    }

    fn end(self) -> Result<usize> {
        std::fs::write(format!("{}/events/block/block_split/enable", Self::INSTANCE), "0")?;
        let trace = std::fs::read_to_string(format!("{}/trace", Self::INSTANCE))?;
        std::fs::remove_dir(Self::INSTANCE)?;
        Ok(trace.lines().filter(|line| line.contains("block_split:")).count())
    }
}

/// Kprobes alone: the load is seen, nobody is accused, and it says that it is a poor view.
pub(crate) fn kprobe_is_degraded(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--backend", "kprobe"])?;
    stress("kprobe", &["--buffered", "-t", "8", "-s", "4", "-S", "-o", "2"])?;
    sync();
    let scrape = keep_scrape(guest, &agent, "kprobe")?;
    let summary = agent.stop(guest, "kprobe")?.summary;
    let seen = summary.io_ends.born + summary.io_ends.adopted;
    facts.insert("io_ends".into(), seen.into());
    facts.insert("bios".into(), summary.io_ends.bios_attached.into());
    facts.insert("released".into(), summary.io_ends.released.into());
    ensure!(seen > 0 && summary.io_ends.bios_attached > 0, "the load was not seen: {summary}");
    ensure!(summary.findings.is_empty(), "kprobes accused: {:?}", summary.findings);
    let degraded = http::sum(&scrape, "endiod_detector_degraded");
    facts.insert("rules degraded".into(), degraded.into());
    ensure!(degraded > 0.0, "no rule is said to be degraded");
    Ok(())
}
