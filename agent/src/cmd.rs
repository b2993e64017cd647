//! The verbs, one file each: they do the I/O that the library must not.

pub(crate) mod doctor;
pub(crate) mod run;
pub(crate) mod selftest;
pub(crate) mod stress;
