//! How much the oracle sees: real lives with one illegal event in each.
//!
//! ```text
//!   recording ─► lives (birth … release, with the worker's run) ─► + one event ─► oracle ─► diverged?
//! ```
//!
//! What is illegal is something that no kernel run could have at its place: the life was whole without it.
//! The shares are pinned in `docs/oracle.md`, by kind and core; the kinds that are missed are listed
//! there with the reason. `ENDIOD_UPDATE=1` writes the page's tables anew.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "divergence/illegal.rs"]
mod illegal;
#[path = "divergence/lives.rs"]
mod lives;
#[path = "support/page.rs"]
mod page;

use std::fmt::Write as _;

use endiod::{
    event::{Body, Context, Event, LeftOut, Nanos, ProgramBound},
    metrics::Metrics,
    oracle::in_step::{Judge, Oracle, Outcome},
    pipeline::{Pipeline, names},
    source::sim::Random,
};

use illegal::{ALTERED, INSERTED, Shares, altered, inserted, table, total};
use lives::{RECORDINGS, diverges, diverges_where, lives, lives_of, oracle, records_of};
use page::check_block;

/// Lives with bios that the shares stand on, and those of them with a bio that failed.
const LIVES_MIN: usize = 1_000;
const FAILED_MIN: usize = 200;

/// With a probe missing (raw tracepoints see no puts) the same lives would look impossible.
#[test]
fn while_a_probe_is_missing_nothing_is_judged() {
    for life in lives().iter().step_by(100) {
        let mut oracle = Oracle::default();
        oracle.observe(&life.host);
        let seen = |event: &&Event| !matches!(event.body, Body::Put(_) | Body::PutDefer(_));
        life.events.iter().filter(seen).for_each(|event| oracle.observe(event));
        oracle.finish();
        for judge in Judge::ALL {
            let tally = oracle.tally(judge);
            assert_eq!(tally.outcome(Outcome::Diverged) + tally.outcome(Outcome::Allowed), 0);
            assert!(tally.outcome(Outcome::CouldNotTell) > 0);
        }
    }
}

/// Some or all bios of a real life are attached unseen: known to be possible, nothing diverges; not
/// known, each looks like an end too many.
#[test]
fn bios_attached_unseen_diverge_only_where_every_bio_should_be_seen() {
    let mut random = Random::new(74);
    let mut judged = 0;
    for life in &lives() {
        let is_attach = |event: &Event| matches!(event.body, Body::BioAttach { .. });
        let all = life.events.iter().filter(|event| is_attach(event)).count();
        if all == 0 {
            continue;
        }
        // At least the first.
        let hidden = 1 | random.below(1 << all);
        let (mut at, mut events) = (0, life.events.clone());
        events.retain(|event| {
            let hides = is_attach(event) && hidden >> at & 1 == 1;
            at += u32::from(is_attach(event));
            !hides
        });
        assert_eq!(diverges_where(life, &events, true), [false; 2], "{events:#?}");
        assert_eq!(diverges_where(life, &events, false), [true; 2], "{events:#?}");
        judged += 1;
    }
    assert!(judged > 500, "only {judged} lives have bios");
}

/// A HOST: numbers begin anew, so the old stream's lives are neither judged nor mistaken for the next.
#[test]
fn a_new_stream_forgets_the_lives_of_the_old_one() {
    for life in lives().iter().step_by(100) {
        let half = &life.events[..life.events.len() / 2];
        let rest = &life.events[half.len()..];
        let again = [half, &life.events].concat();
        assert_ne!(diverges(life, &again), [false; 2], "a life begins within itself");
        let apart = [half, &[life.host], &life.events].concat();
        assert_eq!(diverges(life, &apart), [false; 2]);
        // Nor is what is held at the HOST ever told, or what follows of a life that began before it.
        let held = [&again[..], &[life.host]].concat();
        assert_eq!(diverges(life, &held), [false; 2]);
        let mut oracle = Oracle::default();
        oracle.set_claim_probe(life.claims);
        oracle.set_witnessed(true);
        oracle.observe(&life.host);
        half.iter().for_each(|event| oracle.observe(event));
        let before = Judge::ALL.map(|judge| oracle.tally(judge).outcome(Outcome::Allowed));
        oracle.observe(&life.host);
        rest.iter().for_each(|event| oracle.observe(event));
        let after = Judge::ALL.map(|judge| oracle.tally(judge).outcome(Outcome::Allowed));
        assert_eq!(before, after);
    }
}

/// Of what the programs leave out only releases matter to a core: the rest is nothing that it takes.
#[test]
fn a_release_that_was_left_out_leaves_the_cores_in_doubt_and_nothing_else_does() {
    for life in lives().iter().step_by(100) {
        // A second birth within the life.
        let twice = [&life.events[..life.events.len() / 2], &life.events].concat();
        assert_ne!(diverges(life, &twice), [false; 2]);
        for bound in ProgramBound::ALL {
            let mut told = *twice.last().unwrap();
            let mut left_out = LeftOut::default();
            left_out.0[bound as usize] = 1;
            told.body = Body::ProgramLoss { left_out };
            let doubted = diverges(life, &[&twice[..], &[told]].concat()) == [false; 2];
            assert_eq!(doubted, bound == ProgramBound::LiveIoEnds, "{bound:?}");
            // What was told before the first birth touches nothing after it.
            told.stamp.at = Nanos(life.events[0].stamp.at.0 - 1);
            assert_eq!(diverges(life, &[&[told], &twice[..]].concat()), diverges(life, &twice));
        }
    }
}

/// A kernel whose functions are of another generation than its release is not judged, not even where
/// something is wrong: a vendor's backport of the claim, say.
#[test]
fn a_claim_that_does_not_fit_the_release_could_not_be_told() {
    for life in lives().iter().step_by(100) {
        let twice = [&life.events[..], &life.events].concat();
        let mut oracle = Oracle::default();
        oracle.set_claim_probe(!life.claims);
        oracle.set_witnessed(true);
        oracle.observe(&life.host);
        twice.iter().for_each(|event| oracle.observe(event));
        let tally = oracle.tally(Judge::Refcounted);
        let outcomes = [Outcome::Allowed, Outcome::Diverged].map(|it| tally.outcome(it));
        assert_eq!(outcomes, [0, 0]);
        assert!(tally.outcome(Outcome::CouldNotTell) > 0);
    }
}

/// Without contexts a bio's put cannot be told from the submitter's: nothing diverges.
#[test]
fn without_contexts_nothing_diverges() {
    for life in lives().iter().step_by(10) {
        let mut events = life.events.clone();
        events.iter_mut().for_each(|event| event.stamp.context = Context::Unknown);
        assert_eq!(diverges(life, &events), [false; 2]);
    }
}

#[test]
fn real_lives_are_allowed_whole() {
    let lives = lives();
    let with_bios = lives.iter().filter(|life| life.has_bios()).count();
    assert!(with_bios >= LIVES_MIN, "only {with_bios} lives have bios");
    let failed = lives.iter().filter(|life| life.has_failed()).count();
    assert!(failed >= FAILED_MIN, "only {failed} lives have a bio that failed");
    for life in &lives {
        assert_eq!(diverges(life, &life.events), [false; 2], "{:#?}", life.events);
    }
}

/// 6.1 converts what failed, as its generation does: a rule says so of each, and the core that describes it
/// has a run for it. 6.18 converts none.
#[test]
fn of_failed_writes_only_their_conversion_is_a_finding_and_the_cores_allow_all() {
    for (name, expected) in [("failing/6.1", 142), ("failing/6.18", 0)] {
        let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
        records_of(name).iter().for_each(|record| pipeline.feed(record));
        pipeline.finish();
        let summary = pipeline.summary();
        assert_eq!(summary.findings.len(), expected, "{name}");
        for finding in &summary.findings {
            assert_eq!(finding["rule"], "convert_after_failed_write", "{name}: {finding}");
            for core in ["completed_list", "refcounted"] {
                assert_eq!(finding["oracle"][core], "allowed", "{name}: {finding}");
            }
        }
        assert_eq!(summary.oracle.len(), 2, "{name}");
        for core in summary.oracle.values() {
            assert!(core.allowed > 5_000 && core.diverged == 0, "{name}: {core:?}");
        }
    }
}

/// What the shares stand on, and how many states explain an io_end after an event.
#[test]
fn the_page_has_the_corpus_and_the_mean_size_of_the_allowed_set() {
    let mut text = format!("{:<16}{:>7}{:>11}", "recording", "lives", "with bios");
    let _ = writeln!(text, "{:>11}{:>13}{:>13}", "failed", "2012", "5.5+");
    for name in RECORDINGS {
        let lives = lives_of(name);
        let mut oracle = oracle(&lives[0]);
        lives.iter().flat_map(|life| &life.events).for_each(|event| oracle.observe(event));
        let count = |holds: fn(&lives::Life) -> bool| lives.iter().filter(|it| holds(it)).count();
        let (bios, failed) = (count(lives::Life::has_bios), count(lives::Life::has_failed));
        let _ = write!(text, "{name:<16}{:>7}{bios:>11}{failed:>11}", lives.len());
        for judge in Judge::ALL {
            let mean = oracle.tally(judge).states_mean().unwrap();
            let _ = write!(text, "{mean:>6.2} states");
        }
        text.push('\n');
    }
    check_block("oracle.md", "corpus", &text, str::to_owned);
}

/// One event too many in each life, of each kind, anywhere.
#[test]
fn after_one_inserted_event_the_oracle_diverges() {
    let mut random = Random::new(491);
    let mut shares = Shares::new();
    for life in &lives() {
        for (at, kind) in INSERTED.into_iter().enumerate() {
            // After its birth, anywhere, also after its release.
            let place = 1 + random.below(life.events.len() as u64) as usize;
            let Some(events) = inserted(life, kind, place, &mut random) else { continue };
            shares.entry((at, kind.to_owned())).or_default().note(diverges(life, &events));
        }
    }
    check_block("oracle.md", "inserted", &table(&shares), str::to_owned);
    assert_eq!(total(&shares).missed(), 0, "{}", table(&shares));
}

/// Least share in percent of altered images that is seen.
const ALTERED_MIN: f64 = 84.0;

/// One field of one image of each life is another: much of that is legal at its place.
#[test]
fn after_one_altered_image_the_oracle_diverges_where_it_can_know() {
    let mut random = Random::new(3644);
    let (mut shares, mut by_act) = (Shares::new(), Shares::new());
    for life in &lives() {
        for (at, kind) in ALTERED.into_iter().enumerate() {
            let (events, act) = altered(life, kind, &mut random);
            let told = diverges(life, &events);
            shares.entry((at, kind.to_owned())).or_default().note(told);
            by_act.entry((at, format!("{kind} at {act}"))).or_default().note(told);
        }
    }
    by_act.retain(|_, share| share.missed() > 0);
    check_block("oracle.md", "altered", &table(&shares), str::to_owned);
    check_block("oracle.md", "missed", &table(&by_act), str::to_owned);
    assert!(total(&shares).percent() >= ALTERED_MIN, "{}", table(&shares));
}
