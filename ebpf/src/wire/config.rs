//! What [`super::Config`] records say: keys, and the values that have names.

/// Keys of [`super::Config`].
pub mod config_key {
    /// Bound of the io_end table.
    pub const IO_ENDS_MAX: u32 = 1;
    /// Bound of the table of direct I/Os in flight.
    pub const DIRECT_IOS_MAX: u32 = 2;
    /// Bound of the table of open fsyncs.
    pub const FSYNCS_MAX: u32 = 3;
    /// 1 where ext4 is a module without BTF: io_ends are read as 5.5 to 7.3 lay them out, and no image
    /// is to be believed until one was seen to fit.
    pub const LAYOUT_ASSUMED: u32 = 4;
    /// Whose completion core is watched, one of [`super::subject`]; ext4's where a stream does not say.
    pub const SUBJECT: u32 = 5;
    /// Age in one state from which an object is told as stuck, nanoseconds; without it none is.
    pub const STUCK_AFTER_NS: u32 = 6;
}

/// Values of [`config_key::SUBJECT`].
pub mod subject {
    /// ext4 of the kernel that HOST names.
    pub const EXT4: u64 = 0;
    /// The fixture module `replica` on that kernel: the completion core of 2012 (3.2 to 3.6), fixed or
    /// not. An io_end's work is its own there, so the inode of WORKER_BEGIN and WORKER_END is the io_end.
    pub const REPLICA: u64 = 1;
}
