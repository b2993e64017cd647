//! Wire bytes to [`Event`], or the reason why not.
//!
//! Total and allocation-free: any bytes give an event or a [`Malformed`]; nothing panics, nothing is
//! asserted of what the kernel or a file sent. It must never keep state: gaps and duplicates are the
//! business of `sequence`.

use std::mem::size_of;

use endiod_wire::wire::{self, Header, IoEndImage, Record, context, fsync_phase, valid};

use crate::event::{
    Backend, BioAddr, Body, ByteRange, CodeAddr, Context, Cpu, DevId, Event, FsyncPhase,
    FsyncRange, Ino, InodeAddr, InodeId, IoEndAddr, IocbAddr, LayoutSign, LeftOut, Name, Nanos,
    ProbeId, Seen, Stamp, Task, WatchTotals,
};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than a header, or than `len` says.
    #[error("record is shorter than its length")]
    Short,
    /// `len` is not the length of this kind.
    #[error("record length does not fit its kind")]
    Length,
    /// A kind that this version does not know.
    #[error("record kind is unknown")]
    Kind,
    /// A field holds a value outside its set.
    #[error("record holds a value outside its set")]
    Value,
}

impl Malformed {
    /// All reasons, for the metric's label set.
    pub const ALL: [Malformed; 4] =
        [Malformed::Short, Malformed::Length, Malformed::Kind, Malformed::Value];

    /// The `reason` label.
    pub fn label(self) -> &'static str {
        match self {
            Malformed::Short => "short",
            Malformed::Length => "length",
            Malformed::Kind => "unknown_kind",
            Malformed::Value => "bad_value",
        }
    }
}

/// Decodes one record that starts at `bytes[0]`; bytes beyond its length are ignored.
///
/// # Errors
/// The reason why the bytes are not a record of this version.
pub fn decode(bytes: &[u8]) -> Result<Event, Malformed> {
    let header: Header = header(bytes)?;
    let record = bytes.get(..usize::from(header.len)).ok_or(Malformed::Short)?;
    Ok(Event { stamp: stamp(&header)?, body: body(header.kind, record)? })
}

/// Reads the header alone, as a framer needs it.
///
/// # Errors
/// [`Malformed::Short`] with fewer than 32 bytes.
pub fn header(bytes: &[u8]) -> Result<Header, Malformed> {
    let bytes: &[u8; size_of::<Header>()] = bytes.first_chunk().ok_or(Malformed::Short)?;
    // SAFETY: the array has the size of Header, which is repr(C) of integers without padding, so
    // any bytes are a valid value; read_unaligned asks for no alignment.
    Ok(unsafe { bytes.as_ptr().cast::<Header>().read_unaligned() })
}

fn stamp(header: &Header) -> Result<Stamp, Malformed> {
    let context = match header.context {
        context::UNKNOWN => Context::Unknown,
        context::TASK => Context::Task,
        context::SOFTIRQ => Context::SoftIrq,
        context::HARDIRQ => Context::HardIrq,
        context::NMI => Context::Nmi,
        _ => return Err(Malformed::Value),
    };
    Ok(Stamp {
        at: Nanos(header.time_ns),
        cpu: (header.cpu != wire::AGENT_CPU).then_some(Cpu(header.cpu)),
        lane: header.lane,
        seq: header.seq,
        task: Task { tid: header.tid, tgid: header.tgid },
        context,
    })
}

fn read<R: Record>(bytes: &[u8]) -> Result<R, Malformed> {
    if bytes.len() != size_of::<R>() {
        return Err(Malformed::Length);
    }
    // SAFETY: the length was checked above; Record promises integers without padding, so any bytes
    // are a valid value; read_unaligned asks for no alignment.
    Ok(unsafe { bytes.as_ptr().cast::<R>().read_unaligned() })
}

fn seen(io_end: u64, valid_bits: u32, image: IoEndImage) -> Seen {
    Seen { io_end: IoEndAddr(io_end), image: (valid_bits & valid::IMAGE != 0).then_some(image) }
}

fn inode_id(ino: u64, dev: u32, valid_bits: u32) -> Option<InodeId> {
    (valid_bits & valid::INODE != 0).then_some(InodeId { ino: Ino(ino), dev: DevId(dev) })
}

fn layout_sign(valid_bits: u32) -> Option<LayoutSign> {
    match (valid_bits & valid::LAYOUT_FITS != 0, valid_bits & valid::LAYOUT_MISFIT != 0) {
        (_, true) => Some(LayoutSign::Misfit),
        (true, false) => Some(LayoutSign::Fits),
        (false, false) => None,
    }
}

fn phase(code: u32) -> Result<FsyncPhase, Malformed> {
    match code {
        fsync_phase::DATA_SUBMIT => Ok(FsyncPhase::DataSubmit),
        fsync_phase::DATA_WAIT => Ok(FsyncPhase::DataWait),
        fsync_phase::JOURNAL => Ok(FsyncPhase::Journal),
        fsync_phase::BARRIER => Ok(FsyncPhase::Barrier),
        _ => Err(Malformed::Value),
    }
}

fn body(kind: u16, bytes: &[u8]) -> Result<Body, Malformed> {
    match kind {
        0..20 => io_end_body(kind, bytes),
        20..60 => span_body(kind, bytes),
        _ => agent_body(kind, bytes),
    }
}

/// What a record tells that holds an io_end and its image only.
macro_rules! seen_in {
    ($Record:ident, $bytes:expr) => {{
        let wire::$Record { header: _, io_end, valid, pad: _, image } = read($bytes)?;
        seen(io_end, valid, image)
    }};
}

fn io_end_body(kind: u16, bytes: &[u8]) -> Result<Body, Malformed> {
    Ok(match kind {
        wire::IoEndBirth::KIND => {
            let wire::IoEndBirth { header: _, io_end, inode, ino, dev, valid } = read(bytes)?;
            let id = inode_id(ino, dev, valid);
            Body::IoEndBirth { io_end: IoEndAddr(io_end), inode: InodeAddr(inode), id }
        }
        wire::RangeAdded::KIND => {
            let wire::RangeAdded { header: _, io_end, vec } = read(bytes)?;
            Body::RangeAdded { io_end: IoEndAddr(io_end), failed: is_err_ptr(vec) }
        }
        wire::BioAttach::KIND => {
            let wire::BioAttach { header: _, io_end, bio, sector, bytes, opf: _ } = read(bytes)?;
            Body::BioAttach { io_end: IoEndAddr(io_end), bio: BioAddr(bio), sector, bytes }
        }
        wire::BioEnd::KIND => {
            let wire::BioEnd { header: _, io_end, bio, status, valid, image } = read(bytes)?;
            let (bio, ended_before) = (BioAddr(bio), valid & valid::ENDED_BEFORE != 0);
            Body::BioEnd { bio, status, ended_before, seen: seen(io_end, valid, image) }
        }
        wire::Put::KIND => Body::Put(seen_in!(Put, bytes)),
        wire::PutDefer::KIND => Body::PutDefer(seen_in!(PutDefer, bytes)),
        wire::Claim::KIND => Body::Claim(seen_in!(Claim, bytes)),
        wire::ConvertBegin::KIND => Body::ConvertBegin(seen_in!(ConvertBegin, bytes)),
        wire::ConvertEnd::KIND => {
            let wire::ConvertEnd { header: _, io_end, ret } = read(bytes)?;
            Body::ConvertEnd { io_end: IoEndAddr(io_end), ret }
        }
        wire::Release::KIND => Body::Release(seen_in!(Release, bytes)),
        wire::ReleaseLate::KIND => {
            let wire::ReleaseLate { header: _, io_end } = read(bytes)?;
            Body::ReleaseLate { io_end: IoEndAddr(io_end) }
        }
        wire::WorkerBegin::KIND => {
            let wire::WorkerBegin { header: _, inode } = read(bytes)?;
            Body::WorkerBegin { inode: InodeAddr(inode) }
        }
        wire::WorkerEnd::KIND => {
            let wire::WorkerEnd { header: _, inode } = read(bytes)?;
            Body::WorkerEnd { inode: InodeAddr(inode) }
        }
        _ => return stand_in_body(kind, bytes),
    })
}

/// What raw tracepoints see in the place of puts, claims and the ends of bios, what is of 2012 alone, and what
/// watchpoints see.
fn stand_in_body(kind: u16, bytes: &[u8]) -> Result<Body, Malformed> {
    Ok(match kind {
        wire::IoEndInode::KIND => {
            let wire::IoEndInode { header: _, io_end, inode, ino, dev, valid } = read(bytes)?;
            let (io_end, inode) = (IoEndAddr(io_end), InodeAddr(inode));
            let (id, layout) = (inode_id(ino, dev, valid), layout_sign(valid));
            Body::IoEndInode { io_end, inode, id, layout }
        }
        wire::BioDone::KIND => {
            let wire::BioDone { header: _, io_end, bio, bytes, whole, status, valid, image } =
                read(bytes)?;
            let seen = seen(io_end, valid, image);
            Body::BioDone {
                bio: BioAddr(bio),
                part_bytes: (whole == 0).then_some(bytes),
                status,
                seen,
            }
        }
        wire::WorkQueued::KIND => {
            let wire::WorkQueued { header: _, inode } = read(bytes)?;
            Body::WorkQueued { inode: InodeAddr(inode) }
        }
        wire::Listed::KIND => {
            let wire::Listed { header: _, io_end, inode, valid, pad: _, image } = read(bytes)?;
            Body::Listed { inode: InodeAddr(inode), seen: seen(io_end, valid, image) }
        }
        wire::Requeue::KIND => {
            let wire::Requeue { header: _, io_end, valid, lock, image } = read(bytes)?;
            let locked = (valid & wire::valid::LOCK != 0).then_some(lock != 0);
            Body::Requeue { seen: seen(io_end, valid, image), locked }
        }
        wire::FlagWrite::KIND => {
            let wire::FlagWrite { header: _, io_end, ip, valid, lock, image } = read(bytes)?;
            let locked = (valid & wire::valid::LOCK != 0).then_some(lock != 0);
            Body::FlagWrite { seen: seen(io_end, valid, image), locked, ip: CodeAddr(ip) }
        }
        _ => return Err(Malformed::Kind),
    })
}

fn span_body(kind: u16, bytes: &[u8]) -> Result<Body, Malformed> {
    Ok(match kind {
        wire::DirectIoBegin::KIND => {
            let wire::DirectIoBegin { header: _, iocb, inode: _, ino, pos, bytes, dev, valid } =
                read(bytes)?;
            Body::DirectIoBegin {
                iocb: IocbAddr(iocb),
                id: inode_id(ino, dev, valid),
                pos_bytes: pos,
                len_bytes: (valid & wire::valid::KIOCB != 0).then_some(bytes),
            }
        }
        wire::DirectIoCompleteBegin::KIND => {
            let wire::DirectIoCompleteBegin { header: _, iocb, bytes, error, flags } = read(bytes)?;
            Body::DirectIoCompleteBegin { iocb: IocbAddr(iocb), bytes, error, flags }
        }
        wire::DirectIoCompleteEnd::KIND => {
            let wire::DirectIoCompleteEnd { header: _, iocb, ret } = read(bytes)?;
            Body::DirectIoCompleteEnd { iocb: IocbAddr(iocb), ret }
        }
        wire::DirectIoUncounted::KIND => {
            let wire::DirectIoUncounted { header: _, iocb } = read(bytes)?;
            Body::DirectIoUncounted { iocb: IocbAddr(iocb) }
        }
        wire::DirectIoReturn::KIND => {
            let wire::DirectIoReturn { header: _, iocb, ret } = read(bytes)?;
            Body::DirectIoReturn { iocb: IocbAddr(iocb), ret }
        }
        wire::FsyncBegin::KIND => fsync_begin(read(bytes)?),
        wire::FsyncEnd::KIND => {
            let wire::FsyncEnd { header: _, ret } = read(bytes)?;
            Body::FsyncEnd { ret }
        }
        wire::FsyncPhaseBegin::KIND => {
            let wire::FsyncPhaseBegin { header: _, phase: code, pad: _ } = read(bytes)?;
            Body::FsyncPhaseBegin { phase: phase(code)? }
        }
        wire::FsyncPhaseEnd::KIND => {
            let wire::FsyncPhaseEnd { header: _, phase: code, pad: _, ret } = read(bytes)?;
            Body::FsyncPhaseEnd { phase: phase(code)?, ret }
        }
        wire::InodeDestroy::KIND => {
            let wire::InodeDestroy { header: _, inode, ino, dev, valid } = read(bytes)?;
            Body::InodeDestroy { inode: InodeAddr(inode), id: inode_id(ino, dev, valid) }
        }
        wire::EvictionBegin::KIND => {
            let wire::EvictionBegin { header: _, inode, ino, dev, valid } = read(bytes)?;
            Body::EvictionBegin { inode: InodeAddr(inode), id: inode_id(ino, dev, valid) }
        }
        wire::EvictionEnd::KIND => {
            let wire::EvictionEnd { header: _, inode } = read(bytes)?;
            Body::EvictionEnd { inode: InodeAddr(inode) }
        }
        _ => return Err(Malformed::Kind),
    })
}

fn fsync_begin(record: wire::FsyncBegin) -> Body {
    let wire::FsyncBegin {
        header: _,
        inode,
        ino,
        start,
        end,
        dev,
        datasync,
        valid,
        phases_followed,
    } = record;
    let bytes = (valid & wire::valid::RANGE != 0).then_some(ByteRange { first: start, last: end });
    Body::FsyncBegin {
        inode: InodeAddr(inode),
        id: inode_id(ino, dev, valid),
        range: FsyncRange { bytes, datasync: datasync != 0 },
        phases_followed: phases_followed != 0,
    }
}

fn agent_body(kind: u16, bytes: &[u8]) -> Result<Body, Malformed> {
    Ok(match kind {
        wire::Nesting::KIND => {
            let wire::Nesting { header: _, role, step } = read(bytes)?;
            Body::Nesting { role, step }
        }
        wire::Host::KIND => {
            let wire::Host { header: _, version, pad: _, cpus, release, hash_key } = read(bytes)?;
            Body::Host { version, cpus, release: Name(release), hash_key }
        }
        wire::Device::KIND => {
            let wire::Device { header: _, dev, pad: _, name } = read(bytes)?;
            Body::Device { dev: DevId(dev), name: Name(name) }
        }
        wire::Symbol::KIND => {
            let wire::Symbol { header: _, address, name } = read(bytes)?;
            Body::Symbol { address: CodeAddr(address), name: Name(name) }
        }
        wire::Config::KIND => {
            let wire::Config { header: _, key, pad: _, value } = read(bytes)?;
            Body::Config { key, value }
        }
        wire::Tick::KIND => {
            let wire::Tick { header: _, ordinal } = read(bytes)?;
            Body::Tick { ordinal }
        }
        wire::Loss::KIND => {
            let wire::Loss { header: _, of_cpu, pad: _, emitted, dropped } = read(bytes)?;
            let of_cpu = u16::try_from(of_cpu).map_err(|_| Malformed::Value)?;
            Body::Loss { of_cpu: Cpu(of_cpu), emitted, dropped }
        }
        wire::ProgramLoss::KIND => {
            let wire::ProgramLoss { header: _, left_out } = read(bytes)?;
            Body::ProgramLoss { left_out: LeftOut(left_out) }
        }
        wire::TaskName::KIND => {
            let wire::TaskName { header: _, task, pad: _, comm } = read(bytes)?;
            Body::TaskName { tid: task, comm: Name(comm) }
        }
        wire::TaskCgroup::KIND => {
            let wire::TaskCgroup { header: _, task, bits, path } = read(bytes)?;
            let cut = bits & wire::cgroup::CUT != 0;
            Body::TaskCgroup { tgid: task, path: Name(path), cut }
        }
        wire::WatchBegin::KIND => {
            let wire::WatchBegin { header: _, io_end, at_ns, slot, cpus } = read(bytes)?;
            Body::WatchBegin { io_end: IoEndAddr(io_end), slot, at: Nanos(at_ns), cpus }
        }
        wire::WatchEnd::KIND => {
            let wire::WatchEnd { header: _, io_end, at_ns, slot, why } = read(bytes)?;
            let released = why == wire::watch_end::RELEASED;
            Body::WatchEnd { io_end: IoEndAddr(io_end), slot, at: Nanos(at_ns), released }
        }
        wire::WatchTotals::KIND => {
            let wire::WatchTotals { header: _, hits, lost, interrupts, late, slots, cpus } =
                read(bytes)?;
            Body::WatchTotals(WatchTotals { hits, lost, interrupts, late, slots, cpus })
        }
        wire::Misses::KIND => {
            let wire::Misses { header: _, probe, pad: _, total } = read(bytes)?;
            Body::Misses { probe: ProbeId(probe), total }
        }
        wire::Attach::KIND => {
            let wire::Attach { header: _, probe, backend, failed, pad: _ } = read(bytes)?;
            let backend = match backend {
                wire::backend::NONE => None,
                wire::backend::FENTRY => Some(Backend::Fentry),
                wire::backend::RAW_TRACEPOINT => Some(Backend::RawTracepoint),
                wire::backend::KPROBE => Some(Backend::Kprobe),
                wire::backend::WATCHPOINT => Some(Backend::Watchpoint),
                _ => return Err(Malformed::Value),
            };
            Body::Attach { probe: ProbeId(probe), backend, failed: failed != 0 }
        }
        wire::Slice::KIND => {
            let wire::Slice { header: _, evicted } = read(bytes)?;
            Body::Slice { evicted }
        }
        wire::Detach::KIND => {
            let wire::Detach { header: _, probe, pad: _ } = read(bytes)?;
            Body::Detach { probe: ProbeId(probe) }
        }
        _ => return Err(Malformed::Kind),
    })
}

/// The kernel's error pointers are the last 4095 addresses (`IS_ERR_VALUE`, include/linux/err.h).
fn is_err_ptr(address: u64) -> bool {
    const ERRNO_MAX: u64 = 4095;
    address >= u64::MAX - (ERRNO_MAX - 1)
}
