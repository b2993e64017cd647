//! A bio's end without its attachment: impossible where every bio is seen attached, and not to be told
//! where one may be attached unseen. That hangs on the kernel and on a probe, which the stream tells of.

use endiod::{
    event::{Backend, ProbeId},
    metrics::Metrics,
    pipeline::{Pipeline, names},
    probes::PROBES,
    report::Core,
};
use endiod_wire::wire::backend;

use crate::stream::Stream;

const PROBE: &str = "__blk_crypto_submit_bio";

/// What the stream says of the probe.
#[derive(Clone, Copy, Debug)]
enum Told {
    Attached,
    Failed,
    Absent,
    /// Nothing: it was recorded by an agent that knew of none.
    Nothing,
}

/// What a core says of a life, closed by a TICK, and the rules that were found broken.
fn judged(release: &str, told: Told, attached: bool) -> (Core, Vec<String>) {
    let with = matches!(told, Told::Attached);
    let mut stream = Stream::on(release, Backend::Fentry, 0, |row| row.program != PROBE || with);
    let at = PROBES.iter().position(|row| row.program == PROBE).unwrap();
    let id = ProbeId(u32::try_from(at).unwrap());
    if let Told::Failed | Told::Absent = told {
        let failed = matches!(told, Told::Failed);
        stream.own(|own, deliver| own.attach(id, backend::NONE, failed, deliver));
    }
    // What shows that attached bios are seen.
    for life in 1..=64 {
        stream.life_of_a_bio(0xa000 + 0x40 * life, true);
    }
    stream.tick(0);
    stream.life_of_a_bio(0xa000, attached);
    stream.tick(0);
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    stream.records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    let summary = pipeline.summary();
    let rules = summary.findings.iter().map(|finding| finding["rule"].as_str().unwrap().to_owned());
    (summary.oracle["refcounted"], rules.collect())
}

#[test]
fn where_every_bio_is_seen_attached_an_end_too_many_diverges() {
    for (release, told) in [
        ("7.3.4", Told::Attached),
        // A kernel without enciphering in the block layer.
        ("7.3.4", Told::Absent),
        // Before 7.0 it is `submit_bio` that sees them.
        ("6.18.15", Told::Nothing),
        ("6.18.15", Told::Absent),
    ] {
        let (healthy, silent) = judged(release, told, true);
        assert_eq!((healthy.diverged, healthy.could_not_tell), (0, 0), "{release} {told:?}");
        assert!(silent.is_empty(), "{silent:?}");
        let (extra, found) = judged(release, told, false);
        assert_eq!(extra.diverged, 1, "{release} {told:?}: {extra:?}");
        assert_eq!(found, ["missing_bio"], "{release} {told:?}");
    }
}

#[test]
fn where_bios_may_be_attached_unseen_an_end_too_many_could_not_be_told() {
    for told in [Told::Nothing, Told::Failed] {
        let (extra, found) = judged("7.3.4", told, false);
        assert_eq!(extra.diverged, 0, "{told:?}");
        assert!(extra.could_not_tell > 0, "{told:?}");
        assert!(found.is_empty(), "{found:?}");
        // What shows no unseen bio is judged as everywhere.
        let (healthy, silent) = judged("7.3.4", told, true);
        assert_eq!((healthy.diverged, healthy.could_not_tell), (0, 0), "{told:?}");
        assert!(silent.is_empty(), "{silent:?}");
        assert!(healthy.allowed > 0);
    }
}
