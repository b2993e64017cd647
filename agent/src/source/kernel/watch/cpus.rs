//! Which CPUs get watchpoints: those that are online, but for those that were set apart from the rest of the
//! host (isolcpus=, nohz_full=), which an interrupt would disturb.

use std::collections::BTreeSet;

use crate::host::Host;

/// The CPUs to watch, and how many were left alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cpus {
    pub(super) watched: Vec<u32>,
    pub(super) left_alone: usize,
}

impl Cpus {
    /// As they are now; nothing if the host does not say who is online.
    pub(super) fn read(host: &Host) -> Self {
        let list = |name| host.cpu_list(name).unwrap_or_default();
        let apart = [list("isolated"), list("nohz_full")];
        Cpus::of(&list("online"), &apart)
    }

    fn of(online: &str, apart: &[String]) -> Self {
        let apart: BTreeSet<u32> = apart.iter().flat_map(|list| numbers(list)).collect();
        let (left_alone, watched): (Vec<u32>, Vec<u32>) =
            numbers(online).partition(|cpu| apart.contains(cpu));
        Cpus { watched, left_alone: left_alone.len() }
    }
}

/// `0-3,8` as the kernel lists CPUs; `(null)` and an empty line are none.
fn numbers(list: &str) -> impl Iterator<Item = u32> {
    list.trim().split(',').flat_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse::<u32>(), last.parse::<u32>()) {
            (Ok(first), Ok(last)) => first..last + 1,
            _ => 0..0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Cpus;

    #[test]
    fn cpus_that_were_set_apart_are_left_alone() {
        let cpus = |online: &str, isolated: &str, nohz: &str| {
            Cpus::of(online, &[isolated.to_owned(), nohz.to_owned()])
        };
        let all = Cpus { watched: vec![0, 1, 2, 3, 8], left_alone: 0 };
        assert_eq!(cpus("0-3,8\n", "\n", "(null)\n"), all);
        let some = Cpus { watched: vec![0, 3], left_alone: 3 };
        assert_eq!(cpus("0-3,8", "1-2", "2,8\n"), some);
        assert_eq!(cpus("0", "0", ""), Cpus { watched: vec![], left_alone: 1 });
    }
}
