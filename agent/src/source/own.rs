//! Records that the agent writes into the stream itself: host, bounds, probes, time and loss.
//!
//! What is behind the decoder learns time, loss and names from these records only, so that a
//! recording replays to the same verdicts.

use std::mem::size_of;

use endiod_wire::wire::{self, Header, Record, bytes_of, config_key};

use crate::{
    clock,
    event::{Cpu, DevId, IoEndAddr, LeftOut, Name, Nanos, ProbeId, WatchTotals},
    host::Cgroup,
    limits,
};

/// What the agent decides for a stream.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Key of the hashes that stand for kernel addresses.
    pub hash_key: u64,
    /// Most io_ends that are followed at once, at most [`limits::IO_ENDS_MAX`].
    pub io_ends_max: usize,
    /// Age in one state from which an object is told as stuck; zero: never.
    pub stuck_after: Nanos,
}

/// Writes the agent's records, numbered on their own.
#[derive(Clone, Debug, Default)]
pub struct OwnRecords {
    seq: u64,
    ticks: u64,
}

impl OwnRecords {
    fn header<R: Record>(&mut self) -> Header {
        self.seq += 1;
        Header {
            kind: R::KIND,
            len: u16::try_from(size_of::<R>()).expect("records are at most 256 bytes"),
            cpu: wire::AGENT_CPU,
            lane: 0,
            context: wire::context::TASK,
            seq: self.seq,
            time_ns: clock::monotonic().0,
            tid: 0,
            tgid: std::process::id(),
        }
    }

    /// What every stream begins with: host and bounds.
    pub fn begin(
        &mut self,
        cpus: u32,
        release: &str,
        opening: Opening,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        self.host(cpus, release, opening.hash_key, deliver);
        for (key, bound) in [
            (config_key::IO_ENDS_MAX, opening.io_ends_max),
            (config_key::DIRECT_IOS_MAX, limits::DIRECT_IOS_MAX),
            (config_key::FSYNCS_MAX, limits::FSYNCS_MAX),
        ] {
            self.config(key, bound as u64, deliver);
        }
        self.stuck_after(opening.stuck_after, deliver);
    }

    /// From which age in one state on an object is stuck; zero: never.
    pub fn stuck_after(&mut self, age: Nanos, deliver: &mut dyn FnMut(&[u8])) {
        self.config(config_key::STUCK_AFTER_NS, age.0, deliver);
    }

    /// The host; a stream's first record.
    pub fn host(
        &mut self,
        cpus: u32,
        release: &str,
        hash_key: u64,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let header = self.header::<wire::Host>();
        let release = Name::<64>::new(release).0;
        let version = wire::VERSION;
        deliver(bytes_of(&wire::Host { header, version, pad: 0, cpus, release, hash_key }));
    }

    /// A device, before its first use.
    pub fn device(&mut self, dev: DevId, name: &str, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::Device>();
        let name = Name::<32>::new(name).0;
        deliver(bytes_of(&wire::Device { header, dev: dev.0, pad: 0, name }));
    }

    /// What a task is called.
    pub fn task_name(&mut self, task: u32, comm: [u8; 16], deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::TaskName>();
        deliver(bytes_of(&wire::TaskName { header, task, pad: 0, comm }));
    }

    /// The cgroup of a process.
    pub fn task_cgroup(&mut self, task: u32, cgroup: &Cgroup, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::TaskCgroup>();
        let Cgroup { path, cut, v1 } = *cgroup;
        let bits = if cut { wire::cgroup::CUT } else { 0 } | if v1 { wire::cgroup::V1 } else { 0 };
        deliver(bytes_of(&wire::TaskCgroup { header, task, bits, path }));
    }

    /// A kernel symbol, before its first use.
    pub fn symbol(&mut self, address: u64, name: &str, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::Symbol>();
        let name = Name::<64>::new(name).0;
        deliver(bytes_of(&wire::Symbol { header, address, name }));
    }

    /// A bound in force, one of `wire::config_key`.
    pub fn config(&mut self, key: u32, value: u64, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::Config>();
        deliver(bytes_of(&wire::Config { header, key, pad: 0, value }));
    }

    /// A probe was attached by that back end, is not needed, or failed.
    pub fn attach(
        &mut self,
        probe: ProbeId,
        backend: u8,
        failed: bool,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let header = self.header::<wire::Attach>();
        let failed = u8::from(failed);
        deliver(bytes_of(&wire::Attach { header, probe: probe.0, backend, failed, pad: [0; 2] }));
    }

    /// A probe was detached.
    pub fn detach(&mut self, probe: ProbeId, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::Detach>();
        deliver(bytes_of(&wire::Detach { header, probe: probe.0, pad: 0 }));
    }

    /// One CPU's totals; to be written after the ring was drained.
    pub fn loss(
        &mut self,
        of_cpu: Cpu,
        emitted: u64,
        dropped: u64,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let header = self.header::<wire::Loss>();
        let of_cpu = u32::from(of_cpu.0);
        deliver(bytes_of(&wire::Loss { header, of_cpu, pad: 0, emitted, dropped }));
    }

    /// What the programs left out at their own bounds; read and written with the CPUs' totals.
    pub fn program_loss(&mut self, left_out: LeftOut, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::ProgramLoss>();
        deliver(bytes_of(&wire::ProgramLoss { header, left_out: left_out.0 }));
    }

    /// One probe's skipped hits since attach.
    pub fn misses(&mut self, probe: ProbeId, total: u64, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::Misses>();
        deliver(bytes_of(&wire::Misses { header, probe: probe.0, pad: 0, total }));
    }

    /// A watchpoint was put on an io_end.
    pub fn watch_begin(
        &mut self,
        io_end: IoEndAddr,
        at: Nanos,
        slot: u32,
        cpus: u32,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let header = self.header::<wire::WatchBegin>();
        let (io_end, at_ns) = (io_end.0, at.0);
        deliver(bytes_of(&wire::WatchBegin { header, io_end, at_ns, slot, cpus }));
    }

    /// It was taken off, by one of `wire::watch_end`.
    pub fn watch_end(
        &mut self,
        io_end: IoEndAddr,
        at: Nanos,
        slot: u32,
        why: u32,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        let header = self.header::<wire::WatchEnd>();
        let (io_end, at_ns) = (io_end.0, at.0);
        deliver(bytes_of(&wire::WatchEnd { header, io_end, at_ns, slot, why }));
    }

    /// What the watchpoints did so far.
    pub fn watch_totals(&mut self, totals: WatchTotals, deliver: &mut dyn FnMut(&[u8])) {
        let header = self.header::<wire::WatchTotals>();
        let WatchTotals { hits, lost, interrupts, late, slots, cpus } = totals;
        deliver(bytes_of(&wire::WatchTotals { header, hits, lost, interrupts, late, slots, cpus }));
    }

    /// Closes an epoch: everything before it was emitted before it.
    pub fn tick(&mut self, deliver: &mut dyn FnMut(&[u8])) {
        self.ticks += 1;
        let header = self.header::<wire::Tick>();
        deliver(bytes_of(&wire::Tick { header, ordinal: self.ticks }));
    }
}
