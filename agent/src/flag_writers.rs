//! Who may write the flag of an io_end, by the function that a watchpoint caught (5.5 to 7.3).
//!
//! ```text
//!   the allocator           makes the memory zero     before the birth
//!   writeback, end of a bio sets a bit                while it holds a reference
//!   the claimer             clears UNWRITTEN          off the list, no reference left
//! ```
//!
//! None of them takes a lock. Which of the static functions a compiler keeps, and which it makes a part of its
//! caller, differs: each name that the source has had is a row, and a part or copy of one is known by the
//! name before the dot. This module must never look at an object.

/// With what right a function writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// It holds a reference, and sets a bit.
    Holder,
    /// It claimed the io_end, and clears UNWRITTEN.
    Claimer,
    /// It makes memory of the slab ready, or clears it.
    Allocator,
    /// None that is known; `ext4` if it is a function of ext4.
    None { ext4: bool },
}

/// fs/ext4/inode.c and page-io.c, 5.5 to 7.3.
const WRITERS: &[(&str, Right)] = &[
    // `ext4_set_io_unwritten_flag`, inlined wherever it is called.
    ("ext4_set_io_unwritten_flag", Right::Holder),
    ("mpage_map_one_extent", Right::Holder),
    ("mpage_map_and_submit_extent", Right::Holder),
    ("ext4_writepages", Right::Holder),
    ("ext4_do_writepages", Right::Holder),
    // FAILED, from 6.15 and in some stable series.
    ("ext4_end_bio", Right::Holder),
    ("ext4_clear_io_unwritten_flag", Right::Claimer),
    ("ext4_end_io_end", Right::Claimer),
    ("ext4_do_flush_completed_IO", Right::Claimer),
    ("ext4_end_io_rsv_work", Right::Claimer),
    ("ext4_put_io_end", Right::Claimer),
    ("ext4_init_io_end", Right::Allocator),
];

/// What the slab allocator and its helpers begin with (mm/slub.c, lib/memset, 5.10 to 7.3).
const ALLOCATOR: &[&str] = &[
    "memset",
    "__memset",
    "kmem_cache_",
    "__kmem_cache_",
    "slab_",
    "__slab_",
    "___slab_",
    "kasan_",
];

/// With what right a function writes a flag.
pub(crate) fn right_of(function: &str) -> Right {
    let row = WRITERS.iter().find(|(name, _)| *name == function);
    if let Some((_, right)) = row {
        return *right;
    }
    if ALLOCATOR.iter().any(|begin| function.starts_with(begin)) {
        return Right::Allocator;
    }
    Right::None { ext4: ["ext4_", "__ext4_", "mpage_"].iter().any(|it| function.starts_with(it)) }
}

/// Is it a function that has a right to, so that its name will be asked for?
pub(crate) fn is_writer(function: &str) -> bool {
    let function = function.split('.').next().unwrap_or(function);
    !matches!(right_of(function), Right::None { .. })
}

#[cfg(test)]
mod tests {
    use super::{Right, right_of};

    #[test]
    fn a_function_has_the_right_of_its_row_and_strangers_have_none() {
        for (function, right) in [
            ("ext4_do_writepages", Right::Holder),
            ("ext4_end_io_rsv_work", Right::Claimer),
            ("memset_erms", Right::Allocator),
            ("ext4_release_io_end", Right::None { ext4: true }),
            ("flag_rewritten", Right::None { ext4: false }),
        ] {
            assert_eq!(right_of(function), right, "{function}");
        }
    }
}
