//! Which suites of cases run on which kernel: one table, one row per guest.
//!
//! What is claimed of every kernel runs on every kernel that describes its ext4; one that does not has
//! cases of its own, for without that most is not to be seen. What the agent does by itself (its files,
//! its exit, its words) runs on the oldest and the newest, for it does not know the kernel. What costs
//! most runs where the code it is about differs most: on 6.1, the last long-term kernel before the
//! completion path was rewritten in 6.15, and on the newest. Kernels that refuse programs or keep them
//! from running are made of 6.1, which does not count what kprobes miss, and of 6.18, which does. Crimes
//! and the core of 2012 come as modules of our own, each in a guest of its own: they leave warnings, and a
//! task that hangs. What a kernel does where a device fails or holds data back is shown on one of each
//! shape of the completion path, on the oldest and the newest. What Prometheus makes of the metrics does
//! not hang on the kernel: one guest runs it, with a module of ours for it to have something to tell. Nor
//! does the life of the package: it is led on Debian 12 with the kernel of that.

use std::time::Duration;

use crate::setup::{self, CURL, FIO, PROMETHEUS, Set};

/// One boot of a kernel.
#[derive(Debug)]
pub(crate) struct GuestRun {
    /// Its name in the `KERNELS` table.
    pub(crate) kernel: &'static str,
    /// What to call it, in one kernel's column; nothing for the first.
    pub(crate) part: &'static str,
    /// The guest program's suites, with commas.
    pub(crate) suites: &'static str,
    /// Its CPUs.
    pub(crate) smp: u32,
    /// What it may take from its first command to its last on two idle cores.
    pub(crate) budget: Duration,
}

/// What a guest's cases need beside the agent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fixture {
    /// A module of our own, loaded when the guest boots.
    Loaded(&'static str),
    /// The same in /in, for the cases to load.
    AtHand(&'static str),
    /// Programs of Debian, in /in.
    Programs(&'static Set),
    /// A Debian root, and two versions of the package in /in.
    Packages,
    /// The dashboards and rules in /in, and the panels' queries.
    Dashboards,
    /// The repository's pages, in /in.
    Pages,
}

impl GuestRun {
    /// What its cases need.
    pub(crate) fn fixtures(&self) -> Vec<Fixture> {
        let fixtures = self.suites.split(',').flat_map(|suite| match suite {
            "crimes" => &[Fixture::Loaded("saboteur")][..],
            "replica" => &[Fixture::AtHand("replica"), Fixture::Pages],
            "scrape" => &[
                Fixture::Loaded("saboteur"),
                Fixture::Programs(&FIO),
                Fixture::Programs(&PROMETHEUS),
                Fixture::Dashboards,
            ],
            "package" => &[Fixture::Packages, Fixture::Programs(&CURL), Fixture::Pages],
            MIXES => &[Fixture::Programs(&FIO)],
            _ => &[],
        });
        fixtures.copied().collect()
    }
}

/// Why this machine cannot have such a guest.
pub(crate) fn why_not(run: &GuestRun) -> Option<&'static str> {
    let is_debian = run.fixtures().iter().any(|it| matches!(it, Fixture::Packages));
    (is_debian && !setup::is_root()).then_some("not root, who alone can unpack a Debian root")
}

/// The suite, and the part, of a guest with mixes of I/O.
pub(crate) const MIXES: &str = "mixes";

/// How many budgets a guest is given before it is ended: a busy machine is no failure.
pub(crate) const BUDGETS_MAX: u32 = 4;

/// How long a guest may say nothing, which is how long a case may take: on two idle cores none takes
/// a minute.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(240);

const fn guest(
    kernel: &'static str,
    part: &'static str,
    suites: &'static str,
    smp: u32,
    budget_s: u64,
) -> GuestRun {
    GuestRun { kernel, part, suites, smp, budget: Duration::from_secs(budget_s) }
}

/// Every guest; those with the largest budgets run first. Where two names mean one kernel, the first of them
/// runs.
pub(crate) const GUESTS: &[GuestRun] = &[
    guest("6.1", "", "core,degraded,stock", 2, 480),
    guest("6.1", "mounts", "mounts", 2, 480),
    guest("6.1", "replica", "replica", 2, 240),
    guest("6.1", "crimes", "crimes", 2, 240),
    guest("6.1", MIXES, MIXES, 2, 240),
    guest("6.1", "scrape", "scrape", 2, 240),
    guest("6.1", "package", "package", 2, 480),
    guest("latest", "", "core,agent,stock", 2, 480),
    guest("latest", "mounts", "mounts", 2, 480),
    guest("latest", MIXES, MIXES, 2, 240),
    guest("latest", "crimes", "crimes", 2, 240),
    guest("latest", "replica", "replica", 2, 240),
    guest("5.10", "", "core,agent,stock", 2, 480),
    guest("6.18", "", "core,degraded,stock", 2, 480),
    guest("6.18", "cpus", "cpus", 8, 480),
    guest("6.1-modular", "", "core", 2, 300),
    guest("5.10-modular", "", "undescribed", 2, 120),
    guest("6.12", "", "core,stock", 2, 300),
    guest("6.12", "crimes", "crimes", 2, 240),
    guest("6.12", "replica", "replica", 2, 240),
    guest("6.16", "", "core", 2, 300),
    guest("7.2", "", "core,stock", 2, 300),
    guest("7.3", "", "core,stock", 2, 300),
];

/// The modules of the kernel that guests load, where it has them as modules: the device mapper, a
/// loop device, and the ciphers that an encrypted directory asks for by name.
pub(crate) const MODULES: &[&str] = &["dm-mod", "xts", "cts", "ecb", "sha512_generic"];

/// The kernels of the table, in its order.
pub(crate) fn kernels() -> impl Iterator<Item = &'static str> {
    let is_first = |at: usize| GUESTS[..at].iter().all(|run| run.kernel != GUESTS[at].kernel);
    (0..GUESTS.len()).filter(move |at| is_first(*at)).map(|at| GUESTS[at].kernel)
}

/// The kernels that have a guest with mixes of I/O.
pub(crate) fn with_mixes() -> impl Iterator<Item = &'static str> {
    GUESTS.iter().filter(|run| run.part == MIXES).map(|run| run.kernel)
}

/// The guests of one kernel.
pub(crate) fn of(kernel: &str) -> impl Iterator<Item = &'static GuestRun> {
    GUESTS.iter().filter(move |run| run.kernel == kernel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::KERNELS;

    #[test]
    fn every_kernel_has_a_guest_that_runs_what_is_claimed_of_all() {
        let mut named: Vec<_> = kernels().collect();
        let mut known: Vec<_> = KERNELS.iter().map(|kernel| kernel.name).collect();
        named.sort_unstable();
        known.sort_unstable();
        assert_eq!(named, known);
        for kernel in kernels() {
            let first = of(kernel).next().expect("it was named by a guest");
            let is_described = kernel != "5.10-modular";
            let suite = if is_described { "core" } else { "undescribed" };
            assert!(first.part.is_empty() && first.suites.starts_with(suite), "{first:?}");
        }
    }

    #[test]
    fn guests_of_one_kernel_are_told_apart() {
        for kernel in kernels() {
            let mut parts: Vec<_> = of(kernel).map(|run| run.part).collect();
            parts.sort_unstable();
            parts.dedup();
            assert_eq!(parts.len(), of(kernel).count(), "{kernel}");
        }
    }
}
