//! What is watched: ext4, or the fixture module whose completion core is that of 2012.
//!
//! ```text
//!   row of PROBES ─ function ─► ext4's, or its namesake in the replica ─► the same program, hooked there
//!   constant ───── structure, member ─► where that program reads
//! ```
//!
//! The replica (`agent/tests/fixtures/replica`) begins its io_ends as 5.5 to 7.3 do and gives its functions the
//! arguments of their namesakes, so the programs need not know. This module must never be asked by anyone
//! behind the decoder: the stream says what it shows by CONFIG.

use endiod_wire::wire::subject;
use serde::{Deserialize, Serialize};

use crate::probes::{Hook, Probe};

/// Whose functions the programs are put on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// ext4's.
    #[default]
    Ext4,
    /// The replica's: fixtures only.
    Replica,
}

/// A function of ext4, or one that it calls, and its namesake in the replica.
const FUNCTIONS: &[(&str, &str)] = &[
    ("ext4_init_io_end", "replica_init_io_end"),
    ("ext4_alloc_io_end_vec", "replica_alloc_io_end_vec"),
    ("submit_bio", "replica_submit_bio"),
    (END_BIO, "replica_end_bio"),
    ("ext4_put_io_end", "replica_put_io_end"),
    ("ext4_put_io_end_defer", "replica_put_io_end_defer"),
    // What claims nothing itself and is entered by the claimer next: `ext4_end_io_nolock` up to 3.6.
    ("ext4_end_io_end", "replica_end_io_nolock"),
    ("ext4_convert_unwritten_io_end_vec", "replica_convert_unwritten_io_end_vec"),
    ("ext4_release_io_end", "replica_free_io_end"),
    ("ext4_end_io_rsv_work", "replica_end_io_work"),
    ("ext4_sync_file", "replica_sync_file"),
    ("ext4_evict_inode", "replica_evict"),
];

/// A constant of the programs, and the member of the replica that it is the place of.
const FIELDS: &[(&str, &str, &str)] = &[
    ("INODE_I_INO", "replica_inode", "i_ino"),
    ("INODE_I_SB", "replica_inode", "i_sb"),
    ("SUPER_BLOCK_S_DEV", "replica_super_block", "s_dev"),
    ("SUPER_BLOCK_S_MAGIC", "replica_super_block", "s_magic"),
    // Its work is an io_end's and not an inode's, and the io_end begins with its list.
    ("EXT4_INODE_VFS_INODE", "replica_io_end", "list"),
    ("EXT4_INODE_RSV_WORK", "replica_io_end", "work"),
    ("BIO_BI_END_IO", "replica_bio", "bi_end_io"),
    ("BIO_BI_PRIVATE", "replica_bio", "bi_private"),
    ("BIO_BI_STATUS", "replica_bio", "bi_status"),
    ("BIO_BI_OPF", "replica_bio", "bi_opf"),
    ("BIO_BI_SECTOR", "replica_bio", "bi_iter.bi_sector"),
    ("BIO_BI_SIZE", "replica_bio", "bi_iter.bi_size"),
    ("FILE_F_INODE", "replica_file", "f_inode"),
    ("INODE_NRPAGES", "replica_inode", "nrpages"),
];

/// The end of an io_end's bio, by whose address the programs tell such a bio.
const END_BIO: &str = "ext4_end_bio";

impl Subject {
    /// All of them.
    pub(super) const ALL: [Subject; 2] = [Subject::Ext4, Subject::Replica];

    /// The module that it is, if it is one.
    pub(super) fn module(self) -> &'static str {
        match self {
            Subject::Ext4 => "ext4",
            Subject::Replica => "replica",
        }
    }

    /// Its number in the stream.
    pub(super) fn number(self) -> u64 {
        match self {
            Subject::Ext4 => subject::EXT4,
            Subject::Replica => subject::REPLICA,
        }
    }

    /// Where a probe's program goes; `None` if there is nothing of the kind.
    pub(super) fn function(self, probe: &Probe) -> Option<&'static str> {
        match (self, probe.hook) {
            (Subject::Ext4, _) => Some(probe.function),
            (Subject::Replica, _) if probe.is_of_fixture() => Some(probe.function),
            (Subject::Replica, Hook::Entry | Hook::Exit) => namesake(probe.function),
            (Subject::Replica, Hook::Watchpoint) => Some(probe.function),
            (Subject::Replica, Hook::Tracepoint | Hook::Kprobe) => None,
        }
    }

    /// The member that a constant of the programs is the place of; `None` if there is nothing of the kind.
    pub(super) fn field(self, row: (&'static str, Member)) -> Option<Member> {
        let (constant, member) = row;
        match self {
            Subject::Ext4 => Some(member),
            Subject::Replica => {
                let found = FIELDS.iter().find(|(name, ..)| *name == constant);
                found.map(|(_, structure, member)| (*structure, *member))
            }
        }
    }

    /// The lock of an inode's list of finished io_ends.
    pub(super) fn completed_lock(self) -> Member {
        match self {
            Subject::Ext4 => ("ext4_inode_info", "i_completed_io_lock"),
            Subject::Replica => ("replica_inode", "completed_lock"),
        }
    }

    /// Its `struct ext4_io_end`.
    pub(super) fn io_end(self) -> &'static str {
        match self {
            Subject::Ext4 => "ext4_io_end",
            Subject::Replica => "replica_io_end",
        }
    }

    /// Its `ext4_end_bio`.
    pub(super) fn end_bio(self) -> &'static str {
        match self {
            Subject::Ext4 => END_BIO,
            Subject::Replica => namesake(END_BIO).expect("it is a row of the table"),
        }
    }
}

/// Structure and member.
pub(super) type Member = (&'static str, &'static str);

fn namesake(function: &str) -> Option<&'static str> {
    FUNCTIONS.iter().find(|(name, _)| *name == function).map(|(_, namesake)| *namesake)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        probes::PROBES,
        source::kernel::offsets::{OFFSETS, OFFSETS_OF_SOME},
    };

    #[test]
    fn every_name_of_the_tables_is_one_that_the_agent_uses() {
        for (function, _) in FUNCTIONS {
            assert!(PROBES.iter().any(|probe| probe.function == *function), "{function}");
        }
        let needed = OFFSETS.iter().map(|(constant, ..)| *constant);
        let has_namesake = |name: &&str| FIELDS.iter().any(|(constant, ..)| constant == name);
        let of_some = OFFSETS_OF_SOME.iter().map(|(constant, ..)| *constant).filter(has_namesake);
        let constants: Vec<_> = FIELDS.iter().map(|(constant, ..)| *constant).collect();
        let offsets: Vec<_> = needed.chain(of_some).collect();
        assert_eq!(constants, offsets, "each place that the programs read has its namesake");
    }

    #[test]
    fn the_replicas_sources_have_every_namesake() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/replica");
        let header = std::fs::read_to_string(format!("{dir}/replica.h")).unwrap();
        for (_, namesake) in FUNCTIONS {
            let declared = header.lines().any(|line| line.contains(&format!("{namesake}(")));
            assert!(declared, "{namesake}");
        }
        let (structure, member) = Subject::Replica.completed_lock();
        for (_, structure, member) in FIELDS.iter().chain(&[("", structure, member)]) {
            let body = header.split_once(&format!("struct {structure} {{")).unwrap().1;
            let body = body.split("\n};").next().unwrap();
            let member = member.rsplit('.').next().unwrap();
            assert!(body.contains(member), "{structure}.{member}");
        }
    }

    #[test]
    fn tracepoints_and_kprobes_are_not_put_on_the_replica() {
        for probe in PROBES {
            let is_put = !matches!(probe.hook, Hook::Tracepoint | Hook::Kprobe);
            assert!(is_put || Subject::Replica.function(probe).is_none(), "{}", probe.program);
            assert_eq!(Subject::Ext4.function(probe), Some(probe.function));
        }
    }
}
