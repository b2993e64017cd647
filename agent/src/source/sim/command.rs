//! The command that shows a world again, every option of it spelled out.

use super::{Derived, Faults, Options, Simulated};

impl Simulated {
    /// The verb and its flags; nothing in it is left to the seed but the schedule.
    pub fn command(&self) -> String {
        let Options { world, seed, lives, chosen: _, faults } = self.options;
        let Derived { release, cpus, addresses, reused, failing, data_err_abort } = self.derived;
        let Faults { lost, cut, doubled, exchanged } = faults;
        let slip = world.slip().map(|slip| format!(" --slip {}", slip.label()));
        format!(
            "endiod simulate --core {}{} --seed {seed} --lives {lives} --release {} --cpus {cpus} \
             --addresses {addresses} --reused {reused} --failing {failing} \
             --data-err-abort {data_err_abort} --lost {lost} --cut {cut} --doubled {doubled} \
             --exchanged {exchanged}",
            world.core(),
            slip.unwrap_or_default(),
            release.label(),
        )
    }
}
