//! The programs' own counters, read from their per-CPU map.

use aya::{Ebpf, maps::PerCpuArray};
use endiod_wire::wire::CpuCounters;

use super::{KernelError, TotalsError, take_map};

/// The map's value, as aya wants it.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct Value(CpuCounters);

// SAFETY: CpuCounters is repr(C), integers only, without padding (asserted in wire.rs).
unsafe impl aya::Pod for Value {}

/// Totals of one CPU since load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) cpu: u16,
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

    fn values(&self) -> Result<Vec<CpuCounters>, TotalsError> {
        let values = self.map.get(&0, 0).map_err(TotalsError::Counters)?;
        Ok(values.iter().map(|value| value.0).collect())
    }

    /// Totals of every CPU on which a program ran.
    pub(super) fn read(&self) -> Result<impl Iterator<Item = Totals>, TotalsError> {
        let values = (0u16..).zip(self.values()?);
        Ok(values.filter_map(|(cpu, value)| {
            let (emitted, dropped) = (value.emitted.iter().sum(), value.dropped.iter().sum());
            (emitted > 0).then_some(Totals { cpu, emitted, dropped })
        }))
    }

    pub(super) fn untracked(&self) -> Result<u64, TotalsError> {
        Ok(self.values()?.iter().map(|value| value.untracked).sum())
    }

    pub(super) fn walks_cut(&self) -> Result<u64, TotalsError> {
        Ok(self.values()?.iter().map(|value| value.walks_cut).sum())
    }
}

/// Kernels before 5.11 charge BPF memory to RLIMIT_MEMLOCK (commit 97306be45fbe); without room, maps
/// fail with EPERM. Best effort: where it is refused, loading says so itself.
pub(super) fn raise_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a valid rlimit that the call only reads.
    let status = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
    if status != 0 {
        log::debug!("RLIMIT_MEMLOCK not raised: {}", std::io::Error::last_os_error());
    }
}
