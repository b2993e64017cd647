//! Which format of the metrics a request asks for, by its `Accept` (RFC 9110, section 12.5.1).
//!
//! OpenMetrics goes to who names it in a version that we speak, 1.0.0 or 0.0.1, and wants it no less than
//! text. Everyone else gets text, also who accepts neither: a scraper can do more with it than with a
//! refusal.

use axum::http::{HeaderMap, header};

/// The versions of OpenMetrics; 0.0.1 is what 1.0.0 was called in its drafts.
const OPENMETRICS_VERSIONS: [&str; 2] = ["1.0.0", "0.0.1"];
const TEXT_VERSIONS: [&str; 1] = ["0.0.4"];

/// Whether it asks for OpenMetrics.
pub(super) fn wants_openmetrics(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepts: Vec<_> = accepts.map(str::to_ascii_lowercase).collect();
    let ranges = accepts.iter().flat_map(|value| value.split(','));
    let ranges: Vec<_> = ranges.filter_map(Range::parse).collect();
    let open = ranges.iter().filter(|range| range.is_openmetrics()).map(|range| range.quality);
    // The most specific range that matches says it.
    let text = ranges.iter().filter_map(|range| Some((range.names_text()?, range.quality)));
    let text = text.max().map_or(0, |(_, quality)| quality);
    open.max().is_some_and(|open| open > 0 && open >= text)
}

/// One of the ranges of an `Accept`.
#[derive(Debug)]
struct Range<'a> {
    media: &'a str,
    version: Option<&'a str>,
    /// In thousandths.
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` if it is none: then it asks for nothing.
    fn parse(range: &'a str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().filter(|media| media.contains('/'))?;
        let (mut version, mut quality) = (None, 1000);
        for part in parts {
            match part.split_once('=') {
                Some(("version", value)) => version = Some(value.trim_matches('"')),
                Some(("q", value)) => quality = thousandths(value)?,
                _ => {}
            }
        }
        Some(Range { media, version, quality })
    }

    fn is_openmetrics(&self) -> bool {
        self.media == "application/openmetrics-text" && self.is_of(&OPENMETRICS_VERSIONS)
    }

    /// How specifically it names the text format, if at all.
    fn names_text(&self) -> Option<u8> {
        match self.media {
            "text/plain" => self.is_of(&TEXT_VERSIONS).then_some(2),
            "text/*" => Some(1),
            "*/*" => Some(0),
            _ => None,
        }
    }

    /// Without a version any will do.
    fn is_of(&self, versions: &[&str]) -> bool {
        self.version.is_none_or(|version| versions.contains(&version))
    }
}

fn thousandths(quality: &str) -> Option<u16> {
    let quality: f32 = quality.parse().ok().filter(|quality| (0.0..=1.0).contains(quality))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
    let thousandths = (quality * 1000.0).round() as u16;
    Some(thousandths)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use super::wants_openmetrics;

    #[track_caller]
    fn check(accepts: &[&'static str], expected: bool) {
        let mut headers = HeaderMap::new();
        for accept in accepts {
            headers.append(header::ACCEPT, HeaderValue::from_static(accept));
        }
        assert_eq!(wants_openmetrics(&headers), expected, "{accepts:?}");
    }

    #[test]
    fn every_prometheus_gets_openmetrics() {
        check(
            &["application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
               version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"],
            true,
        );
        check(
            &["application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5"],
            true,
        );
        check(
            &["application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
               encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;\
               escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
               text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,\
               */*;q=0.1"],
            true,
        );
        check(&["text/plain;q=0.5", "application/openmetrics-text; version=\"1.0.0\""], true);
        check(&["Application/OpenMetrics-Text;Q=1"], true);
    }

    #[test]
    fn prometheus_that_is_told_to_prefer_text_gets_text() {
        check(
            &["text/plain;version=0.0.4;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
               */*;q=0.1"],
            false,
        );
        // A range that says less does not speak for it.
        check(&["text/plain;q=0.2,*/*,application/openmetrics-text;q=0.5"], true);
    }

    #[test]
    fn everyone_else_gets_text() {
        check(&[], false);
        check(&["*/*"], false);
        check(&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], false);
        check(&["application/*"], false);
        check(&["application/openmetrics-text;version=2.0.0"], false);
        check(&["application/openmetrics-text;q=0"], false);
    }

    #[test]
    fn what_is_no_range_asks_for_nothing() {
        for broken in
            ["", ",,;", "application/openmetrics-text;q=x", "application/openmetrics-text;q=2"]
        {
            check(&[broken], false);
        }
    }
}
