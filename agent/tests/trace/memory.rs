//! However long a file claims its parts to be, the reader takes no more memory than a block needs.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use endiod::limits::TRACE_BLOCK_BYTES_MAX;
use endiod::source::trace::TraceError;

use crate::{read, recorded, stream::Stream};

/// Where the first block begins, and its head's length.
const HEAD: usize = 20;
const BLOCK_HEAD: usize = 40;

/// The system's allocator, keeping each thread's largest request.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to `System` unchanged; the value is a thread-local that is
// initialised at compile time and has no destructor, so touching it never allocates.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.with(|largest| largest.set(largest.get().max(layout.size())));
        // SAFETY: the caller's obligations on `layout` are those of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above, which is `System`'s.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

/// Puts a value into a block's head and makes its checksum right.
fn forge(bytes: &mut [u8], offset: usize, value: u32) {
    let head = &mut bytes[HEAD..HEAD + BLOCK_HEAD];
    head[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
    let crc = crc32fast::hash(&head[..36]).to_le_bytes();
    head[36..].copy_from_slice(&crc);
}

/// Reads it; the error, and the largest piece of memory that was asked for.
fn refused(bytes: &[u8]) -> (TraceError, usize) {
    LARGEST.with(|largest| largest.set(0));
    let (records, error) = read(bytes);
    assert!(records.is_empty(), "{} records of a forged block", records.len());
    (error.expect("a forged block is refused"), LARGEST.with(Cell::get))
}

#[test]
fn lengths_beyond_the_bounds_are_refused_before_memory_is_taken() {
    let bytes = recorded(&Stream::with(1, 2, false).records, 1000);
    for (offset, what) in [(4, "a stored block"), (8, "the records of a block")] {
        for len in [u32::MAX, 1 << 30, 1 << 20] {
            let mut forged = bytes.clone();
            forge(&mut forged, offset, len);
            let (error, largest) = refused(&forged);
            let text = error.to_string();
            assert!(matches!(error, TraceError::TooLong { at: 20, .. }), "{text}");
            assert!(text.contains("byte 20") && text.contains(what), "{text}");
            assert!(largest < 64 << 10, "{largest} bytes were asked for");
        }
    }
}

#[test]
fn an_index_beyond_its_bound_is_refused() {
    let records = Stream::with(1, 2, false).records;
    let mut bytes = recorded(&records, 1000);
    let at = bytes.windows(4).position(|window| window == b"INDX").expect("it has an index");
    bytes[at + 4..at + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    let crc = crc32fast::hash(&bytes[at..at + 12]).to_le_bytes();
    bytes[at + 12..at + 16].copy_from_slice(&crc);
    LARGEST.with(|largest| largest.set(0));
    let (found, error) = read(&bytes);
    assert_eq!(found.len(), records.len());
    assert!(matches!(error, Some(TraceError::TooLong { what: "an index", .. })), "{error:?}");
    assert!(LARGEST.with(Cell::get) < 1 << 20);
}

#[test]
fn a_block_that_holds_more_or_less_than_it_says_is_refused() {
    let records = Stream::with(1, 2, false).records;
    let bytes = recorded(&records, 1000);
    let raw_len = u32::from_le_bytes(bytes[HEAD + 8..HEAD + 12].try_into().expect("4 bytes"));
    for len in [raw_len - 1, raw_len + 1, 0] {
        let mut forged = bytes.clone();
        forge(&mut forged, 8, len);
        let (error, largest) = refused(&forged);
        assert!(matches!(error, TraceError::Damaged { at: 20, .. }), "{error}");
        assert!(largest <= 2 * TRACE_BLOCK_BYTES_MAX, "{largest} bytes were asked for");
    }
    // A number of records that does not fill the block: found at the last one of them.
    let count = u32::try_from(records.len()).expect("a small stream");
    for count in [0, count - 1, count + 1, u32::MAX] {
        let mut forged = bytes.clone();
        forge(&mut forged, 12, count);
        let (found, error) = read(&forged);
        assert!(found.len() <= records.len());
        assert!(matches!(error, Some(TraceError::Damaged { at: 20, .. })), "{count}: {error:?}");
    }
}
