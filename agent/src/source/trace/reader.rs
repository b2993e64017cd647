//! Reads a recording, one block at a time.
//!
//! It must never take more memory than one block and the index, however long a file claims its parts
//! to be, and never give out a record whose block failed its checksum. After an error, or at the end,
//! nothing more comes.

use std::io::{self, Read, Seek, SeekFrom};

use zstd::bulk::Decompressor;

use super::format::crc;
use super::{
    TraceError,
    format::{
        BLOCK_HEAD_LEN, BLOCK_TAG, BlockHead, ENTRY_LEN, Entry, HEAD_LEN, Head, INDEX_HEAD_LEN,
        INDEX_TAG, IndexHead, PREFIX_LEN, TAG_LEN, TAIL_LEN, Tail, u16_at,
    },
};
use crate::event::Nanos;

/// A recording that is being read.
pub struct Reader<R> {
    input: R,
    decompressor: Decompressor<'static>,
    /// Where the next part of the file begins.
    at: u64,
    stored: Vec<u8>,
    block: Block,
    /// Counted since the head, unless blocks were skipped.
    records: u64,
    blocks: u64,
    skipped: bool,
    over: bool,
}

/// The records of the block that is being given out.
#[derive(Default)]
struct Block {
    raw: Vec<u8>,
    next: usize,
    records_left: u32,
    at: u64,
}

/// What follows in the file.
enum Part {
    Block(BlockHead),
    Index,
}

impl<R: Read> Reader<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// Not a recording, or one of a version that this program does not read.
    pub fn new(input: R) -> Result<Self, TraceError> {
        let decompressor = Decompressor::new();
        let mut reader = Reader {
            input,
            decompressor: decompressor.map_err(|source| TraceError::Io {
                what: "decompress",
                at: 0,
                source,
            })?,
            at: 0,
            stored: Vec::new(),
            block: Block::default(),
            records: 0,
            blocks: 0,
            skipped: false,
            over: false,
        };
        let mut head = [0; HEAD_LEN];
        let len = reader.fill(&mut head)?;
        if len < HEAD_LEN {
            return Err(match Head::may_begin_with(&head[..len]) {
                true => TraceError::Truncated { at: 0 },
                false => TraceError::NotARecording,
            });
        }
        Head::parse(&head)?;
        reader.at = HEAD_LEN as u64;
        Ok(reader)
    }

    /// The next record, in the order they were pushed; `None` at the end of a whole recording.
    ///
    /// # Errors
    /// [`TraceError::Truncated`] after the last record of a recording that was cut; else what is
    /// wrong with the file, and where.
    pub fn next_record(&mut self) -> Result<Option<&[u8]>, TraceError> {
        while self.block.records_left == 0 {
            let more = !self.over && self.next_block().inspect_err(|_| self.over = true)?;
            if !more {
                self.over = true;
                return Ok(None);
            }
        }
        let range = match self.block.take() {
            Ok(range) => range,
            Err(error) => {
                self.over = true;
                self.block = Block::default();
                return Err(error);
            }
        };
        self.records += 1;
        Ok(Some(&self.block.raw[range]))
    }

    /// Loads the next block; `false` at the end.
    fn next_block(&mut self) -> Result<bool, TraceError> {
        match self.next_part()? {
            Part::Block(head) => self.load(&head).map(|()| true),
            Part::Index => self.end().map(|()| false),
        }
    }

    /// Reads as far as what the next part is.
    fn next_part(&mut self) -> Result<Part, TraceError> {
        let at = self.at;
        let mut bytes = [0; BLOCK_HEAD_LEN];
        let (tag, rest) = bytes.split_at_mut(TAG_LEN);
        let len = self.fill(tag)?;
        let tag: [u8; TAG_LEN] = tag.try_into().expect("the tag was split off at its length");
        if !BLOCK_TAG.starts_with(&tag[..len]) && !INDEX_TAG.starts_with(&tag[..len]) {
            return Err(TraceError::damaged(at, "neither a block nor the index begins here"));
        }
        if len < TAG_LEN {
            return Err(TraceError::Truncated { at });
        }
        if tag == INDEX_TAG {
            return Ok(Part::Index);
        }
        if self.fill(rest)? < rest.len() {
            return Err(TraceError::Truncated { at });
        }
        BlockHead::parse(&bytes, at).map(Part::Block)
    }

    fn load(&mut self, head: &BlockHead) -> Result<(), TraceError> {
        let at = self.at;
        let mut stored = std::mem::take(&mut self.stored);
        stored.resize(head.stored_len, 0);
        let len = self.fill(&mut stored)?;
        self.stored = stored;
        if len < head.stored_len {
            return Err(TraceError::Truncated { at });
        }
        if crc(&self.stored) != head.stored_crc {
            return Err(TraceError::damaged(at, "the checksum of a block does not match"));
        }
        self.block.raw.resize(head.raw_len, 0);
        let raw_len = self.decompressor.decompress_to_buffer(&self.stored, &mut self.block.raw[..]);
        if raw_len.is_ok_and(|raw_len| raw_len == head.raw_len) {
            self.block = Block {
                raw: std::mem::take(&mut self.block.raw),
                next: 0,
                records_left: head.records,
                at,
            };
        } else {
            return Err(TraceError::damaged(at, "a block does not decompress to its length"));
        }
        if head.records == 0 {
            return Err(TraceError::damaged(at, "a block without records"));
        }
        self.pass(head);
        Ok(())
    }

    fn pass(&mut self, head: &BlockHead) {
        self.blocks += 1;
        self.at += (BLOCK_HEAD_LEN + head.stored_len) as u64;
    }

    /// Checks what follows the blocks, after the index's tag was read.
    fn end(&mut self) -> Result<(), TraceError> {
        let at = self.at;
        let mut head = [0; INDEX_HEAD_LEN];
        head[..TAG_LEN].copy_from_slice(&INDEX_TAG);
        self.want(&mut head[TAG_LEN..])?;
        let index = IndexHead::parse(&head, at)?;
        let mut entries = vec![0; index.entries * ENTRY_LEN];
        self.want(&mut entries)?;
        if crc(&entries) != index.entries_crc {
            return Err(TraceError::damaged(at, "the checksum of the index does not match"));
        }
        let mut tail = [0; TAIL_LEN];
        self.want(&mut tail)?;
        let tail_at = at + (INDEX_HEAD_LEN + entries.len()) as u64;
        let tail = Tail::parse(&tail)
            .ok_or(TraceError::damaged(tail_at, "the checksum of the tail does not match"))?;
        let counted = tail.records == self.records && tail.blocks == self.blocks;
        if tail.index_offset != at || !(counted || self.skipped) {
            return Err(TraceError::damaged(
                tail_at,
                "the tail tells of other blocks than there are",
            ));
        }
        self.at = tail_at + TAIL_LEN as u64;
        match self.fill(&mut [0])? {
            0 => Ok(()),
            _ => Err(TraceError::damaged(self.at, "bytes after the end")),
        }
    }

    /// Fills `bytes`, all of them.
    fn want(&mut self, bytes: &mut [u8]) -> Result<(), TraceError> {
        match self.fill(bytes)? == bytes.len() {
            true => Ok(()),
            false => Err(TraceError::Truncated { at: self.at }),
        }
    }

    /// Fills `bytes` as far as the file goes.
    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, TraceError> {
        let mut len = 0;
        while len < bytes.len() {
            match self.input.read(&mut bytes[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TraceError::Io { what: "read", at: self.at, source }),
            }
        }
        Ok(len)
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Goes to the first block that may hold a record of `from` or later: by the index where the file
    /// has one, else from block head to block head. The records before it in that block still come.
    ///
    /// # Errors
    /// As [`Reader::next_record`].
    pub fn skip_to(&mut self, from: Nanos) -> Result<(), TraceError> {
        let start = self.indexed(from)?.unwrap_or(HEAD_LEN as u64);
        self.block = Block::default();
        self.skipped = true;
        self.over = false;
        self.go_to(start)?;
        let mut block_at = start;
        loop {
            match self.next_part() {
                Ok(Part::Block(head)) if head.span.last_ns < from.0 => {
                    block_at = self.at;
                    self.pass(&head);
                    self.go_to(self.at)?;
                }
                // Reading the block before the cut says where the cut is.
                Err(TraceError::Truncated { .. }) => return self.go_to(block_at),
                Ok(_) => return self.go_to(self.at),
                Err(error) => return Err(error),
            }
        }
    }

    /// Where the index says to begin; `None` if there is no index.
    fn indexed(&mut self, from: Nanos) -> Result<Option<u64>, TraceError> {
        let len = self.input.seek(SeekFrom::End(0)).map_err(|source| self.io(source))?;
        let tail_len = TAIL_LEN as u64;
        let Some(tail_at) = len.checked_sub(tail_len) else { return Ok(None) };
        let mut tail = [0; TAIL_LEN];
        self.go_to(tail_at)?;
        self.want(&mut tail)?;
        let Some(tail) = Tail::parse(&tail) else { return Ok(None) };
        if tail.index_offset >= len {
            return Err(TraceError::damaged(tail_at, "the tail tells of an index beyond the end"));
        }
        self.go_to(tail.index_offset)?;
        let mut head = [0; INDEX_HEAD_LEN];
        self.want(&mut head)?;
        let index = IndexHead::parse(&head, tail.index_offset)?;
        let mut entries = vec![0; index.entries * ENTRY_LEN];
        self.want(&mut entries)?;
        if crc(&entries) != index.entries_crc {
            let what = "the checksum of the index does not match";
            return Err(TraceError::damaged(tail.index_offset, what));
        }
        let (entries, _) = entries.as_chunks::<ENTRY_LEN>();
        let first = entries.iter().map(Entry::parse).find(|entry| entry.span.last_ns >= from.0);
        Ok(Some(first.map_or(tail.index_offset, |entry| entry.offset)))
    }

    fn go_to(&mut self, at: u64) -> Result<(), TraceError> {
        self.input.seek(SeekFrom::Start(at)).map_err(|source| self.io(source))?;
        self.at = at;
        Ok(())
    }

    fn io(&self, source: io::Error) -> TraceError {
        TraceError::Io { what: "seek in", at: self.at, source }
    }
}

impl Block {
    /// Where the next record is in `raw`.
    fn take(&mut self) -> Result<std::ops::Range<usize>, TraceError> {
        let damaged = || TraceError::damaged(self.at, "the records of a block do not fill it");
        let start = self.next + PREFIX_LEN;
        let prefix = self.raw.get(self.next..start).ok_or_else(damaged)?;
        let end = start + usize::from(u16_at(prefix, 0));
        let last = self.records_left == 1;
        if end > self.raw.len() || (last && end != self.raw.len()) {
            return Err(damaged());
        }
        self.next = end;
        self.records_left -= 1;
        Ok(start..end)
    }
}
