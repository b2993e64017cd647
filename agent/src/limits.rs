//! Every bound of the core: its value, why it is that, and the counter that shows it was reached.
//!
//! A table that reaches its bound refuses the newcomer and counts it; nothing grows instead. The
//! values are defaults: what a stream was taken with is told by its CONFIG records. A bound must
//! never be written as a number anywhere else.

use crate::event::Nanos;

/// Five minutes without a step. What is open for so long since a loss is taken for over: its age was
/// shown all the while, and an alert on it has fired.
pub const GHOST_AGE: Nanos = Nanos(300_000_000_000);

/// Age from which an object is told as stuck, unless `--stuck-after` says otherwise: the time after which the
/// kernel aborts a command of a SCSI or NVMe disk (5.10 to 7.3), so that a device that works never takes it,
/// and a quarter of the 120 s after which the kernel warns of hung tasks.
pub const STUCK_AFTER: Nanos = Nanos(30_000_000_000);

/// One bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Name, with its unit last.
    pub name: &'static str,
    /// The value.
    pub value: usize,
    /// Why this value.
    pub reason: &'static str,
    /// What counts when it is reached.
    pub counter: &'static str,
}

macro_rules! limits {
    ($( $konst:ident, $name:literal = $value:expr, $reason:literal, $counter:literal; )*) => {
        $(
            #[doc = $reason]
            pub const $konst: usize = $value;
        )*
        /// All bounds, one row each.
        pub const LIMITS: &[Limit] = &[
            $( Limit { name: $name, value: $konst, reason: $reason, counter: $counter }, )*
        ];
    };
}

limits! {
    IO_ENDS_MAX, "io_ends_max" = 32_768, "A saturated device of 4 MiB io_ends has 128 GiB in flight before it is reached; 9 MiB of objects.", "endiod_events_lost_total{stage=table,reason=io_ends}";
    TOMBSTONES_MAX, "tombstones_max" = 2_048, "Use after release follows the release within the run of a work item; 2,048 later releases cover it.", "none: the oldest is forgotten, as the rules state";
    HISTORY_LEN, "history_len" = 10, "The last ten steps show both parties of every rule and keep an object within 304 bytes.", "history_skipped of the finding";
    WORKERS_MAX, "workers_max" = 256, "The conversion queue has max_active 1 (3.11 to 7.3), so one open run per mounted ext4.", "endiod_events_lost_total{stage=table,reason=workers}";
    BIOS_MAX, "bios_max" = 32_768, "Bios that a device has not done, where it is seen part by part: sixteen NVMe queues of depth 1,024, twice.", "endiod_events_lost_total{stage=table,reason=bios}";
    DIRECT_IOS_MAX, "direct_ios_max" = 16_384, "Sixteen NVMe queues of depth 1,024.", "endiod_events_lost_total{stage=table,reason=direct_ios}";
    DIRECT_IOS_ENDED_MAX, "direct_ios_ended_max" = 1_024, "A completion that is one too many comes at the heels of the true one, or of the return.", "none: the oldest is forgotten, as the rules state";
    FSYNCS_MAX, "fsyncs_max" = 8_192, "One per thread that sits in fsync at the same time.", "endiod_events_lost_total{stage=table,reason=fsyncs}";
    EVICTIONS_MAX, "evictions_max" = 8_192, "One per thread that evicts an inode with pages at the same time, as the programs' table has room for.", "endiod_events_lost_total{stage=table,reason=evictions}";
    CPUS_MAX, "cpus_max" = 1_024, "Largest hosts that run ext4; a record of a higher CPU is counted and its epoch is lossy.", "endiod_events_lost_total{stage=sequence,reason=untracked}";
    HOLES_MAX, "holes_max" = 256, "Runs of numbers that have not come, per CPU and lane: one per preempted program and per burst of losses.", "endiod_events_lost_total{stage=sequence,reason=repeated}, if one of them comes after all";
    LANES_MAX, "lanes_max" = endiod_wire::wire::LANES, "Lane 0 or one lane per nesting depth: task, soft, hard and NMI leave room.", "endiod_events_lost_total{stage=sequence,reason=untracked}";
    PROBES_MAX, "probes_max" = 128, "Twice the probe table and more; a miss of a probe beyond it always makes its epoch lossy.", "endiod_violations_suppressed_total{reason=misses}";
    RQ_BIOS_MAX, "rq_bios_max" = endiod_wire::wire::RQ_BIOS_MAX as usize, "A request of ext4 has a bio per run of blocks; 128 of one page each are half a megabyte, and the verifier follows each round; a sixteenth of it before 5.12.", "endiod_events_lost_total{stage=program,reason=request_walk}";
    LISTED_MAX, "listed_max" = endiod_wire::wire::LISTED_MAX as usize, "io_ends of one inode that finished before its worker ran; a worker drains them every few milliseconds; a sixteenth of it before 5.12.", "endiod_events_lost_total{stage=program,reason=list_walk}";
    OPEN_FSYNCS_MAX, "open_fsyncs_max" = endiod_wire::wire::OPEN_FSYNCS_MAX as usize, "One per thread that sits in fsync or in the eviction of an inode with pages at the same time, as in the agent; the programs' table.", "endiod_events_lost_total{stage=program,reason=open_fsyncs}";
    OPEN_DIRECT_IOS_MAX, "open_direct_ios_max" = endiod_wire::wire::OPEN_DIRECT_IOS_MAX as usize, "One per thread that sits in a direct write at the same time; the programs' table.", "endiod_events_lost_total{stage=program,reason=open_direct_ios}";
    RELEASING_MAX, "releasing_max" = endiod_wire::wire::RELEASING_MAX as usize, "One per thread that was preempted in ext4_release_io_end; the programs' table.", "endiod_events_total{kind=release_late}: nothing is lost, that release is told twice";
    LIVE_IO_ENDS_MAX, "live_io_ends_max" = endiod_wire::wire::LIVE_IO_ENDS_MAX as usize, "As many as the io_end table of the agent holds; entries of the slab tracepoints' map.", "endiod_events_lost_total{stage=program,reason=live_io_ends}";
    HELD_MAX, "held_max" = 256, "Candidates of one second; a kernel that breaks more often is found by the first ones.", "endiod_violations_suppressed_total{reason=queue_full}";
    GHOSTS_PER_TICK_MAX, "ghosts_per_tick_max" = 64, "Each costs a walk of the table; a loss leaves a few, and the rest go at the next seconds.", "lost of the summary";
    FINDINGS_MAX, "findings_max" = 256, "Findings of a run that are kept whole; a kernel that breaks more often is understood from the first ones.", "findings_repeated of the summary";
    DEVICE_NAMES_MAX, "device_names_max" = 1_024, "Devices whose ext4 was seen; four times the devices that are listed.", "none: their series are ~other";
    TRACE_BLOCK_BYTES_MAX, "trace_block_bytes_max" = 262_144, "Bytes of records in one block of a recording; what a reader holds at once; four times as many compress 5 % better.", "none: the writer begins another block, the reader refuses";
    TRACE_INDEX_MAX, "trace_index_max" = 16_384, "Entries of a recording's index, 384 KiB; beyond it each entry covers twice as many blocks.", "none: the index gets coarser";
    PREAMBLE_RECORDS_MAX, "preamble_records_max" = 8_192, "What a slice must begin with: 1,024 devices, 1,024 CPUs' totals, two records per probe, the symbols in use.", "none: what found no room is missing at the head of a slice";
    KERNEL_BTFS_MAX, "kernel_btfs_max" = 65_536, "Type information in the kernel that is looked through for a module's: one per module and per loaded program.", "none: probe failed, its reason says that the module's BTF is not listed";
    VERIFIER_LOG_BYTES, "verifier_log_bytes" = 1 << 20, "What the verifier may write about a refused program; its last lines are shown.", "none: the kernel cuts the log or refuses with ENOSPC";
    ORACLE_LIVES_MAX, "oracle_lives_max" = 32_768, "As many as io_ends are followed; 5 MiB when full, of which a life touches 80 bytes and its index 17.", "endiod_oracle_events_total{outcome=could_not_tell}";
    ORACLE_HELD_MAX, "oracle_held_max" = 256, "Divergences of one second; a kernel that diverges more often is understood from the first ones.", "endiod_oracle_events_total{outcome=could_not_tell}";
    ORACLE_DIVERGENCES_MAX, "oracle_divergences_max" = 16, "Divergences that the summary names; the others are counted.", "endiod_oracle_events_total{outcome=diverged}";
    EXPLORED_STATES_MAX, "explored_states_max" = 8_000_000, "Forty times the largest world of `endiod verify`; 2 GiB of states and steps.", "the world is reported as not wholly explored";
    FAILED_CONVERSIONS_MAX, "failed_conversions_max" = 64, "io_ends whose conversion failed and of which no fsync spoke yet; an ext4 that fails often is shut down or read-only soon.", "none: the oldest is forgotten, as the rule states";
    PUT_BACKS_MAX, "put_backs_max" = 64, "io_ends whose work puts them back, in the core of 2012: one for each fsync that runs, and a machine of that day ran fewer at once.", "none: of the one that was quiet longest the count begins anew";
    STORY_STEPS_MAX, "story_steps_max" = 4_096, "Steps of one io_end that `endiod explain` tells: an io_end of 1,000 bios has 3,000.", "left_out of the story: the steps in the middle are counted";
    CALL_PHASES_MAX, "call_phases_max" = 64, "Phases of one fsync that an export tells one by one; a call has four, a fast commit a few more.", "phases_left_out of the call";
    STORY_ID_BYTES_MAX, "story_id_bytes_max" = 64, "Letters of an id that are compared to find the nearest; an io_end's has at most 37.", "none: what follows is not compared";
    TASK_NAMES_MAX, "task_names_max" = 4_096, "Tasks whose names are known at once; half of what a slice may begin with.", "none: a task without a name is told by its number";
    CALLERS_READ_MAX, "callers_read_max" = 1_024, "Processes whose name and cgroup are read in /proc within a second, 30 us each; a host where more call fsync in a second is known by the others.", "none: a process without a name is told by its number, its cgroup is unknown";
    TOP_PROCESSES_MAX, "top_processes_max" = 512, "Processes of which `endiod top` counts the fsyncs one by one: a screen has 20, and those that were idle for 20 s make room.", "the row ~other of that table";
    TOP_DEVICES_MAX, "top_devices_max" = 64, "Devices that `endiod top` shows one by one, 7 KiB of octaves each.", "the row ~other of that table";
    TOP_SECONDS_MAX, "top_seconds_max" = 600, "Seconds of a recording that `endiod top` can step back at once; beyond them it reads from the start again.", "none: the step takes longer";
    WRITERS_MAX, "writers_max" = 256, "Instructions that write a flag and have a name in the stream; a kernel has six, and each unknown one costs a reading of /proc/kallsyms.", "endiod_watchpoint_hits_total{outcome=unnamed}";
    WATCHPOINTS, "watchpoints" = 3, "x86 has four debug registers per CPU; one is left to debuggers unless --watchpoints says otherwise.", "endiod_watchpoint_slots";
    WATCH_INTERRUPTS_MAX, "watch_interrupts_max" = 4_000, "Interrupts a second to all CPUs together; on one CPU as many as its timer's at most (CONFIG_HZ 250 to 1000), on 64 a sixteenth of that.", "endiod_watchpoint_armed_seconds_total, which grows slower";
    WATCH_HITS_MAX, "watch_hits_max" = 8_000, "Stores a second that watchpoints may see; an io_end has four in its life, and 4,000 interrupts are 2,000 io_ends at most.", "endiod_watchpoint_armed_seconds_total: none is on for a second";
    WATCH_TOLD_MAX, "watch_told_max" = 8_192, "What became of watchpoints in a second, twice: each costs an interrupt at least.", "none: it goes unsaid, and is left out of the seconds armed";
    CPU_PERCENT_MAX, "cpu_percent_max" = 90, "CPU time of the agent as a mean of 30 s, in percent of one CPU: the pipeline is one thread, and one that never rests keeps up no longer anyway.", "endiod_cpu_limit_exceeded";
    STUCK_GROUPS_MAX, "stuck_groups_max" = 64, "Devices, times the ways in which something is stuck, of which one is told each second.", "none: the others are told once some of them are over";
    WAITERS_MAX, "waiters_max" = 4, "Waiting tasks that a finding names; the longest ones tell the story.", "waiting of the finding";
    ACCUSED_MAX, "accused_max" = 1_024, "Objects whose findings are remembered, so that each is reported once.", "none: an object that comes back after 1,024 others is reported again";
}

#[cfg(test)]
mod tests {
    use super::LIMITS;

    #[test]
    fn every_limit_has_a_reason_a_counter_and_its_own_name() {
        for (at, limit) in LIMITS.iter().enumerate() {
            assert!(limit.value > 0, "{} is zero", limit.name);
            assert!(limit.reason.ends_with('.'), "{}: the reason is not a sentence", limit.name);
            assert!(!limit.counter.is_empty(), "{}: no counter", limit.name);
            assert!(LIMITS[..at].iter().all(|other| other.name != limit.name));
        }
    }
}
