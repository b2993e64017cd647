//! The control group of a process, from `/proc/PID/cgroup` (cgroups(7)).
//!
//! ```text
//!   0::/system.slice/postgresql.service       the unified hierarchy
//!   5:memory:/docker/3f2a…                    a version 1 hierarchy, where the unified one is empty
//! ```
//!
//! A path is kept up to a bound, of a longer one its end, which names the service or the container. This file
//! must never follow a path.

use endiod_wire::wire::CGROUP_PATH_LEN;

/// Where a process is in the hierarchy of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Path from the root, NUL padded.
    pub path: [u8; CGROUP_PATH_LEN],
    /// It is the end of a longer one.
    pub cut: bool,
    /// Of the version 1 hierarchy `memory`.
    pub v1: bool,
}

impl Cgroup {
    /// What the text of that file says; `None` if it names neither hierarchy.
    pub fn parse(text: &str) -> Option<Cgroup> {
        let fields = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
        let unified = fields().find(|(controllers, _)| controllers.is_empty());
        let memory =
            || fields().find(|(controllers, _)| controllers.split(',').any(|it| it == "memory"));
        // Where both are mounted, systemd gives a process the same place in each.
        let v1 = if unified.is_none() { memory() } else { None };
        let is_v1 = v1.is_some();
        let (_, path) = unified.or(v1)?;
        let bytes = path.as_bytes();
        let from = bytes.len().saturating_sub(CGROUP_PATH_LEN);
        let mut kept = [0; CGROUP_PATH_LEN];
        kept[..bytes.len() - from].copy_from_slice(&bytes[from..]);
        Some(Cgroup { path: kept, cut: from > 0, v1: is_v1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Name;

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, bool, bool)>) {
        let found = Cgroup::parse(text);
        let found = found.map(|it| (Name(it.path).to_string(), it.cut, it.v1));
        let expected = expected.map(|(path, cut, v1)| (path.to_owned(), cut, v1));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn the_unified_hierarchy_goes_before_those_of_version_1() {
        check("0::/system.slice/ssh.service\n", Some(("/system.slice/ssh.service", false, false)));
        check("5:cpu,memory:/docker/3f\n1:name=systemd:/x\n", Some(("/docker/3f", false, true)));
        check("5:memory:/docker/3f\n0::/init.scope\n", Some(("/init.scope", false, false)));
        check("1:name=systemd:/x\n", None);
        check("", None);
        check("0::/\n", Some(("/", false, false)));
    }

    #[test]
    fn of_a_long_path_the_end_is_kept() {
        let scope = format!("cri-containerd-{}.scope", "0123456789abcdef".repeat(4));
        let path = format!("/kubepods.slice/kubepods-burstable.slice/{scope}");
        let (_, end) = path.split_at(path.len() - CGROUP_PATH_LEN);
        check(&format!("0::{path}\n"), Some((end, true, false)));
        assert!(end.ends_with(&scope));
    }
}
