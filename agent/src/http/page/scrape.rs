//! The metrics as the page asks for them: rows of a family by its name, values by label, distributions
//! added up.
//!
//! It reads what a scrape would, so that the page never says anything else.

use prometheus::proto::{Metric, MetricFamily, MetricType};

use super::chart::Spread;

/// What a scrape at one moment holds.
pub(super) struct Scrape(Vec<MetricFamily>);

impl Scrape {
    pub(super) fn new(families: Vec<MetricFamily>) -> Self {
        Scrape(families)
    }

    /// The rows of a family, none if it is absent.
    pub(super) fn rows(&self, name: &str) -> impl Iterator<Item = Row<'_>> {
        let family = self.0.iter().find(|family| family.name() == name);
        family.into_iter().flat_map(|family| {
            let kind = family.get_field_type();
            family.get_metric().iter().map(move |metric| Row { metric, kind })
        })
    }

    /// Those whose value is not 0.
    pub(super) fn nonzero(&self, name: &str) -> impl Iterator<Item = Row<'_>> {
        self.rows(name).filter(|row| row.value() != 0.0)
    }

    /// The value of a family with one row.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        self.rows(name).next().map(Row::value)
    }

    /// The distributions of the rows that are wanted, added up; `None` if nothing was observed.
    pub(super) fn spread(&self, name: &str, wanted: impl Fn(Row<'_>) -> bool) -> Option<Spread> {
        let mut all = Spread::default();
        for row in self.rows(name).filter(|row| wanted(*row)) {
            all.add(row.metric.get_histogram());
        }
        (all.count() > 0).then_some(all)
    }
}

/// A row of a family.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    metric: &'a Metric,
    kind: MetricType,
}

impl<'a> Row<'a> {
    /// The value of a label, empty if the row has none of that name.
    pub(super) fn label(self, name: &str) -> &'a str {
        let pair = self.metric.get_label().iter().find(|pair| pair.name() == name);
        pair.map(prometheus::proto::LabelPair::value).unwrap_or_default()
    }

    /// Of a counter or a gauge.
    pub(super) fn value(self) -> f64 {
        match self.kind {
            MetricType::COUNTER => self.metric.get_counter().get_value(),
            _ => self.metric.get_gauge().get_value(),
        }
    }
}
