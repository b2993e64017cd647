//! The `MOUNTS` table: how a file system can be made and mounted, and what it then never does.

use super::{
    Counter::{self, Converted, Direct, Queued},
    Row, Step,
};

/// The kernel has no such thing, or a row needs more than one line of reason.
fn always(_kernel: &str) -> Option<&'static str> {
    None
}

fn from_6_16(kernel: &str) -> Option<&'static str> {
    let is_older = ["5.10", "6.1", "6.1-modular", "6.12"].contains(&kernel);
    is_older.then_some("ext4 takes large folios from 6.16 on")
}

/// What changed between the two kernels that run these rows.
fn newest(kernel: &str) -> Option<&'static str> {
    is_new(kernel).then_some("a row of its own says what this kernel does")
}

fn oldest(kernel: &str) -> Option<&'static str> {
    (!is_new(kernel)).then_some("a row of its own says what this kernel does")
}

fn is_new(kernel: &str) -> bool {
    ["7.3", "latest"].contains(&kernel)
}

/// Written extents from the start: nothing to convert, so nothing to queue.
const WRITTEN: &[(Counter, &str)] = &[
    (Converted, "blocks are allocated as written"),
    (Queued, "what need not be converted is released at once"),
];
/// Data goes through the journal.
const JOURNALLED: &[(Counter, &str)] = &[
    (Converted, "blocks are allocated as written"),
    (Queued, "what need not be converted is released at once"),
    (Direct, "direct writes go through the page cache (ext4_should_use_dio)"),
];
/// The file system enciphers pages; from 7.0 on the block layer may encipher bios, from 7.3 on all of them, direct ones as well
/// (`fscrypt_dio_supported`).
const ENCRYPTED: &[(Counter, &str)] =
    &[(Direct, "direct writes of enciphered files go through the page cache")];
const NOTHING: &[(Counter, &str)] = &[];

macro_rules! mounts {
    ($( $name:literal, $kind:literal, $mkfs:literal, $options:literal, $step:ident, $never:expr, $absent:path; )*) => {
        /// Every row.
        pub(super) const MOUNTS: &[Row] = &[ $( Row {
            name: concat!("conserved: ", $name),
            kind: $kind,
            mkfs: $mkfs,
            options: $options,
            step: Step::$step,
            never: $never,
            absent: $absent,
        }, )* ];
    };
}

// Name, type of mount, mke2fs, mount options, what happens meanwhile, what never happens, where not.
mounts! {
    "defaults", "ext4", "-t ext4 -b 4096", "", Nothing, NOTHING, always;
    "no journal", "ext4", "-t ext4 -b 4096 -O ^has_journal", "", Nothing, NOTHING, always;
    "data=journal", "ext4", "-t ext4 -b 4096", "data=journal", Nothing, JOURNALLED, always;
    "data=writeback", "ext4", "-t ext4 -b 4096", "data=writeback", Nothing, NOTHING, always;
    "fast_commit", "ext4", "-t ext4 -b 4096 -O fast_commit", "", Nothing, NOTHING, always;
    "dioread_lock", "ext4", "-t ext4 -b 4096", "dioread_lock", Nothing, WRITTEN, always;
    "nodelalloc", "ext4", "-t ext4 -b 4096", "nodelalloc", Nothing, WRITTEN, always;
    "blocks of 1 KiB", "ext4", "-t ext4 -b 1024", "", Nothing, WRITTEN, newest;
    "blocks of 1 KiB, unwritten first", "ext4", "-t ext4 -b 1024", "", Nothing, NOTHING, oldest;
    "bigalloc", "ext4", "-t ext4 -b 4096 -O bigalloc -C 16384", "", Nothing, NOTHING, always;
    "encrypted", "ext4", "-t ext4 -b 4096 -O encrypt", "", Encrypt, ENCRYPTED, newest;
    "encrypted by the block layer", "ext4", "-t ext4 -b 4096 -O encrypt", "", Encrypt, NOTHING, oldest;
    "inline_data", "ext4", "-t ext4 -b 4096 -O inline_data", "", TinyFiles, NOTHING, always;
    "ext2", "ext2", "-t ext2 -b 4096", "", Nothing, WRITTEN, always;
    "ext3", "ext3", "-t ext3 -b 4096", "", Nothing, WRITTEN, always;
    "large folios", "ext4", "-t ext4 -b 4096", "", LargeFolios, NOTHING, from_6_16;
    "freeze and thaw", "ext4", "-t ext4 -b 4096", "", FreezeAndThaw, NOTHING, always;
    "remount", "ext4", "-t ext4 -b 4096", "", Remount, NOTHING, always;
    "dm-linear", "ext4", "-t ext4 -b 4096", "", Linear, NOTHING, always;
    "shut down", "ext4", "-t ext4 -b 4096", "", ShutDown, NOTHING, always;
}
