//! A finding told from a recording that holds it: the picture of its io_end, or the finding itself where it is
//! of a direct write, which has no more steps than that.
//!
//! A recording is read twice, for its findings and for the steps of one object, and never beyond the bound
//! that its caller sets.

use std::io::{self, Read};

use super::{Collector, meaning_in_lines};
use crate::{
    detect::ObjectKind,
    finding::Finding,
    metrics::Metrics,
    pipeline::{Pipeline, names},
    source::trace::{Reader, TraceError},
};

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum NotTold {
    /// The file cannot be opened.
    #[error("the recording cannot be opened: {0}")]
    Open(#[source] io::Error),
    /// The file is no recording, or damaged.
    #[error(transparent)]
    Recording(#[from] TraceError),
    /// More records than the caller wants to wait for.
    #[error("the recording holds more than {max} bytes of records")]
    TooLong {
        /// The bound.
        max: u64,
    },
    /// Nothing in it leads to that finding.
    #[error("the recording does not hold this finding")]
    NoSuchFinding,
    /// The finding's object has no event in it.
    #[error("the recording has no event of {object}")]
    NoEvents {
        /// The object.
        object: String,
    },
}

/// The picture of a finding, of a recording that `open` opens, as `endiod explain` draws it.
///
/// # Errors
/// Why there is none.
pub fn picture<R: Read>(
    open: impl Fn() -> io::Result<R>,
    id: &str,
    bytes_max: u64,
) -> Result<String, NotTold> {
    let pass = |feed: &mut dyn FnMut(&mut Pipeline, &[u8])| {
        replayed(open().map_err(NotTold::Open)?, bytes_max, feed)
    };
    let pipeline = pass(&mut |pipeline, record| pipeline.feed(record))?;
    let finding = pipeline.findings().iter().find(|finding| finding.id == id);
    let finding = finding.ok_or(NotTold::NoSuchFinding)?;
    if finding.object_kind == ObjectKind::DirectWrite {
        return Ok(direct_write(finding));
    }
    let mut collector = Collector::new(&finding.object);
    pass(&mut |pipeline, record| pipeline.feed_before(record, &mut collector))?;
    let kernel = pipeline.summary().kernel;
    let picked = |finding: &Finding| finding.id == id;
    let story = collector.tell(&kernel, pipeline.protocol(), pipeline.findings(), picked);
    let story = story.ok_or_else(|| NotTold::NoEvents { object: finding.object.clone() })?;
    Ok(story.to_string())
}

/// A finding of a direct write and what it means: the whole story.
pub fn direct_write(finding: &Finding) -> String {
    let meaning =
        meaning_in_lines(finding.rule).map(|lines| format!("\n\nIn plain words\n{lines}"));
    finding.to_string() + &meaning.unwrap_or_default()
}

/// The pipeline over a recording; one that was cut is told up to there.
fn replayed(
    recording: impl Read,
    bytes_max: u64,
    feed: &mut dyn FnMut(&mut Pipeline, &[u8]),
) -> Result<Pipeline, NotTold> {
    let metrics = Metrics::new(names()).expect("the pipeline's own names fit their labels");
    let mut pipeline = Pipeline::new(metrics);
    let mut reader = Reader::new(recording)?;
    let mut bytes = 0;
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                bytes += record.len() as u64;
                if bytes > bytes_max {
                    return Err(NotTold::TooLong { max: bytes_max });
                }
                feed(&mut pipeline, record);
            }
            Ok(None) | Err(TraceError::Truncated { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    pipeline.finish();
    Ok(pipeline)
}

#[cfg(test)]
mod tests {
    use std::{fs::File, path::Path};

    use super::*;

    fn told(id: &str, bytes_max: u64) -> Result<String, NotTold> {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        picture(|| File::open(data.join("recordings/v1.endiod")), id, bytes_max)
    }

    #[test]
    fn a_picture_is_that_of_the_program() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let drawn = std::fs::read_to_string(data.join("explain/v1.txt")).unwrap();
        assert_eq!(told("ff0aaa9c5fa6d183", u64::MAX).unwrap().trim_end(), drawn.trim_end());
    }

    #[test]
    fn a_recording_beyond_the_bound_or_of_other_findings_is_not_told() {
        assert!(matches!(told("ff0aaa9c5fa6d183", 100), Err(NotTold::TooLong { max: 100 })));
        assert!(matches!(told("0000000000000000", u64::MAX), Err(NotTold::NoSuchFinding)));
    }
}
