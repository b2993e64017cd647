//! What was accused of what lately, so that each object is told once per rule.
//!
//! Bounded: an object that comes back after so many others is told again, and counted as forgotten.

use std::collections::VecDeque;

use super::{ObjectId, Rule};
use crate::{lifecycle::State, limits};

/// An object and what it was accused of, a bit per [`Rule`].
struct Object {
    id: ObjectId,
    rules: u32,
    /// Of those, the ones that were not confirmed.
    suppressed: u32,
    /// States in which it was found stuck, a bit each.
    stuck_in: u16,
}

/// The objects accused lately, the latest last.
pub(super) struct Accused(VecDeque<Object>);

/// What an accusation is to those before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Charged {
    First,
    /// The first, and another object was forgotten for it.
    FirstForAnother,
    Again,
}

impl Accused {
    pub(super) fn new() -> Self {
        Accused(VecDeque::with_capacity(limits::ACCUSED_MAX))
    }

    fn get(&mut self, id: ObjectId) -> Option<&mut Object> {
        self.0.iter_mut().rev().find(|object| object.id == id)
    }

    /// Remembers the accusation.
    pub(super) fn charge(&mut self, id: ObjectId, rule: Rule) -> Charged {
        let bit = 1 << rule as u32;
        if let Some(object) = self.get(id) {
            let first = object.rules & bit == 0;
            object.rules |= bit;
            return if first { Charged::First } else { Charged::Again };
        }
        let full = self.0.len() == limits::ACCUSED_MAX;
        if full {
            self.0.pop_front();
        }
        self.0.push_back(Object { id, rules: bit, suppressed: 0, stuck_in: 0 });
        if full { Charged::FirstForAnother } else { Charged::First }
    }

    /// Remembers that it was found stuck in that state; `false` if it was before.
    pub(super) fn first_in(&mut self, id: ObjectId, state: State) -> bool {
        let bit = 1 << state as u16;
        let Some(object) = self.get(id) else { return false };
        let first = object.stuck_in & bit == 0;
        object.stuck_in |= bit;
        first
    }

    /// The accusation was not confirmed.
    pub(super) fn suppress(&mut self, id: ObjectId, rule: Rule) {
        if let Some(object) = self.get(id) {
            object.suppressed |= 1 << rule as u32;
        }
    }

    /// Was it accused of that, and was it not suppressed?
    pub(super) fn stands(&mut self, id: ObjectId, rule: Rule) -> bool {
        self.get(id).is_some_and(|object| object.suppressed & (1 << rule as u32) == 0)
    }
}
