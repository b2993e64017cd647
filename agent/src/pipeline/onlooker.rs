//! Who looks on while a stream passes: stories and exports, which want more than the totals.
//!
//! For each event come first the steps that it led to, then the event itself; a step that no event led
//! to (an object that was given up at a TICK) comes with that TICK. An onlooker must never change what
//! the pipeline says: it only reads.

use crate::{event::Event, lifecycle::Step};

/// Looks on.
pub trait Onlooker {
    /// A step of an object.
    fn step(&mut self, step: &Step<'_>);
    /// The event whose steps were told; what of it cannot be believed is left out.
    fn event(&mut self, event: &Event);
}

/// Nobody looks on.
pub(super) struct Nobody;

impl Onlooker for Nobody {
    fn step(&mut self, _: &Step<'_>) {}
    fn event(&mut self, _: &Event) {}
}
