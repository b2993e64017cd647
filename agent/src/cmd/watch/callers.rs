//! Name and cgroup of the processes that call fsync, for the people who look at them: no verdict depends on it.
//!
//! ```text
//!   fsync's first record of a second ──drain──► /proc/PID/comm, /proc/PID/cgroup ──► TASK_NAME, TASK_CGROUP
//! ```
//!
//! A process is asked at its first fsync of each second, within milliseconds of it, and told of if that is new:
//! a number that is used again is asked again. Whoever ended before is not named. At most so many are asked in a
//! second, 30 µs each, by the task that drains the ring.

use std::collections::{BTreeMap, BTreeSet};

use endiod::{
    decode,
    host::{Cgroup, Host},
    limits::CALLERS_READ_MAX,
};
use endiod_wire::wire::{FsyncBegin, FsyncEnd, Record as _};

/// What is new of a process.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) tgid: u32,
    pub(super) comm: Option<[u8; 16]>,
    pub(super) cgroup: Option<Cgroup>,
}

/// Who is to be asked, and what was told.
#[derive(Debug, Default)]
pub(super) struct Callers {
    wanted: Vec<u32>,
    /// Of this second.
    asked: BTreeSet<u32>,
    told: BTreeMap<u32, (Option<[u8; 16]>, Option<Cgroup>)>,
}

impl Callers {
    /// A new stream knows nobody.
    pub(super) fn begin(&mut self) {
        *self = Callers::default();
    }

    /// A second has passed: whoever comes is asked again.
    pub(super) fn tick(&mut self) {
        self.asked.clear();
    }

    /// The process that a record of an fsync is of.
    pub(super) fn want_of_record(&mut self, record: &[u8]) {
        if let Ok(header) = decode::header(record)
            && matches!(header.kind, FsyncBegin::KIND | FsyncEnd::KIND)
            && self.asked.len() < CALLERS_READ_MAX
            && self.asked.insert(header.tgid)
        {
            self.wanted.push(header.tgid);
        }
    }

    /// What is new of those who were seen since the last time.
    pub(super) fn take(&mut self, host: &Host) -> Vec<Told> {
        let mut new = Vec::new();
        for tgid in std::mem::take(&mut self.wanted) {
            let (comm, cgroup) = (host.task_name(tgid), host.cgroup(tgid));
            if self.told.len() >= CALLERS_READ_MAX && !self.told.contains_key(&tgid) {
                // Whoever still calls is told again.
                self.told.clear();
            }
            let before = self.told.insert(tgid, (comm, cgroup)).unwrap_or_default();
            let comm = comm.filter(|_| comm != before.0);
            let cgroup = cgroup.filter(|_| cgroup != before.1);
            if comm.is_some() || cgroup.is_some() {
                new.push(Told { tgid, comm, cgroup });
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use endiod_wire::wire::{Header, bytes_of};

    use super::*;

    fn fsync(tgid: u32) -> Vec<u8> {
        let len = u16::try_from(size_of::<FsyncEnd>()).unwrap();
        let header = Header {
            kind: FsyncEnd::KIND,
            len,
            cpu: 0,
            lane: 0,
            context: 1,
            seq: 1,
            time_ns: 1,
            tid: tgid + 1,
            tgid,
        };
        bytes_of(&FsyncEnd { header, ret: 0 }).to_vec()
    }

    #[test]
    fn a_process_is_asked_once_a_second_and_told_when_it_changed() {
        let root = std::env::temp_dir().join(format!("endiod-callers-{}", std::process::id()));
        let dir = root.join("proc/7");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("comm"), "mysqld\n").unwrap();
        fs::write(dir.join("cgroup"), "0::/a\n").unwrap();
        let host = Host::at(&root);
        let mut callers = Callers::default();
        let ask = |callers: &mut Callers, tgid| {
            callers.want_of_record(&fsync(tgid));
            callers.take(&host)
        };
        let first = ask(&mut callers, 7);
        assert_eq!(
            (first.len(), first[0].comm.is_some(), first[0].cgroup.is_some()),
            (1, true, true)
        );
        fs::write(dir.join("cgroup"), "0::/b\n").unwrap();
        assert_eq!(ask(&mut callers, 7), [], "it was asked this second");
        callers.tick();
        let moved = ask(&mut callers, 7);
        assert_eq!((moved.len(), moved[0].comm, moved[0].cgroup.is_some()), (1, None, true));
        assert_eq!(ask(&mut callers, 8), [], "it has ended");
        fs::remove_dir_all(&root).unwrap();
    }
}
