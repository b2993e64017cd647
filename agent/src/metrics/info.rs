//! Info metrics: a gauge of 1 whose labels are the fact.
//!
//! A fact belongs to a key (a probe, a device); a new fact of a key replaces its old series, so the
//! number of series is the number of keys.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::GaugeVec;

use super::labels::bounded;

/// One info metric.
pub(super) struct Info {
    family: GaugeVec,
    shown: Mutex<BTreeMap<String, Vec<String>>>,
}

impl Info {
    pub(super) fn new(family: GaugeVec) -> Self {
        Info { family, shown: Mutex::default() }
    }

    /// Shows `values` as the fact of `key`.
    pub(super) fn set(&self, key: &str, values: &[&str]) {
        let values: Vec<&str> = values.iter().map(|value| bounded(value)).collect();
        let mut shown = self.shown();
        if shown.get(key).is_some_and(|old| old == &values) {
            return;
        }
        self.family.with_label_values(&values).set(1.0);
        let values = values.into_iter().map(str::to_owned).collect();
        if let Some(old) = shown.insert(key.to_owned(), values) {
            self.hide(&old);
        }
    }

    /// Shows nothing for `key` any more.
    pub(super) fn remove(&self, key: &str) {
        if let Some(old) = self.shown().remove(key) {
            self.hide(&old);
        }
    }

    /// Keeps the facts of these keys only.
    pub(super) fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.shown().retain(|key, old| {
            let kept = keep(key);
            if !kept {
                self.hide(old);
            }
            kept
        });
    }

    fn hide(&self, old: &[String]) {
        let old: Vec<&str> = old.iter().map(String::as_str).collect();
        // An error means that the series is gone already, which is what was asked for.
        let _ = self.family.remove_label_values(&old);
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<String, Vec<String>>> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
