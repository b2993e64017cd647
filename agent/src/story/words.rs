//! What a step is called, by the kernel's generation: the function, what it does with the io_end, and
//! whether `i_completed_io_lock` is held there.
//!
//! The wire has one name for each thing that happens; 3.2 to 3.6 did them in other functions than 5.5 to
//! 7.3 (fs/ext4/page-io.c, fsync.c, inode.c). The lock is what the source of that path says, it is not
//! seen: `no`, the function runs without it; `took`, its caller has taken it and dropped it to get here;
//! `takes`, the function takes it and drops it again. Where a record has the lock's word it is seen: `held`, by
//! somebody, or `free`. This module must never look at an object.

use std::borrow::Cow;

use crate::{event::Name, oracle::in_step::Protocol};

/// What a step is, before it has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Birth,
    Range {
        failed: bool,
    },
    Identified,
    /// The ordinal of the bio.
    Attach(usize),
    BioEnd {
        bio: usize,
        status: u32,
    },
    PartDone {
        bio: usize,
        status: u32,
    },
    BioDone {
        bio: usize,
        status: u32,
    },
    Put,
    PutDefer,
    Listed,
    Claim,
    ConvertBegin,
    ConvertEnd {
        ret: i64,
    },
    Release,
    ReleaseLate,
    /// Was the lock held by anybody?
    Requeue {
        locked: Option<bool>,
    },
    /// By whom, if that is known, and was the lock held by anybody?
    FlagWritten {
        by: Option<Name<64>>,
        locked: Option<bool>,
    },
    RunBegin {
        empty: bool,
    },
    RunEnd {
        empty: bool,
    },
    FsyncBegin,
    FsyncEnd {
        ret: i64,
    },
}

/// What else decides how a step is told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Around {
    /// The actor is in a run of the worker.
    pub(super) in_run: bool,
    /// The reference was the last one: nothing is deferred (`false`), the worker will convert (`true`).
    pub(super) last: Option<bool>,
    /// This entry of the conversion is the claim itself (before 6.15).
    pub(super) claims: bool,
}

/// A step as it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Name for programs.
    pub(super) act: &'static str,
    /// Kernel function or tracepoint; of a store the place in the function.
    pub(super) symbol: Cow<'static, str>,
    /// For people, with the function in it.
    pub(super) what: String,
    /// `i_completed_io_lock`; `None` where the generation is not known.
    pub(super) lock: Option<&'static str>,
}

/// What a step is called on such a kernel.
pub(super) fn words(protocol: Protocol, deed: Deed, around: Around) -> Words {
    let (act, symbol, said, lock) = match protocol {
        Protocol::CompletedList => of_2012(deed, around),
        Protocol::Refcounted { .. } | Protocol::Unknown => of_today(deed, around),
    };
    let symbol = match deed {
        Deed::FlagWritten { by: Some(name), .. } => Cow::from(name.to_string()),
        _ => Cow::from(symbol),
    };
    let what = match deed {
        Deed::Attach(bio) => format!("bio {bio} {said} {symbol}"),
        Deed::BioEnd { bio, status: 0 } => format!("bio {bio} {said} {symbol}"),
        Deed::PartDone { bio, status: 0 } => format!("part of bio {bio} {said} {symbol}"),
        Deed::BioDone { bio, status: 0 } => format!("bio {bio} {said} {symbol}"),
        Deed::BioEnd { bio, status }
        | Deed::PartDone { bio, status }
        | Deed::BioDone { bio, status } => format!("bio {bio} failed ({status}): {symbol}"),
        Deed::ConvertEnd { ret } | Deed::FsyncEnd { ret } if ret != 0 => {
            format!("returns {ret}: {symbol}")
        }
        _ => format!("{said} {symbol}"),
    };
    let lock = match deed {
        Deed::Requeue { locked } | Deed::FlagWritten { locked, .. } => {
            locked.map(|held| if held { "held" } else { "free" })
        }
        _ => (protocol != Protocol::Unknown).then_some(lock),
    };
    Words { act, symbol, what, lock }
}

/// The function by which findings name such a step, whatever the generation.
pub(super) fn symbol_today(deed: Deed) -> &'static str {
    of_today(deed, Around::default()).1
}

/// Act, function, what is said before the function, lock.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// 3.2 to 3.6.
fn of_2012(deed: Deed, around: Around) -> Row {
    let (init, nolock) = ("ext4_init_io_end", "ext4_end_io_nolock");
    let (work, flush) = ("ext4_end_io_work", "ext4_flush_completed_IO");
    match deed {
        Deed::Birth => ("birth", init, "allocated by", "no"),
        Deed::Range { .. } => ("range", "ext4_set_io_unwritten_flag", "marked UNWRITTEN:", "no"),
        Deed::Attach(_) => ("attach", "submit_bio", "submitted by", "no"),
        Deed::BioEnd { .. } => ("bio_end", "ext4_end_bio", "ended by", "no"),
        Deed::Put => ("put", "ext4_io_submit", "all of it is submitted:", "no"),
        Deed::PutDefer => ("put_defer", "ext4_end_bio", "put on the list by", "takes"),
        Deed::Claim if around.in_run => ("claim", work, "taken off the list by", "took"),
        Deed::Claim => ("claim", flush, "taken off the list:", "took"),
        Deed::ConvertBegin => ("convert", nolock, "enters", "no"),
        Deed::ConvertEnd { .. } => ("convert_end", nolock, "leaves", "no"),
        Deed::Release if around.in_run => ("release", "ext4_free_io_end", "freed by", "took"),
        Deed::Release => ("release", "ext4_free_io_end", "freed by", "no"),
        Deed::Requeue { .. } => ("requeue", work, "puts it back, sets QUEUED:", "no"),
        Deed::RunBegin { empty: false } => ("worker_begin", work, "worker starts:", "no"),
        Deed::RunBegin { empty: true } => ("worker_begin", work, "worker looks at one:", "takes"),
        Deed::RunEnd { empty: false } => ("worker_end", work, "worker ends:", "no"),
        Deed::RunEnd { empty: true } => ("worker_end", work, "queues it again:", "no"),
        other => of_today(other, around),
    }
}

/// 5.5 to 7.3.
fn of_today(deed: Deed, around: Around) -> Row {
    let (work, convert) = ("ext4_end_io_rsv_work", "ext4_convert_unwritten_io_end_vec");
    let took = if around.in_run { "took" } else { "no" };
    match deed {
        Deed::Birth => ("birth", "ext4_init_io_end", "allocated by", "no"),
        Deed::Range { failed: false } => ("range", "ext4_alloc_io_end_vec", "range added by", "no"),
        Deed::Range { failed: true } => ("range", "ext4_alloc_io_end_vec", "no range from", "no"),
        Deed::Identified => ("inode", "submit_bio", "inode told at", "no"),
        Deed::Attach(_) => ("attach", "submit_bio", "submitted by", "no"),
        Deed::BioEnd { .. } => ("bio_end", "ext4_end_bio", "ended by", "no"),
        Deed::PartDone { .. } => ("part_done", "block_rq_complete", "done:", "no"),
        Deed::BioDone { .. } => ("bio_done", "block_bio_complete", "done:", "no"),
        Deed::Put => ("put", "ext4_put_io_end", last(around), "no"),
        Deed::PutDefer => {
            let lock = if around.last == Some(true) { "takes" } else { "no" };
            ("put_defer", "ext4_put_io_end_defer", last(around), lock)
        }
        Deed::Listed => ("listed", "workqueue_execute_start", "found on the list:", "no"),
        Deed::Claim => ("claim", "ext4_end_io_end", "claimed by", took),
        Deed::ConvertBegin if around.claims => ("convert", convert, "claimed:", took),
        Deed::ConvertBegin => ("convert", convert, "enters", "no"),
        Deed::ConvertEnd { .. } => ("convert_end", convert, "leaves", "no"),
        Deed::Release => ("release", "ext4_release_io_end", "released by", "no"),
        Deed::ReleaseLate => ("release_late", "ext4_release_io_end", "release seen late:", "no"),
        Deed::Requeue { .. } => ("requeue", "replica_requeue", "put back by", "no"),
        Deed::FlagWritten { .. } => ("flag_write", "an unknown instruction", "flag:", "no"),
        Deed::RunBegin { empty: false } => ("worker_begin", work, "worker starts:", "no"),
        Deed::RunBegin { empty: true } => ("worker_begin", work, "worker, for none:", "no"),
        Deed::RunEnd { .. } => ("worker_end", work, "worker ends:", "no"),
        Deed::FsyncBegin => ("fsync_begin", "ext4_sync_file", "fsync begins:", "no"),
        Deed::FsyncEnd { .. } => ("fsync_end", "ext4_sync_file", "fsync returns:", "no"),
    }
}

fn last(around: Around) -> &'static str {
    match around.last {
        None => "reference dropped:",
        Some(false) => "last reference:",
        Some(true) => "last one, listed:",
    }
}

#[cfg(test)]
mod tests {
    use super::{Around, Deed, words};
    use crate::oracle::in_step::Protocol;
    use crate::story::picture::WHAT;

    const DEEDS: [Deed; 22] = [
        Deed::Birth,
        Deed::Range { failed: false },
        Deed::Range { failed: true },
        Deed::Identified,
        Deed::Attach(1000),
        Deed::BioEnd { bio: 1000, status: 0 },
        Deed::PartDone { bio: 1000, status: 0 },
        Deed::BioDone { bio: 1000, status: 10 },
        Deed::Put,
        Deed::PutDefer,
        Deed::Listed,
        Deed::Claim,
        Deed::ConvertBegin,
        Deed::ConvertEnd { ret: -5 },
        Deed::Release,
        Deed::ReleaseLate,
        Deed::Requeue { locked: Some(false) },
        Deed::FlagWritten { by: None, locked: Some(true) },
        Deed::RunBegin { empty: true },
        Deed::RunEnd { empty: false },
        Deed::FsyncBegin,
        Deed::FsyncEnd { ret: 0 },
    ];

    #[test]
    fn every_step_names_its_function_within_its_column() {
        let today = Protocol::Refcounted { claims: false };
        for protocol in [Protocol::CompletedList, today, Protocol::Unknown] {
            for deed in DEEDS {
                for last in [None, Some(false), Some(true)] {
                    for in_run in [false, true] {
                        let around = Around { in_run, last, claims: in_run };
                        let told = words(protocol, deed, around);
                        let len = told.what.chars().count();
                        assert!(told.what.contains(&*told.symbol), "{told:?}");
                        assert!(len <= WHAT, "{} columns: {told:?}", len);
                        // A requeue's lock and a store's was read, whatever the protocol.
                        let is_read =
                            matches!(deed, Deed::Requeue { .. } | Deed::FlagWritten { .. });
                        let is_known = is_read || protocol != Protocol::Unknown;
                        assert_eq!(told.lock.is_some(), is_known);
                    }
                }
            }
        }
    }

    #[test]
    fn who_took_it_off_the_list_in_2012_is_told_by_the_function() {
        let claim = |in_run| {
            let around = Around { in_run, ..Around::default() };
            words(Protocol::CompletedList, Deed::Claim, around).symbol
        };
        assert_eq!([claim(true), claim(false)], ["ext4_end_io_work", "ext4_flush_completed_IO"]);
    }
}
