//! Findings said and kept: one structured line each in the log, and with a directory the finding and
//! the slice of the stream around it on disk. SIGUSR1 asks for a slice without a finding.
//!
//! Files are written by a thread of their own: the one that watches copies the slice and goes on. One
//! slice is written at a time; a finding that comes meanwhile is kept without one, and the log says so.
//! A disk that takes nothing costs the file, never the watching.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use clap::Args;
use endiod::{
    clock,
    finding::Finding,
    recorder::{Recorder, records},
    source::trace::{TraceError, Writer},
    store::{Bounds, FINDING, RECORDING, Store, StoreError, finding_name},
};
use tokio::task::JoinHandle;

/// Where findings go if nobody says: the state directory of a system service (file-hierarchy(7)).
const DEFAULT_DIR: &str = "/var/lib/endiod/findings";
/// In its place: nowhere.
const NO_DIR: &str = "none";

/// Where findings go, and how much of the stream is kept for them.
#[derive(Clone, Debug, Args)]
pub(crate) struct KeepArgs {
    /// Directory for findings and the slices around them, made if it is missing; `none`: they are in
    /// the log and in the last summary only
    #[arg(
        long,
        env = "ENDIOD_FINDINGS_DIR",
        value_name = "DIR",
        default_value = DEFAULT_DIR
    )]
    findings_dir: PathBuf,
    /// Most files in that directory
    #[arg(long, env = "ENDIOD_FINDINGS_FILES_MAX", value_name = "COUNT", default_value_t = 200)]
    findings_files_max: usize,
    /// Most bytes in that directory
    #[arg(
        long,
        env = "ENDIOD_FINDINGS_BYTES_MAX",
        value_name = "BYTES",
        default_value_t = 256 << 20
    )]
    findings_bytes_max: u64,
    /// Last bytes of the stream that are kept in memory for a slice; 0 keeps none
    #[arg(long, env = "ENDIOD_RECORDER_BYTES", value_name = "BYTES", default_value_t = 16 << 20)]
    recorder_bytes: usize,
}

impl KeepArgs {
    /// Where findings go, if anywhere.
    pub(crate) fn dir(&self) -> Option<&Path> {
        (self.findings_dir != Path::new(NO_DIR)).then_some(self.findings_dir.as_path())
    }

    fn bounds(&self) -> Bounds {
        Bounds { files_max: self.findings_files_max, bytes_max: self.findings_bytes_max }
    }
}

pub(crate) struct Keeper {
    recorder: Recorder,
    store: Option<Store>,
    /// The slice that is being written.
    saving: Option<JoinHandle<()>>,
    /// Findings of this run that were said.
    said: usize,
}

impl Keeper {
    /// Opens the directory. One that was asked for must be usable; without the default one the agent
    /// watches all the same.
    pub(crate) fn open(args: &KeepArgs) -> Result<Self> {
        let bounds = args.bounds();
        let opened = args.dir().map(|dir| Store::open(dir, bounds)).transpose();
        let store = match opened {
            Ok(store) => store,
            Err(error) if args.findings_dir == Path::new(DEFAULT_DIR) => {
                log::warn!("{error}: findings are kept in the log only; see --findings-dir");
                None
            }
            Err(error) => bail!("{error}; give another directory with --findings-dir"),
        };
        // Without a directory nobody could ever read what the recorder holds.
        let recorder_bytes = if store.is_some() { args.recorder_bytes } else { 0 };
        Ok(Keeper { recorder: Recorder::new(recorder_bytes), store, saving: None, said: 0 })
    }

    /// Other bounds for the directory, from the next file on.
    pub(crate) fn bound(&mut self, args: &KeepArgs) {
        if let Some(store) = &mut self.store {
            store.bound(args.bounds());
        }
    }

    pub(crate) fn push(&mut self, record: &[u8]) {
        self.recorder.push(record);
    }

    /// Those that were not said yet.
    pub(crate) fn unsaid<'a>(&self, all: &'a [Finding]) -> &'a [Finding] {
        &all[self.said..]
    }

    /// Says and keeps the findings that are new.
    pub(crate) fn findings(&mut self, all: &[Finding]) {
        let new = self.unsaid(all);
        self.said = all.len();
        let Some(first) = new.first() else { return };
        let lines: Vec<(String, String)> = new.iter().map(line).collect();
        for (_, line) in &lines {
            log::error!("finding {line}");
        }
        let Some(store) = self.store.clone() else { return };
        let name = finding_name(&first.id);
        let slice = self.slice_unless_saving(&name);
        self.saving = Some(tokio::task::spawn_blocking(move || {
            for (id, line) in lines {
                say(store.save(&finding_name(&id), FINDING, |file| writeln!(file, "{line}")));
            }
            save_slice(&store, &name, slice);
        }));
    }

    /// Keeps a slice because somebody asked.
    pub(crate) fn dump(&mut self) {
        let Some(store) = self.store.clone() else {
            return log::warn!(
                "asked for a slice, but there is no directory for it: --findings-dir"
            );
        };
        let name = format!("slice-{}", clock::since_epoch().as_millis());
        let slice = self.slice_unless_saving(&name);
        if slice.is_empty() {
            return;
        }
        let task = move || save_slice(&store, &name, slice);
        self.saving = Some(tokio::task::spawn_blocking(task));
    }

    /// Waits until everything is on disk.
    pub(crate) async fn finish(mut self) {
        if let Some(Err(error)) = match self.saving.take() {
            Some(saving) => Some(saving.await),
            None => None,
        } {
            log::error!("a slice was not written: {error}");
        }
    }

    fn slice_unless_saving(&self, name: &str) -> Vec<u8> {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            log::warn!("{name} has no slice: another one is still being written");
            return Vec::new();
        }
        self.recorder.slice()
    }
}

/// Id and JSON of a finding.
fn line(finding: &Finding) -> (String, String) {
    let line = serde_json::to_string(finding);
    (finding.id.clone(), line.expect("a finding has string keys and finite numbers only"))
}

fn save_slice(store: &Store, name: &str, slice: Vec<u8>) {
    if slice.is_empty() {
        return;
    }
    say(store.save(name, RECORDING, |file| {
        let write = |mut writer: Writer<_>| -> Result<(), TraceError> {
            for record in records(&slice) {
                writer.push(record)?;
            }
            writer.finish().map(|_| ())
        };
        Writer::new(file).and_then(write).map_err(std::io::Error::other)
    }));
}

fn say(saved: Result<PathBuf, StoreError>) {
    match saved {
        Ok(path) => log::info!("wrote {}", path.display()),
        Err(error) => log::error!("{error}"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::BufReader};

    use endiod::{
        metrics::Metrics,
        pipeline::{Pipeline, names},
        source::trace::Reader,
    };

    use super::*;

    /// The rules that the crime below breaks.
    const RULES: [&str; 2] = ["double_process", "oracle_divergence"];

    /// Feeds a recording to a pipeline, and to `each` on the way.
    fn replay(path: &Path, mut each: impl FnMut(&[u8], &Pipeline)) -> Pipeline {
        let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
        let mut reader = Reader::new(BufReader::new(fs::File::open(path).unwrap())).unwrap();
        while let Some(record) = reader.next_record().unwrap() {
            pipeline.feed(record);
            each(record, &pipeline);
        }
        pipeline.finish();
        pipeline
    }

    /// The recording in the corpus whose last life is processed twice.
    fn crime() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings/v1.endiod")
    }

    #[tokio::test]
    async fn a_finding_is_kept_with_a_slice_that_replays_to_it() {
        let dir = std::env::temp_dir().join(format!("endiod-keep-{}", std::process::id()));
        let mut keeper = Keeper::open(&KeepArgs {
            findings_dir: dir.clone(),
            findings_files_max: 10,
            findings_bytes_max: 1 << 20,
            // Less than the recording: what is kept begins in the middle.
            recorder_bytes: 12_000,
        })
        .unwrap();
        let pipeline = replay(&crime(), |record, pipeline| {
            keeper.push(record);
            keeper.findings(pipeline.findings());
        });
        assert!(keeper.recorder.evicted() > 0);
        keeper.finish().await;
        let ids = |pipeline: &Pipeline| -> Vec<_> {
            let findings = pipeline.findings().iter();
            findings.map(|finding| (finding.rule, finding.id.clone())).collect()
        };
        let found = ids(&pipeline);
        assert_eq!(found.iter().map(|(rule, _)| *rule).collect::<Vec<_>>(), RULES);
        for (finding, (_, id)) in pipeline.findings().iter().zip(&found) {
            let kept = dir.join(format!("finding-{id}.json"));
            let kept: serde_json::Value = serde_json::from_slice(&fs::read(kept).unwrap()).unwrap();
            assert_eq!(kept, serde_json::to_value(finding).unwrap());
        }
        // Those of one TICK share the slice of the first.
        let slice = dir.join(format!("finding-{}.endiod", found[0].1));
        assert_eq!(ids(&replay(&slice, |_, _| {})), found);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_directory_that_was_asked_for_must_be_usable() {
        let args = KeepArgs {
            findings_dir: PathBuf::from("/proc/nothing"),
            findings_files_max: 1,
            findings_bytes_max: 1,
            recorder_bytes: 1,
        };
        let error = Keeper::open(&args).err().unwrap().to_string();
        assert!(error.contains("/proc/nothing") && error.contains("--findings-dir"), "{error}");
    }
}
