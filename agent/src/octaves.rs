//! A histogram of durations with one bucket per octave, 2^-20 s to 2^6 s: its edges, which the metrics
//! share, and the counts that the summary shows.
//!
//! A bucket counts durations up to and including its upper edge, as Prometheus's `le` does. It never
//! allocates; a duration beyond the last edge falls into the overflow bucket.

use crate::event::Nanos;

/// Exponent of the smallest upper edge, in seconds: about a microsecond.
pub(crate) const OCTAVE_MIN: i32 = -20;
/// Exponent of the largest finite upper edge, in seconds.
pub(crate) const OCTAVE_MAX: i32 = 6;
/// Finite upper edges.
pub(crate) const EDGES: usize = (OCTAVE_MAX - OCTAVE_MIN + 1) as usize;

/// The last whole nanosecond inside each bucket. Below 2^-9 s an edge is not a whole number of
/// nanoseconds: the floor decides exactly, since durations are whole.
pub(crate) const EDGE_NS: [u64; EDGES] = {
    const SECOND_NS: u64 = 1_000_000_000;
    let mut edges = [0; EDGES];
    let mut index = 0;
    while index < EDGES {
        edges[index] = (SECOND_NS << index) >> -OCTAVE_MIN;
        index += 1;
    }
    edges
};

/// The bucket of a duration; [`EDGES`] is beyond the last edge.
pub(crate) fn bucket_of(took: Nanos) -> usize {
    EDGE_NS.partition_point(|edge_ns| *edge_ns < took.0)
}

/// Upper edge of a bucket, seconds.
pub(crate) fn edge_secs(bucket: usize) -> f64 {
    let exponent = OCTAVE_MIN + i32::try_from(bucket).expect("there are 27 edges");
    f64::powi(2.0, exponent)
}

/// Counts per octave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Octaves {
    counts: [u64; EDGES + 1],
    max: Nanos,
}

impl Default for Octaves {
    fn default() -> Self {
        Octaves { counts: [0; EDGES + 1], max: Nanos(0) }
    }
}

impl Octaves {
    /// Counts one duration.
    pub fn observe(&mut self, duration: Nanos) {
        let bucket = bucket_of(duration);
        self.counts[bucket] += 1;
        self.max = self.max.max(duration);
    }

    /// Counts what another counted, too.
    pub fn add(&mut self, other: &Octaves) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.max = self.max.max(other.max);
    }

    /// By bucket, the one beyond the last edge at the end.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest.
    pub fn max(&self) -> Nanos {
        self.max
    }

    /// Upper edge, in seconds, of the bucket that holds the `q` quantile (0 to 1); never more than the
    /// longest duration. `None` when nothing was counted.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "a rank among fewer than 2^53 observations"
    )]
    pub fn quantile_secs(&self, q: f64) -> Option<f64> {
        let count = self.count();
        let rank = ((count as f64 * q).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        let bucket = self.counts.iter().position(|in_bucket| {
            seen += in_bucket;
            seen >= rank
        });
        let max = self.max.as_secs_f64();
        bucket
            .filter(|_| count > 0)
            .map(|bucket| if bucket == EDGES { max } else { edge_secs(bucket).min(max) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_inclusive() {
        let octave = 1_000_000_000 / 4; // 2^-2 s is a whole number of nanoseconds
        let bucket_of = |nanos: u64| {
            let mut octaves = Octaves::default();
            octaves.observe(Nanos(nanos));
            octaves.counts.iter().position(|count| *count == 1).unwrap()
        };
        let edge = bucket_of(octave);
        assert_eq!(bucket_of(octave - 1), edge);
        assert_eq!(bucket_of(octave + 1), edge + 1);
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), EDGES);
    }

    #[test]
    fn quantiles_are_bucket_edges_bounded_by_the_longest() {
        let mut octaves = Octaves::default();
        assert_eq!(octaves.quantile_secs(0.5), None);
        for _ in 0..99 {
            octaves.observe(Nanos(900));
        }
        octaves.observe(Nanos(3_000_000_000));
        assert_eq!(octaves.quantile_secs(0.5), Some(f64::powi(2.0, -20)));
        assert_eq!(octaves.quantile_secs(1.0), Some(3.0));
        assert_eq!(octaves.count(), 100);
    }
}
