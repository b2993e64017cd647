//! A histogram of durations with one bucket per octave, 2^-20 s to 2^6 s.
//!
//! Observing is two relaxed atomic additions and a search in 27 integers: no float, no lock, no
//! hash. Upper bounds are inclusive, as Prometheus means `le`. Times are nanoseconds inside and
//! seconds in the scrape. A series that never saw a value is not exported: "no such event seen" and
//! "the probe for it is missing" would look the same.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use crate::event::Nanos;
use crate::octaves::{EDGES, OCTAVE_MAX, OCTAVE_MIN, bucket_of};

/// One series. Its sum wraps after 584 years of added-up time, which a scraper takes for a restart.
#[derive(Debug, Default)]
pub(super) struct Octaves {
    buckets: [AtomicU64; EDGES + 1],
    sum_ns: AtomicU64,
}

impl Octaves {
    /// Counts one duration.
    pub(super) fn observe(&self, took: Nanos) {
        self.buckets[bucket_of(took)].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(took.0, Relaxed);
    }

    /// What a scrape sees; `None` before the first value. The count is that of the buckets read, so
    /// the two always agree; the sum may be a few values ahead or behind.
    fn snapshot(&self) -> Option<Histogram> {
        let mut count = 0;
        let mut buckets = Vec::with_capacity(EDGES);
        for (exponent, bucket) in (OCTAVE_MIN..=OCTAVE_MAX).zip(&self.buckets) {
            count += bucket.load(Relaxed);
            let mut shown = Bucket::default();
            shown.set_upper_bound(2f64.powi(exponent));
            shown.set_cumulative_count(count);
            buckets.push(shown);
        }
        count += self.buckets[EDGES].load(Relaxed);
        if count == 0 {
            return None;
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(count);
        histogram.set_sample_sum(Nanos(self.sum_ns.load(Relaxed)).as_secs_f64());
        Some(histogram)
    }
}

/// Label values and their series.
type Series = (Vec<String>, Arc<Octaves>);

/// All series of one metric; a clone is the same metric.
#[derive(Clone, Debug)]
pub(super) struct OctavesVec {
    desc: Desc,
    series: Arc<Mutex<Vec<Series>>>,
}

impl OctavesVec {
    /// Without series. The caller registers it.
    pub(super) fn new(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        let labels = labels.iter().map(ToString::to_string).collect();
        let desc = Desc::new(name.to_owned(), help.to_owned(), labels, Default::default())?;
        Ok(OctavesVec { desc, series: Arc::default() })
    }

    /// The series with these label values, in the order of the label names. Not for the hot path.
    pub(super) fn series(&self, values: &[&str]) -> Arc<Octaves> {
        assert_eq!(values.len(), self.desc.variable_labels.len(), "one value per label");
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = series.iter().find(|(known, _)| known == values) {
            return Arc::clone(known);
        }
        let fresh = Arc::<Octaves>::default();
        series.push((values.iter().map(ToString::to_string).collect(), Arc::clone(&fresh)));
        fresh
    }

    fn metric(&self, values: &[String], histogram: Histogram) -> Metric {
        let pair = |(name, value): (&String, &String)| {
            let mut pair = LabelPair::default();
            pair.set_name(name.clone());
            pair.set_value(value.clone());
            pair
        };
        let labels = self.desc.variable_labels.iter().zip(values).map(pair).collect();
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram);
        metric
    }
}

impl Collector for OctavesVec {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let metrics = series
            .iter()
            .filter_map(|(values, octaves)| Some(self.metric(values, octaves.snapshot()?)))
            .collect();
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(metrics);
        vec![family]
    }
}

#[cfg(test)]
mod tests {
    use super::Octaves;
    use crate::event::Nanos;
    use crate::octaves::{EDGE_NS, EDGES, OCTAVE_MAX, OCTAVE_MIN};

    /// The upper bound of the bucket that counts `ns`; `None` is +Inf.
    fn bound_of(ns: u64) -> Option<f64> {
        let octaves = Octaves::default();
        octaves.observe(Nanos(ns));
        let histogram = octaves.snapshot().expect("one value was observed");
        assert_eq!(histogram.get_sample_count(), 1);
        let bucket = histogram.get_bucket().iter().find(|bucket| bucket.cumulative_count() == 1);
        bucket.map(super::Bucket::upper_bound)
    }

    #[test]
    fn upper_bound_is_inclusive_to_the_nanosecond() {
        for (index, exponent) in (OCTAVE_MIN..=OCTAVE_MAX).enumerate() {
            let edge_ns = EDGE_NS[index];
            let bound = 2f64.powi(exponent);
            let next = (exponent < OCTAVE_MAX).then_some(bound * 2.0);
            assert_eq!(bound_of(edge_ns - 1), Some(bound), "2^{exponent} s minus 1 ns");
            assert_eq!(bound_of(edge_ns), Some(bound), "2^{exponent} s");
            assert_eq!(bound_of(edge_ns + 1), next, "2^{exponent} s plus 1 ns");
            assert!(Nanos(edge_ns).as_secs_f64() <= bound);
            assert!(Nanos(edge_ns + 1).as_secs_f64() > bound);
        }
    }

    #[test]
    fn each_edge_is_the_floor_of_a_power_of_two() {
        assert_eq!(EDGE_NS[0], 953, "2^-20 s is 953.67 ns");
        assert_eq!(EDGE_NS[11], 1_953_125, "2^-9 s is the first whole one");
        assert_eq!(EDGE_NS[20], 1_000_000_000);
        assert_eq!(EDGE_NS[EDGES - 1], 64_000_000_000);
    }

    #[test]
    fn extremes_are_counted_and_nothing_is_absent() {
        assert_eq!(bound_of(0), Some(2f64.powi(OCTAVE_MIN)));
        assert_eq!(bound_of(u64::MAX), None);
        assert!(Octaves::default().snapshot().is_none());
    }
}
