//! Which finding a counter of violations counted last.
//!
//! At most one per series, so as bounded as the series are. A finding's time is CLOCK_MONOTONIC, a
//! scrape's is not: the first scrape that shows an exemplar dates it, and it keeps that date, for
//! Prometheus takes the same exemplar with another time for a new one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::proto::LabelPair;

use crate::event::Nanos;

/// Reads the date of a moment off the clocks.
pub type Date<'a> = &'a dyn Fn(Nanos) -> Duration;

/// By device, rule and confidence.
#[derive(Clone, Debug, Default)]
pub(super) struct Exemplars(Arc<Mutex<BTreeMap<[String; 3], Exemplar>>>);

/// The only label of an exemplar.
pub(super) const FINDING_ID: &str = "finding_id";
/// What OpenMetrics allows the labels of an exemplar, names and values, in characters.
const CHARS_MAX: usize = 128;

/// The labels of a series of violations.
const LABELS: [&str; 3] = ["device", "rule", "confidence"];

/// The finding of one violation.
#[derive(Clone, Debug)]
struct Exemplar {
    finding_id: String,
    at: Nanos,
    /// Since the epoch, once shown.
    date: Option<Duration>,
}

impl Exemplars {
    /// The latest of the series with these values of [`LABELS`].
    pub(super) fn set(&self, series: [&str; 3], finding_id: &str, at: Nanos) {
        debug_assert!(FINDING_ID.len() + finding_id.len() <= CHARS_MAX, "{finding_id:?}");
        let exemplar = Exemplar { finding_id: finding_id.to_owned(), at, date: None };
        self.all().insert(series.map(str::to_owned), exemplar);
    }

    /// Id and date of the finding of a series with these labels.
    pub(super) fn of(&self, labels: &[LabelPair], date: Date<'_>) -> Option<(String, Duration)> {
        let value = |name| labels.iter().find(|label| label.name() == name).map(LabelPair::value);
        let series = LABELS.map(|name| value(name).unwrap_or_default().to_owned());
        let mut all = self.all();
        let exemplar = all.get_mut(&series)?;
        let date = *exemplar.date.get_or_insert_with(|| date(exemplar.at));
        Some((exemplar.finding_id.clone(), date))
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<[String; 3], Exemplar>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
