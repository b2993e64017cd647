//! Linux AIO: `io_setup`, `io_submit`, `io_getevents`, `io_destroy`, and the memory they work on.
//!
//! ```text
//!  free ─take─► held ─stage─► staged ─submit─► in flight ─wait─► held ─release─► free
//!               buffer()                                         buffer()
//! ```
//!
//! A slot is one record-sized buffer with its control block. Only its holder reaches the buffer, and
//! nobody holds a slot that is in flight, so that the kernel never writes where Rust reads.
//! Must never free memory that the kernel may still write: `io_destroy` waits for all I/O (Linux
//! 3.16 and later) and runs before the buffers are dropped. Units: bytes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use super::StressError;

/// Most events asked of `io_setup`, as in aio-stress: the host's `fs.aio-max-nr` (65,536 by
/// default) is shared by all. With more slots than this `io_submit` may ask to wait first.
const EVENTS_MAX: u32 = 512;

/// `IOCB_CMD_PREAD` and `IOCB_CMD_PWRITE` of linux/aio_abi.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read = 0,
    Write = 1,
}

/// `struct iocb` of linux/aio_abi.h on a little-endian host.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct Iocb {
    data: u64,
    key: u32,
    rw_flags: u32,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    len: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    resfd: u32,
}

/// `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct IoEvent {
    data: u64,
    iocb: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Iocb>() == 64 && size_of::<IoEvent>() == 32);

/// The right to one buffer, which is not in flight while this exists.
#[derive(Debug)]
pub(super) struct Slot(u32);

impl Slot {
    /// Its number, below the number of slots.
    pub(super) fn index(&self) -> usize {
        self.0 as usize
    }
}

/// A finished I/O.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) slot: Slot,
    /// Bytes transferred, or the error.
    pub(super) result: Result<u64, io::Error>,
}

/// An AIO context with its slots. The order of fields is the order of dropping.
#[derive(Debug)]
pub(super) struct Queue {
    context: AioContext,
    iocbs: Box<[Iocb]>,
    events: Box<[IoEvent]>,
    is_in_kernel: Box<[bool]>,
    free: Vec<u32>,
    staged: Vec<u32>,
    in_flight: u32,
    record_len: usize,
    buffers: Buffers,
}

impl Queue {
    /// A queue of `slots` buffers of `record_len` bytes each.
    pub(super) fn new(slots: u32, record_len: usize, align: usize) -> Result<Queue, StressError> {
        Ok(Queue {
            context: AioContext::new(slots.min(EVENTS_MAX))?,
            iocbs: vec![Iocb::default(); slots as usize].into(),
            events: vec![IoEvent::default(); slots as usize].into(),
            is_in_kernel: vec![false; slots as usize].into(),
            free: (0..slots).rev().collect(),
            staged: Vec::with_capacity(slots as usize),
            in_flight: 0,
            record_len,
            buffers: Buffers::new(slots as usize, record_len, align),
        })
    }

    /// A free slot, if there is one.
    pub(super) fn take(&mut self) -> Option<Slot> {
        self.free.pop().map(Slot)
    }

    /// Gives a slot back.
    pub(super) fn release(&mut self, slot: Slot) {
        self.free.push(slot.0);
    }

    /// The buffer of a slot.
    pub(super) fn buffer(&mut self, slot: &Slot) -> &mut [u8] {
        assert!(!self.is_in_kernel[slot.index()], "a slot of another queue, whose own is in use");
        self.buffers.get(slot.index(), self.record_len)
    }

    /// Puts one I/O of a whole record behind those that the next `submit` passes on.
    pub(super) fn stage(
        &mut self,
        slot: Slot,
        file: BorrowedFd<'_>,
        direction: Direction,
        offset: u64,
    ) {
        let index = slot.index();
        assert!(!self.is_in_kernel[index], "a slot of another queue, whose own is in use");
        self.is_in_kernel[index] = true;
        self.iocbs[index] = Iocb {
            data: u64::from(slot.0),
            opcode: direction as u16,
            fd: file.as_raw_fd().cast_unsigned(),
            buffer: self.buffers.address(index),
            len: self.record_len as u64,
            offset: i64::try_from(offset).expect("a plan's size fits i64"),
            ..Iocb::default()
        };
        self.staged.push(slot.0);
    }

    /// I/Os staged and not passed on yet.
    pub(super) fn staged(&self) -> usize {
        self.staged.len()
    }

    /// I/Os that the kernel has.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Passes on what is staged, as far as the kernel takes it now; says how many it took. None may
    /// mean that completions must be waited for first.
    pub(super) fn submit(&mut self) -> Result<usize, StressError> {
        let mut pointers: Vec<*mut Iocb> = Vec::with_capacity(self.staged.len());
        for &index in &self.staged {
            pointers.push(&raw mut self.iocbs[index as usize]);
        }
        let taken = self.context.submit(&mut pointers)?;
        self.staged.drain(..taken);
        self.in_flight += u32::try_from(taken).expect("at most one per slot");
        Ok(taken)
    }

    /// Waits for at least `min` I/Os (no more than are in flight) and hands over all that are done.
    pub(super) fn wait(&mut self, min: u32, done: &mut Vec<Completion>) -> Result<(), StressError> {
        let min = min.min(self.in_flight);
        if min == 0 {
            return Ok(());
        }
        let count = self.context.events(min, &mut self.events)?;
        for event in &self.events[..count] {
            let slot = Slot(u32::try_from(event.data).expect("the kernel returns our own data"));
            self.is_in_kernel[slot.index()] = false;
            self.in_flight -= 1;
            let failed = |_| {
                let errno = i32::try_from(-event.result).unwrap_or(libc::EIO);
                io::Error::from_raw_os_error(errno)
            };
            done.push(Completion { slot, result: u64::try_from(event.result).map_err(failed) });
        }
        Ok(())
    }
}

/// An `aio_context_t`.
#[derive(Debug)]
struct AioContext(libc::c_ulong);

impl AioContext {
    fn new(events: u32) -> Result<AioContext, StressError> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the kernel writes one aio_context_t, an unsigned long, to `id`, which outlives
        // the call and is zero as it demands.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, events, &raw mut id) };
        if result == 0 {
            return Ok(AioContext(id));
        }
        let source = io::Error::last_os_error();
        Err(match source.raw_os_error() {
            Some(libc::EAGAIN) => StressError::AioLimit { events },
            _ => StressError::Aio { call: "io_setup", source },
        })
    }

    fn submit(&self, iocbs: &mut [*mut Iocb]) -> Result<usize, StressError> {
        let len = iocbs.len();
        // SAFETY: `iocbs` holds `len` pointers to control blocks, each of which names a buffer of
        // its slot that stays allocated and untouched until `wait` returns it (`Queue`'s states).
        let result = unsafe { libc::syscall(libc::SYS_io_submit, self.0, len, iocbs.as_mut_ptr()) };
        if let Ok(taken) = usize::try_from(result) {
            return Ok(taken);
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR) => Ok(0),
            _ => Err(StressError::Aio { call: "io_submit", source }),
        }
    }

    fn events(&self, min: u32, events: &mut [IoEvent]) -> Result<usize, StressError> {
        loop {
            let (min, max) = (libc::c_long::from(min), events.len());
            let forever = std::ptr::null_mut::<libc::timespec>();
            let out = events.as_mut_ptr();
            // SAFETY: the kernel writes at most `max` events, plain integers, to `events`.
            let result =
                unsafe { libc::syscall(libc::SYS_io_getevents, self.0, min, max, out, forever) };
            if let Ok(count) = usize::try_from(result) {
                return Ok(count);
            }
            // A signal only sets the stop flag; what is in flight is still waited for.
            let source = io::Error::last_os_error();
            if source.raw_os_error() != Some(libc::EINTR) {
                return Err(StressError::Aio { call: "io_getevents", source });
            }
        }
    }
}

impl Drop for AioContext {
    fn drop(&mut self) {
        // SAFETY: the context is ours and is not used again. The call fails only for a context that
        // does not exist, and returns when no I/O is in flight.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}

/// Zeroed memory for all slots, each at a multiple of the alignment.
#[derive(Debug)]
struct Buffers {
    start: NonNull<u8>,
    layout: Layout,
    stride: usize,
}

// SAFETY: the memory belongs to this value alone; the pointer is not shared between threads.
unsafe impl Send for Buffers {}

impl Buffers {
    fn new(slots: usize, record_len: usize, align: usize) -> Buffers {
        let stride = record_len.next_multiple_of(align);
        let len = slots.checked_mul(stride).expect("a plan bounds its buffers");
        assert!(len > 0, "a plan has at least one record");
        let layout = Layout::from_size_align(len, align).expect("a plan's alignment is valid");
        // SAFETY: the size of the layout is not zero, as asserted above.
        let start = unsafe { alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        Buffers { start, layout, stride }
    }

    fn address(&self, index: usize) -> u64 {
        self.start.as_ptr().addr() as u64 + (index * self.stride) as u64
    }

    fn get(&mut self, index: usize, len: usize) -> &mut [u8] {
        assert!(len <= self.stride && (index + 1) * self.stride <= self.layout.size());
        // SAFETY: the offset lies inside the allocation, as asserted above.
        let start = unsafe { self.start.add(index * self.stride) };
        // SAFETY: `len` initialised bytes from there belong to this slot, which the caller checked
        // not to be in flight; the borrow of `self` keeps anyone else away.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout; `Queue` drops its context, and with it all
        // I/O, first.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn slots_come_back_with_what_the_kernel_did() {
        let mut queue = Queue::new(2, 512, 512).unwrap();
        let (zero, full) = (std::fs::File::open("/dev/zero"), std::fs::File::open("/dev/full"));
        let (zero, full) = (zero.unwrap(), full.unwrap());
        let (first, second) = (queue.take().unwrap(), queue.take().unwrap());
        assert!(queue.take().is_none());
        queue.buffer(&first).fill(7);
        let numbers = (first.index(), second.index());
        queue.stage(first, zero.as_fd(), Direction::Read, 0);
        // Not open for writing: the kernel refuses the control block at submission.
        queue.stage(second, full.as_fd(), Direction::Write, 0);
        assert_eq!(queue.submit().unwrap(), 1);
        assert_eq!((queue.staged(), queue.in_flight()), (1, 1));
        assert!(queue.submit().unwrap_err().to_string().contains("io_submit"));
        let mut done = Vec::new();
        queue.wait(9, &mut done).unwrap();
        assert_eq!(done.len(), 1);
        let Completion { slot, result } = done.remove(0);
        assert_eq!((slot.index(), result.unwrap()), (numbers.0, 512));
        assert!(queue.buffer(&slot).iter().all(|&byte| byte == 0));
        queue.release(slot);
        assert_eq!(queue.take().unwrap().index(), numbers.0);
    }

    #[test]
    fn the_limit_of_the_host_is_named() {
        let limit = std::fs::read_to_string("/proc/sys/fs/aio-max-nr").unwrap();
        let events = limit.trim().parse::<u32>().unwrap() + 1;
        let error = AioContext::new(events).unwrap_err().to_string();
        assert!(error.contains(&format!("{events} events")), "{error}");
        assert!(error.contains("raise fs.aio-max-nr"), "{error}");
    }

    #[test]
    fn buffers_are_aligned_and_do_not_overlap() {
        let mut queue = Queue::new(3, 700, 4096).unwrap();
        let mut ranges = Vec::new();
        while let Some(slot) = queue.take() {
            let range = queue.buffer(&slot).as_ptr_range();
            assert_eq!(range.start.addr() % 4096, 0);
            ranges.push((range.start.addr(), range.end.addr()));
        }
        ranges.sort_unstable();
        assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0));
    }
}
