//! The reference cores: what the completion protocol allows, as small executable specifications.
//!
//! ```text
//!   completed_list  the 2012 core, fixed, unfixed, each half of the fix left out ─┐
//!   refcounted      the core of 5.5 to 7.3, by generation ────────────────────────┤
//!                                                                                 ▼
//!   property ──► explore: every interleaving of a small world ──► verdicts, shortest counterexample
//!                                                                                 │
//!   story: that counterexample with a lane per actor ◄────────────────────────────┘
//!
//!   in_step: the same two cores as sets of states, beside a stream of events
//! ```
//!
//! It must never share code with what it judges: it imports [`crate::event`] and
//! [`crate::limits`] only. It does no I/O, reads no clock and allocates nothing per event.

pub mod claims;
pub mod completed_list;
pub mod explore;
mod fifo;
pub mod in_step;
pub mod property;
pub mod refcounted;
pub mod story;
