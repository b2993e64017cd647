//! What is in flight: io_ends by state, and what each device does.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::frame::boxed;
use super::scrape::{Row, Scrape};
use crate::metrics::labels::{OTHER_DEVICES, UNKNOWN_DEVICE};
use crate::pipeline::names;
use crate::report::human_seconds;

/// Rows of the table of devices: what a person looks through. All are in `/metrics`, up to 64.
const DEVICES_SHOWN_MAX: usize = 32;

pub(super) fn section(scrape: &Scrape) -> Markup {
    html! { (states(scrape)) (devices(scrape)) }
}

fn states(scrape: &Scrape) -> Markup {
    let mut rows: Vec<_> = scrape.rows("endiod_io_end_in_flight").collect();
    // As a life goes.
    rows.sort_by_key(|row| names().states.iter().position(|state| *state == row.label("state")));
    let oldest = |state: &str| {
        let mut ages = scrape.rows("endiod_io_end_oldest_age_seconds");
        ages.find(|row| row.label("state") == state).map(Row::value)
    };
    if rows.is_empty() {
        return html! { p { "io_ends are not observed now; " code { "sudo endiod doctor" } " says what it takes." } };
    }
    let all: f64 = rows.iter().map(|row| row.value()).sum();
    let table = html! {
        table {
            caption { "io_ends by state" }
            thead { tr {
                th scope="col" { "state" }
                th scope="col" class="number" { "io_ends" }
                th scope="col" class="number" { "oldest in it for" }
            } }
            tbody { @for row in &rows {
                tr {
                    th scope="row" { (row.label("state")) }
                    td class="number" { (row.value()) }
                    td class="number" {
                        (oldest(row.label("state")).map_or("–".to_owned(), human_seconds))
                    }
                }
            } }
            tfoot { tr { th scope="row" { "all" } td class="number" { (all) } td {} } }
        }
    };
    boxed("io_ends by state", &table)
}

/// One device's row.
#[derive(Default)]
struct Device<'a> {
    mounted: &'a str,
    started: f64,
    completed: f64,
    failed_fsyncs: f64,
    violations: f64,
}

fn gathered(scrape: &Scrape) -> BTreeMap<&str, Device<'_>> {
    let mut devices: BTreeMap<&str, Device<'_>> = BTreeMap::new();
    let mut sum = |family: &str, of: for<'a, 'b> fn(&'a mut Device<'b>) -> &'a mut f64| {
        for row in scrape.rows(family) {
            *of(devices.entry(row.label("device")).or_default()) += row.value();
        }
    };
    sum("endiod_io_end_started_total", |it| &mut it.started);
    sum("endiod_io_end_completed_total", |it| &mut it.completed);
    sum("endiod_fsync_errors_total", |it| &mut it.failed_fsyncs);
    sum("endiod_violations_total", |it| &mut it.violations);
    for row in scrape.rows("endiod_device_info") {
        devices.entry(row.label("device")).or_default().mounted = row.label("mountpoint");
    }
    devices
}

/// A label of a device as people say it.
fn called(label: &str) -> &str {
    match label {
        UNKNOWN_DEVICE => "device not known",
        OTHER_DEVICES => "all others",
        name => name,
    }
}

/// The busiest first.
fn devices(scrape: &Scrape) -> Markup {
    let mut devices: Vec<_> = gathered(scrape).into_iter().collect();
    if devices.is_empty() {
        return html! { p { "No device with an ext4 was seen yet." } };
    }
    devices.sort_by(|(_, one), (_, other)| other.started.total_cmp(&one.started));
    let more = devices.len().saturating_sub(DEVICES_SHOWN_MAX);
    let table = html! {
        table {
            caption { "Devices" }
            thead { tr {
                th scope="col" { "device" }
                th scope="col" { "mounted at" }
                th scope="col" class="number" { "io_ends in flight" }
                th scope="col" class="number" { "since the start" }
                th scope="col" class="number" { "p99 of them" }
                th scope="col" class="number" { "p99 of fsyncs" }
                th scope="col" class="number" { "failed fsyncs" }
                th scope="col" class="number" { "violations" }
            } }
            tbody { @for (name, device) in devices.iter().take(DEVICES_SHOWN_MAX) {
                tr {
                    th scope="row" { (called(name)) }
                    td { (device.mounted) }
                    td class="number" { (device.started - device.completed) }
                    td class="number" { (device.started) }
                    td class="number" { (slowest(scrape, IO_ENDS, name)) }
                    td class="number" { (slowest(scrape, FSYNCS, name)) }
                    td class="number" { (device.failed_fsyncs) }
                    td class="number" { (device.violations) }
                }
            } }
        }
    };
    html! {
        (boxed("Devices", &table))
        @if more > 0 { p { (more) " more are in " a href="/metrics" { "/metrics" } "." } }
    }
}

/// A family of durations, and the only phase of it that counts if it has any.
type Family = (&'static str, Option<&'static str>);

const IO_ENDS: Family = ("endiod_io_end_phase_duration_seconds", Some("total"));
const FSYNCS: Family = ("endiod_fsync_duration_seconds", None);

fn slowest(scrape: &Scrape, (family, phase): Family, device: &str) -> String {
    let wanted = |row: Row<'_>| {
        row.label("device") == device && phase.is_none_or(|phase| row.label("phase") == phase)
    };
    scrape.spread(family, wanted).map_or("–".to_owned(), |spread| spread.bound(99))
}
