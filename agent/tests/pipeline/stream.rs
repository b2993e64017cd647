//! Streams of wire bytes, written as programs and agent would.

use endiod::{
    event::{Backend, Cpu, DevId, LeftOut, ProbeId, ProgramBound},
    probes::{PROBES, Probe},
    recorder::Recorder,
    source::own::OwnRecords,
};
use endiod_wire::wire::{self, Header, IoEndImage, Record, bytes_of, valid};

const INODE: u64 = 0x1000;
/// What an io_end's bio lies behind it.
const BIO: u64 = 0xb10;

/// Writes a stream as programs and agent would, to several readers.
pub(crate) struct Stream {
    own: OwnRecords,
    seq: u64,
    /// Every record, one by one.
    pub(crate) records: Vec<Vec<u8>>,
    /// A recorder that was told of each.
    pub(crate) recorder: Recorder,
    /// Time of the next event, nanoseconds.
    pub(crate) now_ns: u64,
    /// Where the next io_end, fsync or direct write is.
    pub(crate) dev: u32,
    pub(crate) ino: u64,
}

impl Stream {
    /// With every probe of fentry attached.
    pub(crate) fn new(recorder_bytes: usize) -> Self {
        Self::by(Backend::Fentry, recorder_bytes)
    }

    /// With every probe of a back end attached.
    pub(crate) fn by(backend: Backend, recorder_bytes: usize) -> Self {
        Self::on("6.1.0", backend, recorder_bytes, |_| true)
    }

    /// The same, with bounds of `wire::config_key`.
    pub(crate) fn begin(backend: Backend, recorder_bytes: usize, config: &[(u32, u64)]) -> Self {
        Self::with("6.1.0", backend, recorder_bytes, config, |_| true)
    }

    /// Of that kernel, with those probes of a back end attached that are `told`; of the others there is no
    /// record.
    pub(crate) fn on(
        release: &str,
        backend: Backend,
        recorder_bytes: usize,
        told: impl Fn(&Probe) -> bool,
    ) -> Self {
        Self::with(release, backend, recorder_bytes, &[], told)
    }

    fn with(
        release: &str,
        backend: Backend,
        recorder_bytes: usize,
        config: &[(u32, u64)],
        told: impl Fn(&Probe) -> bool,
    ) -> Self {
        let code = match backend {
            Backend::Fentry => wire::backend::FENTRY,
            Backend::RawTracepoint => wire::backend::RAW_TRACEPOINT,
            Backend::Kprobe => wire::backend::KPROBE,
            Backend::Watchpoint => wire::backend::WATCHPOINT,
        };
        let mut stream = Stream {
            own: OwnRecords::default(),
            seq: 0,
            records: Vec::new(),
            recorder: Recorder::new(recorder_bytes),
            now_ns: endiod::clock::monotonic().0,
            dev: 1,
            ino: 5,
        };
        stream.own(|own, deliver| own.host(1, release, 7, deliver));
        for (key, value) in config {
            stream.own(|own, deliver| own.config(*key, *value, deliver));
        }
        stream.own(|own, deliver| own.device(DevId(1), "vda", deliver));
        for (probe, row) in (0..).map(ProbeId).zip(PROBES) {
            if row.hook.backend() == backend && told(row) {
                stream.own(|own, deliver| own.attach(probe, code, false, deliver));
            }
        }
        stream
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        self.recorder.push(record);
        self.records.push(record.to_vec());
    }

    pub(crate) fn own(&mut self, write: impl FnOnce(&mut OwnRecords, &mut dyn FnMut(&[u8]))) {
        let mut written = Vec::new();
        write(&mut self.own, &mut |record| written.push(record.to_vec()));
        for record in written {
            self.push(&record);
        }
    }

    fn event<R: Record>(&mut self, body: impl FnOnce(Header) -> R) {
        self.seq += 1;
        self.now_ns = self.now_ns.max(endiod::clock::monotonic().0) + 1;
        let header = Header {
            kind: R::KIND,
            len: u16::try_from(size_of::<R>()).unwrap(),
            cpu: 0,
            lane: 0,
            context: wire::context::TASK,
            seq: self.seq,
            time_ns: self.now_ns,
            tid: 11,
            tgid: 10,
        };
        let record = body(header);
        self.push(bytes_of(&record));
    }

    /// An io_end is born.
    pub(crate) fn birth(&mut self, io_end: u64) {
        let (dev, ino, valid) = (self.dev, self.ino, valid::INODE);
        self.event(|header| wire::IoEndBirth { header, io_end, inode: INODE, ino, dev, valid });
    }

    /// An fsync of the whole file, which fails.
    pub(crate) fn fsync(&mut self) {
        let (dev, ino, end) = (self.dev, self.ino, i64::MAX);
        let (inode, start, datasync, valid, phases_followed) = (INODE, 0, 0, valid::INODE, 1);
        self.event(|header| wire::FsyncBegin {
            header,
            inode,
            ino,
            start,
            end,
            dev,
            datasync,
            valid,
            phases_followed,
        });
        self.event(|header| wire::FsyncEnd { header, ret: -5 });
    }

    /// A direct write, which completes before it returns.
    pub(crate) fn direct_write(&mut self, iocb: u64) {
        let (dev, ino, inode, valid) = (self.dev, self.ino, INODE, valid::INODE);
        let (pos, bytes) = (0, 4096);
        self.event(|header| wire::DirectIoBegin {
            header,
            iocb,
            inode,
            ino,
            pos,
            bytes,
            dev,
            valid,
        });
        let (bytes, error, flags, ret) = (4096, 0, 0, 4096);
        self.event(|header| wire::DirectIoCompleteBegin { header, iocb, bytes, error, flags });
        self.event(|header| wire::DirectIoCompleteEnd { header, iocb, ret });
        self.event(|header| wire::DirectIoReturn { header, iocb, ret });
    }

    /// An io_end without bios: born, put once, released.
    pub(crate) fn life(&mut self, io_end: u64) {
        self.birth(io_end);
        let image = image(io_end, 1);
        let valid = valid::IMAGE;
        self.event(|header| wire::PutDefer { header, io_end, valid, pad: 0, image });
        self.release(io_end);
    }

    /// An io_end with one bio, which is seen attached or not: all by one task.
    pub(crate) fn life_of_a_bio(&mut self, io_end: u64, attached: bool) {
        let (bio, sector, bytes, opf) = (BIO, 0, 4096, 1);
        let (status, valid, pad) = (0, valid::IMAGE, 0);
        self.birth(io_end);
        if attached {
            self.event(|header| wire::BioAttach { header, io_end, bio, sector, bytes, opf });
        }
        let two = image(io_end, 2);
        self.event(|header| wire::BioEnd { header, io_end, bio, status, valid, image: two });
        for count in [2, 1] {
            let image = image(io_end, count);
            self.event(|header| wire::PutDefer { header, io_end, valid, pad, image });
        }
        self.release(io_end);
    }

    /// An io_end is born and its first bio submitted, as raw tracepoints see it; `sign` are the bits of
    /// its layout.
    pub(crate) fn raw_begin(&mut self, io_end: u64, sign: u32) {
        let (inode, ino, dev, bio) = (INODE, 5, 1, BIO + io_end);
        self.event(|header| wire::IoEndBirth {
            header,
            io_end,
            inode: 0,
            ino: 0,
            dev: 0,
            valid: 0,
        });
        let valid = valid::INODE | sign;
        self.event(|header| wire::IoEndInode { header, io_end, inode, ino, dev, valid });
        let (sector, opf, bytes) = (0, 1, 8192);
        self.event(|header| wire::BioAttach { header, io_end, bio, sector, bytes, opf });
    }

    /// The device is done with half of that bio, while the io_end counts so many references.
    pub(crate) fn part_done(&mut self, io_end: u64, status: u32, count: u32) {
        let (bio, bytes, whole) = (BIO + io_end, 4096, 0);
        let (valid, image) = (valid::IMAGE, image(io_end, count));
        self.event(|header| wire::BioDone {
            header,
            io_end,
            bio,
            bytes,
            whole,
            status,
            valid,
            image,
        });
    }

    /// An io_end with one bio in two parts, as raw tracepoints see it.
    pub(crate) fn raw_life(&mut self, io_end: u64) {
        let inode = INODE;
        self.raw_begin(io_end, 0);
        for status in [0, 10] {
            self.part_done(io_end, status, 1);
        }
        self.event(|header| wire::WorkQueued { header, inode });
        self.event(|header| wire::WorkerBegin { header, inode });
        let (valid, listed) = (valid::IMAGE, image(io_end, 0));
        self.event(|header| wire::Listed { header, io_end, inode, valid, pad: 0, image: listed });
        self.release(io_end);
        self.event(|header| wire::WorkerEnd { header, inode });
    }

    pub(crate) fn release(&mut self, io_end: u64) {
        let (valid, image) = (valid::IMAGE, image(io_end, 0));
        self.event(|header| wire::Release { header, io_end, valid, pad: 0, image });
    }

    pub(crate) fn tick(&mut self, dropped: u64) {
        let emitted = self.seq + dropped;
        self.own(|own, deliver| own.loss(Cpu(0), emitted, dropped, deliver));
        self.own(|own, deliver| own.tick(deliver));
    }
}

impl Stream {
    /// So much was left out at one of the programs' bounds, in all.
    pub(crate) fn left_out(&mut self, bound: ProgramBound, total: u64) {
        let mut left_out = LeftOut::default();
        left_out.0[bound as usize] = total;
        self.own(|own, deliver| own.program_loss(left_out, deliver));
    }

    /// The same, at a time of the stream's own.
    pub(crate) fn left_out_at(&mut self, bound: ProgramBound, total: u64, time_ns: u64) {
        self.left_out(bound, total);
        let record = self.records.last_mut().expect("it was just written");
        record[16..24].copy_from_slice(&time_ns.to_ne_bytes());
    }

    /// A record of the agent's of a kind that no version has had yet.
    pub(crate) fn of_a_later_version(&mut self) {
        let mut record = Vec::new();
        OwnRecords::default().tick(&mut |tick| record.extend(tick));
        record[..2].copy_from_slice(&127_u16.to_ne_bytes());
        self.push(&record);
    }
}

/// A TICK's kind cannot be had from `OwnRecords` at a time of our choice.
impl Stream {
    /// A TICK at the stream's own time.
    pub(crate) fn tick_at_now(&mut self) {
        let header = Header {
            kind: wire::Tick::KIND,
            len: u16::try_from(size_of::<wire::Tick>()).unwrap(),
            cpu: wire::AGENT_CPU,
            lane: 0,
            context: wire::context::TASK,
            seq: 1_000_000,
            time_ns: self.now_ns,
            tid: 0,
            tgid: 1,
        };
        self.push(bytes_of(&wire::Tick { header, ordinal: 1_000_000 }));
    }
}

/// An io_end on no list.
fn image(io_end: u64, count: u32) -> IoEndImage {
    let vec = io_end + wire::IO_END_LIST_VEC_OFFSET;
    IoEndImage {
        list_next: io_end,
        list_prev: io_end,
        inode: INODE,
        count,
        vec_next: vec,
        vec_prev: vec,
        ..IoEndImage::default()
    }
}
