//! Looks for what can be told: the io_ends of a recording, the one that is wanted, or the nearest to it.
//!
//! It must never hold more than a few: of any number of io_ends it keeps the oldest that are still open
//! and the longest that are over.

use serde::Serialize;

use crate::{
    event::{Body, Event, InodeId, Nanos},
    finding::AddressKey,
    lifecycle::{IoEnd, IoEndId, Step},
    limits,
    pipeline::Onlooker,
};

/// io_ends that are listed of each kind.
const LISTED_MAX: usize = 10;
/// io_ends that begin with what was asked for and are named.
const MATCHES_MAX: usize = 3;

/// Why nothing can be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    /// No such finding, and which one is nearest by its letters.
    #[error("no finding {wanted:?} is in it; the nearest is {nearest:?}")]
    Finding {
        /// What was asked for.
        wanted: String,
        /// What is there.
        nearest: String,
    },
    /// No finding at all.
    #[error("no finding {wanted:?} is in it: it holds none")]
    NoFindings {
        /// What was asked for.
        wanted: String,
    },
    /// No such io_end.
    #[error("no io_end {wanted:?} is in it; the nearest is {nearest:?}")]
    IoEnd {
        /// What was asked for.
        wanted: String,
        /// What is there.
        nearest: String,
    },
    /// No io_end at all.
    #[error("no io_end {wanted:?} is in it: it holds none")]
    NoIoEnds {
        /// What was asked for.
        wanted: String,
    },
    /// More than one begins so.
    #[error("{count} io_ends begin with {wanted:?}, {named} say: give more of it")]
    Ambiguous {
        /// What was asked for.
        wanted: String,
        /// How many.
        count: u64,
        /// Some of them.
        named: String,
    },
}

/// An io_end that can be explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its id.
    pub object: String,
    /// Its inode number.
    pub inode: Option<u64>,
    /// Its state.
    pub state: &'static str,
    /// Birth to release; of one that is still open, to the end of the recording.
    pub age_ns: u64,
    /// It was not released.
    pub open: bool,
}

/// Looks for io_ends.
pub struct Seeker {
    wanted: Option<String>,
    key: AddressKey,
    found: u64,
    matches: Vec<String>,
    exact: Option<String>,
    nearest: Option<(usize, String)>,
    /// io_ends that are alive.
    open: std::collections::BTreeMap<IoEndId, (Option<InodeId>, &'static str)>,
    longest: Vec<(u64, IoEndId, Option<InodeId>, &'static str)>,
    total: u64,
    now: Nanos,
}

impl Seeker {
    /// For an io_end whose id begins so; `None`: for a list.
    pub fn new(wanted: Option<&str>) -> Self {
        Seeker {
            wanted: wanted.map(str::to_owned),
            key: AddressKey(0),
            found: 0,
            matches: Vec::new(),
            exact: None,
            nearest: None,
            open: std::collections::BTreeMap::new(),
            longest: Vec::new(),
            total: 0,
            now: Nanos(0),
        }
    }

    /// The io_end that was asked for.
    ///
    /// # Errors
    /// None or more than one begins so.
    pub fn io_end(&self) -> Result<String, NotThere> {
        let wanted = self.wanted.clone().unwrap_or_default();
        match (&self.exact, self.matches.as_slice(), &self.nearest) {
            (Some(exact), ..) => Ok(exact.clone()),
            (None, [only], _) if self.found == 1 => Ok(only.clone()),
            (None, [_, ..], _) => Err(NotThere::Ambiguous {
                wanted,
                count: self.found,
                named: self.matches.join(", "),
            }),
            (None, [], Some((_, nearest))) => {
                Err(NotThere::IoEnd { wanted, nearest: nearest.clone() })
            }
            (None, [], None) => Err(NotThere::NoIoEnds { wanted }),
        }
    }

    /// io_ends in all.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Those that are open, the oldest first, then the longest lives.
    pub fn list(&self) -> Vec<Listed> {
        let listed = |id: IoEndId, age_ns, inode: Option<InodeId>, state, open| Listed {
            object: self.key.object(id),
            inode: inode.map(|inode| inode.ino.0),
            state,
            age_ns,
            open,
        };
        let mut open: Vec<_> = self.open.iter().collect();
        open.sort_by_key(|(id, _)| id.born);
        let open = open.into_iter().take(LISTED_MAX).map(|(id, (inode, state))| {
            listed(*id, self.now.since(id.born).0, *inode, state, true)
        });
        let over = self.longest.iter();
        let over = over.map(|(age, id, inode, state)| listed(*id, *age, *inode, state, false));
        open.chain(over).collect()
    }

    fn begins(&mut self, object: &IoEnd) {
        self.total += 1;
        let id = object.id();
        self.open.insert(id, (object.inode(), object.state().label()));
        let Some(wanted) = &self.wanted else { return };
        let told = self.key.object(id);
        if told == *wanted {
            self.exact = Some(told.clone());
        }
        if told.starts_with(wanted.as_str()) {
            self.found += 1;
            if self.matches.len() < MATCHES_MAX {
                self.matches.push(told);
            }
            return;
        }
        let distance = edit_distance(wanted, &told);
        if self.nearest.as_ref().is_none_or(|(least, _)| distance < *least) {
            self.nearest = Some((distance, told));
        }
    }

    fn ends(&mut self, object: &IoEnd) {
        self.open.remove(&object.id());
        let Some(age) = object.phases().total else { return };
        let entry = (age.0, object.id(), object.inode(), object.state().label());
        let at = self.longest.partition_point(|(other, ..)| *other >= age.0);
        if at < LISTED_MAX {
            self.longest.insert(at, entry);
            self.longest.truncate(LISTED_MAX);
        }
    }
}

impl Onlooker for Seeker {
    fn step(&mut self, step: &Step<'_>) {
        match step {
            Step::IoEndBorn(object) | Step::IoEndAdopted(object) => self.begins(object),
            Step::IoEndReleased(object) => self.ends(object),
            Step::IoEndLost(object) => drop(self.open.remove(&object.id())),
            Step::IoEndMoved(moved) => {
                if let Some((_, state)) = self.open.get_mut(&moved.object.id()) {
                    *state = moved.object.state().label();
                }
            }
            Step::IoEndIdentified(object) => {
                if let Some((inode, _)) = self.open.get_mut(&object.id()) {
                    *inode = object.inode();
                }
            }
            Step::DirectIoDone(_)
            | Step::DirectIoRefused(_)
            | Step::DirectIoBroken(_)
            | Step::FsyncDone(_)
            | Step::EvictionDone(_) => {}
        }
    }

    fn event(&mut self, event: &Event) {
        self.now = self.now.max(event.stamp.at);
        if let Body::Host { hash_key, .. } = event.body {
            self.key = AddressKey(hash_key);
            self.open.clear();
        }
    }
}

/// How many letters must be changed, added or left out to get from one to the other; of a text beyond
/// [`limits::STORY_ID_BYTES_MAX`] the beginning counts.
pub fn edit_distance(from: &str, to: &str) -> usize {
    let head =
        |text: &str| -> Vec<char> { text.chars().take(limits::STORY_ID_BYTES_MAX).collect() };
    let (from, to) = (head(from), head(to));
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.iter().enumerate() {
            let above = row[column + 1];
            let changed = diagonal + usize::from(letter != other);
            row[column + 1] = changed.min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::edit_distance;

    #[test]
    fn the_distance_is_the_number_of_edits() {
        for (from, to, distance) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("ab", "ba", 2),
        ] {
            assert_eq!(edit_distance(from, to), distance, "{from} {to}");
            assert_eq!(edit_distance(to, from), distance, "{to} {from}");
        }
        assert!(edit_distance(&"x".repeat(100_000), "y") <= 64);
    }
}
