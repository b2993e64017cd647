//! Watchpoints on the flags of live io_ends: who writes them on a healthy kernel, and a stranger that is caught in
//! the act.
//!
//! ```text
//!   saboteur   writes the flag's own value while it is listed: address, time       (kernel log)
//!   recording  WATCH_BEGIN … WATCH_END of an address; FLAG_WRITE; SYMBOL
//!   agent      finding: hash of an address @ birth, the writer's name              (summary)
//! ```
//!
//! A watchpoint is on few io_ends: what was committed on others is missed, and shown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use endiod::{
    decode::decode,
    event::{Body, IoEndAddr},
    finding::AddressKey,
    report::{Summary, Watched},
    source::trace::Reader,
};

use super::{
    conservation::buffered_line,
    crimes::{
        arm, disarm,
        kernel_log::{Committed, KernelLog},
        set,
    },
    replica::{FIXED_WIDENED, QUEUED_UNLOCKED, module},
};
use crate::{
    Facts, Guest,
    agent::Agent,
    registers,
    workload::{make_room, stress, sync},
};

/// In memory: what is recorded must not show up as ext4 I/O.
const RECORDING: &str = "/tmp/watch.endiod";
/// What no probe can see: the flag is written and stays the same.
const CRIME: &str = "flag_rewritten";
/// Registers of each CPU that a debugger has.
const TAKEN: u32 = 2;
/// Where the replica sets QUEUED, and how often it is run.
const SETS_QUEUED: &str = "replica_requeue+";
const RUNS: u32 = 150;
/// How often it is committed at each arming.
const CRIMES: u64 = 25;
/// Loads for them: no more are committed than findings are kept.
const LOADS: u32 = 8;

/// Everybody who writes a flag on a healthy kernel has a name and the right to, on every kernel.
pub(crate) fn legal_writers_only(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let agent = Agent::record(RECORDING)?;
    stress("watched", &buffered_line())?;
    sync();
    let summary = stop(agent)?;
    let told = Told::read()?;
    let watched = note(facts, &summary)?;
    facts.insert("writers".into(), told.writers.join(", ").into());
    fs::write(guest.out.join("watch.writers"), told.writers.join("\n"))?;
    ensure!(summary.findings.is_empty(), "findings: {:?}", summary.findings);
    ensure!(watched.io_ends > 0 && watched.hits > 0, "nothing was watched: {watched:?}");
    ensure!(told.unnamed == 0, "{} stores are by nobody who has a name", told.unnamed);
    ensure!(watched.hits == told.stores + watched.lost, "{watched:?}, {} told", told.stores);
    ensure!(watched.io_ends == told.watches.len() as u64, "{watched:?}");
    ensure!(told.watches.iter().all(|it| it.end_ns.is_some()), "a watchpoint was left on");
    Ok(())
}

/// The saboteur's stores that change nothing: of those under a watchpoint some are caught, with its function's
/// name, and nobody else is accused.
pub(crate) fn stranger_is_caught(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    set("odds", "1")?;
    set("count", &CRIMES.to_string())?;
    set("hold_ms", "1")?;
    let mut log = KernelLog::open()?;
    let agent = Agent::record(RECORDING)?;
    let mut committed = Vec::new();
    for seed in 1..=LOADS {
        println!("{CRIME}, load {seed} of {LOADS}");
        set("seed", &seed.to_string())?;
        arm(CRIME)?;
        load()?;
        committed.extend(log.crimes()?);
    }
    disarm()?;
    sync();
    let summary = stop(agent)?;
    fs::write(guest.out.join("watch.summary.json"), serde_json::to_vec_pretty(&summary)?)?;
    note(facts, &summary)?;
    let told = Told::read()?;
    let caught = caught(&committed, &summary, told.key)?;
    let seen = told.by_stranger;
    let suppressed: u64 = summary.suppressed.values().sum();
    for (fact, count) in [
        ("committed", committed.len() as u64),
        ("seen", seen),
        ("caught", caught),
        ("suppressed", suppressed),
    ] {
        facts.insert(fact.into(), count.into());
    }
    ensure!(seen > 0, "none of {} crimes met a watchpoint", committed.len());
    ensure!(caught > 0 && caught + suppressed >= seen, "of {seen} seen {caught} were accused");
    Ok(())
}

/// A register that somebody else has is his, and what is left is used.
pub(crate) fn others_keep_their_registers(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let cpus = u32::try_from(std::thread::available_parallelism()?.get())?;
    let taken = registers::take(TAKEN, cpus)?;
    let agent = Agent::start(&["--watchpoints", "4"])?;
    stress("registers", &buffered_line())?;
    sync();
    // They are his until now.
    drop(taken);
    let summary = agent.stop(guest, "registers")?.summary;
    let watched = note(facts, &summary)?;
    ensure!(watched.slots == 4 - TAKEN, "{TAKEN} are taken on each CPU: {watched:?}");
    ensure!(watched.hits > 0 && summary.findings.is_empty(), "{summary}");
    Ok(())
}

/// The core of 2012 sets QUEUED where its work puts an io_end back: without the lock as before the fix, with it after.
pub(crate) fn the_lock_is_read_at_the_store(_: &Guest, facts: &mut Facts) -> Result<()> {
    for (name, core) in [("unfixed", QUEUED_UNLOCKED), ("fixed", FIXED_WIDENED)] {
        module::set(core, 1)?;
        let _ = fs::remove_file(RECORDING);
        let agent = Agent::record_replica(RECORDING)?;
        module::run(RUNS)?;
        stop(agent)?;
        let (stores, unlocked) = stores_by(SETS_QUEUED)?;
        facts.insert(format!("{name}_stores"), stores.into());
        facts.insert(format!("{name}_unlocked"), unlocked.into());
        ensure!(stores > 0, "{name}: no store of {SETS_QUEUED} met a watchpoint");
        let is_fixed = core.queued_locked;
        ensure!(!is_fixed || unlocked == 0, "{name}: {unlocked} of {stores} without the lock");
        ensure!(is_fixed || unlocked > 0, "{name}: each of {stores} found the lock held");
    }
    Ok(())
}

/// Stores of a function in the recording, and those that found the lock's word 0.
fn stores_by(function: &str) -> Result<(u64, u64)> {
    let mut reader = Reader::new(fs::File::open(RECORDING)?)?;
    let mut at = BTreeSet::new();
    let (mut stores, mut unlocked) = (0, 0);
    while let Some(record) = reader.next_record()? {
        let Ok(event) = decode(record) else { continue };
        match event.body {
            Body::Symbol { address, name } if name.to_string().starts_with(function) => {
                at.insert(address.0);
            }
            Body::FlagWrite { ip, locked, .. } if at.contains(&ip.0) => {
                stores += 1;
                unlocked += u64::from(locked == Some(false));
            }
            _ => {}
        }
    }
    Ok((stores, unlocked))
}

/// Synchronous writes to holes, so that each is an io_end to convert. One thread: see `crimes::load`.
fn load() -> Result<()> {
    let dir = Path::new("/mnt/watch");
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    fs::create_dir_all(dir)?;
    let status = Command::new("endiod")
        .args(["stress", "--format", "json", "--buffered", "-t", "1", "-s", "2", "-S", "-o", "2"])
        .args(["-I", "25"])
        .args(["a", "b", "c", "d"].map(|file| dir.join(file)))
        .output()
        .context("cannot start endiod stress")?
        .status;
    ensure!(status.success(), "stress ended with {status}");
    sync();
    Ok(())
}

fn stop(agent: Agent) -> Result<Summary> {
    let (status, live, said) = agent.signal(libc::SIGTERM)?;
    ensure!(status.success(), "endiod record ended with {status}:\n{said}");
    serde_json::from_str(&live).context("the last summary is no JSON")
}

fn note(facts: &mut Facts, summary: &Summary) -> Result<Watched> {
    let watched = summary.watchpoints.context("there were no watchpoints")?;
    let born = summary.io_ends.born;
    for (fact, count) in [
        ("io_ends", born),
        ("watched", watched.io_ends),
        ("late", watched.late),
        ("hits", watched.hits),
        ("hits_lost", watched.lost),
        ("interrupts", watched.interrupts),
        ("slots", watched.slots.into()),
        ("cpus", watched.cpus.into()),
    ] {
        facts.insert(fact.into(), count.into());
    }
    facts.insert("armed_ms".into(), ((watched.armed_seconds * 1e3) as u64).into());
    let coverage = watched.coverage.unwrap_or_default();
    facts.insert("coverage".into(), format!("{:.1} %", coverage * 100.0).into());
    Ok(watched)
}

/// How many crimes were caught; every finding is of one of them, and names who did it.
fn caught(committed: &[Committed], summary: &Summary, key: AddressKey) -> Result<u64> {
    let hash = |io_end: u64| format!("{:016x}", key.hash(IoEndAddr(io_end)));
    let mut caught = 0;
    for finding in &summary.findings {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (rule, symbol) = (text(&finding["rule"]), text(&finding["parties"][1]["symbol"]));
        ensure!(
            rule == "unlocked_flag_write" && symbol.starts_with(&format!("{CRIME}+0x")),
            "found and never committed: {finding}"
        );
        let object = text(&finding["object"]);
        let of = committed.iter().find(|it| object.starts_with(&hash(it.io_end)));
        ensure!(of.is_some(), "of an io_end that no crime was committed on: {finding}");
        caught += 1;
    }
    Ok(caught)
}

/// One watchpoint's time on an io_end.
struct Watch {
    io_end: u64,
    end_ns: Option<u64>,
}

/// A recording, as far as watchpoints go.
struct Told {
    key: AddressKey,
    watches: Vec<Watch>,
    stores: u64,
    unnamed: u64,
    /// By the crime's function.
    by_stranger: u64,
    /// Who wrote, with how often.
    writers: Vec<String>,
}

impl Told {
    fn read() -> Result<Told> {
        let mut reader = Reader::new(fs::File::open(RECORDING)?)?;
        let mut key = AddressKey(0);
        let (mut watches, mut stores, mut unnamed) = (Vec::<Watch>::new(), 0, 0);
        let mut names = BTreeMap::new();
        let mut writers = BTreeMap::<String, u64>::new();
        while let Some(record) = reader.next_record()? {
            let Ok(event) = decode(record) else { continue };
            match event.body {
                Body::Host { hash_key, .. } => key = AddressKey(hash_key),
                Body::Symbol { address, name } => drop(names.insert(address, name.to_string())),
                Body::FlagWrite { ip, .. } => {
                    stores += 1;
                    match names.get(&ip) {
                        Some(name) => *writers.entry(name.clone()).or_default() += 1,
                        None => unnamed += 1,
                    }
                }
                Body::WatchBegin { io_end, .. } => {
                    watches.push(Watch { io_end: io_end.0, end_ns: None });
                }
                Body::WatchEnd { io_end, at, .. } => {
                    let of = |it: &&mut Watch| it.io_end == io_end.0 && it.end_ns.is_none();
                    let watch = watches.iter_mut().rev().find(of);
                    let watch = watch.context("a watchpoint ended that never began")?;
                    watch.end_ns = Some(at.0);
                }
                _ => {}
            }
        }
        let of_crime = writers.iter().filter(|(name, _)| name.starts_with(CRIME));
        let by_stranger = of_crime.map(|(_, count)| count).sum();
        let writers = writers.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        Ok(Told { key, watches, stores, unnamed, by_stranger, writers })
    }
}
