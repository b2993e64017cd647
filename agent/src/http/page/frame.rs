//! What all pages are framed in, and the overview, which is made of the other files' parts.

use std::time::SystemTime;

use axum::response::Html;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::list::Listed;
use super::scrape::Scrape;
use super::{chart, devices, health};
use crate::http::Endpoint;
use crate::metrics::labels::{FSYNC_OPS, FSYNC_PHASES, IO_END_PHASES};

/// The stylesheet; its hash is in the policy.
pub(super) const STYLE: &str = include_str!("style.css");

/// A family of distributions, the label that tells them apart, and its values in their order.
struct Group {
    name: &'static str,
    family: &'static str,
    label: &'static str,
    values: &'static [&'static str],
    help: &'static str,
}

/// The only value of a label that is not there.
const NONE: &[&str] = &[""];

const GROUPS: [Group; 5] = [
    Group {
        name: "io_ends",
        family: "endiod_io_end_phase_duration_seconds",
        label: "phase",
        values: IO_END_PHASES,
        help: "submit: birth to the submitter's put; device: first bio to last end; queue: final put to the \
               worker's claim; convert: claim to release; total: birth to release. They overlap.",
    },
    Group {
        name: "fsyncs",
        family: "endiod_fsync_duration_seconds",
        label: "op",
        values: FSYNC_OPS,
        help: "Time in ext4_sync_file; the range operations come from O_SYNC writes and msync too.",
    },
    Group {
        name: "phases of fsyncs",
        family: "endiod_fsync_phase_duration_seconds",
        label: "phase",
        values: FSYNC_PHASES,
        help: "data_submit, data_wait (conversion included), journal, barrier: those that a call needs.",
    },
    Group {
        name: "direct writes",
        family: "endiod_direct_io_duration_seconds",
        label: "",
        values: NONE,
        help: "From the begin of a direct write to the end of its completion handler.",
    },
    Group {
        name: "evictions",
        family: "endiod_eviction_duration_seconds",
        label: "",
        values: NONE,
        help: "Time in ext4_evict_inode of an inode that had pages.",
    },
];

/// A whole page.
pub(super) fn page(title: &str, main: &Markup) -> Html<String> {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body { (main) }
        }
    };
    Html(page.into_string())
}

/// When, as people and HTTP write it.
pub(super) fn date(at: SystemTime) -> String {
    httpdate::fmt_http_date(at)
}

/// A table in a box of its own, which scrolls where the page must not.
pub(super) fn boxed(label: &str, table: &Markup) -> Markup {
    html! { div class="box" role="group" tabindex="0" aria-label=(label) { (table) } }
}

/// `/`.
pub(super) fn overview(
    endpoint: &Endpoint,
    scrape: &Scrape,
    listed: &Listed,
    now: SystemTime,
) -> Html<String> {
    let main = html! {
        header {
            h1 { "endiod " (endpoint.version) }
            p { "Watches ext4's write completions on this host. This page is of " (date(now)) ". "
                a href="/" { "Load it again" } }
        }
        main {
            section aria-labelledby="health" {
                h2 id="health" { "Health" }
                (health::section(endpoint, scrape))
            }
            section aria-labelledby="findings" {
                h2 id="findings" { "Findings" }
                (listed.section(scrape))
            }
            section aria-labelledby="in-flight" {
                h2 id="in-flight" { "In flight" }
                (devices::section(scrape))
            }
            section aria-labelledby="durations" {
                h2 id="durations" { "How long it takes" }
                (durations(scrape))
            }
        }
        footer {
            nav aria-label="Other answers" {
                ul {
                    li { a href="/metrics" { "/metrics" } ": Prometheus metrics" }
                    li { a href="/healthz" { "/healthz" } ": whether the pipeline makes progress" }
                    li { a href="/readyz" { "/readyz" } ": whether all that can be watched now is watched" }
                }
            }
        }
    };
    page("endiod", &main)
}

fn durations(scrape: &Scrape) -> Markup {
    let groups: Vec<_> = GROUPS
        .iter()
        .map(|group| (group, charts(scrape, group)))
        .filter(|it| !it.1.is_empty())
        .collect();
    html! {
        @if groups.is_empty() {
            p { "Nothing that takes time was observed yet." }
        } @else {
            p {
                "All devices together, since the start. Each bar is an octave of time. p50 and p99 are bounds: half, \
                 or 99 of 100, took no longer, and no more is known than the octave. Bars beyond p50 are of \
                 another colour, those beyond p99 of a third."
            }
        }
        @for (group, charts) in groups {
            h3 { (group.name) }
            p class="help" { (group.help) }
            div class="charts" { @for chart in charts { (chart) } }
        }
    }
}

/// A chart per value of the group's label that was observed.
fn charts(scrape: &Scrape, group: &Group) -> Vec<Markup> {
    let chart = |value: &&str| {
        let spread = scrape.spread(group.family, |row| row.label(group.label) == *value)?;
        let name = if value.is_empty() { group.name } else { value };
        let id = format!("{}-{name}", group.family).replace(' ', "-");
        Some(chart::figure(&id, name, &spread))
    };
    group.values.iter().filter_map(chart).collect()
}
