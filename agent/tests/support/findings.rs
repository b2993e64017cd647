//! A directory of findings as an agent would leave it, made from recordings of the corpus; and the metrics of
//! the agent that watched all of them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
    time::{Duration, SystemTime},
};

use endiod::{
    devices::Device,
    event::DevId,
    metrics::{Build, Kernel, Metrics},
    pipeline::{Pipeline, names},
    source::{
        own::OwnRecords,
        trace::{Reader, Writer},
    },
    store::{Bounds, FINDING, RECORDING, Store},
};

/// An io_end processed twice; a healthy load, for the durations; a bug of 2012; what stock kernels do; direct
/// writes that crimes were done to; and last a slice, at whose end the agent still watches and an io_end is in
/// flight.
const RECORDINGS: [&str; 7] = [
    "recordings/v1.endiod",
    "recordings/buffered-6.1.endiod",
    "explain/bug_1.endiod",
    "recordings/stock/failed-at-once-6.12.endiod",
    "recordings/stock/hidden-journal-aborted-7.3.endiod",
    "recordings/direct-order-6.1.endiod",
    "recordings/evicting-6.1.endiod",
];

/// The thread that comes second in the first recording.
const SECOND: u32 = 60;

/// Fills a directory and metrics, with that name for a task in the first finding; the ids, oldest first.
pub(crate) fn fill(dir: &Path, metrics: &Metrics, comm: [u8; 16]) -> Vec<String> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let store = Store::open(dir, Bounds { files_max: 1000, bytes_max: 1 << 30 }).unwrap();
    let mut ids = Vec::new();
    for name in RECORDINGS {
        let mut records = read(&data.join(name));
        if name == RECORDINGS[0] {
            let named = &mut |record: &[u8]| records.insert(1, record.to_vec());
            OwnRecords::default().task_name(SECOND, comm, named);
        }
        let mut pipeline = Pipeline::new(metrics.clone());
        records.iter().for_each(|record| pipeline.feed(record));
        pipeline.finish();
        for (at, finding) in pipeline.findings().iter().enumerate() {
            let name = format!("finding-{}", finding.id);
            let json = serde_json::to_string(finding).unwrap();
            store.save(&name, FINDING, |file| writeln!(file, "{json}")).unwrap();
            // Those of one TICK share the slice of the first, and these are all of one.
            if at == 0 {
                store.save(&name, RECORDING, |file| write(file, &records)).unwrap();
            }
            ids.push(finding.id.clone());
        }
    }
    age(dir, &ids);
    ids
}

/// What an agent says of itself and of its host, where the second device is mounted there.
pub(crate) fn introduce(metrics: &Metrics, mountpoint: &str) {
    metrics.set_build(Build { version: "0.1.0", revision: "", wire: 1 });
    metrics.set_kernel(Kernel { release: "6.1.0-56-cloud-amd64", generation: "G4c" });
    let device = |minor: u32, name: &str, mountpoint: &str| Device {
        dev: DevId(254 << 20 | minor),
        name: name.to_owned(),
        disk: name.to_owned(),
        mountpoint: mountpoint.to_owned(),
        uuid: None,
    };
    metrics.set_devices(&[device(0, "vda", "/mnt"), device(16, "vdb", mountpoint)]);
    metrics.watch_process(&endiod::host::Host::default(), None).unwrap();
}

/// New metrics with the pipeline's names.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(names()).unwrap()
}

fn read(path: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(File::open(path).unwrap()).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.to_vec());
    }
    records
}

fn write(file: &mut File, records: &[Vec<u8>]) -> io::Result<()> {
    let mut writer = Writer::new(file).map_err(io::Error::other)?;
    for record in records {
        writer.push(record).map_err(io::Error::other)?;
    }
    writer.finish().map(|_| ()).map_err(io::Error::other)
}

/// Puts a minute between findings: they are written faster than a file system's clock ticks. A slice is
/// written half a minute after the last finding that shares it.
fn age(dir: &Path, ids: &[String]) {
    let minute = Duration::from_secs(60);
    let mut written = SystemTime::now() - minute * u32::try_from(ids.len()).unwrap();
    let stamp = |path: &Path, at: SystemTime| {
        File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };
    let mut slice = None;
    for id in ids {
        let own = dir.join(format!("finding-{id}.{RECORDING}"));
        slice = if fs::exists(&own).unwrap() { Some(own) } else { slice };
        stamp(&dir.join(format!("finding-{id}.{FINDING}")), written);
        stamp(slice.as_ref().unwrap(), written + minute / 2);
        written += minute;
    }
}
