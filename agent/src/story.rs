//! The story of one io_end: who did what with it in which order, and what that means.
//!
//! ```text
//!   recording ─► pipeline ─► Seeker      which io_ends there are, which findings
//!   recording ─► pipeline ─► Collector   the events of the one that is wanted ─► Story ─► picture
//!                                        cast: a lane per actor     words: functions, locks, meaning
//! ```
//!
//! A story has every event of its object once and in the order of the stream, the worker runs and
//! fsyncs that they happened in, and nothing else. Which function a step is and which lock its path
//! holds there is read off the kernel's source by generation (`story/words.rs`), not seen; flags, counts
//! and list are the object's own bytes. It must never show a kernel address, and never judge: what is
//! illegal the findings say.

mod bits;
mod cast;
mod collect;
mod meaning;
mod picture;
mod plain;
pub mod retell;
mod seek;
mod tell;
mod text;
mod waits;
mod words;

use std::borrow::Cow;

use serde::Serialize;

use crate::finding::Finding;

pub use collect::Collector;
pub(crate) use collect::gap_labels;
pub use meaning::{meaning, meaning_in_lines};
pub use picture::WIDTH;
pub use seek::{Listed, NotThere, Seeker, edit_distance};
pub(crate) use text::printable;

/// Version of the JSON form.
pub const SCHEMA: u32 = 1;

/// A story, as it is told and as JSON.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Story {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `uname -r`.
    pub kernel: String,
    /// `2012` (3.2 to 3.6), `refcounted` (5.5 to 7.3) or `unknown`.
    pub protocol: &'static str,
    /// The io_end.
    pub object: String,
    /// Its birth, or first sight.
    pub born_ns: u64,
    /// Whether that was its birth.
    pub birth_seen: bool,
    /// Its inode number.
    pub inode: Option<u64>,
    /// Its device, `major:minor`.
    pub device: Option<String>,
    /// Its device's kernel name.
    pub device_name: Option<String>,
    /// Its last state.
    pub state: &'static str,
    /// What is missing from its record.
    pub gaps: Vec<&'static str>,
    /// Its actors, in the order of their lanes.
    pub lanes: Vec<Lane>,
    /// Its steps, in the order of the stream.
    pub steps: Vec<Step>,
    /// Steps that found no room, and after which step they are missing.
    pub left_out: Option<LeftOut>,
    /// Worker runs while it waited that touched no io_end, beyond those among the steps.
    pub empty_runs_left_out: u64,
    /// What it is accused of.
    pub findings: Vec<Finding>,
    /// Ids of findings of the same object that are not told here.
    pub other_findings: Vec<String>,
    /// In plain words, a paragraph each.
    pub plain: Vec<String>,
}

/// An actor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lane {
    /// Its letter in the picture.
    pub letter: char,
    /// `task 20 "dd"`, `interrupts on cpu 0`.
    pub who: String,
    /// What part it has, `worker` say.
    pub role: &'static str,
    /// Thread, if it is one task.
    pub tid: Option<u32>,
    /// What that task was called, what is not printable ASCII as `?`.
    pub name: Option<String>,
    /// What it did, in short.
    pub did: Vec<&'static str>,
}

/// Steps in the middle that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// Number of the step before them.
    pub after: usize,
    /// How many.
    pub steps: u64,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// From 1.
    pub number: usize,
    /// When.
    pub at_ns: u64,
    /// Since its birth; below 0 for a call that began before.
    pub since_birth_ns: i64,
    /// Index of its lane.
    pub lane: usize,
    /// CPU.
    pub cpu: Option<u16>,
    /// `task`, `softirq`, `hardirq`, `nmi`, `unknown`.
    pub context: &'static str,
    /// Current thread; a bystander in interrupt context.
    pub tid: u32,
    /// What happened, a name for programs.
    pub act: &'static str,
    /// The kernel function, by this generation's name.
    pub symbol: Cow<'static, str>,
    /// What happened, for people.
    pub what: String,
    /// State after it.
    pub state: Option<&'static str>,
    /// `flag`, if it was read.
    pub flag: Option<u32>,
    /// The same by the names of this generation.
    pub flag_names: Option<String>,
    /// `count`, if it was read.
    pub count: Option<u32>,
    /// Whether it was on the inode's list, if that was read.
    pub listed: Option<bool>,
    /// `i_completed_io_lock` on this path, as the source has it: `takes`, `took`, `no`; where its word was
    /// read `held` or `free`.
    pub lock: Option<&'static str>,
    /// Whether the actor is inside of a claim or a worker run from here to its end.
    pub inside: bool,
    /// Ids of the findings whose illegal step this is.
    pub illegal: Vec<String>,
    /// Ids of the findings whose first party acted here.
    pub first_party: Vec<String>,
}
