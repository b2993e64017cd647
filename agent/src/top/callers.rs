//! Who calls fsync: by process, and by cgroup, which is the sum of its processes.
//!
//! A process is its thread group id; its name and cgroup come with records of the agent, before or after its
//! first fsync. One that was idle for a whole window makes room once half the table is taken. It must never
//! guess: without a record a cgroup is unknown.

use std::collections::BTreeMap;

use super::{
    rate::Rate,
    snapshot::{Caller, OTHERS, UNKNOWN},
};
use crate::{
    event::{CGROUP_PATH_LEN, Name, Nanos},
    lifecycle::FsyncDone,
    limits::{TASK_NAMES_MAX, TOP_PROCESSES_MAX},
};

#[derive(Clone, Debug, Default)]
struct Calls {
    rate: Rate,
    errors: u64,
}

impl Calls {
    fn add(&mut self, other: &Calls) {
        self.rate.add(&other.rate);
        self.errors += other.errors;
    }
}

#[derive(Debug, Default)]
pub(super) struct Callers {
    processes: BTreeMap<u32, Calls>,
    /// What found no room, and what made it.
    others: Option<Calls>,
    names: BTreeMap<u32, Name<16>>,
    cgroups: BTreeMap<u32, (Name<CGROUP_PATH_LEN>, bool)>,
}

impl Callers {
    pub(super) fn fsync(&mut self, done: &FsyncDone) {
        let has_room = self.processes.len() < TOP_PROCESSES_MAX;
        let tgid = done.task.tgid;
        let calls = match self.processes.contains_key(&tgid) || has_room {
            true => self.processes.entry(tgid).or_default(),
            false => self.others.get_or_insert_default(),
        };
        calls.rate.observe(done.duration);
        calls.errors += u64::from(done.errno.is_some());
    }

    pub(super) fn name(&mut self, tid: u32, comm: Name<16>) {
        if self.names.len() >= TASK_NAMES_MAX {
            self.names.retain(|tid, _| self.processes.contains_key(tid));
        }
        self.names.insert(tid, comm);
    }

    pub(super) fn cgroup(&mut self, tgid: u32, path: Name<CGROUP_PATH_LEN>, cut: bool) {
        if self.cgroups.len() >= TASK_NAMES_MAX {
            self.cgroups.retain(|tgid, _| self.processes.contains_key(tgid));
        }
        self.cgroups.insert(tgid, (path, cut));
    }

    pub(super) fn tick(&mut self, elapsed: Nanos, window_moves: bool) {
        let others = self.others.iter_mut();
        for calls in self.processes.values_mut().chain(others) {
            calls.rate.tick(elapsed, window_moves);
        }
        if window_moves && self.processes.len() > TOP_PROCESSES_MAX / 2 {
            let Callers { processes, others, .. } = self;
            processes.retain(|_, calls| {
                let stays = !calls.rate.is_idle();
                if !stays {
                    others.get_or_insert_default().add(calls);
                }
                stays
            });
        }
    }

    /// By process and by cgroup.
    pub(super) fn rows(&self) -> (Vec<Caller>, Vec<Caller>) {
        let mut by_cgroup: BTreeMap<String, Calls> = BTreeMap::new();
        let mut processes = Vec::with_capacity(self.processes.len() + 1);
        for (tgid, calls) in &self.processes {
            let name = self.names.get(tgid).map_or(UNKNOWN.to_owned(), Name::to_string);
            let cgroup = self.cgroup_of(*tgid);
            by_cgroup.entry(cgroup.clone()).or_default().add(calls);
            processes.push(row(Some(*tgid), name, cgroup, calls));
        }
        if let Some(others) = &self.others {
            processes.push(row(None, OTHERS.to_owned(), OTHERS.to_owned(), others));
            by_cgroup.entry(OTHERS.to_owned()).or_default().add(others);
        }
        let cgroups = by_cgroup.into_iter();
        let cgroups = cgroups.map(|(path, calls)| row(None, path.clone(), path, &calls));
        (processes, cgroups.collect())
    }

    fn cgroup_of(&self, tgid: u32) -> String {
        match self.cgroups.get(&tgid) {
            None => UNKNOWN.to_owned(),
            Some((path, false)) => path.to_string(),
            Some((path, true)) => format!("…{path}"),
        }
    }
}

fn row(pid: Option<u32>, name: String, cgroup: String, calls: &Calls) -> Caller {
    Caller { pid, name, cgroup, fsyncs: calls.rate.row(), errors: calls.errors }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FsyncRange, InodeAddr, Task};

    fn fsync(tgid: u32, errno: Option<i32>) -> FsyncDone {
        FsyncDone {
            begun: Nanos(0),
            duration: Nanos(1_000_000),
            inode: None,
            inode_at: InodeAddr(1),
            waits_from: None,
            task: Task { tid: tgid + 1, tgid },
            range: FsyncRange { bytes: None, datasync: false },
            phases: [None; 4],
            errno,
        }
    }

    #[test]
    fn threads_are_one_process_and_processes_of_a_cgroup_one_row() {
        let mut callers = Callers::default();
        callers.fsync(&fsync(10, None));
        callers.fsync(&fsync(10, Some(5)));
        callers.fsync(&fsync(20, None));
        callers.fsync(&fsync(30, None));
        callers.name(10, Name::new("mysqld"));
        callers.cgroup(10, Name::new("/a"), false);
        callers.cgroup(20, Name::new("/a"), false);
        let (processes, cgroups) = callers.rows();
        let told: Vec<_> =
            processes.iter().map(|it| (it.pid, &*it.name, &*it.cgroup, it.errors)).collect();
        assert_eq!(
            told,
            [
                (Some(10), "mysqld", "/a", 1),
                (Some(20), UNKNOWN, "/a", 0),
                (Some(30), UNKNOWN, UNKNOWN, 0)
            ]
        );
        let told: Vec<_> = cgroups.iter().map(|it| (&*it.name, it.fsyncs.count)).collect();
        assert_eq!(told, [("/a", 3), (UNKNOWN, 1)]);
    }

    #[test]
    fn a_full_table_counts_newcomers_as_others_until_the_idle_make_room() {
        let mut callers = Callers::default();
        let max = u32::try_from(TOP_PROCESSES_MAX).unwrap();
        (1..=max + 5).for_each(|tgid| callers.fsync(&fsync(tgid, None)));
        let others = |callers: &Callers| {
            let (processes, _) = callers.rows();
            let others = processes.iter().find(|it| it.name == OTHERS).unwrap();
            (processes.len(), others.fsyncs.count)
        };
        assert_eq!(others(&callers), (TOP_PROCESSES_MAX + 1, 5));
        for _ in 0..2 {
            callers.fsync(&fsync(1, None));
            callers.tick(Nanos(1_000_000_000), true);
        }
        callers.tick(Nanos(1_000_000_000), true);
        let sum: u64 = callers.rows().0.iter().map(|it| it.fsyncs.count).sum();
        assert_eq!(others(&callers).0, 2, "only the busy one is told by name");
        assert_eq!(sum, u64::from(max) + 5 + 2, "and none is forgotten");
        callers.fsync(&fsync(max + 3, None));
        assert_eq!(others(&callers).0, 3);
    }
}
