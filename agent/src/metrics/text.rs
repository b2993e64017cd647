//! Families as Prometheus text 0.0.4.
//!
//! The same bytes as the `prometheus` crate's `TextEncoder` (a test compares them) at a third of the
//! time: the labels of a histogram are rendered once and its bounds once per family, and a whole
//! number is never formatted as a float.

use std::fmt::Write as _;

use prometheus::proto::{Histogram, LabelPair, MetricFamily, MetricType};

/// The text of `families`, in their order. Summaries and untyped families, which this crate has none
/// of, are left out.
pub(super) fn encode(families: &[MetricFamily]) -> String {
    // About 90 bytes a line, 30 lines a histogram: no need to be right.
    let metrics: usize = families.iter().map(|family| family.get_metric().len()).sum();
    let mut text = String::with_capacity(metrics * 1024);
    for family in families {
        encode_family(&mut text, family);
    }
    text
}

fn encode_family(text: &mut String, family: &MetricFamily) {
    let name = family.name();
    let kind = match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    push(text, &["# HELP ", name, " "]);
    push_escaped(text, family.help(), false);
    push(text, &["\n# TYPE ", name, " ", kind, "\n"]);
    push_samples(text, family, &bounds(family), |_| None);
}

/// The lines of a family; `exemplar` is what stands behind the value of a counter with these labels.
pub(super) fn push_samples(
    text: &mut String,
    family: &MetricFamily,
    bounds: &[String],
    exemplar: impl Fn(&[LabelPair]) -> Option<String>,
) {
    let name = family.name();
    let mut labels = String::new();
    for metric in family.get_metric() {
        labels.clear();
        push_labels(&mut labels, metric.get_label());
        match family.get_field_type() {
            MetricType::COUNTER => {
                let exemplar = exemplar(metric.get_label());
                let value = metric.get_counter().get_value();
                sample(text, name, &labels, value, exemplar.as_deref());
            }
            MetricType::GAUGE => {
                sample(text, name, &labels, metric.get_gauge().get_value(), None);
            }
            _ => histogram(text, name, &labels, bounds, metric.get_histogram()),
        }
    }
}

/// The upper bounds that all histograms of a family share, as text.
pub(super) fn bounds(family: &MetricFamily) -> Vec<String> {
    let buckets = family.get_metric().first().map(|metric| metric.get_histogram().get_bucket());
    buckets.unwrap_or_default().iter().map(|bucket| bucket.upper_bound().to_string()).collect()
}

fn histogram(
    text: &mut String,
    name: &str,
    labels: &str,
    bounds: &[String],
    histogram: &Histogram,
) {
    assert_eq!(bounds.len(), histogram.get_bucket().len(), "a family shares its bounds");
    let comma = if labels.is_empty() { "" } else { "," };
    let count = histogram.get_sample_count();
    let counts = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count());
    let bounds = bounds.iter().map(String::as_str).chain(["+Inf"]);
    for (bound, count) in bounds.zip(counts.chain([count])) {
        push(text, &[name, "_bucket{", labels, comma, "le=\"", bound, "\"} "]);
        push_number(text, &count);
    }
    let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
    push(text, &[name, "_sum", &braced, " "]);
    push_number(text, &histogram.get_sample_sum());
    push(text, &[name, "_count", &braced, " "]);
    push_number(text, &count);
}

/// One line; `exemplar` is what stands behind the value.
fn sample(text: &mut String, name: &str, labels: &str, value: f64, exemplar: Option<&str>) {
    if labels.is_empty() {
        push(text, &[name, " "]);
    } else {
        push(text, &[name, "{", labels, "} "]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "compared with the original")]
    let whole = value as i32;
    let number: &dyn std::fmt::Display = if f64::from(whole) == value { &whole } else { &value };
    writeln!(text, "{number}{}", exemplar.unwrap_or_default()).expect("a string takes all text");
}

fn push_number(text: &mut String, number: &dyn std::fmt::Display) {
    writeln!(text, "{number}").expect("a string takes all text");
}

pub(super) fn push(text: &mut String, parts: &[&str]) {
    for part in parts {
        text.push_str(part);
    }
}

fn push_labels(text: &mut String, labels: &[LabelPair]) {
    for (index, label) in labels.iter().enumerate() {
        push(text, &[if index == 0 { "" } else { "," }, label.name(), "=\""]);
        push_escaped(text, label.value(), true);
        text.push('"');
    }
}

/// `\` and line feed are escaped everywhere, `"` in label values.
pub(super) fn push_escaped(text: &mut String, value: &str, quoted: bool) {
    for part in value.split_inclusive(['\\', '\n', '"']) {
        match part.as_bytes().last() {
            Some(b'\\') => push(text, &[part, "\\"]),
            Some(b'\n') => push(text, &[&part[..part.len() - 1], "\\n"]),
            Some(b'"') if quoted => push(text, &[&part[..part.len() - 1], "\\\""]),
            _ => text.push_str(part),
        }
    }
}
