//! Writes a recording, block by block.
//!
//! ```text
//!  new ──► push … push ──block full, or flush──► block written ──► push … ──► finish: index, tail
//! ```
//!
//! What is written stays whole however the writer ends: without `finish` the file lacks its index and
//! reads up to the last block. After an error nothing more can be written. The index thins itself
//! out: at its bound every second entry goes, and from then on an entry covers twice as many blocks.

use std::{
    fs::{File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use zstd::bulk::Compressor;

use super::{
    TraceError,
    format::{BlockHead, Entry, Head, IndexHead, PREFIX_LEN, STORED_LEN_MAX, Span, Tail, crc},
};
use crate::{decode, limits};

/// Level 3 stores a tenth less for a quarter more time: 13.1 and 14.5 bytes, 264 and 213 ns per record of
/// both workloads on 6.1. The host's time is dearer.
const LEVEL: i32 = 1;
/// Only the owner may read kernel addresses.
const MODE: u32 = 0o600;

/// What to do with a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it alone, and fail.
    Keep,
    /// Write over it.
    Replace,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Records.
    pub records: u64,
    /// Blocks.
    pub blocks: u64,
    /// Length of the file so far, or its whole length once it is finished.
    pub bytes: u64,
}

/// A recording that is being written.
pub struct Writer<W> {
    out: W,
    compressor: Compressor<'static>,
    /// The block that is being filled.
    raw: Vec<u8>,
    stored: Vec<u8>,
    records: u32,
    span: Span,
    index: Index,
    written: Written,
}

impl Writer<File> {
    /// Creates a file that only its owner may read.
    ///
    /// # Errors
    /// The file cannot be created, is not a regular one, or is there and shall be kept.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, TraceError> {
        let mut options = OpenOptions::new();
        options.write(true).mode(MODE);
        match existing {
            Existing::Keep => options.create_new(true),
            Existing::Replace => options.create(true).truncate(true),
        };
        let file = options.open(path).and_then(|file| {
            if !file.metadata()?.is_file() {
                // A device's mode is not ours to change.
                return Err(io::Error::other("not a regular file"));
            }
            // The mode above is for new files only.
            file.set_permissions(Permissions::from_mode(MODE))?;
            Ok(file)
        });
        Writer::new(file.map_err(|source| TraceError::Io { what: "create", at: 0, source })?)
    }
}

impl<W: Write> Writer<W> {
    /// Begins a recording; the first record is the next one pushed.
    ///
    /// # Errors
    /// `out` takes no bytes.
    pub fn new(out: W) -> Result<Self, TraceError> {
        let compressor = Compressor::new(LEVEL);
        let mut writer = Writer {
            out,
            compressor: compressor.map_err(|source| TraceError::Io {
                what: "compress",
                at: 0,
                source,
            })?,
            raw: Vec::with_capacity(limits::TRACE_BLOCK_BYTES_MAX),
            stored: Vec::with_capacity(STORED_LEN_MAX),
            records: 0,
            span: Span::EMPTY,
            index: Index::default(),
            written: Written::default(),
        };
        writer.write(&Head.to_bytes())?;
        Ok(writer)
    }

    /// Takes the stream's next record, whatever its bytes are.
    ///
    /// # Errors
    /// `out` takes no bytes.
    ///
    /// # Panics
    /// The record is longer than 65,535 bytes; the wire's longest has 256.
    pub fn push(&mut self, record: &[u8]) -> Result<(), TraceError> {
        let len = u16::try_from(record.len()).expect("records are at most 256 bytes");
        if self.raw.len() + PREFIX_LEN + record.len() > limits::TRACE_BLOCK_BYTES_MAX {
            self.flush()?;
        }
        self.raw.extend_from_slice(&len.to_le_bytes());
        self.raw.extend_from_slice(record);
        self.records += 1;
        if let Ok(header) = decode::header(record) {
            self.span = self.span.and(Span { first_ns: header.time_ns, last_ns: header.time_ns });
        }
        Ok(())
    }

    /// Writes what was pushed so far as a block of its own: a reader can get at it from here on.
    ///
    /// # Errors
    /// `out` takes no bytes.
    pub fn flush(&mut self) -> Result<(), TraceError> {
        if self.records == 0 {
            return Ok(());
        }
        let at = self.written.bytes;
        let io = |source| TraceError::Io { what: "compress", at, source };
        self.stored.resize(STORED_LEN_MAX, 0);
        let stored_len =
            self.compressor.compress_to_buffer(&self.raw, &mut self.stored[..]).map_err(io)?;
        self.stored.truncate(stored_len);
        let head = BlockHead {
            stored_len,
            raw_len: self.raw.len(),
            records: self.records,
            span: self.span,
            stored_crc: crc(&self.stored),
        };
        self.write(&head.to_bytes())?;
        let stored = std::mem::take(&mut self.stored);
        let result = self.write(&stored);
        self.stored = stored;
        result?;
        self.index.push(Entry { offset: at, span: self.span });
        self.written.records += u64::from(self.records);
        self.written.blocks += 1;
        self.raw.clear();
        self.records = 0;
        self.span = Span::EMPTY;
        self.out.flush().map_err(|source| TraceError::Io { what: "write", at, source })
    }

    /// Writes the rest, the index and the tail.
    ///
    /// # Errors
    /// `out` takes no bytes.
    pub fn finish(mut self) -> Result<(W, Written), TraceError> {
        self.flush()?;
        let index_offset = self.written.bytes;
        let entries: Vec<u8> = self.index.entries().flat_map(|entry| entry.to_bytes()).collect();
        let head = IndexHead { entries: self.index.len(), entries_crc: crc(&entries) };
        self.write(&head.to_bytes())?;
        self.write(&entries)?;
        let Written { records, blocks, .. } = self.written;
        self.write(&Tail { index_offset, records, blocks }.to_bytes())?;
        let at = self.written.bytes;
        self.out.flush().map_err(|source| TraceError::Io { what: "write", at, source })?;
        Ok((self.out, self.written))
    }

    /// What was written so far; the block that is being filled is not.
    pub fn written(&self) -> Written {
        self.written
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), TraceError> {
        let io =
            |source: io::Error| TraceError::Io { what: "write", at: self.written.bytes, source };
        self.out.write_all(bytes).map_err(io)?;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// Where blocks begin, in bounded memory.
struct Index {
    entries: Vec<Entry>,
    /// Blocks that one entry covers, the last one maybe fewer.
    stride: u64,
    /// Blocks that the last entry covers.
    of_last: u64,
}

impl Default for Index {
    fn default() -> Self {
        Index { entries: Vec::new(), stride: 1, of_last: 0 }
    }
}

impl Index {
    fn push(&mut self, block: Entry) {
        if let Some(last) = self.entries.last_mut()
            && self.of_last < self.stride
        {
            last.span = last.span.and(block.span);
            self.of_last += 1;
            return;
        }
        if self.entries.len() == limits::TRACE_INDEX_MAX {
            self.thin_out();
        }
        self.entries.push(block);
        self.of_last = 1;
    }

    /// Joins each entry with its neighbour.
    fn thin_out(&mut self) {
        let joined = self.entries.chunks(2).map(|pair| Entry {
            offset: pair[0].offset,
            span: pair.iter().fold(Span::EMPTY, |span, entry| span.and(entry.span)),
        });
        self.entries = joined.collect();
        self.stride *= 2;
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_bounded_and_covers_every_block() {
        let mut index = Index::default();
        let blocks = limits::TRACE_INDEX_MAX as u64 * 5 + 3;
        for block in 0..blocks {
            index.push(Entry { offset: block, span: Span { first_ns: block, last_ns: block } });
            assert!(index.len() <= limits::TRACE_INDEX_MAX);
        }
        let mut next = 0;
        for Entry { offset, span } in index.entries() {
            assert_eq!((offset, span.first_ns), (next, next));
            next = span.last_ns + 1;
        }
        assert_eq!(next, blocks);
        assert!(index.len() > limits::TRACE_INDEX_MAX / 2);
    }
}
