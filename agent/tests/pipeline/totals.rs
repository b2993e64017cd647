//! What goes in is somewhere in the totals: seen, lost, repeated, malformed, or forgotten as a ghost.

use endiod::{
    event::{Backend, ProgramBound},
    limits::GHOST_AGE,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    report::{IoEnds, Summary},
};

use crate::stream::Stream;

fn summary(stream: &Stream) -> (Summary, String) {
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::new(metrics.clone());
    for record in &stream.records {
        pipeline.feed(record);
    }
    pipeline.finish();
    (pipeline.summary(), metrics.encode())
}

/// The value of a series in a scrape.
fn value(scrape: &str, series: &str) -> f64 {
    let line = scrape.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {scrape}")).trim().parse().unwrap()
}

#[test]
fn records_are_seen_lost_repeated_or_malformed_and_each_is_counted() {
    let mut stream = Stream::new(0);
    for life in 0..10 {
        stream.life(0xa000 + 0x40 * life);
    }
    stream.tick(0);
    let lost = stream.records.len();
    stream.life(0xb000);
    stream.life(0xc000);
    // The first life's three records are lost, one of the second comes twice, one is cut short.
    stream.records.drain(lost..lost + 3);
    let repeated = stream.records[lost].clone();
    stream.records.push(repeated);
    let cut = stream.records[lost + 1][..40].to_vec();
    stream.records.push(cut);
    stream.tick(0);
    stream.tick(0);
    let (summary, scrape) = summary(&stream);
    assert_eq!((summary.io_ends.born, summary.io_ends.released), (11, 11));
    assert_eq!(summary.stream.malformed, 1);
    let [cpu] = summary.stream.cpus[..] else { panic!("{:?}", summary.stream.cpus) };
    assert_eq!((cpu.emitted, cpu.seen, cpu.missing, cpu.duplicates), (36, 33, 3, 1));
    let lost = |stage, reason| {
        value(
            &scrape,
            &format!("endiod_events_lost_total{{reason=\"{reason}\",stage=\"{stage}\"}}"),
        )
    };
    assert_eq!((lost("sequence", "repeated"), lost("decode", "short")), (1.0, 1.0));
}

#[test]
fn what_a_loss_left_open_is_forgotten_after_a_while_and_counted() {
    let mut stream = Stream::new(0);
    stream.birth(0xa000);
    stream.tick(1);
    stream.now_ns += GHOST_AGE.0 / 2;
    stream.tick_at_now();
    assert_eq!(summary(&stream).0.io_ends.in_flight, 1);
    stream.now_ns += GHOST_AGE.0;
    stream.tick_at_now();
    let (summary, scrape) = summary(&stream);
    assert_eq!((summary.io_ends.lost, summary.io_ends.in_flight), (1, 0));
    assert_eq!(value(&scrape, "endiod_io_end_in_flight{state=\"born\"}"), 0.0);
}

#[test]
fn what_is_stuck_without_a_loss_stays_in_sight_for_ever() {
    let mut stream = Stream::new(0);
    stream.tick(0);
    stream.now_ns += 1_000_000_000;
    stream.birth(0xa000);
    stream.now_ns += 1000 * GHOST_AGE.0;
    stream.tick_at_now();
    let (summary, scrape) = summary(&stream);
    assert_eq!((summary.io_ends.lost, summary.io_ends.in_flight), (0, 1));
    assert!(value(&scrape, "endiod_io_end_oldest_age_seconds{state=\"born\"}") > 200_000.0);
}

#[test]
fn a_rule_is_degraded_while_a_probe_that_it_needs_is_not_attached() {
    let mut stream = Stream::new(0);
    let whole = summary(&stream).1;
    // Absent is better than a zero that nobody set.
    let degraded = "endiod_detector_degraded{reason=\"probe_missing\",rule=\"release_twice\"}";
    assert!(!whole.contains(degraded));
    stream.own(|own, deliver| own.detach(endiod::event::ProbeId(0), deliver));
    assert_eq!(value(&summary(&stream).1, degraded), 1.0);
}

/// What raw tracepoints see is counted; what they cannot see is absent, not zero.
#[test]
fn a_stream_of_raw_tracepoints_fills_its_own_rows_only() {
    let mut stream = Stream::by(Backend::RawTracepoint, 0);
    for life in 0..5 {
        stream.raw_life(0xa000 + 0x40 * life);
    }
    stream.tick(0);
    let (told, scrape) = summary(&stream);
    let IoEnds { born, complete, bios_attached, bios_done, bios_failed, .. } = told.io_ends;
    assert_eq!((born, complete, bios_attached, bios_done, bios_failed), (5, 5, 5, 5, 5));
    let IoEnds { handed_over, listed, worker_runs, queued, puts, .. } = told.io_ends;
    assert_eq!((handed_over, listed, worker_runs, queued, puts), (5, 5, 5, 5, 0));
    let mut timed: Vec<&str> = told.durations.keys().map(String::as_str).collect();
    timed.sort_unstable();
    assert_eq!(timed, ["io_end device", "io_end total"]);
    for (series, expected) in [
        ("endiod_io_end_started_total{device=\"vda\"}", 5.0),
        ("endiod_io_end_completed_total{device=\"vda\"}", 5.0),
        ("endiod_bios_ended_total", 5.0),
        ("endiod_io_end_in_flight{state=\"queued\"}", 0.0),
        ("endiod_detector_degraded{reason=\"backend\",rule=\"release_twice\"}", 1.0),
        ("endiod_detector_degraded{reason=\"backend\",rule=\"bad_reference\"}", 1.0),
    ] {
        assert_eq!(value(&scrape, series), expected, "{series}");
    }
    for absent in [
        "state=\"in_flight\"",
        "state=\"claimed\"",
        "phase=\"submit\"",
        "phase=\"convert\"",
        "endiod_direct_io",
        "violations_total{confidence=\"certain\",device=\"vda\",rule=\"release_twice\"",
    ] {
        let line = scrape.lines().find(|line| !line.starts_with('#') && line.contains(absent));
        assert_eq!(line, None);
    }
}

/// The value of a bound's counter.
fn left_out(scrape: &str, bound: ProgramBound) -> f64 {
    let reason = bound.label();
    let series = format!("endiod_events_lost_total{{reason=\"{reason}\",stage=\"program\"}}");
    value(scrape, &series)
}

#[test]
fn what_the_programs_left_out_is_counted_by_bound_and_told_only_if_the_stream_tells() {
    for bound in ProgramBound::ALL {
        let mut stream = Stream::by(Backend::RawTracepoint, 0);
        stream.raw_life(0xa000);
        stream.tick(0);
        // An agent of before this record: what it left out is not known, which is not "nothing".
        assert_eq!(summary(&stream).0.stream.program_losses, None);
        for total in [0, 3, 3, 5] {
            stream.left_out(bound, total);
            stream.tick(0);
        }
        let (told, scrape) = summary(&stream);
        for other in ProgramBound::ALL {
            let expected = if other == bound { 5 } else { 0 };
            assert_eq!(told.left_out(other), expected, "{bound:?}");
            assert_eq!(left_out(&scrape, other), expected as f64, "{bound:?}");
        }
        let line = format!("5 left out by a program at its bound {}", bound.label());
        assert!(told.to_string().contains(&line), "{told}");
    }
}

/// An io_end whose release found no room to be followed is not open for ever; a cut walk ends nothing.
#[test]
fn only_a_release_left_out_lets_what_is_open_be_forgotten() {
    for bound in ProgramBound::ALL {
        let mut stream = Stream::by(Backend::RawTracepoint, 0);
        stream.tick(0);
        stream.now_ns += 1_000_000_000;
        stream.birth(0xa000);
        // Told, and therefore stamped, after that birth.
        let told_at = stream.now_ns + 1;
        stream.left_out_at(bound, 1, told_at);
        stream.now_ns = told_at + 2 * GHOST_AGE.0;
        stream.tick_at_now();
        let lost = summary(&stream).0.io_ends.lost;
        assert_eq!(lost, u64::from(bound == ProgramBound::LiveIoEnds), "{bound:?}");
    }
}

/// What a later agent writes beside what we know costs its epoch the verdicts, and nothing else.
#[test]
fn a_kind_of_a_later_version_is_counted_and_makes_its_epoch_lossy() {
    let mut stream = Stream::new(0);
    stream.life(0xa000);
    stream.release(0xa000);
    stream.of_a_later_version();
    stream.tick(0);
    let (told, scrape) = summary(&stream);
    assert_eq!((told.io_ends.released, told.stream.malformed), (1, 1));
    assert!(told.findings.is_empty(), "{:?}", told.findings);
    assert_eq!(told.suppressed.get("release_twice: loss"), Some(&1));
    let series = "endiod_events_lost_total{reason=\"unknown_kind\",stage=\"decode\"}";
    assert_eq!(value(&scrape, series), 1.0);
}

/// Nobody looked between two streams, and a rule that is off has no row.
#[test]
fn a_rule_watches_from_tick_to_tick_of_a_stream() {
    let begun = Stream::new(0).now_ns;
    let ticks = |backend, seconds: [u64; 2]| {
        let mut stream = Stream::by(backend, 0);
        for second in seconds {
            stream.now_ns = begun + second * 1_000_000_000;
            stream.tick_at_now();
        }
        stream
    };
    let mut stream = ticks(Backend::Fentry, [1, 3]);
    stream.records.extend(ticks(Backend::RawTracepoint, [100, 101]).records);
    let (_, scrape) = summary(&stream);
    let active = |rule| format!("endiod_detector_active_seconds_total{{rule=\"{rule}\"}}");
    assert_eq!(value(&scrape, &active("release_twice")), 2.0);
    assert_eq!(value(&scrape, &active("stuck")), 3.0);
    stream = ticks(Backend::RawTracepoint, [1, 2]);
    assert!(!summary(&stream).1.contains(&active("release_twice")));
}
