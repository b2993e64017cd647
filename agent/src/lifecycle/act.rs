//! What kernel functions do with an io_end, and who did it.
//!
//! One row per probed function (fs/ext4/page-io.c, inode.c and block/blk-core.c, 5.10 to 7.3). This module must never know a
//! state.

use crate::event::{Context, Cpu, Stamp, Task};

macro_rules! acts {
    ($( $(#[$doc:meta])* $name:ident = $label:literal, $function:literal; )*) => {
        /// What a kernel function did with an io_end.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Act { $( $(#[$doc])* $name, )* }

        impl Act {
            /// All acts.
            pub const ALL: &[Act] = &[ $( Act::$name, )* ];

            /// Short name.
            pub fn label(self) -> &'static str {
                match self { $( Act::$name => $label, )* }
            }

            /// The kernel function whose probe saw it.
            pub fn function(self) -> &'static str {
                match self { $( Act::$name => $function, )* }
            }
        }
    };
}

acts! {
    /// It was allocated.
    Birth = "birth", "ext4_init_io_end";
    /// A range was added.
    Range = "range", "ext4_alloc_io_end_vec";
    /// A bio was submitted.
    Attach = "attach", "submit_bio";
    /// A bio completed.
    BioEnd = "bio_end", "ext4_end_bio";
    /// A reference was dropped by the submitter, who may convert inline.
    Put = "put", "ext4_put_io_end";
    /// A reference was dropped, the conversion is deferred.
    PutDefer = "put_defer", "ext4_put_io_end_defer";
    /// It was claimed.
    Claim = "claim", "ext4_end_io_end";
    /// The conversion was entered.
    ConvertBegin = "convert", "ext4_convert_unwritten_io_end_vec";
    /// The conversion returned.
    ConvertEnd = "convert_end", "ext4_convert_unwritten_io_end_vec";
    /// It was released.
    Release = "release", "ext4_release_io_end";
}

/// Who did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// Current task.
    pub task: Task,
    /// CPU; `None` for a record without one.
    pub cpu: Option<Cpu>,
    /// Context.
    pub context: Context,
    /// What it did.
    pub act: Act,
}

impl Party {
    pub(crate) fn new(stamp: &Stamp, act: Act) -> Self {
        Party { task: stamp.task, cpu: stamp.cpu, context: stamp.context, act }
    }
}

#[cfg(test)]
mod tests {
    use super::Act;

    #[test]
    fn acts_are_listed_by_their_number_and_fit_four_bits() {
        assert!(Act::ALL.iter().enumerate().all(|(at, act)| *act as usize == at));
        assert!(Act::ALL.len() <= 16);
    }
}
