//! What the cores say of the object of one event, for those who have something to say of it themselves.

use super::{Judge, Outcome};
use crate::event::{IoEndAddr, Nanos};

/// A word of each core that describes the kernel: [`Outcome::Diverged`] once it had no run with
/// something of the object's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Words([Option<Outcome>; Judge::ALL.len()]);

impl Words {
    /// Those of all cores that describe the kernel, and what each says.
    pub fn iter(&self) -> impl Iterator<Item = (Judge, Outcome)> {
        Judge::ALL.into_iter().zip(self.0).filter_map(|(judge, word)| Some((judge, word?)))
    }

    /// Does that core have no run with the object's life?
    pub fn diverged(&self, judge: Judge) -> bool {
        self.0[judge as usize] == Some(Outcome::Diverged)
    }

    pub(super) fn say(&mut self, judge: Judge, outcome: Outcome) {
        self.0[judge as usize] = Some(outcome);
    }

    /// The same word of each of these.
    pub(super) fn all(judges: &[Judge], outcome: Outcome) -> Self {
        let mut words = Words::default();
        judges.iter().for_each(|judge| words.say(*judge, outcome));
        words
    }
}

/// What the cores say of an event's object, the event included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// Its address.
    pub addr: IoEndAddr,
    /// Its birth; `None` of one that is not followed.
    pub born: Option<Nanos>,
    /// The words.
    pub words: Words,
    /// Of the words, those with which a core diverged at this very event; the next TICK decides.
    pub fresh: Words,
}

impl Said {
    /// Did a core diverge at this event?
    pub fn is_fresh(&self) -> bool {
        self.fresh != Words::default()
    }
}
