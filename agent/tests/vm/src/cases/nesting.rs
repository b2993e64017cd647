//! Sequence numbers under nested interrupts, forced: a program in a task is interrupted by another
//! on the same CPU, in the middle of its run, again and again.
//!
//! Beside every record both programs add to a counter the naive way (load, add, store). What that
//! counter lacks in the end is what the interrupts would have done to a naive sequence number: a run
//! in which it lacks nothing proves nothing and fails.

use std::{
    collections::HashMap,
    fs::File,
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::{FEntry, RawTracePoint, RawTracePointRunOptions, TestRun as _},
};
use endiod::{
    decode::decode,
    event::{Body, Event},
    host::Host,
    source::kernel::object,
};
use endiod_wire::wire::{CpuCounters, NESTING_LONG_RUN};

use crate::{Facts, Guest, hindrance::on_cpu_0, workload::sync};

/// Enough interruptions to mean something.
const NESTED_MIN: u64 = 100;
/// How long to try.
const PATIENCE: Duration = Duration::from_secs(180);
/// Role of the interrupted program in its records.
const LONG: u32 = 1;

pub(crate) fn numbers_survive(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let version = Host::default().version()?;
    let object = object(version).context("endiod was built without programs")?;
    let mut ebpf = EbpfLoader::new().load(object)?;
    attach_short(&mut ebpf)?;
    load_long(&mut ebpf)?;
    let mut numbers = Numbers::new(&mut ebpf)?;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| -> Result<()> {
        let writer = scope.spawn(|| on_cpu_0(|| write_until(&stop)));
        let result = on_cpu_0(|| run_long(&mut ebpf, &mut numbers));
        stop.store(true, Ordering::Relaxed);
        writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
        result
    })?;
    numbers.check(facts)
}

fn attach_short(ebpf: &mut Ebpf) -> Result<()> {
    let short: &mut FEntry = ebpf.program_mut("nesting_short").context("no program")?.try_into()?;
    short.load("ext4_end_bio", &Btf::from_sys_fs()?)?;
    short.attach()?;
    Ok(())
}

fn load_long(ebpf: &mut Ebpf) -> Result<()> {
    let long: &mut RawTracePoint =
        ebpf.program_mut("nesting_long").context("no program")?.try_into()?;
    long.load()?;
    Ok(())
}

/// Runs the long program, on CPU 0, until it was interrupted often enough.
fn run_long(ebpf: &mut Ebpf, numbers: &mut Numbers) -> Result<()> {
    let start = Instant::now();
    while numbers.nested < NESTED_MIN && start.elapsed() < PATIENCE {
        let long: &mut RawTracePoint =
            ebpf.program_mut("nesting_long").context("no program")?.try_into()?;
        for _ in 0..16 {
            long.test_run(RawTracePointRunOptions::new())?;
        }
        numbers.drain()?;
    }
    Ok(())
}

/// Writes and syncs, on CPU 0, so that the device interrupts that CPU.
fn write_until(stop: &AtomicBool) -> Result<()> {
    let mut file = File::create("/mnt/nesting")?;
    while !stop.load(Ordering::Relaxed) {
        file.write_all(&[1; 16 << 10])?;
        file.sync_data()?;
    }
    sync();
    Ok(())
}

/// The programs' counters, as aya wants them.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(super) struct Counters(pub(super) CpuCounters);

// SAFETY: CpuCounters is repr(C), integers only, without padding (asserted in wire.rs).
unsafe impl aya::Pod for Counters {}

/// What arrived.
struct Numbers {
    ring: RingBuf<MapData>,
    control: PerCpuArray<MapData, u64>,
    counters: PerCpuArray<MapData, Counters>,
    /// Numbers per (CPU, lane).
    lanes: HashMap<(u16, u8), Vec<u64>>,
    /// Whether the last record of the interrupted program left its run unfinished.
    in_long_run: bool,
    nested: u64,
    records: u64,
}

impl Numbers {
    fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let control = ebpf.take_map("NESTING_CONTROL").context("no map NESTING_CONTROL")?;
        let counters = ebpf.take_map("CPUS").context("no map CPUS")?;
        let ring = ebpf.take_map("EVENTS").context("no map EVENTS")?;
        Ok(Numbers {
            ring: RingBuf::try_from(ring)?,
            control: PerCpuArray::try_from(control)?,
            counters: PerCpuArray::try_from(counters)?,
            lanes: HashMap::new(),
            in_long_run: false,
            nested: 0,
            records: 0,
        })
    }

    fn drain(&mut self) -> Result<()> {
        while let Some(record) = self.ring.next() {
            let Event { stamp, body } = decode(&record)?;
            let Body::Nesting { role, step } = body else { continue };
            let cpu = stamp.cpu.context("a record of the agent in the programs' ring")?;
            self.lanes.entry((cpu.0, stamp.lane)).or_default().push(stamp.seq);
            self.records += 1;
            if role == LONG {
                self.in_long_run = step + 1 < NESTING_LONG_RUN;
            } else if self.in_long_run && cpu.0 == 0 {
                self.nested += 1;
            }
        }
        Ok(())
    }

    fn check(mut self, facts: &mut Facts) -> Result<()> {
        self.drain()?;
        let dropped: u64 = self.counters.get(&0, 0)?.iter().flat_map(|cpu| cpu.0.dropped).sum();
        let naive: u64 = self.control.get(&0, 0)?.iter().sum();
        facts.insert("records".into(), self.records.into());
        facts.insert("nested".into(), self.nested.into());
        facts.insert("naive_would_lack".into(), (self.records - naive.min(self.records)).into());
        facts.insert("lanes".into(), self.lanes.len().into());
        ensure!(
            dropped == 0,
            "{dropped} records were dropped: the ring is too small for this test"
        );
        ensure!(self.nested >= NESTED_MIN, "only {} interruptions: proves nothing", self.nested);
        ensure!(naive < self.records, "the naive counter lacks nothing: nothing interfered");
        for ((cpu, lane), seqs) in &mut self.lanes {
            seqs.sort_unstable();
            let dense = seqs.iter().zip(1..).all(|(seq, expected)| *seq == expected);
            ensure!(dense, "the numbers of CPU {cpu}, lane {lane} are not 1 to {}", seqs.len());
        }
        Ok(())
    }
}
