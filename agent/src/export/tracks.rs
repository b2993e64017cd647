//! Which track a span is drawn on: slices of one track must follow each other or nest.
//!
//! io_ends and direct writes overlap, so each kind has as many tracks as were needed at once, and a span
//! takes the first on which nothing is later than its begin. It must never give out a track on which the
//! span would cut into another one.

/// The tracks of one kind.
#[derive(Debug, Default)]
pub(super) struct Tracks {
    /// Of each track, when its last span ended.
    free_from: Vec<u64>,
}

impl Tracks {
    /// The track of a span, and whether it is a new one.
    pub(super) fn place(&mut self, begin_ns: u64, end_ns: Option<u64>) -> (usize, bool) {
        let end_ns = end_ns.unwrap_or(u64::MAX).max(begin_ns);
        let free = self.free_from.iter().position(|free_from| *free_from <= begin_ns);
        let track = free.unwrap_or(self.free_from.len());
        match self.free_from.get_mut(track) {
            Some(free_from) => *free_from = end_ns,
            None => self.free_from.push(end_ns),
        }
        (track, free.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::Tracks;

    #[test]
    fn spans_that_overlap_are_on_different_tracks() {
        let mut tracks = Tracks::default();
        assert_eq!(tracks.place(10, Some(20)), (0, true));
        assert_eq!(tracks.place(15, Some(30)), (1, true));
        assert_eq!(tracks.place(20, Some(21)), (0, false));
        assert_eq!(tracks.place(20, None), (2, true));
        assert_eq!(tracks.place(40, Some(40)), (0, false));
        assert_eq!(tracks.place(u64::MAX, Some(0)), (0, false), "an end before its begin");
    }
}
