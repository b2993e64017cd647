//! File operations at random on one file, beside a model of its bytes: what is read must be what the
//! model has. Buffered, direct and mapped writes, truncation, preallocation, holes, zeroed ranges, syncs.
//!
//! A failure names the seed and the operation that showed it.

use std::{
    fs::{File, OpenOptions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::Path,
};

use anyhow::{Context as _, Result, ensure};
use endiod::source::sim::Random;

/// The file is never longer.
const LEN_MAX: u64 = 1 << 20;
/// No single operation is longer.
const RANGE_MAX: u64 = 64 << 10;
/// What direct writes are aligned to, file and memory.
const BLOCK: u64 = 4096;

#[derive(Clone, Copy, Debug)]
enum Operation {
    Write,
    WriteDirect,
    WriteMapped,
    Read,
    Truncate,
    Fallocate,
    PunchHole,
    ZeroRange,
    Fsync,
    Fdatasync,
}

/// Writes are listed more than once: they are what is watched.
const OPERATIONS: &[Operation] = &[
    Operation::Write,
    Operation::Write,
    Operation::Write,
    Operation::WriteDirect,
    Operation::WriteDirect,
    Operation::WriteMapped,
    Operation::Read,
    Operation::Truncate,
    Operation::Fallocate,
    Operation::PunchHole,
    Operation::ZeroRange,
    Operation::Fsync,
    Operation::Fdatasync,
];

/// A file and what it must hold.
struct Checked {
    file: File,
    direct: File,
    model: Vec<u8>,
    random: Random,
}

/// So many operations on a new file, which is compared as a whole at the end.
pub(crate) fn file(path: &Path, seed: u64, operations: u32) -> Result<()> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    let file = options.open(path).context("cannot make the file")?;
    let direct = options.custom_flags(libc::O_DIRECT).open(path).context("no direct I/O")?;
    let mut checked = Checked { file, direct, model: Vec::new(), random: Random::new(seed) };
    for number in 0..operations {
        let operation = OPERATIONS[checked.random.below(OPERATIONS.len() as u64) as usize];
        let done = checked.run(operation);
        done.with_context(|| format!("seed {seed}, operation {number}, {operation:?}"))?;
    }
    checked.compare(0..checked.model.len()).with_context(|| format!("seed {seed}, at the end"))
}

impl Checked {
    fn run(&mut self, operation: Operation) -> Result<()> {
        let from = self.random.below(LEN_MAX);
        let to = (from + 1 + self.random.below(RANGE_MAX)).min(LEN_MAX);
        let (start, end) = (from as usize, to as usize);
        match operation {
            Operation::Write => {
                let bytes = self.bytes(end - start);
                self.file.write_all_at(&bytes, from)?;
                self.note(start, &bytes);
            }
            Operation::WriteDirect => self.write_direct(from, to)?,
            Operation::WriteMapped => self.write_mapped(start, end)?,
            Operation::Read => self.compare(start..end)?,
            Operation::Truncate => {
                self.file.set_len(from)?;
                self.model.resize(start, 0);
            }
            Operation::Fallocate => {
                self.fallocate(0, from, to)?;
                self.reach(end);
            }
            Operation::PunchHole => {
                let keep = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
                self.fallocate(keep, from, to)?;
                self.zero(start, end);
            }
            Operation::ZeroRange => {
                self.fallocate(libc::FALLOC_FL_ZERO_RANGE, from, to)?;
                self.reach(end);
                self.zero(start, end);
            }
            Operation::Fsync => self.file.sync_all()?,
            Operation::Fdatasync => self.file.sync_data()?,
        }
        Ok(())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let seed = self.random.below(256) as usize;
        (0..len).map(|at| (at.wrapping_mul(31) + seed) as u8).collect()
    }

    /// The file is at least so long; what is new is zero.
    fn reach(&mut self, end: usize) {
        let len = self.model.len().max(end);
        self.model.resize(len, 0);
    }

    fn note(&mut self, start: usize, bytes: &[u8]) {
        self.reach(start + bytes.len());
        self.model[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Within the file.
    fn zero(&mut self, start: usize, end: usize) {
        let end = end.min(self.model.len());
        if start < end {
            self.model[start..end].fill(0);
        }
    }

    fn write_direct(&mut self, from: u64, to: u64) -> Result<()> {
        let from = from / BLOCK * BLOCK;
        let len = (to - from).div_ceil(BLOCK) * BLOCK;
        let bytes = self.bytes(len as usize);
        // Memory is aligned where a longer piece of it is.
        let mut memory = vec![0; bytes.len() + BLOCK as usize];
        let at = memory.as_ptr().align_offset(BLOCK as usize);
        let aligned = &mut memory[at..at + bytes.len()];
        aligned.copy_from_slice(&bytes);
        self.direct.write_all_at(aligned, from)?;
        self.note(from as usize, &bytes);
        Ok(())
    }

    /// Of what is mapped only what lies within the file may be touched.
    fn write_mapped(&mut self, start: usize, end: usize) -> Result<()> {
        let end = end.min(self.model.len());
        if start >= end {
            return Ok(());
        }
        let bytes = self.bytes(end - start);
        let len = self.model.len();
        let (read_write, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let fd = self.file.as_raw_fd();
        // SAFETY: a new mapping at an address that the kernel chooses.
        let map = unsafe { libc::mmap(std::ptr::null_mut(), len, read_write, shared, fd, 0) };
        ensure!(map != libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        // SAFETY: `start..end` is within the mapping of `len` bytes and within the file, which this thread
        // alone changes.
        let into = unsafe { map.cast::<u8>().add(start) };
        // SAFETY: as above; the two do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), into, bytes.len()) };
        // SAFETY: the mapping is this function's own, and no reference to it is left.
        ensure!(unsafe { libc::munmap(map, len) } == 0, "munmap: {}", io::Error::last_os_error());
        self.note(start, &bytes);
        Ok(())
    }

    fn fallocate(&self, mode: libc::c_int, from: u64, to: u64) -> Result<()> {
        let [from, len] = [from, to - from].map(i64::try_from);
        // SAFETY: fallocate(2) takes plain integers; the file is open.
        let done = unsafe { libc::fallocate(self.file.as_raw_fd(), mode, from?, len?) };
        ensure!(done == 0, "fallocate: {}", io::Error::last_os_error());
        Ok(())
    }

    fn compare(&self, range: std::ops::Range<usize>) -> Result<()> {
        let len = self.file.metadata()?.len();
        ensure!(len == self.model.len() as u64, "{len} bytes long, not {}", self.model.len());
        let end = range.end.min(self.model.len());
        if range.start >= end {
            return Ok(());
        }
        let mut found = vec![0; end - range.start];
        self.file.read_exact_at(&mut found, range.start as u64)?;
        let model = &self.model[range.start..end];
        let differs = found.iter().zip(model).position(|(found, model)| found != model);
        ensure!(
            differs.is_none(),
            "byte {} is not what was written",
            range.start + differs.unwrap_or(0)
        );
        Ok(())
    }
}
