//! The `PROBES` table: each hook, its program, what it witnesses and what is lost without it.
//!
//! A probe's index in the table is its number on the wire. Rows are only ever appended.

use crate::event::{Backend, ProbeId};

/// How a program is hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// fentry: a function's entry.
    Entry,
    /// fexit: a function's return.
    Exit,
    /// A raw tracepoint.
    Tracepoint,
    /// A kprobe at a function's entry.
    Kprobe,
    /// A hardware watchpoint on a word of some objects.
    Watchpoint,
}

impl Hook {
    /// The back end that it belongs to.
    pub fn backend(self) -> Backend {
        match self {
            Hook::Entry | Hook::Exit => Backend::Fentry,
            Hook::Tracepoint => Backend::RawTracepoint,
            Hook::Kprobe => Backend::Kprobe,
            Hook::Watchpoint => Backend::Watchpoint,
        }
    }

    /// As people read it.
    pub fn label(self) -> &'static str {
        match self {
            Hook::Entry => "fentry",
            Hook::Exit => "fexit",
            Hook::Tracepoint => "raw_tp",
            Hook::Kprobe => "kprobe",
            Hook::Watchpoint => "watchpoint",
        }
    }
}

/// What a probe sees happen. Probes of different back ends with the same witness stand in for each
/// other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is the wire record or the pair of them of its name")]
pub enum Witness {
    Birth,
    Range,
    Attach,
    /// A bio that is to be enciphered is attached, where that is seen in another place.
    AttachEnciphered,
    BioEnd,
    Put,
    PutDefer,
    Claim,
    ConvertBegin,
    ConvertEnd,
    Release,
    ReleaseLate,
    WorkerBegin,
    WorkerEnd,
    DirectIoBegin,
    DirectIoReturn,
    DirectIoComplete,
    DirectIoCompleteEnd,
    FsyncBegin,
    FsyncEnd,
    DataSubmit,
    DataWait,
    Journal,
    Barrier,
    /// The device is done with a bio; where the end of a bio is not seen.
    BioDone,
    /// The first of a batch is handed to the worker, where puts are not seen.
    WorkQueued,
    /// An io_end's work puts it back, in the core of 2012.
    Requeue,
    InodeDestroy,
    EvictionBegin,
    EvictionEnd,
    /// The flag of an io_end is written, of some of them.
    FlagWrite,
    /// Births as the watchpoints are told of them, and of nothing else.
    WatchBirth,
    /// Releases, likewise.
    WatchRelease,
}

/// On which kernels the function can be hooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// On every kernel from 5.10 to 7.3: its absence is a loss.
    Always,
    /// On some only; the text says which, and what stands in elsewhere.
    Some(&'static str),
}

/// One hook.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// Name of the program in the BPF object.
    pub program: &'static str,
    /// The kernel function, the tracepoint, or the word that is watched.
    pub function: &'static str,
    /// How it is hooked.
    pub hook: Hook,
    /// What it sees happen.
    pub witness: Witness,
    /// On which kernels.
    pub presence: Presence,
    /// The same for people.
    pub witnesses: &'static str,
    /// What is lost without it.
    pub without: &'static str,
}

impl Probe {
    /// What is lost where the function exists and is not probed; the table's "nothing" is for kernels
    /// without it.
    pub fn loss(&self) -> &'static str {
        if self.without == "nothing" { self.witnesses } else { self.without }
    }

    /// Whether it is hooked to ext4's own code, which may be a module.
    pub fn is_ext4(&self) -> bool {
        self.function.starts_with("ext4_")
    }

    /// Whether it is on a function of a fixture, which no kernel has.
    pub fn is_of_fixture(&self) -> bool {
        self.function.starts_with("replica_")
    }

    /// Whether only watchpoints need it: what it does not see costs no verdict.
    pub fn is_of_watchpoints(&self) -> bool {
        matches!(self.witness, Witness::FlagWrite | Witness::WatchBirth | Witness::WatchRelease)
    }

    /// Whether it runs at every slab allocation of the host.
    pub fn is_slab(&self) -> bool {
        self.function.starts_with("kmem_cache_")
    }
}

macro_rules! probes {
    ($( $hook:ident $program:ident, $function:ident, $witness:ident, $presence:expr, $witnesses:literal, $without:literal; )*) => {
        /// Every probe.
        pub const PROBES: &[Probe] = &[ $( Probe {
            program: stringify!($program),
            function: stringify!($function),
            hook: Hook::$hook,
            witness: Witness::$witness,
            presence: $presence,
            witnesses: $witnesses,
            without: $without,
        }, )* ];
    };
}

use Presence::{Always, Some as On};

probes! {
    Exit ext4_init_io_end_exit, ext4_init_io_end, Birth, Always, "birth", "every io_end is of unknown age: timed from first sight, never accused";
    Exit ext4_alloc_io_end_vec_exit, ext4_alloc_io_end_vec, Range, Always, "range added", "ranges are not counted";
    Entry submit_bio, submit_bio, Attach, Always, "bio attached", "references are not modelled: final, queue and device phases unknown";
    Entry ext4_end_bio, ext4_end_bio, BioEnd, Always, "bio ended", "device phase and I/O errors unknown";
    Entry ext4_put_io_end, ext4_put_io_end, Put, Always, "submitter's put", "submit phase unknown";
    Entry ext4_put_io_end_defer, ext4_put_io_end_defer, PutDefer, Always, "put in any context", "final put and queueing unknown";
    Entry ext4_end_io_end, ext4_end_io_end, Claim, On("a function of its own from 6.15; before, the conversion is the claim"), "claim", "nothing";
    Entry ext4_convert_unwritten_io_end_vec, ext4_convert_unwritten_io_end_vec, ConvertBegin, Always, "conversion begins", "claims before 6.15 unknown";
    Exit ext4_convert_unwritten_io_end_vec_exit, ext4_convert_unwritten_io_end_vec, ConvertEnd, Always, "conversion ends", "conversion errors unknown";
    Entry ext4_release_io_end, ext4_release_io_end, Release, Always, "release", "no life is ever complete";
    Exit ext4_release_io_end_exit, ext4_release_io_end, ReleaseLate, Always, "release, where its entry was skipped", "a skipped release leaves its io_end in flight for ever";
    Entry ext4_end_io_rsv_work, ext4_end_io_rsv_work, WorkerBegin, Always, "worker begins", "worker runs unknown";
    Exit ext4_end_io_rsv_work_exit, ext4_end_io_rsv_work, WorkerEnd, Always, "worker ends", "worker runs unknown";
    Entry ext4_file_write_iter, ext4_file_write_iter, DirectIoBegin, Always, "direct write begins", "direct writes are not timed";
    Exit ext4_file_write_iter_exit, ext4_file_write_iter, DirectIoReturn, Always, "direct write returns", "refused and buffered direct writes stay open";
    Entry ext4_dio_write_end_io, ext4_dio_write_end_io, DirectIoComplete, Always, "direct write completes", "direct writes are not timed";
    Exit ext4_dio_write_end_io_exit, ext4_dio_write_end_io, DirectIoCompleteEnd, Always, "completion returns", "errors of direct writes unknown";
    Entry ext4_sync_file, ext4_sync_file, FsyncBegin, Always, "fsync begins", "fsync is not seen";
    Exit ext4_sync_file_exit, ext4_sync_file, FsyncEnd, Always, "fsync ends", "fsync is not timed";
    Entry __filemap_fdatawrite_range, __filemap_fdatawrite_range, DataSubmit, On("up to 7.1; then filemap_writeback"), "phase data_submit begins", "nothing";
    Exit __filemap_fdatawrite_range_exit, __filemap_fdatawrite_range, DataSubmit, On("up to 7.1; then filemap_writeback"), "phase data_submit ends", "nothing";
    Entry filemap_writeback, filemap_writeback, DataSubmit, On("from 7.2; before, __filemap_fdatawrite_range"), "phase data_submit begins", "nothing";
    Exit filemap_writeback_exit, filemap_writeback, DataSubmit, On("from 7.2; before, __filemap_fdatawrite_range"), "phase data_submit ends", "nothing";
    Entry __filemap_fdatawait_range, __filemap_fdatawait_range, DataWait, Always, "phase data_wait begins", "phase data_wait";
    Exit __filemap_fdatawait_range_exit, __filemap_fdatawait_range, DataWait, Always, "phase data_wait ends", "phase data_wait";
    Entry ext4_fc_commit, ext4_fc_commit, Journal, Always, "phase journal begins", "phase journal";
    Exit ext4_fc_commit_exit, ext4_fc_commit, Journal, Always, "phase journal ends", "phase journal";
    Entry ext4_force_commit, ext4_force_commit, Journal, Always, "phase journal begins (data=journal, directories)", "phase journal of those";
    Exit ext4_force_commit_exit, ext4_force_commit, Journal, Always, "phase journal ends (data=journal, directories)", "phase journal of those";
    Entry blkdev_issue_flush, blkdev_issue_flush, Barrier, Always, "phase barrier begins", "phase barrier";
    Exit blkdev_issue_flush_exit, blkdev_issue_flush, Barrier, Always, "phase barrier ends", "phase barrier";
    Tracepoint tp_kmem_cache_alloc, kmem_cache_alloc, Birth, Always, "birth, without its inode", "no io_end is followed";
    Tracepoint tp_kmem_cache_free, kmem_cache_free, Release, Always, "release", "no life is ever complete";
    Tracepoint tp_block_bio_queue, block_bio_queue, Attach, Always, "bio attached, and whose io_end it is", "the device phase and whose io_end it is unknown";
    Tracepoint tp_block_rq_complete, block_rq_complete, BioDone, Always, "device done with a bio or a part of it", "device phase and I/O errors unknown";
    Tracepoint tp_block_bio_complete, block_bio_complete, BioDone, Always, "device done with a bio (device mapper)", "device phase unknown on bio-based devices";
    Tracepoint tp_workqueue_queue_work, workqueue_queue_work, WorkQueued, Always, "batch handed to the worker", "when a batch was handed over unknown";
    Tracepoint tp_workqueue_execute_start, workqueue_execute_start, WorkerBegin, Always, "worker begins, and the io_ends on its list", "which io_ends the worker takes unknown";
    Tracepoint tp_workqueue_execute_end, workqueue_execute_end, WorkerEnd, Always, "worker ends", "worker runs unknown";
    Tracepoint tp_ext4_sync_file_enter, ext4_sync_file_enter, FsyncBegin, Always, "fsync begins, without its range", "fsync is not seen";
    Tracepoint tp_ext4_sync_file_exit, ext4_sync_file_exit, FsyncEnd, Always, "fsync ends", "fsync is not timed";
    Kprobe kprobe_ext4_alloc_io_end_vec, ext4_alloc_io_end_vec, Range, Always, "range added, first sight of an io_end", "an io_end is first seen at its first bio";
    Kprobe kprobe_submit_bio, submit_bio, Attach, Always, "bio attached", "references are not modelled";
    Kprobe kprobe_ext4_end_bio, ext4_end_bio, BioEnd, Always, "bio ended", "device phase and I/O errors unknown";
    Kprobe kprobe_ext4_put_io_end, ext4_put_io_end, Put, Always, "submitter's put", "submit phase unknown";
    Kprobe kprobe_ext4_put_io_end_defer, ext4_put_io_end_defer, PutDefer, Always, "put in any context", "final put and queueing unknown";
    Kprobe kprobe_ext4_end_io_end, ext4_end_io_end, Claim, On("a function of its own from 6.15; before, the conversion is the claim"), "claim", "nothing";
    Kprobe kprobe_ext4_convert_unwritten_io_end_vec, ext4_convert_unwritten_io_end_vec, ConvertBegin, Always, "conversion begins", "claims before 6.15 unknown";
    Kprobe kprobe_ext4_release_io_end, ext4_release_io_end, Release, Always, "release", "no life is ever complete";
    Kprobe kprobe_ext4_end_io_rsv_work, ext4_end_io_rsv_work, WorkerBegin, Always, "worker begins", "worker runs unknown";
    Entry __blk_crypto_submit_bio, __blk_crypto_submit_bio, AttachEnciphered, On("from 7.0; before, submit_bio sees every bio"), "bio of an enciphered file attached", "nothing";
    Kprobe kprobe_blk_crypto_submit_bio, __blk_crypto_submit_bio, AttachEnciphered, On("from 7.0; before, submit_bio sees every bio"), "bio of an enciphered file attached", "nothing";
    Entry replica_requeue, replica_requeue, Requeue, On("in the core of 2012, which a fixture has"), "worker puts an io_end back", "nothing";
    Entry ext4_destroy_inode, ext4_destroy_inode, InodeDestroy, Always, "inode destroyed, if its conversion work was ever queued", "an inode that goes before its io_ends is not seen";
    Watchpoint watch_io_end_flag, io_end_flag, FlagWrite, Always, "stores to the flag of some io_ends, and who makes them", "a write to a flag is seen only where it changes what the next probe reads";
    Exit ext4_init_io_end_exit_watch, ext4_init_io_end, WatchBirth, Always, "births, for the watchpoints", "no watchpoint is put on anything";
    Entry ext4_release_io_end_watch, ext4_release_io_end, WatchRelease, Always, "releases, for the watchpoints", "watchpoints stay on for ten seconds";
    Entry ext4_evict_inode, ext4_evict_inode, EvictionBegin, Always, "eviction of an inode with pages begins", "tasks that wait in an eviction are not named";
    Exit ext4_evict_inode_exit, ext4_evict_inode, EvictionEnd, Always, "eviction ends", "tasks that wait in an eviction are not named";
}

/// The probe with that number on the wire.
pub fn probe(id: ProbeId) -> Option<&'static Probe> {
    PROBES.get(usize::try_from(id.0).ok()?)
}

/// The rows on functions that kernels have: all but those of fixtures.
pub fn of_kernels() -> impl Iterator<Item = &'static Probe> {
    PROBES.iter().filter(|row| !row.is_of_fixture())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_after_their_hooks() {
        for probe in PROBES {
            let expected = match probe.hook {
                Hook::Entry => probe.function.to_owned(),
                Hook::Exit => format!("{}_exit", probe.function),
                Hook::Tracepoint => format!("tp_{}", probe.function),
                // Two underscores in the middle are no name to rustc.
                Hook::Kprobe => format!("kprobe_{}", probe.function.trim_start_matches('_')),
                Hook::Watchpoint => format!("watch_{}", probe.function),
            };
            // A second program on the same hook says for whom it is.
            let program = probe.program.strip_suffix("_watch").unwrap_or(probe.program);
            assert_eq!(program, expected);
        }
    }

    #[test]
    fn each_program_appears_once() {
        let mut names: Vec<_> = PROBES.iter().map(|probe| probe.program).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }
}
