//! What a skipped return leaves in a table goes with its task, shown without waiting for the kernel to
//! skip one: the program at the entry of fsync is attached and the one at its return is not.

use std::{
    fs::File,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{HashMap, MapData, PerCpuArray},
    programs::{FEntry, RawTracePoint},
};
use endiod::{host::Host, source::kernel::object};
use endiod_wire::wire::task_table;

use super::nesting::Counters;
use crate::{Facts, Guest};

/// Longest time from the end of a thread for us to the end of its task for the kernel.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tasks that leave an entry behind, and room for no more.
const TASKS: u32 = 4;

pub(crate) fn go_with_their_tasks(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let object = object(Host::default().version()?).context("endiod was built without programs")?;
    let mut ebpf = EbpfLoader::new().map_max_entries("OPEN_FSYNCS", TASKS).load(object)?;
    let entry: &mut FEntry =
        ebpf.program_mut("ext4_sync_file").context("no program")?.try_into()?;
    entry.load("ext4_sync_file", &Btf::from_sys_fs()?)?;
    entry.attach()?;
    let mut table = Table::of(&mut ebpf)?;
    let stale = fsync_and_end()?;
    ensure!(table.has(stale)?, "without the sweeper the entry of an ended task stays");
    table.open.remove(&stale)?;
    let sweeper = ebpf.program_mut("tp_sched_process_exit").context("no program")?;
    let sweeper: &mut RawTracePoint = sweeper.try_into()?;
    sweeper.load()?;
    sweeper.attach("sched_process_exit")?;
    // More in turn than the table takes at once.
    for _ in 0..2 * TASKS {
        let tid = fsync_and(|tid| {
            ensure!(table.has(tid)?, "the entry of a task that lives on was taken out");
            Ok(())
        })?;
        table.wait_until_gone(tid)?;
    }
    let swept = table.swept()?;
    facts.insert("swept".into(), swept.into());
    ensure!(swept == u64::from(2 * TASKS), "{swept} entries were counted");
    Ok(())
}

/// A thread fsyncs, then ends.
fn fsync_and_end() -> Result<u32> {
    fsync_and(|_| Ok(()))
}

/// A thread fsyncs, waits for `meanwhile`, then ends; returns what its id was.
fn fsync_and(meanwhile: impl FnOnce(u32) -> Result<()>) -> Result<u32> {
    let (told, tid) = mpsc::channel();
    let (go_on, gone_on) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || -> Result<()> {
        File::create("/mnt/left-entries")?.sync_all()?;
        // SAFETY: gettid(2) takes nothing and cannot fail.
        told.send(u32::try_from(unsafe { libc::gettid() })?)?;
        // It fails when the other side is done, which is as well.
        let _ = gone_on.recv();
        Ok(())
    });
    let tid = tid.recv();
    let result = tid.as_ref().map_or(Ok(()), |tid| meanwhile(*tid));
    drop(go_on);
    thread.join().map_err(|_| anyhow::anyhow!("the thread panicked"))??;
    result?;
    Ok(tid?)
}

/// The programs' table of open fsyncs.
struct Table {
    open: HashMap<MapData, u32, u64>,
    counters: PerCpuArray<MapData, Counters>,
}

impl Table {
    fn of(ebpf: &mut Ebpf) -> Result<Table> {
        let open = ebpf.take_map("OPEN_FSYNCS").context("no map OPEN_FSYNCS")?;
        let counters = ebpf.take_map("CPUS").context("no map CPUS")?;
        Ok(Table { open: HashMap::try_from(open)?, counters: PerCpuArray::try_from(counters)? })
    }

    fn has(&self, tid: u32) -> Result<bool> {
        match self.open.get(&tid, 0) {
            Ok(_) => Ok(true),
            Err(aya::maps::MapError::KeyNotFound) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A thread is joined when its memory is given up, a little before the kernel reports its end.
    fn wait_until_gone(&self, tid: u32) -> Result<()> {
        let start = Instant::now();
        while self.has(tid)? {
            ensure!(
                start.elapsed() < PATIENCE,
                "task {tid} has ended and its entry is still there"
            );
            std::thread::yield_now();
        }
        Ok(())
    }

    fn swept(&self) -> Result<u64> {
        let cpus = self.counters.get(&0, 0)?;
        Ok(cpus.iter().map(|cpu| cpu.0.swept[task_table::OPEN_FSYNCS]).sum())
    }
}
