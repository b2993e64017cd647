//! The `CASES` table.

mod backends;
mod bad_input;
mod bounds;
mod conservation;
mod cpus;
mod crimes;
mod doctor;
mod enciphered;
mod evicting;
mod failing;
mod keep;
mod kprobe_misses;
mod left_entries;
mod loss;
mod mixes;
mod module_life;
mod mounts;
mod native;
mod nesting;
mod package;
mod pages;
mod privileges;
mod record;
mod refused;
mod reload;
mod replica;
mod scrape;
mod stock;
mod stop;
mod top;
mod undescribed;
mod watch;

use anyhow::Result;
use clap::ValueEnum;

use crate::{Facts, Guest};

/// What a case is about. The harness says which suites a guest runs; without a word all but those of
/// the machine itself, of our modules and of mixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// What is claimed of every kernel: all events are seen, by every back end.
    Core,
    /// The agent's own behaviour, which is the same on many kernels.
    Agent,
    /// Every way to make and mount a file system.
    Mounts,
    /// Mixes of I/O, each for a time of its own; fio is in /in.
    Mixes,
    /// A kernel that refuses programs, or keeps them from running.
    Degraded,
    /// ext4 is a module without BTF, which takes no tracing program.
    Undescribed,
    /// What the kernel does when a device fails or holds data back.
    Stock,
    /// Crimes of the saboteur, which the harness loads, against what the agent finds.
    Crimes,
    /// Prometheus and the dashboards in /in, and the saboteur, which the harness loads.
    Scrape,
    /// The Debian package, in two versions in /in, on a Debian root; the repository's pages and curl, in /in.
    Package,
    /// Many CPUs, and CPUs that come and go.
    Cpus,
    /// The fixture module `replica` in /in: the completion core of 2012; the repository's pages in /in. The last
    /// case hangs for ever.
    Replica,
    /// On the machine itself, with a loop device on `/mnt`; never in a guest.
    Native,
}

/// How a case is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Run {
    /// By a function of its own; numbers it stands on go into the facts.
    Case(fn(&Guest, &mut Facts) -> Result<()>),
    /// As a row of a table.
    Row(&'static mounts::Row),
    /// As a mix, for its time.
    Mix(&'static mixes::Mix),
}

/// One case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// What it is about.
    pub(crate) suite: Suite,
    /// A claim.
    pub(crate) name: &'static str,
    /// Why the case cannot exist on that kernel, if so.
    pub(crate) absent: fn(&str) -> Option<&'static str>,
    /// What it does.
    pub(crate) run: Run,
}

impl Case {
    /// Runs it.
    pub(crate) fn run(&self, guest: &Guest, facts: &mut Facts) -> Result<()> {
        match self.run {
            Run::Case(run) => run(guest, facts),
            Run::Row(row) => mounts::run(row, guest, facts),
            Run::Mix(mix) => mixes::run(mix, guest, facts),
        }
    }
}

/// Every case, in the order they run.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    mounts::cases().chain(mixes::cases()).chain(CASES.iter().copied())
}

fn always(_kernel: &str) -> Option<&'static str> {
    None
}

macro_rules! cases {
    ($( $suite:ident $name:literal, $absent:expr, $run:path; )*) => {
        /// The cases of no other table; the last ones change the guest for good.
        const CASES: &[Case] = &[ $( Case {
            suite: Suite::$suite,
            name: $name,
            absent: $absent,
            run: Run::Case($run),
        }, )* ];
    };
}

cases! {
    Core "direct_io_is_conserved", always, conservation::direct;
    Core "buffered_io_is_conserved", always, conservation::buffered;
    Agent "sequence_numbers_survive_nesting", always, nesting::numbers_survive;
    Agent "loss_is_counted_and_accuses_nobody", always, loss::ring_overflow;
    Agent "a_stopped_agent_loses_and_recovers", always, loss::stopped_consumer;
    Agent "a_full_table_loses_and_recovers", always, loss::full_table;
    Agent "entries_left_behind_go_with_their_tasks", always, left_entries::go_with_their_tasks;
    Agent "program_bound_on_open_calls_loses_and_recovers", always, bounds::open_calls;
    Agent "program_bound_on_live_io_ends_loses_and_recovers", bounds::only_where_no_free_is_skipped, bounds::live_io_ends;
    Agent "program_bound_on_walks_loses_and_recovers", bounds::only_where_walks_are_short, bounds::walks;
    Agent "a_stopped_agent_leaves_nothing", always, stop::leaves_nothing;
    Agent "a_stop_under_load_drains_meanwhile", always, stop::under_load;
    Agent "a_killed_agent_leaves_nothing", always, stop::killed_leaves_nothing;
    Core "the_daemon_keeps_no_capability_and_shows_no_address", always, privileges::kept;
    Core "each_privilege_is_what_a_feature_takes", privileges::only_where_rows_differ, privileges::rows_of_doctor;
    Agent "an_agent_that_takes_too_much_lets_go", always, privileges::cpu_limit;
    Agent "a_lost_helper_ends_the_daemon", always, privileges::lost_helper;
    Core "watchpoints_see_legal_writers_only", always, watch::legal_writers_only;
    Agent "others_keep_their_debug_registers", always, watch::others_keep_their_registers;
    Core "doctor_meets_full", always, doctor::meets_full;
    Agent "doctor_without_privileges_cannot_tell", always, doctor::without_privileges;
    Agent "selftest_sees_a_whole_life", always, doctor::selftest;
    Agent "a_recording_replays_to_the_same_summary", always, record::replays_to_the_same_summary;
    Agent "top_shows_who_calls_fsync", always, top::shows_who_calls_fsync;
    Stock "failed_writes_are_followed_and_only_their_conversion_is_accused", failing::only_where_the_core_has_a_run, failing::followed;
    Stock "who_waits_in_an_eviction_is_named", always, evicting::is_named;
    Stock "blocks_of_a_failed_write_are_bared_where_its_conversion_is_accused", always, stock::bared;
    Stock "an_error_that_fsync_hides_is_accused_and_loses_the_write", always, stock::hidden;
    Agent "a_configuration_is_read_again", always, reload::takes_what_can_change;
    Agent "attached_under_load_it_leaves_nothing_open", always, keep::attached_under_load;
    Agent "a_slice_is_kept_on_request", always, keep::a_slice_on_request;
    Agent "a_full_disk_costs_the_file_only", always, keep::a_full_disk;
    Core "a_module_is_followed_and_let_go", module_life::only_where_ext4_is_a_module, module_life::follows_the_mounts;
    Core "backends_agree", always, backends::agree;
    Core "backends_agree_on_split_bios", always, backends::agree_on_split_bios;
    Core "kprobe_backend_degraded", always, backends::kprobe_is_degraded;
    Mounts "enciphered_bios_by_raw_tracepoints", always, enciphered::by_raw_tracepoints;
    Degraded "kprobes_that_miss_are_counted_and_accuse_nobody", always, kprobe_misses::counted;
    Degraded "tracing_refused_falls_back_to_raw_tracepoints", refused::where_a_program_may_refuse, refused::tracing;
    Degraded "kprobes_refused_too_leaves_raw_tracepoints_alone", refused::where_a_program_may_refuse, refused::tracing_and_kprobes;
    Undescribed "without_btf_of_ext4_the_rest_is_conserved", undescribed::only_without_btf_of_ext4, undescribed::is_conserved;
    Undescribed "without_btf_of_ext4_kprobes_are_degraded", undescribed::only_without_btf_of_ext4, backends::kprobe_is_degraded;
    Undescribed "without_btf_of_ext4_doctor_says_so", undescribed::only_without_btf_of_ext4, doctor::says_what_is_assumed;
    Undescribed "without_btf_of_ext4_a_whole_life_is_seen", undescribed::only_without_btf_of_ext4, doctor::selftest;
    Undescribed "without_btf_of_ext4_the_module_is_let_go", undescribed::only_without_btf_of_ext4, module_life::follows_the_mounts_without_btf;
    Crimes "every_crime_is_found_or_named_and_nothing_else", always, crimes::found_or_named;
    Crimes "a_stranger_is_caught_writing", always, watch::stranger_is_caught;
    Crimes "a_crime_that_kills_a_task_is_told_and_on_disk", always, crimes::deadly::told_and_on_disk;
    Scrape "prometheus_has_what_dashboards_and_alerts_promise", always, scrape::as_a_fleet_does;
    Package "the_package_lives_and_leaves_nothing", always, package::lives_and_leaves_nothing;
    Package "pages_tell_hosts_what_works", always, pages::on_a_host;
    Cpus "eight_cpus_are_conserved", always, cpus::many;
    Cpus "cpus_that_come_and_go_are_conserved", always, cpus::come_and_go;
    Cpus "beside_another_tracer_and_another_agent", always, cpus::beside_others;
    Replica "replica_fixed_is_silent", replica::only_where_modules_have_btf, replica::fixed_is_silent;
    Replica "replica_bug_1_is_found", replica::only_where_modules_have_btf, replica::bug_1_is_found;
    Replica "replica_bug_2_is_found_by_what_it_frees", replica::only_where_modules_have_btf, replica::bug_2_is_found_by_what_it_frees;
    Replica "pages_tell_of_the_replica_what_works", replica::only_where_modules_have_btf, pages::on_the_replica;
    Replica "replica_lock_is_read_at_the_store", replica::only_where_modules_have_btf, watch::the_lock_is_read_at_the_store;
    Replica "replica_bug_2_hangs_and_is_seen_to", replica::only_where_modules_have_btf, replica::bug_2_hangs_and_is_seen_to;
    Native "a_loop_device_of_this_machine_is_conserved", always, native::loop_device_is_conserved;
    Native "raw_tracepoints_alone_conserve_a_loop_device_of_this_machine", always, native::conserved_by_raw_tracepoints;
    Agent "bad_input_is_named_with_its_fix", always, bad_input::named;
    Agent "a_locked_down_kernel_is_named", always, bad_input::locked_down;
    Agent "doctor_names_lockdown", always, doctor::names_lockdown;
}
