//! The `PROBES` table: each hook, its program, what it witnesses and what is lost without it.
//!
//! A probe's index in the table is its number on the wire. Rows are only ever appended.

use crate::event::ProbeId;

/// Where on a function a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// fentry.
    Entry,
    /// fexit.
    Exit,
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
    /// The kernel function.
    pub function: &'static str,
    /// Entry or exit.
    pub edge: Edge,
    /// On which kernels.
    pub presence: Presence,
    /// What it witnesses.
    pub witnesses: &'static str,
    /// What is lost without it.
    pub without: &'static str,
}

macro_rules! probes {
    ($( $edge:ident $program:ident, $function:ident, $presence:expr, $witnesses:literal, $without:literal; )*) => {
        /// Every probe.
        pub const PROBES: &[Probe] = &[ $( Probe {
            program: stringify!($program),
            function: stringify!($function),
            edge: Edge::$edge,
            presence: $presence,
            witnesses: $witnesses,
            without: $without,
        }, )* ];
    };
}

use Presence::{Always, Some as On};

probes! {
    Exit ext4_init_io_end_exit, ext4_init_io_end, Always, "birth", "every io_end is of unknown age: timed from first sight, never accused";
    Exit ext4_alloc_io_end_vec_exit, ext4_alloc_io_end_vec, Always, "range added", "ranges are not counted";
    Entry submit_bio, submit_bio, Always, "bio attached", "references are not modelled: final, queue and device phases unknown";
    Entry ext4_end_bio, ext4_end_bio, Always, "bio ended", "device phase and I/O errors unknown";
    Entry ext4_put_io_end, ext4_put_io_end, Always, "submitter's put", "submit phase unknown";
    Entry ext4_put_io_end_defer, ext4_put_io_end_defer, Always, "put in any context", "final put and queueing unknown";
    Entry ext4_end_io_end, ext4_end_io_end, On("a function of its own from 6.15; before, the conversion is the claim"), "claim", "nothing";
    Entry ext4_convert_unwritten_io_end_vec, ext4_convert_unwritten_io_end_vec, Always, "conversion begins", "claims before 6.15 unknown";
    Exit ext4_convert_unwritten_io_end_vec_exit, ext4_convert_unwritten_io_end_vec, Always, "conversion ends", "conversion errors unknown";
    Entry ext4_release_io_end, ext4_release_io_end, Always, "release", "no life is ever complete";
    Exit ext4_release_io_end_exit, ext4_release_io_end, Always, "release, where its entry was skipped", "a skipped release leaves its io_end in flight for ever";
    Entry ext4_end_io_rsv_work, ext4_end_io_rsv_work, Always, "worker begins", "worker runs unknown";
    Exit ext4_end_io_rsv_work_exit, ext4_end_io_rsv_work, Always, "worker ends", "worker runs unknown";
    Entry ext4_file_write_iter, ext4_file_write_iter, Always, "direct write begins", "direct writes are not timed";
    Exit ext4_file_write_iter_exit, ext4_file_write_iter, Always, "direct write returns", "refused and buffered direct writes stay open";
    Entry ext4_dio_write_end_io, ext4_dio_write_end_io, Always, "direct write completes", "direct writes are not timed";
    Exit ext4_dio_write_end_io_exit, ext4_dio_write_end_io, Always, "completion returns", "errors of direct writes unknown";
    Entry ext4_sync_file, ext4_sync_file, Always, "fsync begins", "fsync is not seen";
    Exit ext4_sync_file_exit, ext4_sync_file, Always, "fsync ends", "fsync is not timed";
    Entry __filemap_fdatawrite_range, __filemap_fdatawrite_range, On("up to 7.1; then filemap_writeback"), "phase data_submit begins", "nothing";
    Exit __filemap_fdatawrite_range_exit, __filemap_fdatawrite_range, On("up to 7.1; then filemap_writeback"), "phase data_submit ends", "nothing";
    Entry filemap_writeback, filemap_writeback, On("from 7.2; before, __filemap_fdatawrite_range"), "phase data_submit begins", "nothing";
    Exit filemap_writeback_exit, filemap_writeback, On("from 7.2; before, __filemap_fdatawrite_range"), "phase data_submit ends", "nothing";
    Entry __filemap_fdatawait_range, __filemap_fdatawait_range, Always, "phase data_wait begins", "phase data_wait";
    Exit __filemap_fdatawait_range_exit, __filemap_fdatawait_range, Always, "phase data_wait ends", "phase data_wait";
    Entry ext4_fc_commit, ext4_fc_commit, Always, "phase journal begins", "phase journal";
    Exit ext4_fc_commit_exit, ext4_fc_commit, Always, "phase journal ends", "phase journal";
    Entry ext4_force_commit, ext4_force_commit, Always, "phase journal begins (data=journal, directories)", "phase journal of those";
    Exit ext4_force_commit_exit, ext4_force_commit, Always, "phase journal ends (data=journal, directories)", "phase journal of those";
    Entry blkdev_issue_flush, blkdev_issue_flush, Always, "phase barrier begins", "phase barrier";
    Exit blkdev_issue_flush_exit, blkdev_issue_flush, Always, "phase barrier ends", "phase barrier";
}

/// The probe with that number on the wire.
pub fn probe(id: ProbeId) -> Option<&'static Probe> {
    PROBES.get(usize::try_from(id.0).ok()?)
}

/// Whether that probe is the one of a claim of its own (`ext4_end_io_end`).
pub fn is_claim(id: ProbeId) -> bool {
    probe(id).is_some_and(|probe| probe.program == "ext4_end_io_end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_named_after_their_hooks() {
        for probe in PROBES {
            let expected = match probe.edge {
                Edge::Entry => probe.function.to_owned(),
                Edge::Exit => format!("{}_exit", probe.function),
            };
            assert_eq!(probe.program, expected);
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
