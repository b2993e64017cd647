//! Names of tasks, for the people who read a recording or a finding: no verdict depends on them.
//!
//! A recording names each task that a second's records are of, at the TICK that ends it; without one
//! only those of a finding are named, which is when somebody will want to know. A task that has ended by
//! then has no name, and its number may be another's: the name is what the number meant at that TICK.

use std::collections::{BTreeMap, BTreeSet};

use endiod::{decode, finding::Finding, host::Host, limits::TASK_NAMES_MAX};
use endiod_wire::wire::AGENT_CPU;

/// `comm` of a task, NUL padded.
type Comm = [u8; 16];

/// Who is to be named, and who has been.
#[derive(Debug, Default)]
pub(super) struct TaskNames {
    wanted: BTreeSet<u32>,
    told: BTreeMap<u32, Comm>,
}

impl TaskNames {
    /// A new stream knows nobody.
    pub(super) fn begin(&mut self) {
        *self = TaskNames::default();
    }

    /// The task that a record is of.
    pub(super) fn want_of_record(&mut self, record: &[u8]) {
        if let Ok(header) = decode::header(record)
            && header.cpu != AGENT_CPU
        {
            self.want(header.tid);
        }
    }

    /// Everybody in a finding.
    pub(super) fn want_of_finding(&mut self, finding: &Finding) {
        let Finding { parties, history, stuck, .. } = finding;
        let parties = parties.iter().flatten().map(|party| party.tid);
        let waiters = stuck.iter().flat_map(|stuck| &stuck.waiters).map(|waiter| waiter.tid);
        let steps = history.iter().map(|step| step.tid);
        parties.chain(waiters).chain(steps).for_each(|tid| self.want(tid));
    }

    /// The idle task of a CPU has no number of its own.
    fn want(&mut self, tid: u32) {
        if tid != 0 && self.wanted.len() < TASK_NAMES_MAX {
            self.wanted.insert(tid);
        }
    }

    /// The names that were not told, or not like that.
    pub(super) fn take(&mut self, host: &Host) -> Vec<(u32, Comm)> {
        let mut new = Vec::new();
        for tid in std::mem::take(&mut self.wanted) {
            let Some(comm) = host.task_name(tid) else { continue };
            let is_known = self.told.get(&tid) == Some(&comm);
            if !is_known && (self.told.len() < TASK_NAMES_MAX || self.told.contains_key(&tid)) {
                self.told.insert(tid, comm);
                new.push((tid, comm));
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn host(name: &str, tasks: &[(u32, &str)]) -> Host {
        let root = std::env::temp_dir().join(format!("endiod-names-{name}-{}", std::process::id()));
        for (tid, comm) in tasks {
            let dir = root.join(format!("proc/{tid}"));
            fs::create_dir_all(&dir).unwrap();
            fs::write(dir.join("comm"), format!("{comm}\n")).unwrap();
        }
        Host::at(root)
    }

    #[test]
    fn a_name_is_told_once_and_again_when_it_changed() {
        let mut names = TaskNames::default();
        let told = |names: &mut TaskNames, host: &Host| {
            names.want(7);
            names.want(0);
            names.want(8);
            names.take(host)
        };
        let before = host("once", &[(7, "mysqld")]);
        assert_eq!(told(&mut names, &before), [(7, *b"mysqld\0\0\0\0\0\0\0\0\0\0")]);
        assert_eq!(told(&mut names, &before), []);
        let after = host("once", &[(7, "kworker/u16:3-ext4-rsv-conversion")]);
        assert_eq!(told(&mut names, &after), [(7, *b"kworker/u16:3\0\0\0")]);
        names.begin();
        assert_eq!(told(&mut names, &after).len(), 1);
        fs::remove_dir_all(after.root()).unwrap();
    }
}
