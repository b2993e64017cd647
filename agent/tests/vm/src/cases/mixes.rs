//! Mixes of I/O on a healthy kernel, each for as long as the harness says: nobody is accused, no core
//! diverges, every life is whole, and the counts that this stands on are shown.
//!
//! A mix works in rounds, each on fresh files: what was written once is never converted again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use endiod::report::Summary;
use serde_json::Value;

use super::{
    Case, Run, Suite,
    conservation::{buffered_line, check_lives, check_misses, check_stream},
    mounts::{Counter, SLICES, note_records},
};
use crate::{
    Facts, Guest,
    agent::Agent,
    checked,
    workload::{COMMIT_LINE, make_room, stress, sync},
};

/// fio and its libraries, as the harness put them into the guest.
const FIO: &str = "/in/fio";
/// What a mix at least shows of what it does: half of what one thread of its first round issues.
const COUNT_MIN: u64 = 16;
/// Threads of the checked operations, a file each.
const CHECKERS: u64 = 4;
/// How often a mix says that it goes on: the harness ends a guest that says nothing for long.
const WORD: Duration = Duration::from_secs(30);
/// Operations of a thread in a round.
const OPERATIONS: u32 = 400;

/// Who writes.
#[derive(Debug)]
enum Load {
    /// The line of commit 491caa43639a, around the page cache and through it.
    Stress,
    /// Jobs of fio, beside what all of them are told.
    Fio(&'static [&'static str]),
    /// File operations whose outcome is compared with a model.
    Checked,
}

/// A line of the table.
#[derive(Debug)]
pub(crate) struct Mix {
    name: &'static str,
    load: Load,
    /// Whether it writes around the page cache.
    is_direct: bool,
}

const MIXES: &[Mix] = &[
    Mix { name: "mix: stress", load: Load::Stress, is_direct: true },
    Mix {
        name: "mix: fio buffered",
        load: Load::Fio(&["--name=buffered", "--rw=randwrite", "--bsrange=4k-64k", "--fsync=32"]),
        is_direct: false,
    },
    Mix {
        name: "mix: fio direct",
        load: Load::Fio(&[
            "--name=direct",
            "--rw=randwrite",
            "--direct=1",
            "--ioengine=libaio",
            "--iodepth=8",
            "--bsrange=4k-64k",
            "--name=buffered",
            "--rw=write",
            "--bs=32k",
            "--fsync=16",
        ]),
        is_direct: true,
    },
    Mix {
        name: "mix: fio mixed fsync",
        load: Load::Fio(&[
            "--name=fsync",
            "--rw=randwrite",
            "--bsrange=4k-32k",
            "--fsync=4",
            "--name=fdatasync",
            "--rw=randwrite",
            "--bsrange=4k-32k",
            "--fdatasync=3",
            "--sync_file_range=write:8",
        ]),
        is_direct: false,
    },
    Mix {
        name: "mix: fio fallocate",
        load: Load::Fio(&[
            "--name=preallocated",
            "--fallocate=posix",
            "--rw=randwrite",
            "--bs=16k",
            "--fdatasync=8",
        ]),
        is_direct: false,
    },
    Mix { name: "mix: checked operations", load: Load::Checked, is_direct: true },
];

/// The mixes as cases.
pub(super) fn cases() -> impl Iterator<Item = Case> {
    MIXES.iter().map(|mix| Case {
        suite: Suite::Mixes,
        name: mix.name,
        absent: super::always,
        run: Run::Mix(mix),
    })
}

/// Runs one mix for its time.
pub(super) fn run(mix: &Mix, guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::start(&["--findings-dir", SLICES])?;
    let rounds = load(mix, guest.mix_time)?;
    note_records(&agent, facts)?;
    let file = mix.name.replace([':', ' '], "_");
    let summary = agent.stop(guest, &file)?.summary;
    facts.insert("rounds".into(), rounds.into());
    check(mix, &summary, facts)
}

/// The mix of that name for so long, for who looks at something else than what it does.
pub(super) fn load_named(name: &str, time: Duration) -> Result<()> {
    let mix = MIXES.iter().find(|mix| mix.name == name);
    load(mix.with_context(|| format!("there is no {name}"))?, time).map(|_| ())
}

/// A mix for its time, and how many rounds that took.
fn load(mix: &Mix, time: Duration) -> Result<u32> {
    let (begun, mut rounds, mut told) = (Instant::now(), 0_u32, Duration::ZERO);
    while rounds == 0 || begun.elapsed() < time {
        rounds += 1;
        round(&mix.load, rounds).with_context(|| format!("round {rounds}"))?;
        make_room()?;
        let elapsed = begun.elapsed();
        if elapsed - told >= WORD {
            told = elapsed;
            println!("{}: round {rounds}, {:.0} s", mix.name, elapsed.as_secs_f64());
        }
    }
    Ok(rounds)
}

fn round(load: &Load, round: u32) -> Result<()> {
    match load {
        Load::Stress => {
            stress("direct", &COMMIT_LINE)?;
            stress("buffered", &buffered_line())?;
        }
        Load::Fio(jobs) => fio(jobs, round)?,
        Load::Checked => checked_files(round)?,
    }
    sync();
    Ok(())
}

/// What all jobs are told; the files are made by the writes themselves.
fn fio(jobs: &[&str], seed: u32) -> Result<()> {
    let dir = directory("fio")?;
    let output = Command::new(format!("{FIO}/ld-linux-x86-64.so.2"))
        .args(["--library-path", FIO, &format!("{FIO}/fio")])
        .args(["--output-format=json", "--group_reporting", "--thread", "--fallocate=none"])
        .args(["--size=4m", "--numjobs=4", "--create_on_open=1", "--end_fsync=1"])
        .arg(format!("--randseed={seed}"))
        .arg(format!("--directory={}", dir.display()))
        .args(jobs)
        .output()
        .context("cannot start fio")?;
    let [told, said] = [&output.stdout, &output.stderr].map(|it| String::from_utf8_lossy(it));
    ensure!(output.status.success(), "fio ended with {}: {said}{told}", output.status);
    let json = told.find('{').map(|at| &told[at..]).context("fio wrote no JSON")?;
    let report: Value = serde_json::from_str(json).context("fio wrote no JSON")?;
    let groups = report["jobs"].as_array().context("fio told of no job")?;
    for group in groups {
        let written = group["write"]["total_ios"].as_u64();
        ensure!(group["error"] == 0 && written > Some(0), "fio failed or wrote nothing: {group}");
    }
    Ok(())
}

fn checked_files(round: u32) -> Result<()> {
    let dir = directory("checked")?;
    let dir = &dir;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CHECKERS)
            .map(|thread| {
                let seed = u64::from(round) * CHECKERS + thread;
                let path = dir.join(format!("f{thread}"));
                scope.spawn(move || checked::file(&path, seed, OPERATIONS))
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a checker panicked"))??;
        }
        Ok(())
    })
}

fn directory(name: &str) -> Result<PathBuf> {
    let dir = Path::new("/mnt").join(name);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

fn check(mix: &Mix, summary: &Summary, facts: &mut Facts) -> Result<()> {
    for counter in Counter::ALL {
        let (name, count) = counter.of(summary);
        facts.insert(name.into(), count.into());
        let is_done = counter != Counter::Direct || mix.is_direct;
        ensure!(
            !is_done || count >= COUNT_MIN,
            "{name}: {count} seen, {COUNT_MIN} are needed to prove anything: {summary}"
        );
    }
    facts.insert("missed".into(), summary.missed().into());
    facts.insert("lost".into(), summary.dropped().into());
    let suppressed: u64 = summary.suppressed.values().sum();
    facts.insert("suppressed".into(), suppressed.into());
    ensure!(summary.findings.is_empty(), "findings on a healthy kernel: {:?}", summary.findings);
    ensure!(summary.dropped() == 0, "records were lost: {summary}");
    check_stream(summary)?;
    check_misses(summary)?;
    check_lives(summary)
}
