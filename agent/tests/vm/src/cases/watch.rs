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

use std::{collections::BTreeMap, fs, path::Path, process::Command};

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
    let writers = told.writers.iter().map(|(place, stores)| format!("{place}: {}", stores.all));
    let writers: Vec<_> = writers.collect();
    facts.insert("writers".into(), writers.join(", ").into());
    fs::write(guest.out.join("watch.writers"), writers.join("\n"))?;
    let stores = told.stores_by("").all + told.unnamed;
    ensure!(summary.findings.is_empty(), "findings: {:?}", summary.findings);
    ensure!(watched.io_ends > 0 && watched.hits > 0, "nothing was watched: {watched:?}");
    ensure!(told.unnamed == 0, "{} stores are by nobody who has a name", told.unnamed);
    ensure!(watched.hits == stores + watched.lost, "{watched:?}, {stores} told");
    ensure!(watched.io_ends == told.begun, "{watched:?}");
    ensure!(told.left_on.is_empty(), "a watchpoint was left on");
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
    let caught = caught(&committed, &summary, told.key.context("no HOST")?)?;
    let seen = told.stores_by(CRIME).all;
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
        let Stores { all: stores, unlocked } = Told::read()?.stores_by(SETS_QUEUED);
        facts.insert(format!("{name}_stores"), stores.into());
        facts.insert(format!("{name}_unlocked"), unlocked.into());
        ensure!(stores > 0, "{name}: no store of {SETS_QUEUED} met a watchpoint");
        let is_fixed = core.queued_locked;
        ensure!(!is_fixed || unlocked == 0, "{name}: {unlocked} of {stores} without the lock");
        ensure!(is_fixed || unlocked > 0, "{name}: each of {stores} found the lock held");
    }
    Ok(())
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
    let hash = |io_end: u64| format!("{:016x}", key.hash_of(io_end));
    let mut caught = 0;
    for finding in &summary.findings {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (rule, symbol) = (text(&finding["rule"]), text(&finding["parties"][1]["symbol"]));
        ensure!(
            rule == "unlocked_flag_write" && symbol.starts_with(&format!("{CRIME}+0x")),
            "found and never committed: {finding}"
        );
        let object = text(&finding["object"]);
        let of = committed.iter().find(|it| object.starts_with(&hash(it.object)));
        ensure!(of.is_some(), "of an io_end that no crime was committed on: {finding}");
        caught += 1;
    }
    Ok(caught)
}

/// Stores of a function.
#[derive(Clone, Copy, Debug, Default)]
struct Stores {
    all: u64,
    /// Of those, the ones that found the word of the list's lock 0.
    unlocked: u64,
}

/// A recording, as far as watchpoints go.
#[derive(Default)]
struct Told {
    key: Option<AddressKey>,
    begun: u64,
    /// Whose watchpoints were not taken off. One that is born where another died may have its own before
    /// that one's is off.
    left_on: Vec<IoEndAddr>,
    unnamed: u64,
    /// By the place in a function.
    writers: BTreeMap<String, Stores>,
}

impl Told {
    fn read() -> Result<Told> {
        let mut reader = Reader::new(fs::File::open(RECORDING)?)?;
        let (mut told, mut names) = (Told::default(), BTreeMap::new());
        while let Some(record) = reader.next_record()? {
            let Ok(event) = decode(record) else { continue };
            match event.body {
                Body::Host { hash_key, .. } => told.key = Some(AddressKey(hash_key)),
                Body::Symbol { address, name } => drop(names.insert(address, name.to_string())),
                Body::FlagWrite { ip, locked, .. } => match names.get(&ip) {
                    Some(name) => {
                        let stores = told.writers.entry(name.clone()).or_default();
                        stores.all += 1;
                        stores.unlocked += u64::from(locked == Some(false));
                    }
                    None => told.unnamed += 1,
                },
                Body::WatchBegin { io_end, .. } => {
                    told.begun += 1;
                    told.left_on.push(io_end);
                }
                Body::WatchEnd { io_end, .. } => {
                    let at = told.left_on.iter().position(|it| *it == io_end);
                    told.left_on.swap_remove(at.context("a watchpoint ended that never began")?);
                }
                _ => {}
            }
        }
        Ok(told)
    }

    /// Of the function that the place is in, or of all.
    fn stores_by(&self, function: &str) -> Stores {
        let of = self.writers.iter().filter(|(place, _)| place.starts_with(function));
        of.fold(Stores::default(), |sum, (_, stores)| Stores {
            all: sum.all + stores.all,
            unlocked: sum.unlocked + stores.unlocked,
        })
    }
}
