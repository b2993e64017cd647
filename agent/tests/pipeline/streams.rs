//! A HOST begins a new stream: numbers and totals begin anew, sums go on, nothing of the old one is
//! taken for part of the new.

use endiod::{
    event::{Nanos, ProbeId, ProgramBound},
    metrics::Metrics,
    pipeline::{Pipeline, names},
    report::Summary,
    source::own::Opening,
};

use crate::stream::Stream;

const OPENING: Opening = Opening { hash_key: 7, io_ends_max: 4, stuck_after: Nanos(5_000_000_000) };

fn summary(streams: &[Stream]) -> (Summary, String) {
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::new(metrics.clone());
    for record in streams.iter().flat_map(|stream| &stream.records) {
        pipeline.feed(record);
    }
    pipeline.finish();
    (pipeline.summary(), metrics.encode())
}

/// A stream of that many lives and dropped records.
fn stream(lives: u64, dropped: u64) -> Stream {
    let mut stream = Stream::new(0);
    (0..lives).for_each(|life| stream.life(0xa000 + 0x40 * life));
    stream.own(|own, deliver| own.misses(ProbeId(0), lives, deliver));
    stream.left_out(ProgramBound::OpenFsyncs, 2 * lives);
    stream.tick(dropped);
    stream
}

#[test]
fn numbers_begin_anew_and_sums_go_on() {
    let (summary, scrape) = summary(&[stream(10, 0), stream(7, 4), stream(0, 0), stream(5, 1)]);
    let io_ends = &summary.io_ends;
    assert_eq!((io_ends.born, io_ends.released, io_ends.complete), (22, 22, 22));
    let [cpu] = summary.stream.cpus[..] else { panic!("{:?}", summary.stream.cpus) };
    assert_eq!((cpu.emitted, cpu.seen, cpu.dropped, cpu.missing), (71, 66, 5, 5));
    assert_eq!(cpu.duplicates, 0);
    assert_eq!(summary.missed(), 22);
    assert_eq!(summary.left_out(ProgramBound::OpenFsyncs), 44);
    let left_out = "endiod_events_lost_total{reason=\"open_fsyncs\",stage=\"program\"} 44";
    assert!(scrape.contains(left_out), "{scrape}");
    let full = "endiod_events_lost_total{reason=\"full\",stage=\"ring\"} 5";
    assert!(scrape.contains(full), "{scrape}");
}

#[test]
fn what_was_open_is_lost_and_its_address_means_nothing_in_the_next() {
    let mut first = stream(0, 0);
    first.birth(0xa000);
    first.birth(0xb000);
    let mut second = Stream::new(0);
    second.life(0xa000);
    // Of the one at 0xb000 nobody saw a birth in this stream.
    second.release(0xb000);
    second.tick(0);
    let (summary, scrape) = summary(&[first, second]);
    let io_ends = &summary.io_ends;
    assert_eq!((io_ends.born, io_ends.released, io_ends.lost, io_ends.in_flight), (3, 1, 2, 0));
    assert_eq!(io_ends.orphans.values().sum::<u64>(), 1, "{:?}", io_ends.orphans);
    assert!(summary.findings.is_empty());
    let started: f64 = value(&scrape, "endiod_io_end_started_total");
    assert_eq!(started - value(&scrape, "endiod_io_end_completed_total"), 0.0);
}

#[test]
fn a_crime_that_no_tick_closed_is_not_confirmed_by_the_next_stream() {
    let mut first = Stream::new(0);
    first.life(0xa000);
    first.release(0xa000);
    let mut second = Stream::new(0);
    second.tick(0);
    let (summary, _) = summary(&[first, second]);
    assert!(summary.findings.is_empty(), "{:?}", summary.findings);
    let (reason, count) = summary.suppressed.first_key_value().unwrap();
    assert_eq!((reason.as_str(), *count), ("release_twice: stream_end", 1));
}

#[test]
fn a_stream_without_probes_shows_none_attached() {
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::new(metrics.clone());
    stream(1, 0).records.iter().for_each(|record| pipeline.feed(record));
    assert!(value(&metrics.encode(), "endiod_probe_attached") > 20.0);
    let mut own = endiod::source::own::OwnRecords::default();
    own.begin(1, "6.1.0", OPENING, &mut |record| pipeline.feed(record));
    own.tick(&mut |record| pipeline.feed(record));
    assert_eq!(value(&metrics.encode(), "endiod_probe_attached"), 0.0);
}

/// Sum of all series of a metric.
fn value(scrape: &str, metric: &str) -> f64 {
    let series = scrape.lines().filter_map(|line| line.strip_prefix(metric));
    let values = series.filter(|rest| rest.starts_with(['{', ' ']));
    values.map(|rest| rest.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}
