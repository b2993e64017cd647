//! The beginning of a new stream: HOST.
//!
//! The agent detaches and attaches again where ext4 is a module; what was open in between ended, or
//! never will, unseen. So a HOST forgets every object: the live ones are counted as lost, tombstones
//! just go, for an address of the old stream means nothing in the new one. The totals go on.

use super::{Lifecycle, Step};
use crate::event::Nanos;

impl Lifecycle {
    /// Forgets every object.
    pub(super) fn begin_stream(&mut self, sink: &mut impl FnMut(Step<'_>)) {
        for at in 0..self.io_ends.slots() {
            if let Some(addr) = self.io_ends.any_at(at) {
                self.lose(addr, sink);
            }
        }
        self.calls.forget(Nanos(u64::MAX), &mut self.summary);
        self.workers.clear();
        self.failures.clear();
        self.put_backs.clear();
        self.watch.stuck_after = None;
    }
}
