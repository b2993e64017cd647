//! The flight recorder: what it kept replays to the finding that made it be written.

#![expect(clippy::unwrap_used, reason = "in a test a failure is a message, not an outage")]

use endiod::{
    event::{Cpu, DevId, ProbeId},
    metrics::Metrics,
    pipeline::{Pipeline, names},
    probes::PROBES,
    recorder::Recorder,
    source::own::OwnRecords,
};
use endiod_wire::wire::{self, Header, IoEndImage, Record, bytes_of, valid};

const INODE: u64 = 0x1000;

/// Writes a stream as programs and agent would, to several readers.
struct Stream {
    own: OwnRecords,
    seq: u64,
    readers: Vec<Vec<u8>>,
    recorder: Recorder,
}

impl Stream {
    fn new(recorder_bytes: usize) -> Self {
        let mut stream = Stream {
            own: OwnRecords::default(),
            seq: 0,
            readers: Vec::new(),
            recorder: Recorder::new(recorder_bytes),
        };
        stream.own(|own, deliver| own.host(1, "6.1.0", 7, deliver));
        stream.own(|own, deliver| own.device(DevId(1), "vda", deliver));
        for probe in (0..PROBES.len()).map(|probe| ProbeId(u32::try_from(probe).unwrap())) {
            stream.own(|own, deliver| own.attach(probe, wire::backend::FENTRY, false, deliver));
        }
        stream
    }

    fn push(&mut self, record: &[u8]) {
        self.recorder.push(record);
        self.readers.push(record.to_vec());
    }

    fn own(&mut self, write: impl FnOnce(&mut OwnRecords, &mut dyn FnMut(&[u8]))) {
        let mut written = Vec::new();
        write(&mut self.own, &mut |record| written.push(record.to_vec()));
        for record in written {
            self.push(&record);
        }
    }

    fn event<R: Record>(&mut self, body: impl FnOnce(Header) -> R) {
        self.seq += 1;
        let header = Header {
            kind: R::KIND,
            len: u16::try_from(size_of::<R>()).unwrap(),
            cpu: 0,
            lane: 0,
            context: wire::context::TASK,
            seq: self.seq,
            time_ns: endiod::clock::monotonic().0,
            tid: 11,
            tgid: 10,
        };
        let record = body(header);
        self.push(bytes_of(&record));
    }

    /// An io_end without bios: born, put once, released.
    fn life(&mut self, io_end: u64) {
        let (dev, valid) = (1, valid::INODE);
        self.event(|header| wire::IoEndBirth { header, io_end, inode: INODE, ino: 5, dev, valid });
        let image = image(io_end, 1);
        let valid = valid::IMAGE;
        self.event(|header| wire::PutDefer { header, io_end, valid, pad: 0, image });
        self.release(io_end);
    }

    fn release(&mut self, io_end: u64) {
        let (valid, image) = (valid::IMAGE, image(io_end, 0));
        self.event(|header| wire::Release { header, io_end, valid, pad: 0, image });
    }

    fn tick(&mut self, dropped: u64) {
        let emitted = self.seq + dropped;
        self.own(|own, deliver| own.loss(Cpu(0), emitted, dropped, deliver));
        self.own(|own, deliver| own.tick(deliver));
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

/// What a pipeline finds in records.
fn findings<'a>(records: impl Iterator<Item = &'a [u8]>) -> Vec<serde_json::Value> {
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    for record in records {
        pipeline.feed(record);
    }
    pipeline.finish();
    pipeline.findings().iter().map(|finding| serde_json::to_value(finding).unwrap()).collect()
}

/// The records of a slice, one by one.
fn records(slice: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = slice.get(at..).filter(|rest| !rest.is_empty())?;
        let len = usize::from(endiod::decode::header(rest).unwrap().len);
        at += len;
        Some(&rest[..len])
    })
}

#[test]
fn a_slice_replays_to_the_finding_of_the_whole_stream() {
    let mut stream = Stream::new(16 << 10);
    // Losses long before the crime, and far more lives than the recorder holds.
    for second in 0..50 {
        for life in 0..20 {
            stream.life(0xa000 + 0x40 * life);
        }
        stream.tick(second / 10);
    }
    stream.life(0xf000);
    stream.release(0xf000);
    stream.tick(4);
    let slice = stream.recorder.slice();
    assert!(stream.recorder.evicted() > 1000);
    let whole = findings(stream.readers.iter().map(Vec::as_slice));
    let rules: Vec<_> = whole.iter().map(|finding| finding["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["release_twice"]);
    assert_eq!(whole[0]["device_name"], "vda");
    let mut replayed = findings(records(&slice));
    // A slice knows that there were losses before it, and no longer when: at the latest when their
    // total was read for the last time.
    let last_loss = |finding: &mut serde_json::Value| finding["loss"]["last_ns"].take().as_u64();
    let mut whole = whole;
    let (known, bound) = (last_loss(&mut whole[0]), last_loss(&mut replayed[0]));
    assert!(known <= bound && bound < whole[0]["loss"]["none_from_ns"].as_u64());
    assert_eq!(replayed, whole);
}

#[test]
fn a_slice_that_lacks_the_birth_accuses_nobody() {
    let mut stream = Stream::new(4 << 10);
    stream.life(0xf000);
    for life in 0..100 {
        stream.life(0xa000 + 0x40 * life);
    }
    stream.release(0xf000);
    stream.tick(0);
    assert_eq!(findings(stream.readers.iter().map(Vec::as_slice)).len(), 1);
    assert_eq!(findings(records(&stream.recorder.slice())).len(), 0);
}
