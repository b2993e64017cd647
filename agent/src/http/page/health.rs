//! What of the agent works: its verdicts, the kernel, probes, rules, losses, its own cost.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use maud::{Markup, html};

use super::frame::date;
use super::scrape::Scrape;
use crate::http::Endpoint;
use crate::report::human_seconds;

pub(super) fn section(endpoint: &Endpoint, scrape: &Scrape) -> Markup {
    html! {
        dl {
            dt { "Healthy" }
            dd { (verdict((endpoint.healthy)().map(|()| "the pipeline makes progress"))) }
            dt { "Ready" }
            dd { (verdict((endpoint.ready)())) }
            dt { "Kernel" }
            dd { (kernel(scrape)) }
            dt { "Agent" }
            dd { (agent(endpoint, scrape)) }
            dt { "Probes" }
            dd { (probes(scrape)) }
            dt { "Rules limited" }
            dd { (degraded(scrape)) }
            dt { "Events lost" }
            dd { (counted(scrape, "endiod_events_lost_total", ["stage", "reason"], "none")) }
            dt { "Hits missed" }
            dd { (by_label(scrape, "endiod_probe_missed_total", "reason", "none that the kernel counts")) }
        }
    }
}

fn verdict(checked: Result<&'static str, String>) -> Markup {
    match checked {
        Ok(what) => html! { strong class="good" { "yes" } ": " (what) },
        Err(why) => html! { strong class="bad" { "no" } ": " (why) },
    }
}

fn kernel(scrape: &Scrape) -> Markup {
    let Some(info) = scrape.rows("endiod_kernel_info").next() else {
        return html! { "not known yet" };
    };
    let generation = match info.label("generation") {
        "" => "not determined",
        generation => generation,
    };
    html! { (info.label("release")) ", generation of the protocol: " (generation) }
}

fn agent(endpoint: &Endpoint, scrape: &Scrape) -> Markup {
    let revision = scrape.rows("endiod_build_info").next().map(|info| info.label("revision"));
    let since = scrape.value("process_start_time_seconds");
    let since = since.and_then(|at| Duration::try_from_secs_f64(at).ok());
    let memory = scrape.value("process_resident_memory_bytes");
    let cpu = scrape.value("process_cpu_seconds_total");
    html! {
        (endpoint.version)
        @if let Some(revision) = revision.filter(|it| !it.is_empty()) { ", revision " (revision) }
        @if let Some(since) = since { ", since " (date(SystemTime::UNIX_EPOCH + since)) }
        @if let Some(memory) = memory { ", " (format!("{:.1} MiB", memory / f64::from(1 << 20))) " of memory" }
        @if let Some(cpu) = cpu { ", " (human_seconds(cpu)) " of CPU" }
    }
}

/// Attached ones by back end; the others by name.
fn probes(scrape: &Scrape) -> Markup {
    let mut backends = BTreeMap::new();
    for row in scrape.rows("endiod_probe_info") {
        *backends.entry(row.label("backend")).or_insert(0) += 1;
    }
    let attached = scrape.nonzero("endiod_probe_attached").count();
    let not: Vec<_> =
        scrape.rows("endiod_probe_attached").filter(|row| row.value() == 0.0).collect();
    let backends: Vec<_> = backends.iter().map(|(name, count)| format!("{count} {name}")).collect();
    html! {
        (attached) " attached"
        @if !backends.is_empty() { " (" (backends.join(", ")) ")" }
        ", " (not.len()) " not"
        @if !not.is_empty() {
            details {
                summary { "which are not, because this kernel does not need them or they failed" }
                p { @for (at, row) in not.iter().enumerate() {
                    @if at > 0 { ", " } code { (row.label("probe")) }
                } }
                p { code { "sudo endiod doctor" } " says why." }
            }
        }
    }
}

fn degraded(scrape: &Scrape) -> Markup {
    let mut rules: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in scrape.nonzero("endiod_detector_degraded") {
        rules.entry(row.label("rule")).or_default().push(row.label("reason"));
    }
    let mut alike: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (rule, reasons) in rules {
        alike.entry(reasons.join(", ")).or_default().push(rule);
    }
    html! {
        @if alike.is_empty() { "none" } @else {
            ul { @for (reasons, rules) in alike { li { strong { (reasons) } ": " (rules.join(", ")) } } }
        }
    }
}

/// Rows of a counter that are listed: what a person reads through.
const ROWS_MAX: usize = 24;

/// The rows of a counter that are not 0, the first of them.
pub(super) fn counted<const N: usize>(
    scrape: &Scrape,
    family: &str,
    labels: [&str; N],
    none: &str,
) -> Markup {
    let rows: Vec<_> = scrape.nonzero(family).collect();
    html! {
        @if rows.is_empty() { (none) } @else {
            ul {
                @for row in rows.iter().take(ROWS_MAX) {
                    li { (row.value()) " × " (labels.map(|label| row.label(label)).join(", ")) }
                }
                @if rows.len() > ROWS_MAX {
                    li { (rows.len() - ROWS_MAX) " more are in " a href="/metrics" { "/metrics" } }
                }
            }
        }
    }
}

/// A counter added up by one of its labels.
fn by_label(scrape: &Scrape, family: &str, label: &str, none: &str) -> Markup {
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    for row in scrape.nonzero(family) {
        *sums.entry(row.label(label)).or_default() += row.value();
    }
    let sums: Vec<_> = sums.iter().map(|(label, sum)| format!("{sum} × {label}")).collect();
    html! { @if sums.is_empty() { (none) } @else { (sums.join(", ")) } }
}
