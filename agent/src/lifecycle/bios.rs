//! Bios that the device has not done, where that is seen part by part.
//!
//! ```text
//!   attach (bytes) ──► open ──part──► open ──last part──► done       block_rq_complete
//!                        └──────────────whole────────────► done      block_bio_complete
//! ```
//!
//! A split bio has several parts, in any order and on any CPU; it is done when their bytes add up
//! (`__bi_remaining` of 5.10 to 7.3 holds it back until then). A bio is its address while it is open:
//! one that is attached again replaces what was there. An entry goes with its io_end, so the table
//! holds nothing of the dead. This module must never look at an io_end.

use super::table::{Full, Spans};
use crate::event::{BioAddr, IoEndAddr};

/// A bio that the device has not done.
struct Open {
    io_end: IoEndAddr,
    left_bytes: u32,
    failed: bool,
}

/// What a part was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// Others are outstanding.
    Part,
    /// The last one; whether any of them failed.
    Bio { failed: bool },
    /// Of a bio that is not open for that io_end.
    Unknown,
}

/// All open bios.
pub(super) struct Bios {
    open: Spans<BioAddr, Open>,
}

impl Bios {
    /// All memory is taken here.
    pub(super) fn new(capacity: usize) -> Self {
        Bios { open: Spans::new(capacity) }
    }

    pub(super) fn len(&self) -> u64 {
        self.open.len()
    }

    /// A bio is attached; whether one at its address was open.
    pub(super) fn attach(
        &mut self,
        bio: BioAddr,
        io_end: IoEndAddr,
        bytes: u32,
    ) -> Result<bool, Full> {
        let open = Open { io_end, left_bytes: bytes, failed: false };
        Ok(self.open.begin(bio, open)?.is_some())
    }

    /// The device is done with so many bytes of a bio, or with all that is left of it.
    pub(super) fn done(
        &mut self,
        bio: BioAddr,
        io_end: IoEndAddr,
        part_bytes: Option<u32>,
        failed: bool,
    ) -> Done {
        let Some(open) = self.open.get_mut(&bio).filter(|open| open.io_end == io_end) else {
            return Done::Unknown;
        };
        open.failed |= failed;
        open.left_bytes = part_bytes.map_or(0, |bytes| open.left_bytes.saturating_sub(bytes));
        if open.left_bytes > 0 {
            return Done::Part;
        }
        let failed = open.failed;
        self.open.end(&bio);
        Done::Bio { failed }
    }

    /// The io_end is over: so are its bios.
    pub(super) fn forget(&mut self, io_end: IoEndAddr) {
        self.open.forget(|open| open.io_end == io_end);
    }
}

#[cfg(test)]
mod tests {
    use super::{Bios, Done};
    use crate::event::{BioAddr, IoEndAddr};

    const IO_END: IoEndAddr = IoEndAddr(1);

    #[test]
    fn a_bio_is_done_with_its_last_part_or_as_a_whole_and_keeps_an_error() {
        let mut bios = Bios::new(4);
        assert_eq!(bios.attach(BioAddr(1), IO_END, 100), Ok(false));
        assert_eq!(bios.done(BioAddr(1), IO_END, Some(60), true), Done::Part);
        assert_eq!(bios.done(BioAddr(1), IO_END, Some(40), false), Done::Bio { failed: true });
        assert_eq!(bios.done(BioAddr(1), IO_END, Some(40), false), Done::Unknown);
        assert_eq!(bios.attach(BioAddr(1), IO_END, 100), Ok(false));
        assert_eq!(bios.done(BioAddr(1), IO_END, None, false), Done::Bio { failed: false });
        assert_eq!(bios.len(), 0);
    }

    #[test]
    fn a_bio_goes_with_its_io_end_and_is_not_taken_for_anothers() {
        let mut bios = Bios::new(2);
        assert_eq!(bios.attach(BioAddr(1), IO_END, 100), Ok(false));
        assert_eq!(bios.attach(BioAddr(2), IoEndAddr(2), 100), Ok(false));
        assert!(bios.attach(BioAddr(3), IO_END, 100).is_err());
        assert_eq!(bios.attach(BioAddr(2), IoEndAddr(2), 50), Ok(true));
        assert_eq!(bios.done(BioAddr(2), IO_END, Some(50), false), Done::Unknown);
        bios.forget(IO_END);
        assert_eq!(bios.len(), 1);
        assert_eq!(
            bios.done(BioAddr(2), IoEndAddr(2), Some(50), false),
            Done::Bio { failed: false }
        );
    }
}
