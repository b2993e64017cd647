//! The programs' own counters, read from their per-CPU map.

use aya::{Ebpf, maps::PerCpuArray};
use endiod_wire::wire::{CpuCounters, TASK_TABLES};
use serde::{Deserialize, Serialize};

use super::{KernelError, TotalsError, holder::take_map};
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::event::{Cpu, LeftOut};

/// The map's value, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value(CpuCounters);

// SAFETY: CpuCounters is repr(C), integers only, without padding (asserted in wire.rs).
unsafe impl aya::Pod for Value {}

/// Totals since load, read at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Read {
    /// Of every CPU on which a program emitted something.
    pub(super) cpus: Vec<CpuTotals>,
    /// Of all CPUs.
    pub(super) left_out: LeftOut,
    /// Of all CPUs.
    pub(super) swept: Swept,
}

/// Entries that ended tasks had left in the programs' tables, by `wire::task_table`.
pub type Swept = [u64; TASK_TABLES];

/// Totals of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CpuTotals {
    pub(super) cpu: Cpu,
    pub(super) emitted: u64,
    pub(super) dropped: u64,
}

/// The counters of all CPUs.
pub(super) struct Counters {
    map: PerCpuArray<aya::maps::MapData, Value>,
}

impl Counters {
    pub(super) fn open(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Counters { map: take_map(ebpf, "CPUS", PerCpuArray::try_from)? })
    }

    pub(super) fn read(&self) -> Result<Read, TotalsError> {
        let values = self.map.get(&0, 0).map_err(TotalsError::Counters)?;
        Ok(sum(values.iter().map(|value| value.0)))
    }
}

/// Adds up each CPU's lanes, and what all of them left out.
fn sum(values: impl Iterator<Item = CpuCounters>) -> Read {
    let mut read = Read::default();
    for (cpu, value) in (0..).map(Cpu).zip(values) {
        let (emitted, dropped) = (value.emitted.iter().sum(), value.dropped.iter().sum());
        if emitted > 0 {
            read.cpus.push(CpuTotals { cpu, emitted, dropped });
        }
        let lanes = value.left_out.into_iter().map(LeftOut);
        read.left_out = lanes.fold(read.left_out, |sum, lane| sum.and(lane));
        for (sum, of_cpu) in read.swept.iter_mut().zip(value.swept) {
            *sum += of_cpu;
        }
    }
    read
}

/// Kernels before 5.11 charge BPF memory to RLIMIT_MEMLOCK (commit 97306be45fbe); without room, maps
/// fail with EPERM. And who moves watchpoints is to run as soon as it is woken. Both may be raised by who is
/// privileged, and are for who no longer is. Best effort: where it is refused, loading says so itself.
pub fn raise_limits() {
    /// The nicest of all, -20, as RLIMIT_NICE has it (getrlimit(2)).
    const NICEST: u64 = 40;
    for (which, most) in [(Resource::Memlock, None), (Resource::Nice, Some(NICEST))] {
        if let Err(error) = setrlimit(which, Rlimit { current: most, maximum: most }) {
            log::debug!("{which:?} not raised: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use endiod_wire::wire::{BOUNDS, LANES};

    use super::*;

    fn idle() -> CpuCounters {
        CpuCounters {
            emitted: [0; LANES],
            dropped: [0; LANES],
            left_out: [[0; BOUNDS]; LANES],
            swept: [0; TASK_TABLES],
            depth: 0,
            logged_ns: 0,
            preempt_count_at: 0,
            releasing: [0; 8],
        }
    }

    #[test]
    fn lanes_add_up_per_cpu_and_what_was_left_out_or_swept_over_all() {
        let mut first = idle();
        (first.emitted[0], first.emitted[2], first.dropped[2]) = (5, 3, 1);
        (first.left_out[0][0], first.left_out[2][4]) = (2, 7);
        first.swept = [3, 0, 1];
        let mut third = idle();
        third.emitted[0] = 4;
        third.left_out[0][0] = 1;
        third.swept = [1, 1, 0];
        let read = sum([first, idle(), third].into_iter());
        let cpus = [(0, 8, 1), (2, 4, 0)];
        let cpus =
            cpus.map(|(cpu, emitted, dropped)| CpuTotals { cpu: Cpu(cpu), emitted, dropped });
        let left_out = LeftOut([3, 0, 0, 0, 7]);
        assert_eq!(read, Read { cpus: cpus.to_vec(), left_out, swept: [4, 1, 1] });
    }
}
