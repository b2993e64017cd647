//! A distribution as a small picture: one bar per octave from a microsecond to a minute, and what it says in
//! words.
//!
//! ```text
//!   ▁▃█▅▂      ▁          p50 and p99 are bounds: the upper edge of the octave that holds them
//!   1 µs   1 ms   1 s
//! ```
//!
//! All charts have the same axis, so that they can be compared. The picture never says what its caption and
//! its table do not.

use maud::{Markup, html};
use prometheus::proto::Histogram;

use crate::octaves::{EDGES, edge_secs};
use crate::report::human_seconds;

/// Columns of a bar, its gap included.
const BAR: usize = 10;
const GAP: usize = 2;
/// Height of the highest bar.
const HEIGHT: u64 = 64;
/// Room for the axis.
const AXIS: u64 = 18;
/// Octaves whose upper edge is about a microsecond, a millisecond and a second.
const TICKS: [(usize, &str); 3] = [(0, "1 µs"), (10, "1 ms"), (20, "1 s")];

/// Counts per octave; the last is beyond the last edge.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread([u64; EDGES + 1]);

impl Spread {
    pub(super) fn add(&mut self, histogram: &Histogram) {
        let mut below = 0;
        let cumulative = histogram.get_bucket().iter().map(|bucket| bucket.cumulative_count());
        let cumulative = cumulative.chain([histogram.get_sample_count()]);
        for (count, upto) in self.0.iter_mut().zip(cumulative) {
            *count += upto.saturating_sub(below);
            below = upto;
        }
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The octave that holds the `percent` quantile.
    fn octave_of(&self, percent: u64) -> usize {
        let rank = (self.count() * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let holds = self.0.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        holds.unwrap_or(EDGES)
    }

    /// `≤ 3.9 ms`: no more than that is known.
    pub(super) fn bound(&self, percent: u64) -> String {
        upper(self.octave_of(percent))
    }
}

/// What is known of a duration in an octave.
fn upper(octave: usize) -> String {
    match octave {
        EDGES => format!("> {}", human_seconds(edge_secs(EDGES - 1))),
        _ => format!("≤ {}", human_seconds(edge_secs(octave))),
    }
}

/// A figure of one distribution; `id` is its own on the page.
pub(super) fn figure(id: &str, name: &str, spread: &Spread) -> Markup {
    let (p50, p99) = (spread.octave_of(50), spread.octave_of(99));
    let summary = format!("{} times, p50 {}, p99 {}", spread.count(), upper(p50), upper(p99));
    let (title, desc) = (format!("{id}-title"), format!("{id}-desc"));
    let (width, height) = ((EDGES + 1) * BAR, HEIGHT + AXIS);
    html! {
        figure class="chart" {
            figcaption { strong { (name) } " " span class="help" { (summary) } }
            svg role="img" aria-labelledby={ (title) " " (desc) }
                viewBox={ "0 0 " (width) " " (height) } {
                title id=(title) { "How long " (name) " took" }
                desc id=(desc) { "A bar per octave from 1 µs to 64 s. " (summary) "." }
                @for (octave, bar) in bars(spread) {
                    rect class=(class(octave, p50, p99)) x=(octave * BAR) y=(HEIGHT - bar)
                        width=(BAR - GAP) height=(bar) {}
                }
                path class="axis" d={ "M0 " (HEIGHT) "H" (width) } {}
                @for (octave, label) in TICKS {
                    @let x = (octave + 1) * BAR - GAP / 2;
                    path class="axis" d={ "M" (x) " " (HEIGHT) "v4" } {}
                    text x=(x) y=(height - 2) text-anchor=(if octave == 0 { "start" } else { "middle" }) {
                        (label)
                    }
                }
            }
            (table(name, spread))
        }
    }
}

/// Octaves that have a bar, and its height: at least one unit, so that a single outlier is seen.
fn bars(spread: &Spread) -> impl Iterator<Item = (usize, u64)> {
    let highest = spread.0.iter().copied().max().unwrap_or(0).max(1);
    let height =
        move |count: u64| (u128::from(count) * u128::from(HEIGHT)).div_ceil(highest.into());
    let some = spread.0.iter().enumerate().filter(|(_, count)| **count > 0);
    some.map(move |(octave, count)| {
        (octave, u64::try_from(height(*count)).unwrap_or(HEIGHT).max(2))
    })
}

fn class(octave: usize, p50: usize, p99: usize) -> &'static str {
    match octave {
        _ if octave > p99 => "bar slowest",
        _ if octave > p50 => "bar slower",
        _ => "bar",
    }
}

/// The same as numbers.
fn table(name: &str, spread: &Spread) -> Markup {
    html! {
        details {
            summary { "as numbers" span class="unseen" { ": " (name) } }
            table {
                thead { tr { th scope="col" { "took" } th scope="col" class="number" { "times" } } }
                tbody {
                    @for (octave, count) in spread.0.iter().enumerate().filter(|(_, count)| **count > 0) {
                        tr { th scope="row" { (upper(octave)) } td class="number" { (count) } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(counts: &[(usize, u64)]) -> Spread {
        let mut spread = Spread::default();
        counts.iter().for_each(|(octave, count)| spread.0[*octave] = *count);
        spread
    }

    #[test]
    fn quantiles_are_bounds() {
        let told = |spread: &Spread| (spread.bound(50), spread.bound(99));
        let both = |p50: &str, p99: &str| (p50.to_owned(), p99.to_owned());
        assert_eq!(told(&spread(&[(10, 99), (20, 1)])), both("≤ 976.6 µs", "≤ 976.6 µs"));
        assert_eq!(told(&spread(&[(10, 98), (20, 2)])), both("≤ 976.6 µs", "≤ 1.00 s"));
        assert_eq!(told(&spread(&[(EDGES, 1)])), both("> 64.00 s", "> 64.00 s"));
    }

    #[test]
    fn a_lonely_count_has_a_bar_and_a_huge_one_fits() {
        let bars: Vec<_> = bars(&spread(&[(0, 1), (5, u64::MAX / 2)])).collect();
        assert_eq!(bars, [(0, 2), (5, HEIGHT)]);
    }

    #[test]
    fn a_picture_says_what_its_table_does() {
        let drawn =
            figure("io_end-device", "device", &spread(&[(11, 3), (EDGES, 1)])).into_string();
        for part in [
            "aria-labelledby=\"io_end-device-title io_end-device-desc\"",
            "4 times, p50 ≤ 2.0 ms, p99 &gt; 64.00 s",
            "<th scope=\"row\">≤ 2.0 ms</th><td class=\"number\">3</td>",
            "<th scope=\"row\">&gt; 64.00 s</th><td class=\"number\">1</td>",
        ] {
            assert!(drawn.contains(part), "{part} is not in {drawn}");
        }
        assert_eq!(drawn.matches("<rect").count(), 2);
    }
}
