//! Families as OpenMetrics text 1.0.0.
//!
//! What differs from the text format 0.0.4: a counter's family has no `_total` and an info's no `_info`,
//! units are told, whole bounds are written `1.0`, violations name the latest finding as their exemplar,
//! and the text says where it ends. When a series was created is not known, so it is not told.

use prometheus::proto::{MetricFamily, MetricType};

use super::exemplars::{Date, Exemplars, FINDING_ID};
use super::table::{METRICS, Unit};
use super::text::{bounds, push, push_escaped, push_samples};

/// The text of `families`, in their order.
pub(super) fn encode(families: &[MetricFamily], exemplars: &Exemplars, date: Date<'_>) -> String {
    let mut text = String::new();
    for family in families {
        encode_family(&mut text, family, exemplars, date);
    }
    text.push_str("# EOF\n");
    text
}

fn encode_family(text: &mut String, family: &MetricFamily, exemplars: &Exemplars, date: Date<'_>) {
    let name = family.name();
    let row = METRICS.iter().find(|row| row.name == name).expect("families come from rows");
    let (stem, kind) = match family.get_field_type() {
        MetricType::COUNTER => (name.trim_end_matches("_total"), "counter"),
        MetricType::GAUGE if row.unit == Unit::Info => (name.trim_end_matches("_info"), "info"),
        MetricType::GAUGE => (name, "gauge"),
        MetricType::HISTOGRAM => (name, "histogram"),
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    push(text, &["# TYPE ", stem, " ", kind, "\n"]);
    match row.unit {
        Unit::Seconds => push(text, &["# UNIT ", stem, " seconds\n"]),
        Unit::Bytes => push(text, &["# UNIT ", stem, " bytes\n"]),
        Unit::Count(_) | Unit::Flag | Unit::Info => {}
    }
    push(text, &["# HELP ", stem, " "]);
    push_escaped(text, family.help(), true);
    text.push('\n');
    let mut bounds = bounds(family);
    bounds.iter_mut().filter(|bound| !bound.contains('.')).for_each(|bound| bound.push_str(".0"));
    push_samples(text, family, &bounds, |labels| {
        let (id, date) = (name == VIOLATIONS).then(|| exemplars.of(labels, date)).flatten()?;
        let (seconds, millis) = (date.as_secs(), date.subsec_millis());
        Some(format!(" # {{{FINDING_ID}=\"{id}\"}} 1 {seconds}.{millis:03}"))
    });
}

/// The family whose exemplars are findings.
pub(super) const VIOLATIONS: &str = "endiod_violations_total";
