//! How large the page cache's folios of a file are, as `/proc/kpageflags` tells.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

/// Bits of linux/kernel-page-flags.h: the page is the head or a tail of a larger folio.
const COMPOUND: u64 = 1 << 15 | 1 << 16;
/// The frame number in an entry of pagemap, and whether there is one.
const FRAME: u64 = (1 << 55) - 1;
const PRESENT: u64 = 1 << 63;
const PAGE_LEN: usize = 4096;

/// Of a cached file's pages, how many belong to a folio of more than one page.
pub(crate) fn large_pages(path: &Path) -> Result<usize> {
    let file = File::open(path)?;
    let len = usize::try_from(file.metadata()?.len())?;
    let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: a new mapping at an address of the kernel's choice, of a file that stays open.
    let start = unsafe { libc::mmap(std::ptr::null_mut(), len, read, shared, file.as_raw_fd(), 0) };
    ensure!(start != libc::MAP_FAILED, "cannot map: {}", io::Error::last_os_error());
    let counted = count(start as usize, len / PAGE_LEN);
    // SAFETY: the mapping made above, whole; nothing points into it.
    unsafe { libc::munmap(start, len) };
    counted
}

fn count(start: usize, pages: usize) -> Result<usize> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let flags = File::open("/proc/kpageflags").context("no /proc/kpageflags")?;
    let entry = |file: &File, index: u64| -> Result<u64> {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, index * 8)?;
        Ok(u64::from_ne_bytes(bytes))
    };
    let mut large = 0;
    for page in 0..pages {
        let entry_of_page = entry(&pagemap, u64::try_from(start / PAGE_LEN + page)?)?;
        if entry_of_page & PRESENT != 0 {
            large += usize::from(entry(&flags, entry_of_page & FRAME)? & COMPOUND != 0);
        }
    }
    Ok(large)
}
