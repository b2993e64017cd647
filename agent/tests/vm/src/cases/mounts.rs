//! Every way to make and mount a file system: what was written is what was seen, nobody is accused,
//! and the counts that this stands on are shown. What a row by its nature never does is in the table
//! and checked as well, so that a row never passes for more than it proves.

mod records;
mod table;

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
};

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;
use serde_json::Value;

use self::{records::Records, table::MOUNTS};
use super::{
    Case, Run, Suite, backends,
    conservation::{self, check_stream},
    keep,
};
use crate::{
    Facts, Guest,
    agent::Agent,
    disk::{self, Mounted},
    dm::{self, Linear, Part},
    folios, fscrypt, http,
    workload::{Issued, stress_in, sync},
};

/// What a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counter {
    Born,
    Bios,
    Converted,
    Deferred,
    Queued,
    Direct,
    Fsyncs,
}

/// What a row at least shows of each conversion and deferred put that it can have: one thread gets to
/// the end of its file of 2 MiB by synchronous writes of 64 KiB, each with an io_end and a bio of its
/// own, which makes 32. Half of them: a preemptible kernel skips hits.
const COMPLETIONS_MIN: u64 = 16;

impl Counter {
    pub(super) const ALL: [Counter; 7] = [
        Counter::Born,
        Counter::Bios,
        Counter::Converted,
        Counter::Deferred,
        Counter::Queued,
        Counter::Direct,
        Counter::Fsyncs,
    ];

    pub(super) fn of(self, summary: &Summary) -> (&'static str, u64) {
        let Summary { io_ends, direct_ios, fsyncs, .. } = summary;
        match self {
            Counter::Born => ("io_ends", io_ends.born),
            Counter::Bios => ("bios", io_ends.bios_attached),
            Counter::Converted => ("converted", io_ends.converted),
            Counter::Deferred => ("deferred_puts", backends::event(summary, "put_defer")),
            Counter::Queued => ("queued", io_ends.queued),
            Counter::Direct => ("direct_ios", direct_ios.completed),
            Counter::Fsyncs => ("fsyncs", fsyncs.completed),
        }
    }

    /// The least that proves something.
    fn min(self) -> u64 {
        match self {
            Counter::Converted | Counter::Deferred => COMPLETIONS_MIN,
            Counter::Born | Counter::Bios | Counter::Queued | Counter::Direct | Counter::Fsyncs => {
                1
            }
        }
    }
}

/// What happens to the file system beside the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// The directory is encrypted before anything is written.
    Encrypt,
    /// Files small enough to live in their inodes, which then outgrow them.
    TinyFiles,
    /// A file is written whose pages must be in large folios.
    LargeFolios,
    /// Again and again, under load.
    FreezeAndThaw,
    /// Read-only, back, without and with `dioread_nolock`, between loads.
    Remount,
    /// The device is one of the device mapper's.
    Linear,
    /// In the midst of a load, which then fails.
    ShutDown,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Row {
    name: &'static str,
    /// Type of the mount: all three are the same driver.
    kind: &'static str,
    mkfs: &'static str,
    options: &'static str,
    step: Step,
    never: &'static [(Counter, &'static str)],
    absent: fn(&str) -> Option<&'static str>,
}

impl Row {
    fn does(&self, counter: Counter) -> bool {
        self.never.iter().all(|(never, _)| *never != counter)
    }
}

/// The rows as cases.
pub(super) fn cases() -> impl Iterator<Item = Case> {
    MOUNTS.iter().map(|row| Case {
        suite: Suite::Mounts,
        name: row.name,
        absent: row.absent,
        run: Run::Row(row),
    })
}

/// Runs one row.
pub(super) fn run(row: &Row, guest: &Guest, facts: &mut Facts) -> Result<()> {
    let linear = (row.step == Step::Linear).then(plain_linear).transpose()?;
    let device = linear.as_ref().map_or(Path::new("/dev/vdb"), |linear| linear.path());
    disk::make(device, row.mkfs)?;
    let mounted = disk::mount(device, "row", row.kind, row.options)?;
    let dir = mounted.dir().join("files");
    fs::create_dir(&dir)?;
    if row.step == Step::Encrypt {
        fscrypt::encrypt(mounted.dir(), &dir)?;
    }
    sync();
    let agent = Agent::start(&["--findings-dir", SLICES])?;
    let load = Load { mounted: &mounted, dir: &dir };
    let calls = load.run(row.step, facts)?;
    sync();
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    note_records(&agent, facts)?;
    // The end of a file system is part of its life.
    mounted.unmount()?;
    let file = row.name.replace([':', ' ', '='], "_");
    let summary = agent.stop(guest, &file)?.summary;
    check(row, &summary, calls, facts)?;
    check_device(device, &scrape, &summary)
}

/// The rule for a conversion that failed and an fsync that did not tell.
const HIDDEN: &str = "conversion_error_hidden";

/// Where a row's slice goes: in memory, so that it is no I/O of ext4.
pub(super) const SLICES: &str = "/tmp/row_slices";

/// What the flight recorder holds of the row's load.
pub(super) fn note_records(agent: &Agent, facts: &mut Facts) -> Result<()> {
    let dir = Path::new(SLICES);
    let slice = keep::dump(agent, dir)?;
    let records = Records::of(&slice)?;
    fs::remove_dir_all(dir).context("the agent made the directory")?;
    facts.insert("fsyncs_at_once".into(), records.fsyncs_at_once.into());
    facts.insert("in_interrupts".into(), records.in_interrupts.into());
    facts.insert("nested_interrupts".into(), records.nested.into());
    let told = "between a record's number and its place in the ring; others cannot be told";
    facts.insert("nested_interrupts are those".into(), told.into());
    ensure!(records.fsyncs_at_once > 0, "no fsync is in the slice");
    ensure!(records.in_interrupts > 0, "nothing was told from an interrupt");
    Ok(())
}

/// A device over the whole of vdb, in one part.
fn plain_linear() -> Result<Linear> {
    let (device, sectors) = dm::disk("vdb")?;
    Linear::create("row", &[Part { device, from: 0, sectors, fails: false }])
}

/// A short load on a mounted file system.
struct Load<'a> {
    mounted: &'a Mounted,
    dir: &'a Path,
}

/// Calls of `ext4_sync_file` that were made, and whether some may have failed.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    syncs: u64,
    directs: u64,
    may_fail: bool,
}

impl Load<'_> {
    fn run(&self, step: Step, facts: &mut Facts) -> Result<Calls> {
        let mut calls = self.both()?;
        match step {
            Step::Nothing | Step::Encrypt | Step::Linear => {}
            Step::TinyFiles => calls.syncs += self.tiny_files()?,
            Step::LargeFolios => self.large_folios(facts)?,
            Step::FreezeAndThaw => calls.add(self.freeze_and_thaw(facts)?),
            Step::Remount => calls.add(self.remount()?),
            Step::ShutDown => {
                self.shut_down()?;
                calls.may_fail = true;
            }
        }
        Ok(calls)
    }

    /// Synchronous writes through the page cache and around it, and a large one that waits for
    /// nobody.
    fn both(&self) -> Result<Calls> {
        let mut calls = Calls::default();
        calls.issue(&stress_in(
            self.dir,
            4,
            &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"],
        )?);
        calls.issue(&stress_in(self.dir, 4, &["-t", "4", "-s", "2", "-O", "-S", "-o", "2"])?);
        fs::write(self.dir.join("large"), vec![7; 8 << 20])?;
        sync();
        Ok(calls)
    }

    fn tiny_files(&self) -> Result<u64> {
        let mut syncs = 0;
        for at in 0..32 {
            let mut file = File::create(self.dir.join(format!("tiny{at}")))?;
            for len in [40, 60_000] {
                file.write_all(&vec![1; len])?;
                file.sync_all()?;
                syncs += 1;
            }
        }
        Ok(syncs)
    }

    fn large_folios(&self, facts: &mut Facts) -> Result<()> {
        let path = self.dir.join("folios");
        fs::write(&path, vec![3; 4 << 20])?;
        let large = folios::large_pages(&path)?;
        facts.insert("pages_in_large_folios".into(), large.into());
        ensure!(large > 0, "no page of 4 MiB written at once is in a large folio");
        sync();
        Ok(())
    }

    fn freeze_and_thaw(&self, facts: &mut Facts) -> Result<Calls> {
        let over = AtomicBool::new(false);
        let args = ["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"];
        let (issued, freezes) = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let issued = stress_in(self.dir, 4, &args);
                over.store(true, Relaxed);
                issued
            });
            let mut freezes = 0_u64;
            while !over.load(Relaxed) {
                self.mounted.freeze()?;
                self.mounted.thaw()?;
                freezes += 1;
            }
            let issued = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
            anyhow::Ok((issued, freezes))
        })?;
        facts.insert("freezes".into(), freezes.into());
        ensure!(freezes > 0, "nothing was frozen: this run proves nothing");
        let mut calls = Calls::default();
        calls.issue(&issued);
        Ok(calls)
    }

    fn remount(&self) -> Result<Calls> {
        let mut calls = Calls::default();
        for (flags, options) in [
            (libc::MS_RDONLY, ""),
            (0, "dioread_lock"),
            (libc::MS_RDONLY, ""),
            (0, "dioread_nolock"),
        ] {
            self.mounted.remount(flags, options)?;
            if flags == 0 {
                calls.add(self.both()?);
            }
        }
        Ok(calls)
    }

    /// The load that is cut off may end as it likes.
    fn shut_down(&self) -> Result<()> {
        let first = self.dir.join("cut");
        std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                while File::create(&first)
                    .and_then(|mut file| {
                        file.write_all(&[5; 64 << 10])?;
                        file.sync_data()
                    })
                    .is_ok()
                {}
            });
            let is_empty = || fs::metadata(&first).map_or(0, |found| found.len()) == 0;
            while is_empty() && !load.is_finished() {
                std::thread::yield_now();
            }
            let done = self.mounted.shut_down();
            load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
            done
        })
    }
}

impl Calls {
    fn issue(&mut self, issued: &Issued) {
        self.syncs += issued.sync_file_calls();
        self.directs += issued.direct_writes;
    }

    fn add(&mut self, other: Calls) {
        self.syncs += other.syncs;
        self.directs += other.directs;
    }
}

fn check(row: &Row, summary: &Summary, calls: Calls, facts: &mut Facts) -> Result<()> {
    for counter in Counter::ALL {
        let (name, count) = counter.of(summary);
        facts.insert(name.into(), count.into());
        match row.never.iter().find(|(never, _)| *never == counter) {
            Some((_, why)) => {
                ensure!(count == 0, "{name} should never happen ({why}), seen {count}");
                facts.insert(format!("never exercises {name}"), (*why).into());
            }
            None => {
                let min = counter.min();
                if min > 1 {
                    facts.insert(format!("{name} at least"), min.into());
                }
                ensure!(
                    count >= min,
                    "{name}: {count} seen, {min} are needed to prove anything: {summary}"
                );
            }
        }
    }
    facts.insert("missed".into(), summary.missed().into());
    check_stream(summary)?;
    conservation::check_misses(summary)?;
    check_findings(summary, calls, facts)?;
    conservation::check_lives(summary)?;
    if calls.may_fail {
        return Ok(());
    }
    conservation::check_fsyncs(summary, calls.syncs)?;
    if row.does(Counter::Direct) {
        conservation::check_direct(summary, calls.directs)?;
    }
    Ok(())
}

/// Nobody is accused, but that a shutdown under load may show a defect of the kernel as it is: a
/// conversion fails, `ext4_end_io_end` sets no error on the mapping (5.10 to 7.3), and the fsync that
/// waited for it returns 0.
fn check_findings(summary: &Summary, calls: Calls, facts: &mut Facts) -> Result<()> {
    let is_known = |finding: &&Value| finding["rule"] == HIDDEN && calls.may_fail;
    let (known, others): (Vec<_>, Vec<_>) = summary.findings.iter().partition(is_known);
    ensure!(others.is_empty(), "findings on a healthy kernel: {others:?}");
    let failed = summary.io_ends.conversion_errors;
    ensure!(known.len() as u64 <= failed, "{failed} conversions failed: {known:?}");
    if calls.may_fail {
        facts.insert("conversions failed".into(), failed.into());
        facts.insert("of them hidden by an fsync".into(), known.len().into());
    }
    Ok(())
}

/// All of it was on the row's own device.
fn check_device(device: &Path, scrape: &str, summary: &Summary) -> Result<()> {
    let name = device.file_name().context("a device has a name")?.to_string_lossy();
    let metric = "endiod_io_end_started_total";
    let labelled = format!("device=\"{name}\"");
    let of_device: Vec<_> = scrape.lines().filter(|line| line.contains(&labelled)).collect();
    let (own, all) = (http::sum(&of_device.join("\n"), metric), http::sum(scrape, metric));
    let missed = summary.missed() as f64;
    ensure!(own > 0.0, "no io_end of {name} in the scrape");
    ensure!(all - own <= missed, "{all} io_ends were born, only {own} of them on {name}");
    Ok(())
}
