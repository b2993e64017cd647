//! One part of one file: its descriptor, where its next I/O goes, what it has written.
//!
//! Must never know about threads, queues or other parts. Units: bytes, from the start of the file
//! unless a comment says otherwise.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Display;

use super::StressError;
use super::options::Op;
use super::pattern::{self, Random, Written};
use super::plan::Plan;
use super::report::Tally;

/// One part of one file, with its own descriptor.
#[derive(Debug)]
pub(super) struct Context<'a> {
    plan: &'a Plan,
    file: File,
    file_index: usize,
    /// Number of this context in the whole run.
    index: u32,
    start: u64,
    end: u64,
    /// I/Os of one stage.
    records: u64,
    issued: u64,
    random: Random,
    /// Counts from `start`.
    written: Option<Written>,
    was_empty: bool,
}

impl<'a> Context<'a> {
    /// Part `part` of an open file.
    pub(super) fn new(
        plan: &'a Plan,
        file: File,
        (index, file_index, part): (u32, usize, u32),
    ) -> Result<Context<'a>, StressError> {
        let path = &plan.options().files[file_index];
        let metadata =
            file.metadata().map_err(|source| StressError::Open { path: path.clone(), source })?;
        let (start, end) = plan.range(part);
        let units = (end - start) / plan.grain();
        Ok(Context {
            plan,
            was_empty: metadata.len() == 0,
            file,
            file_index,
            index,
            start,
            end,
            records: plan.records(part),
            issued: 0,
            random: Random::new(plan.options().seed, index, 0),
            written: plan.options().verify.then(|| Written::new(units, plan.grain())),
        })
    }

    /// Begins a stage.
    pub(super) fn restart(&mut self, op: Op) {
        self.issued = 0;
        self.random = Random::new(self.plan.options().seed, self.index, op as u8);
    }

    /// I/Os of this stage that were not handed out yet.
    pub(super) fn remaining(&self) -> u64 {
        self.records - self.issued
    }

    /// Where the next I/O goes; the caller issues it.
    pub(super) fn next_offset(&mut self, op: Op) -> u64 {
        let record = self.plan.options().record.0;
        let offset = if op.is_random() {
            let places = (self.end - self.start - record) / self.plan.grain() + 1;
            self.start + self.random.below(places) * self.plan.grain()
        } else {
            self.start + self.issued * record
        };
        self.issued += 1;
        offset
    }

    /// The file's name, for messages.
    pub(super) fn path(&self) -> Display<'_> {
        self.plan.options().files[self.file_index].display()
    }

    /// The file's size now; `None` if the kernel does not say.
    pub(super) fn file_len(&self) -> Option<u64> {
        self.file.metadata().ok().map(|metadata| metadata.len())
    }

    /// Whether this is the first part of a file that had data before the run.
    pub(super) fn is_old_file(&self) -> bool {
        self.start == 0 && !self.was_empty
    }

    /// Remembers a write for `verify`.
    pub(super) fn mark_written(&mut self, offset: u64, len: u64) {
        if let Some(written) = &mut self.written {
            written.mark(offset - self.start, len);
        }
    }

    /// Compares what was read at `offset` with what this context is known to have written.
    pub(super) fn verify(&self, offset: u64, data: &[u8], tally: &mut Tally) {
        let Some(written) = &self.written else { return };
        let seed = self.plan.options().seed;
        let mut bad = None;
        let relative = offset - self.start;
        for (start, len) in written.inside(relative, data.len() as u64) {
            let from = (start - relative) as usize;
            let piece = &data[from..from + len as usize];
            bad = bad.or_else(|| pattern::mismatch(seed, self.start + start, piece));
            tally.verified_bytes += len;
        }
        if let Some(at) = bad {
            tally.verify_errors += 1;
            let path = self.path();
            tally.note(|| format!("verify {path}: byte {at} is not what was written"));
        }
    }

    /// One fsync or fdatasync.
    ///
    /// Not `File::sync_all`, which calls again after EINTR: then one count would be two calls.
    pub(super) fn sync(&self) -> io::Result<()> {
        let fd = self.file.as_raw_fd();
        let result = if self.plan.options().fdatasync {
            // SAFETY: the descriptor is open for as long as `self` is borrowed.
            unsafe { libc::fdatasync(fd) }
        } else {
            // SAFETY: the descriptor is open for as long as `self` is borrowed.
            unsafe { libc::fsync(fd) }
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl AsFd for Context<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bytes, Options};
    use super::*;

    #[test]
    fn only_what_was_written_is_compared_and_a_wrong_byte_is_found() {
        let (record, size) = (Bytes(512), Bytes(4096));
        let files = vec![std::env::current_exe().unwrap()];
        let options = Options { files, size, record, verify: true, ..Options::default() };
        let plan = Plan::new(options).unwrap();
        let file = File::open(&plan.options().files[0]).unwrap();
        let mut context = Context::new(&plan, file, (0, 0, 0)).unwrap();
        context.mark_written(512, 1024);
        let mut data = vec![0; 2048];
        pattern::fill(plan.options().seed, 512, &mut data[512..1536]);
        let mut tally = Tally::default();
        context.verify(0, &data, &mut tally);
        assert_eq!((tally.verified_bytes, tally.verify_errors), (1024, 0));
        data[1000] ^= 1;
        context.verify(0, &data, &mut tally);
        assert_eq!((tally.verified_bytes, tally.verify_errors), (2048, 1));
        assert!(tally.first_error.unwrap().ends_with("byte 1000 is not what was written"));
    }

    #[test]
    fn offsets_are_records_of_the_part() {
        let files = vec![std::env::current_exe().unwrap()];
        let (size, contexts) = (Bytes(10 << 20), 2);
        let plan = Plan::new(Options { files, size, contexts, ..Options::default() }).unwrap();
        let file = File::open(&plan.options().files[0]).unwrap();
        let mut context = Context::new(&plan, file, (1, 0, 1)).unwrap();
        let mut offsets = |op| {
            context.restart(op);
            let count = context.remaining();
            (0..count).map(|_| context.next_offset(op)).collect::<Vec<_>>()
        };
        let (start, end, record) = (2 << 20, 8 << 20, 64 << 10);
        assert_eq!(offsets(Op::Write), (start..end).step_by(record).collect::<Vec<_>>());
        let random = offsets(Op::RandomWrite);
        assert_eq!(random.len(), 96);
        assert!(random.iter().all(|at| (start..end).contains(at) && at.is_multiple_of(64 << 10)));
        assert_eq!(random, offsets(Op::RandomWrite));
        assert_ne!(random, offsets(Op::RandomRead));
    }
}
