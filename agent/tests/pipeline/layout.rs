//! Streams of a module without BTF: the layout of its io_ends is assumed, and accuses nobody before one
//! was seen to fit, nor once one did not.

use endiod::{
    detect::Rule,
    event::Backend,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    recorder::records,
    report::{LayoutLooks, Summary},
};
use endiod_wire::wire::{config_key, valid::LAYOUT_FITS, valid::LAYOUT_MISFIT};

use crate::stream::Stream;

/// What is on a stream of raw tracepoints whose layout is assumed.
#[derive(Clone, Copy)]
enum Said {
    /// A first bio and what it shows.
    Begin(u64, u32),
    /// A part of that io_end's bio is done while its count is that.
    Done(u64, u32),
    Release(u64),
    Tick,
}

use Said::{Begin, Done, Release, Tick};

/// A count that no io_end with a bio has; in bytes of another meaning it may well stand.
const CRIME: u32 = 0;

fn stream(said: &[Said]) -> Stream {
    let assumed = [(config_key::LAYOUT_ASSUMED, 1)];
    let mut stream = Stream::begin(Backend::RawTracepoint, 1 << 20, &assumed);
    for it in said {
        match *it {
            Begin(io_end, sign) => stream.raw_begin(io_end, sign),
            Done(io_end, count) => stream.part_done(io_end, 0, count),
            Release(io_end) => stream.release(io_end),
            Tick => stream.tick(0),
        }
    }
    stream
}

fn feed<'a>(records: impl Iterator<Item = &'a [u8]>) -> (Summary, String) {
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::new(metrics.clone());
    records.for_each(|record| pipeline.feed(record));
    pipeline.finish();
    (pipeline.summary(), metrics.encode())
}

/// What comes of a stream, which must be the same from a slice of it.
fn told(said: &[Said]) -> (Summary, String) {
    let stream = stream(said);
    let told = feed(stream.records.iter().map(Vec::as_slice));
    let (of_slice, _) = feed(records(&stream.recorder.slice()));
    assert_eq!(of_slice.findings, told.0.findings, "the slice of it");
    told
}

/// Rows of the scrape that say that a rule waits for the layout, and that one is armed.
fn waiting_and_armed(scrape: &str) -> (usize, usize) {
    let count = |row: &str, label: &str| {
        scrape.lines().filter(|line| line.starts_with(row) && line.contains(label)).count()
    };
    let armed = count("endiod_violations_total{", "confidence=\"certain\",device=\"vda\"");
    (count("endiod_detector_degraded{", "reason=\"layout\""), armed)
}

#[test]
fn before_one_fits_nobody_is_accused_and_everything_is_counted() {
    let (summary, scrape) =
        told(&[Begin(0xa000, 0), Done(0xa000, CRIME), Done(0xa000, CRIME), Tick]);
    assert!(summary.findings.is_empty() && summary.suppressed.is_empty(), "{summary}");
    assert_eq!((summary.io_ends.born, summary.io_ends.bios_done), (1, 1));
    assert_eq!(summary.layout, Some(LayoutLooks { believed: false, fits: 0, misfits: 0 }));
    assert_eq!(waiting_and_armed(&scrape), (Rule::ALL.len(), 0), "{scrape}");
    assert!(summary.to_string().contains("not believed: no rule is armed"), "{summary}");
}

#[test]
fn once_one_fits_the_rules_watch_and_what_was_before_stays_unsaid() {
    let before = [Begin(0xa000, 0), Done(0xa000, CRIME), Tick];
    let after = [Begin(0xb000, LAYOUT_FITS), Done(0xb000, CRIME), Tick];
    let (summary, scrape) = told(&[before, after].concat());
    let [finding] = &summary.findings[..] else { panic!("{summary}") };
    assert_eq!(finding["rule"], "bad_reference");
    assert_eq!(summary.layout, Some(LayoutLooks { believed: true, fits: 1, misfits: 0 }));
    // Raw tracepoints serve a few.
    assert_eq!(waiting_and_armed(&scrape), (0, 4), "{scrape}");
}

#[test]
fn a_misfit_ends_it_for_good_and_takes_what_is_held_with_it() {
    let (summary, scrape) = told(&[
        Begin(0xa000, LAYOUT_FITS),
        Done(0xa000, CRIME),
        Begin(0xb000, LAYOUT_MISFIT),
        Begin(0xc000, LAYOUT_FITS),
        Done(0xc000, CRIME),
        Tick,
    ]);
    assert!(summary.findings.is_empty(), "{summary}");
    let suppressed: Vec<_> = summary.suppressed.iter().collect();
    assert_eq!(suppressed, [(&"bad_reference: layout".to_owned(), &1)]);
    assert_eq!(summary.layout, Some(LayoutLooks { believed: false, fits: 2, misfits: 1 }));
    assert_eq!(waiting_and_armed(&scrape).0, Rule::ALL.len(), "{scrape}");
    assert_eq!((summary.io_ends.born, summary.io_ends.bios_attached), (3, 3));
}

#[test]
fn whatever_the_bytes_a_layout_that_never_fits_accuses_nobody() {
    let mut said = Vec::new();
    for (at, count) in (0_u64..).zip([0, 1, 2, 0x4000_0001, 0xdead_beef, u32::MAX]) {
        let io_end = 0xa000 + 0x40 * at;
        let sign = if at % 2 == 0 { 0 } else { LAYOUT_MISFIT };
        said.extend([Begin(io_end, sign), Done(io_end, count), Done(io_end, count)]);
        said.extend([Release(io_end), Done(io_end, count), Tick]);
    }
    let (summary, _) = told(&said);
    assert!(summary.findings.is_empty() && summary.suppressed.is_empty(), "{summary}");
    assert_eq!((summary.io_ends.born, summary.io_ends.released), (6, 6));
    assert_eq!(summary.io_ends.bios_done, 6);
    // The same bytes on a stream whose layout is described, so that this proves something.
    let mut described = Stream::by(Backend::RawTracepoint, 0);
    described.raw_begin(0xa000, 0);
    described.part_done(0xa000, 0, CRIME);
    described.tick(0);
    let (summary, _) = feed(described.records.iter().map(Vec::as_slice));
    assert_eq!((summary.findings.len(), summary.layout), (1, None));
}
