//! The layout of a recording, version 1: the fixed parts to bytes and back.
//!
//! ```text
//!  head   0 magic | 8 format | 10 wire | 12 flags | 16 crc of 0..16
//!  block  0 BLCK | 4 stored_len | 8 raw_len | 12 records | 16 first_ns | 24 last_ns
//!         | 32 crc of the stored bytes | 36 crc of 0..36      then the stored bytes
//!  index  0 INDX | 4 entries | 8 crc of the entries | 12 crc of 0..12
//!         then per entry: 0 offset | 8 first_ns | 16 last_ns
//!  tail   0 offset of the index | 8 records | 16 blocks | 24 crc of 0..24 | 28 DONE
//! ```
//!
//! Integers are little-endian. Lengths are checked against their bounds here, before anyone takes
//! memory for them. Nothing in a published version changes: a new layout is a new row of
//! [`VERSIONS`] and a module beside this one.

use crate::limits;

use super::TraceError;

/// A format that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Number in the file's head.
    pub number: u16,
    /// Version of the records in it.
    pub wire: u16,
    /// What came with it.
    pub what: &'static str,
}

/// Every format that this program reads, oldest first; the last one is written.
pub const VERSIONS: &[Version] =
    &[Version { number: 1, wire: 1, what: "zstd blocks of length-prefixed records, index, tail" }];

pub(super) const NEWEST: Version = VERSIONS[VERSIONS.len() - 1];

const MAGIC: [u8; 8] = *b"\x89endiod\n";
pub(super) const HEAD_LEN: usize = 20;

/// First bytes of what follows the head.
pub(super) const TAG_LEN: usize = 4;
pub(super) const BLOCK_TAG: [u8; TAG_LEN] = *b"BLCK";
pub(super) const INDEX_TAG: [u8; TAG_LEN] = *b"INDX";
const TAIL_TAG: [u8; TAG_LEN] = *b"DONE";

pub(super) const BLOCK_HEAD_LEN: usize = 40;
pub(super) const INDEX_HEAD_LEN: usize = 16;
pub(super) const ENTRY_LEN: usize = 24;
pub(super) const TAIL_LEN: usize = 32;

/// Bytes before each record that hold its length.
pub(super) const PREFIX_LEN: usize = 2;

/// Longest stored block: zstd adds at most one part in 256 and a frame's head to what it cannot
/// compress (`ZSTD_COMPRESSBOUND`, 0.7 to 1.5).
pub(super) const STORED_LEN_MAX: usize =
    limits::TRACE_BLOCK_BYTES_MAX + limits::TRACE_BLOCK_BYTES_MAX / 256 + 1024;

pub(super) fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// First bytes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head;

impl Head {
    pub(super) fn to_bytes(self) -> [u8; HEAD_LEN] {
        let mut bytes = Bytes::default();
        bytes.put(&MAGIC);
        bytes.put(&NEWEST.number.to_le_bytes());
        bytes.put(&NEWEST.wire.to_le_bytes());
        bytes.put(&0_u32.to_le_bytes());
        bytes.seal()
    }

    /// Whether these bytes, fewer than a head, may be the start of one.
    pub(super) fn may_begin_with(bytes: &[u8]) -> bool {
        let len = bytes.len().min(MAGIC.len());
        bytes[..len] == MAGIC[..len]
    }

    pub(super) fn parse(bytes: &[u8; HEAD_LEN]) -> Result<Head, TraceError> {
        if !Head::may_begin_with(bytes) {
            return Err(TraceError::NotARecording);
        }
        let (number, wire) = (u16_at(bytes, 8), u16_at(bytes, 10));
        let Some(version) = VERSIONS.iter().find(|version| version.number == number) else {
            return Err(match number > NEWEST.number {
                true => TraceError::Newer { found: number },
                false => TraceError::damaged(8, "no such format version"),
            });
        };
        if !is_sealed(bytes, 16) {
            return Err(TraceError::damaged(0, "the checksum of the head does not match"));
        }
        if wire != version.wire {
            return Err(TraceError::Wire { found: wire, format: number });
        }
        match u32_at(bytes, 12) {
            0 => Ok(Head),
            _ => Err(TraceError::damaged(12, "unknown flags")),
        }
    }
}

/// What stands before a block's stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHead {
    pub(super) stored_len: usize,
    pub(super) raw_len: usize,
    pub(super) records: u32,
    pub(super) span: Span,
    pub(super) stored_crc: u32,
}

/// Smallest and largest time of some records; none: from `u64::MAX` to 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first_ns: u64,
    pub(super) last_ns: u64,
}

impl Span {
    pub(super) const EMPTY: Span = Span { first_ns: u64::MAX, last_ns: 0 };

    pub(super) fn and(self, other: Span) -> Span {
        Span {
            first_ns: self.first_ns.min(other.first_ns),
            last_ns: self.last_ns.max(other.last_ns),
        }
    }
}

impl BlockHead {
    pub(super) fn to_bytes(self) -> [u8; BLOCK_HEAD_LEN] {
        let len = |len: usize| u32::try_from(len).expect("a block is far shorter than 4 GiB");
        let mut bytes = Bytes::default();
        bytes.put(&BLOCK_TAG);
        bytes.put(&len(self.stored_len).to_le_bytes());
        bytes.put(&len(self.raw_len).to_le_bytes());
        bytes.put(&self.records.to_le_bytes());
        bytes.put(&self.span.first_ns.to_le_bytes());
        bytes.put(&self.span.last_ns.to_le_bytes());
        bytes.put(&self.stored_crc.to_le_bytes());
        bytes.seal()
    }

    /// `at` is where the block begins.
    pub(super) fn parse(bytes: &[u8; BLOCK_HEAD_LEN], at: u64) -> Result<BlockHead, TraceError> {
        if !is_sealed(bytes, 36) {
            return Err(TraceError::damaged(at, "the checksum of a block's head does not match"));
        }
        let bounded = |offset: usize, max: usize, what: &'static str| {
            let len = u32_at(bytes, offset);
            match usize::try_from(len) {
                Ok(len) if len <= max => Ok(len),
                _ => Err(TraceError::TooLong { at, what, len: len.into(), max: max as u64 }),
            }
        };
        let head = BlockHead {
            stored_len: bounded(4, STORED_LEN_MAX, "a stored block")?,
            raw_len: bounded(8, limits::TRACE_BLOCK_BYTES_MAX, "the records of a block")?,
            records: u32_at(bytes, 12),
            span: Span { first_ns: u64_at(bytes, 16), last_ns: u64_at(bytes, 24) },
            stored_crc: u32_at(bytes, 32),
        };
        Ok(head)
    }
}

/// Where blocks begin, and what times they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    /// Of all blocks from there to the next entry's.
    pub(super) span: Span,
}

impl Entry {
    pub(super) fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = Bytes::default();
        bytes.put(&self.offset.to_le_bytes());
        bytes.put(&self.span.first_ns.to_le_bytes());
        bytes.put(&self.span.last_ns.to_le_bytes());
        bytes.all()
    }

    pub(super) fn parse(bytes: &[u8; ENTRY_LEN]) -> Entry {
        let span = Span { first_ns: u64_at(bytes, 8), last_ns: u64_at(bytes, 16) };
        Entry { offset: u64_at(bytes, 0), span }
    }
}

/// What stands before the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexHead {
    pub(super) entries: usize,
    pub(super) entries_crc: u32,
}

impl IndexHead {
    pub(super) fn to_bytes(self) -> [u8; INDEX_HEAD_LEN] {
        let entries = u32::try_from(self.entries).expect("the index is bounded");
        let mut bytes = Bytes::default();
        bytes.put(&INDEX_TAG);
        bytes.put(&entries.to_le_bytes());
        bytes.put(&self.entries_crc.to_le_bytes());
        bytes.seal()
    }

    /// `at` is where the index begins.
    pub(super) fn parse(bytes: &[u8; INDEX_HEAD_LEN], at: u64) -> Result<IndexHead, TraceError> {
        if bytes[..TAG_LEN] != INDEX_TAG || !is_sealed(bytes, 12) {
            return Err(TraceError::damaged(at, "the checksum of the index does not match"));
        }
        let entries = u32_at(bytes, 4);
        match usize::try_from(entries) {
            Ok(entries) if entries <= limits::TRACE_INDEX_MAX => {
                Ok(IndexHead { entries, entries_crc: u32_at(bytes, 8) })
            }
            _ => Err(TraceError::TooLong {
                at,
                what: "an index",
                len: u64::from(entries) * ENTRY_LEN as u64,
                max: (limits::TRACE_INDEX_MAX * ENTRY_LEN) as u64,
            }),
        }
    }
}

/// Last bytes of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) index_offset: u64,
    pub(super) records: u64,
    pub(super) blocks: u64,
}

impl Tail {
    pub(super) fn to_bytes(self) -> [u8; TAIL_LEN] {
        let mut bytes = Bytes::default();
        bytes.put(&self.index_offset.to_le_bytes());
        bytes.put(&self.records.to_le_bytes());
        bytes.put(&self.blocks.to_le_bytes());
        let crc = crc(bytes.so_far());
        bytes.put(&crc.to_le_bytes());
        bytes.put(&TAIL_TAG);
        bytes.all()
    }

    /// `None` when these are not the last bytes of a whole file.
    pub(super) fn parse(bytes: &[u8; TAIL_LEN]) -> Option<Tail> {
        (is_sealed(bytes, 24) && bytes[28..] == TAIL_TAG).then(|| Tail {
            index_offset: u64_at(bytes, 0),
            records: u64_at(bytes, 8),
            blocks: u64_at(bytes, 16),
        })
    }
}

/// A fixed part that is being written.
struct Bytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Default for Bytes<N> {
    fn default() -> Self {
        Bytes { bytes: [0; N], len: 0 }
    }
}

impl<const N: usize> Bytes<N> {
    fn put(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    fn so_far(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Ends the part with the checksum of all of it.
    fn seal(mut self) -> [u8; N] {
        let crc = crc(self.so_far());
        self.put(&crc.to_le_bytes());
        self.all()
    }

    fn all(self) -> [u8; N] {
        assert_eq!(self.len, N, "the part has its documented length");
        self.bytes
    }
}

/// Whether the checksum at `offset` is that of what stands before it.
fn is_sealed(bytes: &[u8], offset: usize) -> bool {
    u32_at(bytes, offset) == crc(&bytes[..offset])
}

fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes[offset..offset + N].try_into().expect("the range has N bytes")
}

pub(super) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, offset))
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_as_it_was_written() {
        let span = Span { first_ns: 3, last_ns: u64::MAX };
        assert_eq!(Head::parse(&Head.to_bytes()).unwrap(), Head);
        let block =
            BlockHead { stored_len: 7, raw_len: 9, records: 2, span, stored_crc: 0xdead_beef };
        assert_eq!(BlockHead::parse(&block.to_bytes(), 0).unwrap(), block);
        let index = IndexHead { entries: 5, entries_crc: 1 };
        assert_eq!(IndexHead::parse(&index.to_bytes(), 0).unwrap(), index);
        let entry = Entry { offset: 20, span };
        assert_eq!(Entry::parse(&entry.to_bytes()), entry);
        let tail = Tail { index_offset: 100, records: 8, blocks: 1 };
        assert_eq!(Tail::parse(&tail.to_bytes()), Some(tail));
    }

    #[test]
    fn versions_rise_and_a_newer_one_is_refused_by_name() {
        assert!(VERSIONS.is_sorted_by_key(|version| version.number));
        let mut bytes = Head.to_bytes();
        bytes[8..10].copy_from_slice(&7_u16.to_le_bytes());
        let error = Head::parse(&bytes).unwrap_err().to_string();
        assert!(error.contains("format version 7") && error.contains("newer endiod"), "{error}");
    }

    #[test]
    fn zstd_never_stores_more_than_the_bound() {
        assert!(zstd::zstd_safe::compress_bound(limits::TRACE_BLOCK_BYTES_MAX) <= STORED_LEN_MAX);
    }
}
