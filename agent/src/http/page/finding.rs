//! One finding as a page: what it says, and its picture.

use std::collections::BTreeMap;

use axum::response::Html;
use maud::{Markup, html};
use serde::Deserialize;

use super::drawing::Drawing;
use super::frame::boxed;
use crate::store::shelf::{FindingId, Slice};

/// A finding as it is kept; what a version of endiod did not write is absent.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    pub(super) rule: String,
    pub(super) confidence: String,
    claim: String,
    pub(super) what: String,
    at_ns: u64,
    object_kind: String,
    object: String,
    inode: Option<u64>,
    device: Option<String>,
    device_name: Option<String>,
    state: String,
    parties: Vec<Option<Party>>,
    history: Vec<Step>,
    #[serde(default)]
    history_skipped: u64,
    stuck: Option<Stuck>,
    #[serde(default)]
    oracle: BTreeMap<String, String>,
    loss: Loss,
}

#[derive(Debug, Deserialize)]
struct Party {
    tid: u32,
    cpu: Option<u16>,
    context: String,
    symbol: String,
}

#[derive(Debug, Deserialize)]
struct Step {
    at_ns: u64,
    act: String,
    symbol: String,
    state: String,
    tid: u32,
    cpu: Option<u16>,
    flag: Option<u32>,
    count: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Stuck {
    since_ns: u64,
    alike: u64,
    waiting: u64,
    waiters: Vec<Waiter>,
}

#[derive(Debug, Deserialize)]
struct Waiter {
    tid: u32,
    call: String,
    since_ns: u64,
}

#[derive(Debug, Deserialize)]
struct Loss {
    none_from_ns: u64,
    none_to_ns: u64,
    last_ns: Option<u64>,
}

impl Told {
    /// Device and inode.
    pub(super) fn whereabouts(&self) -> String {
        let device = self.device_name.as_ref().or(self.device.as_ref());
        let device = device.map_or("an unknown device", String::as_str);
        let inode = self.inode.map_or("inode unknown".to_owned(), |inode| format!("inode {inode}"));
        format!("{device}, {inode}")
    }
}

/// What to say on the host for the same picture; a shell would take nothing in it for its own.
pub(super) fn command(slice: &Slice, id: &FindingId) -> String {
    let file = slice.path.display().to_string().replace('\'', r"'\''");
    format!("sudo endiod explain --finding {} '{file}'", id.as_str())
}

pub(super) fn page(
    id: &FindingId,
    told: &Told,
    drawing: &Drawing,
    may_have_trace: bool,
) -> Html<String> {
    let digits = id.as_str();
    let main = html! {
        header {
            p { a href="/" { "endiod" } }
            h1 { (told.rule) }
            p { (told.what) }
        }
        main {
            (facts(id, told))
            section aria-labelledby="parties" {
                h2 id="parties" { "Who" }
                (parties(told))
                @if let Some(stuck) = &told.stuck { (waiting(stuck, told.at_ns)) }
            }
            section aria-labelledby="picture" {
                h2 id="picture" { "What happened" }
                @match &drawing.picture {
                    Ok(picture) => pre class="box" tabindex="0" role="group" aria-labelledby="picture" { (picture) },
                    Err(why) => p { "There is no picture: " (why) "." },
                }
            }
            section aria-labelledby="steps" {
                h2 id="steps" { "Its last steps" }
                (history(told))
            }
            section aria-labelledby="files" {
                h2 id="files" { "Files" }
                ul {
                    li { a href={ "/findings/" (digits) ".json" } { "The finding as JSON" } }
                    @match &drawing.slice {
                        None => li { "No slice of the stream is kept with it." },
                        Some(_) if may_have_trace => li {
                            a href={ "/findings/" (digits) "/trace" } { "The trace" }
                            ", for " code { "endiod explain" } ", " code { "replay" } " and " code { "export" }
                        },
                        Some(slice) => li {
                            "The trace holds kernel addresses and is given to authenticated requests only. \
                             On the host: " code { (command(slice, id)) }
                        },
                    }
                }
            }
        }
    };
    super::frame::page(&format!("{}: endiod", told.rule), &main)
}

fn facts(id: &FindingId, told: &Told) -> Markup {
    let Loss { none_from_ns, none_to_ns, last_ns } = told.loss;
    html! {
        dl {
            dt { "Claim" } dd { (told.claim) }
            dt { "Confidence" } dd { (told.confidence) }
            dt { "Where" } dd { (told.whereabouts()) }
            dt { (object_kind(told)) } dd { code { (told.object) } ", then " (told.state) }
            dt { "At" } dd { (told.at_ns) " ns since boot" }
            @for (core, word) in &told.oracle { dt { "Core " (core) } dd { (word.replace('_', " ")) } }
            dt { "Lost" }
            dd {
                "nothing from " (none_from_ns) " ns to " (none_to_ns) " ns"
                @if let Some(last) = last_ns { ", last at " (last) " ns" }
            }
            dt { "Id" } dd { code { (id.as_str()) } }
        }
    }
}

fn object_kind(told: &Told) -> &str {
    if told.object_kind == "direct_write" { "direct write" } else { &told.object_kind }
}

fn parties(told: &Told) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" { "who" } th scope="col" { "task" } th scope="col" { "CPU" }
                th scope="col" { "context" } th scope="col" { "in" }
            } }
            tbody { @for (who, party) in ["acted before", "acted illegally"].iter().zip(&told.parties) {
                tr {
                    th scope="row" { (who) }
                    @match party {
                        Some(party) => {
                            td class="number" { (party.tid) }
                            td class="number" { (or_dash(party.cpu)) }
                            td { (party.context) }
                            td { code { (party.symbol) } }
                        }
                        None => td colspan="4" { "not known" },
                    }
                }
            } }
        }
    };
    boxed("Who", &table)
}

fn waiting(stuck: &Stuck, now_ns: u64) -> Markup {
    html! {
        p {
            "Stuck for " (seconds(stuck.since_ns, now_ns)) ", " (stuck.alike) " others of its device alike; "
            (stuck.waiting) " tasks wait:"
        }
        ul { @for waiter in &stuck.waiters {
            li { "task " (waiter.tid) " in " code { (waiter.call) } " for " (seconds(waiter.since_ns, now_ns)) }
        } }
    }
}

fn seconds(since_ns: u64, now_ns: u64) -> String {
    let tenths = now_ns.saturating_sub(since_ns) / 100_000_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

fn history(told: &Told) -> Markup {
    let table = html! {
        table {
            thead { tr {
                th scope="col" class="number" { "ns since boot" } th scope="col" { "act" } th scope="col" { "in" }
                th scope="col" { "then" } th scope="col" class="number" { "task" }
                th scope="col" class="number" { "CPU" } th scope="col" class="number" { "flag" }
                th scope="col" class="number" { "count" }
            } }
            tbody { @for step in &told.history {
                tr {
                    th scope="row" class="number" { (step.at_ns) }
                    td { (step.act) } td { code { (step.symbol) } } td { (step.state) }
                    td class="number" { (step.tid) } td class="number" { (or_dash(step.cpu)) }
                    td class="number" { (or_dash(step.flag)) } td class="number" { (or_dash(step.count)) }
                }
            } }
        }
    };
    html! {
        @if told.history_skipped > 0 { p { (told.history_skipped) " earlier steps are not kept." } }
        (boxed("Its last steps", &table))
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("–".to_owned(), |value| value.to_string())
}
