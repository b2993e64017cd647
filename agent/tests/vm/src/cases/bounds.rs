//! The programs' own bounds, reached on purpose: what is left out is counted to the event, nobody is
//! accused, and under a light load nothing is left out any more.

use std::{fs::File, os::unix::fs::FileExt as _, path::Path};

use anyhow::{Result, ensure};
use endiod::{event::ProgramBound, report::Summary};

use super::{
    backends::event,
    conservation::{balanced, buffered_line},
    loss::{Told, recovers},
};
use crate::{
    Facts, Guest,
    agent::Agent,
    workload::{COMMIT_LINE, make_room, stress, sync},
};

/// Fewer than the 20 tasks of the heavy load have calls open, and more than the light one needs: its
/// writer, and the task that flushes for it.
const CALLS: &str = "4";
/// Fewer than the heavy load has io_ends alive, and more than the light one needs: where interrupts nest, a
/// skipped free leaves its entry too.
const LIVES: &str = "8";
/// Before 5.12 a free is told after the memory is free, and the next birth there may be told first: of the
/// thousand lives of the light load some are not whole for that.
const OVERTAKEN_MAX: f64 = 10.0;
/// One writer that waits for each write: it is in one call at a time, and has two io_ends at most.
const LIGHT: [&str; 8] = ["--buffered", "-t", "1", "-s", "2", "-S", "-o", "2"];

/// Where a program is preempted the kernel skips frees, and what they should have taken out of the table
/// stays there until the address is born again: a small table stays full.
pub(crate) fn only_where_no_free_is_skipped(kernel: &str) -> Option<&'static str> {
    let preempted = !matches!(kernel, "5.10" | "5.10-modular" | "6.1" | "6.1-modular");
    preempted
        .then_some("skipped frees leave their entries, and a few of them fill a table of eight")
}

/// What was left out at a bound, which must be something.
fn left_out(summary: &Summary, bound: ProgramBound, facts: &mut Facts) -> Result<u64> {
    let count = summary.left_out(bound);
    facts.insert(bound.label().into(), count.into());
    ensure!(count > 0, "{} was not reached, so this proves nothing: {summary}", bound.label());
    Ok(count)
}

/// The live counters are what the stream says: one record fills both.
fn check_live(summary: &Summary, live: Told) -> Result<()> {
    let told: u64 = ProgramBound::ALL.iter().map(|bound| summary.left_out(*bound)).sum();
    ensure!(live.left_out == told as f64, "the summary tells {told}, the scrape {live:?}");
    Ok(())
}

/// More tasks in a direct write and in fsync at once than the programs keep track of: every write is
/// begun or counted, every fsync is seen and only its phases are missing.
pub(crate) fn open_calls(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--backend", "fentry", "--program-entries-max", CALLS])?;
    let heavy = stress("calls1", &COMMIT_LINE)?;
    sync();
    let full = Told::by(&agent)?;
    let light = stress("calls2", &LIGHT)?;
    sync();
    let summary = recovers(guest, agent, "calls", full, 0.0, facts)?;
    check_live(&summary, full)?;
    facts.insert("swept".into(), full.swept.into());
    let writes = left_out(&summary, ProgramBound::OpenDirectIos, facts)?;
    left_out(&summary, ProgramBound::OpenFsyncs, facts)?;
    let seen = &summary.direct_ios;
    let begun = [heavy.direct_writes, seen.started + writes];
    balanced(
        &summary,
        "direct writes issued = begun + left out",
        begun,
        &["ext4_file_write_iter"],
    )?;
    // Nobody saw those begin that complete without.
    let orphans = summary.io_ends.orphans.get("direct_io_complete").copied().unwrap_or(0);
    let programs = ["ext4_file_write_iter", "ext4_dio_write_end_io"];
    balanced(&summary, "left out = completed without a begin", [writes, orphans], &programs)?;
    let issued = heavy.sync_file_calls() + light.sync_file_calls();
    let fsyncs = [issued, summary.fsyncs.started];
    balanced(&summary, "fsyncs issued = seen", fsyncs, &["ext4_sync_file"])?;
    let spans = [summary.fsyncs.started, summary.fsyncs.completed];
    balanced(&summary, "fsyncs started = returned", spans, &["ext4_sync_file_exit"])
}

/// More io_ends alive at once than the slab tracepoints keep track of: of some no release is seen. Each
/// of them was counted, and is over when its address is born again.
pub(crate) fn live_io_ends(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--backend", "raw_tp", "--program-entries-max", LIVES])?;
    let line = buffered_line();
    stress("lives1", &line)?;
    sync();
    let full = Told::by(&agent)?;
    stress("lives2", &LIGHT)?;
    sync();
    facts.insert("in flight".into(), full.in_flight.into());
    let overtaken = if guest.kernel.starts_with("5.10") { OVERTAKEN_MAX } else { 0.0 };
    let summary = recovers(guest, agent, "lives", full, full.in_flight + overtaken, facts)?;
    check_live(&summary, full)?;
    let counted = left_out(&summary, ProgramBound::LiveIoEnds, facts)?;
    let io_ends = &summary.io_ends;
    facts.insert("ended unseen".into(), io_ends.lost.into());
    let unseen = io_ends.lost + io_ends.in_flight;
    let missed = missed(&summary, &["tp_kmem_cache_alloc", "tp_kmem_cache_free"]);
    ensure!(
        unseen <= counted + missed,
        "{unseen} releases were not seen, {counted} found no room, {missed} hits were skipped"
    );
    ensure!(unseen > 0, "every release was seen, so this proves nothing: {io_ends:?}");
    Ok(())
}

/// Files of one block each, whose blocks lie side by side: the elevator makes one request of as many
/// bios as the device takes.
const SMALL_FILES: usize = 1_000;
/// Blocks of one file that lie apart: an io_end for each.
const APART: u64 = 1_000;
const BLOCK: [u8; 4096] = [7; 4096];

/// Where a walk is long enough for what a guest can do.
pub(crate) fn only_where_walks_are_short(kernel: &str) -> Option<&'static str> {
    let short = kernel == "5.10";
    (!short).then_some("a walk goes 128 steps from 5.12 on, 8 before: no load here reaches them")
}

/// Requests of more bios and lists of more io_ends than a program walks.
pub(crate) fn walks(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--backend", "raw_tp"])?;
    many_bios(Path::new("/mnt/walks1"))?;
    many_io_ends(Path::new("/mnt/walks2"))?;
    let full = Told::by(&agent)?;
    stress("walks3", &LIGHT)?;
    sync();
    let summary = recovers(guest, agent, "walks", full, 0.0, facts)?;
    check_live(&summary, full)?;
    left_out(&summary, ProgramBound::ListWalk, facts)?;
    let cut = left_out(&summary, ProgramBound::RequestWalk, facts)?;
    let attached = event(&summary, "bio_attach");
    let hidden = attached.saturating_sub(event(&summary, "bio_done"));
    facts.insert("bios attached".into(), attached.into());
    facts.insert("bios not told as done".into(), hidden.into());
    ensure!(hidden >= cut, "{cut} walks were cut, and they hid {hidden} bios only");
    Ok(())
}

fn many_bios(dir: &Path) -> Result<()> {
    std::fs::create_dir(dir)?;
    for file in 0..SMALL_FILES {
        std::fs::write(dir.join(file.to_string()), BLOCK)?;
    }
    sync();
    Ok(())
}

fn many_io_ends(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    for block in 0..APART {
        file.write_all_at(&BLOCK, 2 * block * BLOCK.len() as u64)?;
    }
    sync();
    Ok(())
}

fn missed(summary: &Summary, programs: &[&str]) -> u64 {
    programs.iter().filter_map(|program| summary.probes.missed.get(*program)).sum()
}
