//! The `CASES` table.

mod bad_input;
mod conservation;
mod doctor;
mod keep;
mod loss;
mod module_life;
mod nesting;
mod record;
mod stop;

use anyhow::Result;

use crate::{Facts, Guest};

/// One case.
pub(crate) struct Case {
    /// A claim.
    pub(crate) name: &'static str,
    /// Why the case cannot exist on that kernel, if so.
    pub(crate) absent: fn(&str) -> Option<&'static str>,
    /// Runs it; numbers it stands on go into the facts.
    pub(crate) run: fn(&Guest, &mut Facts) -> Result<()>,
}

fn always(_kernel: &str) -> Option<&'static str> {
    None
}

macro_rules! cases {
    ($( $name:literal, $absent:expr, $run:path; )*) => {
        /// Every case, in the order they run; the last ones change the guest for good.
        pub(crate) const CASES: &[Case] =
            &[ $( Case { name: $name, absent: $absent, run: $run }, )* ];
    };
}

cases! {
    "probes_attach", always, conservation::probes_attach;
    "direct_io_is_conserved", always, conservation::direct;
    "buffered_io_is_conserved", always, conservation::buffered;
    "mixed_io_is_conserved", always, conservation::mixed;
    "sequence_numbers_survive_nesting", always, nesting::numbers_survive;
    "loss_is_counted_and_accuses_nobody", always, loss::ring_overflow;
    "the_programs_log_reaches_the_daemon", always, loss::log_lines;
    "a_stopped_agent_leaves_nothing", always, stop::leaves_nothing;
    "a_killed_agent_leaves_nothing", always, stop::killed_leaves_nothing;
    "doctor_meets_full", always, doctor::meets_full;
    "doctor_without_privileges_cannot_tell", always, doctor::without_privileges;
    "selftest_sees_a_whole_life", always, doctor::selftest;
    "a_recording_replays_to_the_same_summary", always, record::replays_to_the_same_summary;
    "attached_under_load_it_leaves_nothing_open", always, keep::attached_under_load;
    "a_module_is_followed_and_let_go", module_life::only_where_ext4_is_a_module, module_life::follows_the_mounts;
    "a_slice_is_kept_on_request", always, keep::a_slice_on_request;
    "a_full_disk_costs_the_file_only", always, keep::a_full_disk;
    "bad_input_is_named_with_its_fix", always, bad_input::named;
    "a_locked_down_kernel_is_named", always, bad_input::locked_down;
    "doctor_names_lockdown", always, doctor::names_lockdown;
}
