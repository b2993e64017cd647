//! A small stream as wire bytes: announcements, healthy lives of io_ends, and one crime.

use endiod::event::Backend;
use endiod::probes::{PROBES, Probe};
use endiod_wire::wire::{
    self, Header, IoEndImage, Record, backend, bytes_of, config_key, context, valid,
};

/// Nanoseconds between two TICKs.
pub(crate) const SECOND: u64 = 1_000_000_000;
const INODE: u64 = 0x70;
const DEV: u32 = 254 << 20 | 1;

/// Records in their order.
#[derive(Default)]
pub(crate) struct Stream {
    pub(crate) records: Vec<Vec<u8>>,
    /// Last numbers: of the agent, of two CPUs.
    seq: [u64; 3],
    ticks: u64,
}

/// Who writes a record: a CPU and its current task.
#[derive(Clone, Copy)]
enum By {
    Agent,
    Task(u16, u32),
    SoftIrq(u16, u32),
}

impl Stream {
    /// Announcements, then `seconds` with so many lives in each; the crime is in the last one.
    pub(crate) fn with(seconds: u64, lives: u64, crime: bool) -> Stream {
        let mut stream = Stream::default();
        stream.announce();
        for second in 1..=seconds {
            for life in 0..lives {
                let at = second * SECOND + life * 1000;
                stream.life(at, 0x1000 * (life % 5 + 1), crime && second == seconds && life == 0);
            }
            stream.tick((second + 1) * SECOND - 10);
        }
        stream
    }

    fn announce(&mut self) {
        let mut release = [0; 64];
        release[..10].copy_from_slice(b"6.1.0-test");
        let header = self.header::<wire::Host>(10, By::Agent);
        self.push(&wire::Host { header, version: 1, pad: 0, cpus: 2, release, hash_key: 7 });
        let header = self.header::<wire::Config>(11, By::Agent);
        self.push(&wire::Config { header, key: config_key::IO_ENDS_MAX, pad: 0, value: 64 });
        let mut name = [0; 64];
        name[..12].copy_from_slice(b"ext4_end_bio");
        let header = self.header::<wire::Symbol>(12, By::Agent);
        self.push(&wire::Symbol { header, address: 0xffff, name });
        let fentry = |(_, row): &(u32, &Probe)| {
            row.hook.backend() == Backend::Fentry && !row.is_of_fixture()
        };
        for (probe, row) in (0..).zip(PROBES).filter(fentry) {
            let header = self.header::<wire::Attach>(13, By::Agent);
            let absent = row.program == "ext4_end_io_end";
            let failed = u8::from(row.program == "ext4_fc_commit");
            let none = absent || failed != 0;
            let backend = if none { backend::NONE } else { backend::FENTRY };
            self.push(&wire::Attach { header, probe, backend, failed, pad: [0; 2] });
        }
        let mut name = [0; 32];
        name[..3].copy_from_slice(b"vda");
        let header = self.header::<wire::Device>(14, By::Agent);
        self.push(&wire::Device { header, dev: DEV, pad: 0, name });
    }

    /// A deferred conversion as 6.1 does it; the crime is a second task that enters it.
    fn life(&mut self, at: u64, io_end: u64, crime: bool) {
        let (submitter, worker) = (By::Task(0, 10), By::Task(1, 50));
        let header = self.header::<wire::IoEndBirth>(at, submitter);
        let (inode, ino, valid) = (INODE, 7, valid::INODE);
        self.push(&wire::IoEndBirth { header, io_end, inode, ino, dev: DEV, valid });
        let header = self.header::<wire::RangeAdded>(at + 5, submitter);
        self.push(&wire::RangeAdded { header, io_end, vec: 0xbad_0000 });
        let header = self.header::<wire::BioAttach>(at + 10, submitter);
        self.push(&wire::BioAttach { header, io_end, bio: 0xb10, sector: 8, bytes: 4096, opf: 1 });
        let header = self.header::<wire::Put>(at + 20, submitter);
        let (valid, image) = image(io_end, 2);
        self.push(&wire::Put { header, io_end, valid, pad: 0, image });
        let header = self.header::<wire::BioEnd>(at + 200, By::SoftIrq(1, 99));
        let (valid, image_1) = self::image(io_end, 1);
        self.push(&wire::BioEnd { header, io_end, bio: 0xb10, status: 0, valid, image: image_1 });
        let header = self.header::<wire::PutDefer>(at + 201, By::SoftIrq(1, 99));
        self.push(&wire::PutDefer { header, io_end, valid, pad: 0, image: image_1 });
        let header = self.header::<wire::WorkerBegin>(at + 300, worker);
        self.push(&wire::WorkerBegin { header, inode: INODE });
        self.convert(at + 310, io_end, worker);
        if crime {
            self.convert(at + 320, io_end, By::Task(0, 60));
        }
        let header = self.header::<wire::ConvertEnd>(at + 390, worker);
        self.push(&wire::ConvertEnd { header, io_end, ret: 0 });
        let header = self.header::<wire::Release>(at + 400, worker);
        let (valid, mut image) = self::image(io_end, 0);
        (image.flag, image.vec_next) = (0, io_end + 48);
        self.push(&wire::Release { header, io_end, valid, pad: 0, image });
        let header = self.header::<wire::WorkerEnd>(at + 410, worker);
        self.push(&wire::WorkerEnd { header, inode: INODE });
    }

    fn convert(&mut self, at: u64, io_end: u64, by: By) {
        let header = self.header::<wire::ConvertBegin>(at, by);
        let (valid, image) = image(io_end, 0);
        self.push(&wire::ConvertBegin { header, io_end, valid, pad: 0, image });
    }

    /// Totals, then the end of an epoch.
    fn tick(&mut self, at: u64) {
        for cpu in [0_u16, 1] {
            let header = self.header::<wire::Loss>(at, By::Agent);
            let emitted = self.seq[usize::from(cpu) + 1];
            let of_cpu = u32::from(cpu);
            self.push(&wire::Loss { header, of_cpu, pad: 0, emitted, dropped: 0 });
        }
        let header = self.header::<wire::Misses>(at, By::Agent);
        self.push(&wire::Misses { header, probe: 0, pad: 0, total: 0 });
        self.ticks += 1;
        let header = self.header::<wire::Tick>(at + 1, By::Agent);
        self.push(&wire::Tick { header, ordinal: self.ticks });
    }

    fn header<R: Record>(&mut self, time_ns: u64, by: By) -> Header {
        let (cpu, tid, context) = match by {
            By::Agent => (wire::AGENT_CPU, 1, context::TASK),
            By::Task(cpu, tid) => (cpu, tid, context::TASK),
            By::SoftIrq(cpu, tid) => (cpu, tid, context::SOFTIRQ),
        };
        let row = if cpu == wire::AGENT_CPU { 0 } else { usize::from(cpu) + 1 };
        self.seq[row] += 1;
        let len = u16::try_from(size_of::<R>()).expect("records are short");
        Header {
            kind: R::KIND,
            len,
            cpu,
            lane: 0,
            context,
            seq: self.seq[row],
            time_ns,
            tid,
            tgid: tid,
        }
    }

    fn push<R: Record>(&mut self, record: &R) {
        self.records.push(bytes_of(record).to_vec());
    }
}

/// An io_end of that many references, with a range.
fn image(io_end: u64, count: u32) -> (u32, IoEndImage) {
    let image = IoEndImage {
        list_next: io_end,
        list_prev: io_end,
        flag: 1,
        count,
        vec_next: 0xbad_1000,
        ..IoEndImage::default()
    };
    (valid::IMAGE, image)
}
