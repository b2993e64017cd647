//! The last findings, newest first.

use std::io;
use std::time::SystemTime;

use maud::{Markup, html};

use super::finding::Told;
use super::frame::date;
use super::health::counted;
use super::scrape::Scrape;
use crate::store::shelf::{FindingId, Kept, Shelf};

/// What is known of the directory of findings.
pub(super) enum Listed {
    /// There is none.
    Nowhere,
    /// It cannot be read.
    Unread(String),
    /// The newest of so many.
    Read { newest: Vec<Entry>, all: usize },
}

/// A finding, `None` if its file says something else.
pub(super) struct Entry {
    id: FindingId,
    written: SystemTime,
    told: Option<Told>,
}

impl Listed {
    /// Reads the newest `max`.
    pub(super) fn read(shelf: Option<&Shelf>, max: usize) -> Self {
        let Some(shelf) = shelf else { return Listed::Nowhere };
        let kept = match shelf.findings() {
            Ok(kept) => kept,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Listed::Unread(format!("{} is not there", shelf.dir().display()));
            }
            Err(error) => {
                return Listed::Unread(format!("{}: {error}", shelf.dir().display()));
            }
        };
        let all = kept.len();
        let entry = |Kept { id, written }| {
            let json = shelf.finding(&id).ok();
            let told = json.and_then(|json| serde_json::from_slice(&json).ok());
            Entry { id, written, told }
        };
        Listed::Read { newest: kept.into_iter().take(max).map(entry).collect(), all }
    }

    pub(super) fn section(&self, scrape: &Scrape) -> Markup {
        html! {
            dl {
                dt { "Counted since the start" }
                dd { (counted(scrape, VIOLATIONS, ["rule", "device", "confidence"], "none")) }
                dt { "Not reported, because something else could explain them" }
                dd { (counted(scrape, SUPPRESSED, ["rule", "reason"], "none")) }
            }
            @match self {
                Listed::Nowhere => p {
                    "No directory keeps findings (" code { "--findings-dir none" } "): each is in the log, \
                     and no picture can be drawn."
                },
                Listed::Unread(why) => p {
                    "The directory of findings cannot be read: " (why) ". Each finding is in the log."
                },
                Listed::Read { newest, .. } if newest.is_empty() => p { "No finding is kept." },
                Listed::Read { newest, all } => {
                    p { (all) @if *all == 1 { " finding is" } @else { " findings are" } " kept"
                        @if newest.len() < *all { "; these are the newest " (newest.len()) } ":" }
                    ol class="findings" { @for entry in newest { (entry.item()) } }
                }
            }
        }
    }
}

const VIOLATIONS: &str = "endiod_violations_total";
const SUPPRESSED: &str = "endiod_violations_suppressed_total";

impl Entry {
    fn item(&self) -> Markup {
        let id = self.id.as_str();
        html! {
            li {
                @match &self.told {
                    Some(told) => {
                        h3 { a href={ "/findings/" (id) } { (told.rule) } }
                        p { (told.what) }
                        p class="help" {
                            (told.confidence) " · " (told.whereabouts()) " · written " (date(self.written))
                            " · " (id)
                        }
                    }
                    None => {
                        h3 { (id) }
                        p { "written by another version of endiod" }
                    }
                }
                p {
                    @if self.told.is_some() {
                        a href={ "/findings/" (id) } { "Picture" span class="unseen" { " of " (id) } } " · "
                    }
                    a href={ "/findings/" (id) ".json" } { "JSON" span class="unseen" { " of " (id) } } " · "
                    a href={ "/findings/" (id) "/trace" } { "Trace" span class="unseen" { " of " (id) } }
                }
            }
        }
    }
}
