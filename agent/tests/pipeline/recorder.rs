//! The flight recorder: what it kept replays to the finding that made it be written.

use endiod::{
    event::{Backend, ProgramBound},
    metrics::Metrics,
    pipeline::{Pipeline, names},
    recorder::records,
};

use crate::stream::Stream;

/// What a pipeline finds in records.
fn findings<'a>(records: impl Iterator<Item = &'a [u8]>) -> Vec<serde_json::Value> {
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    for record in records {
        pipeline.feed(record);
    }
    pipeline.finish();
    pipeline.findings().iter().map(|finding| serde_json::to_value(finding).unwrap()).collect()
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
    let whole = findings(stream.records.iter().map(Vec::as_slice));
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

/// What the programs left out before a slice began is dated there: it silences nothing inside.
#[test]
fn a_slice_knows_what_was_left_out_before_it() {
    let rules = |left_out_after: u64| {
        let mut stream = Stream::by(Backend::RawTracepoint, 8 << 10);
        stream.left_out(ProgramBound::RequestWalk, 7);
        stream.tick(0);
        for _ in 0..50 {
            stream.raw_life(0xa000);
            stream.tick(0);
        }
        stream.raw_begin(0xf000, 0);
        stream.part_done(0xf000, 0, 0);
        stream.left_out(ProgramBound::RequestWalk, left_out_after);
        stream.tick(0);
        assert!(stream.recorder.evicted() > 100);
        let slice = stream.recorder.slice();
        let (whole, sliced) =
            (findings(stream.records.iter().map(Vec::as_slice)), findings(records(&slice)));
        [whole, sliced].map(|found| -> Vec<String> {
            found.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned()).collect()
        })
    };
    assert_eq!(rules(7), [["bad_reference"], ["bad_reference"]]);
    assert_eq!(rules(8), [Vec::<String>::new(), Vec::new()]);
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
    assert_eq!(findings(stream.records.iter().map(Vec::as_slice)).len(), 1);
    assert_eq!(findings(records(&stream.recorder.slice())).len(), 0);
}
