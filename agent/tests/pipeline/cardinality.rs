//! However many devices and inodes a host has, a scrape stays within the bounds of `METRICS`, and what was
//! counted is all there: the devices beyond the bound share `~other`.

use std::collections::{BTreeMap, BTreeSet};

use endiod::{
    event::DevId,
    limits::DEVICE_NAMES_MAX,
    metrics::{METRICS, Metrics, labels::DEVICES_MAX},
    pipeline::{Pipeline, names},
};

use crate::stream::Stream;

/// Three times as many as the pipeline keeps apart, each with an inode of its own.
const DEVICES: u32 = 3 * DEVICE_NAMES_MAX as u32;
/// A line of a scrape: a mount point, cut off, and what stands around it.
const LINE_BYTES_MAX: usize = 1024;
/// More than the scrape of this host has; the table's own bounds allow for every rule and every errno.
const SCRAPE_BYTES_MAX: usize = 4 << 20;

/// A host with so many devices: on each an io_end that is released twice, a failed fsync and a direct
/// write.
fn host(devices: u32) -> (Metrics, usize) {
    let mut stream = Stream::new(0);
    // The first is vda, which has a label and nothing else.
    for dev in 2..devices + 2 {
        stream.own(|own, deliver| own.device(DevId(dev), &format!("sd{dev}"), deliver));
        (stream.dev, stream.ino) = (dev, 1_000_000 + u64::from(dev));
        let io_end = 0xa000 + 0x40 * u64::from(dev);
        stream.life_of_a_bio(io_end, true);
        stream.release(io_end);
        stream.fsync();
        stream.direct_write(io_end);
        stream.tick(0);
    }
    stream.tick(0);
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::new(metrics.clone());
    for record in &stream.records {
        pipeline.feed(record);
    }
    (metrics, pipeline.findings().len())
}

/// The lines of each metric.
fn lines(scrape: &str) -> BTreeMap<&'static str, Vec<&str>> {
    let mut lines: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let parts = ["_bucket", "_sum", "_count"].map(|part| name.strip_suffix(part));
        let is_of = |row: &str| row == name || parts.contains(&Some(row));
        let row = METRICS.iter().find(|row| is_of(row.name)).expect("a metric has a row");
        lines.entry(row.name).or_default().push(line);
    }
    lines
}

/// What stands before the value.
fn series(line: &str) -> &str {
    line.rsplit_once(' ').unwrap().0
}

/// Sum of the lines that have all of these words.
fn sum(scrape: &str, words: &[&str]) -> f64 {
    let lines = scrape.lines().filter(|line| words.iter().all(|word| line.contains(word)));
    lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
}

#[test]
fn thousands_of_devices_and_inodes_stay_within_the_table_and_are_all_counted() {
    let (metrics, findings) = host(DEVICES);
    let scrape = metrics.encode();
    let lines = lines(&scrape);
    for row in METRICS {
        let lines = lines.get(row.name).map_or(0, Vec::len);
        assert!(lines <= row.series_max(), "{} has {lines} lines", row.name);
    }
    assert!(scrape.lines().all(|line| line.len() < LINE_BYTES_MAX));
    assert!(scrape.len() < SCRAPE_BYTES_MAX, "{} bytes", scrape.len());
    let all = f64::from(DEVICES);
    let own = (DEVICES_MAX - 1) as f64;
    for counted in [
        "endiod_io_end_started_total{",
        "endiod_io_end_completed_total{",
        "endiod_fsync_duration_seconds_count{",
        "endiod_fsync_errors_total{",
        "endiod_direct_io_duration_seconds_count{",
        "endiod_violations_total{",
    ] {
        let rule = if counted.contains("violations") { "release_twice" } else { "" };
        assert_eq!(sum(&scrape, &[counted, rule]), all, "{counted}");
        assert_eq!(sum(&scrape, &[counted, rule, "device=\"~other\""]), all - own, "{counted}");
        assert_eq!(sum(&scrape, &[counted, rule, "device=\"~unknown\""]), 0.0, "{counted}");
    }
    assert!(findings > 0, "a violation is a finding");
    let exemplars = metrics.encode_openmetrics(&endiod::clock::date).matches("# {").count();
    assert_eq!(exemplars, DEVICES_MAX, "one for each series that rose");
}

#[test]
fn past_the_bound_a_device_more_adds_no_line() {
    let [fewer, more] = [DEVICES_MAX as u32 + 1, DEVICES].map(|devices| host(devices).0.encode());
    let [fewer, more] = [&fewer, &more]
        .map(|scrape| lines(scrape).into_values().flatten().map(series).collect::<BTreeSet<_>>());
    assert!(fewer.len() > 1_000);
    let added: Vec<_> = more.difference(&fewer).collect();
    assert!(added.is_empty(), "{added:?}");
}
