//! How much the oracle sees: real lives with one illegal event in each.
//!
//! ```text
//!   recording ─► lives (birth … release, with the worker's run) ─► + one event ─► oracle ─► diverged?
//! ```
//!
//! An inserted event is one that no kernel run could have at its place: the life was whole
//! without it. The shares are pinned, by kind; the kinds that can be missed are listed with the reason.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::{collections::BTreeMap, fs, path::Path};

use endiod::{
    decode::decode,
    event::{Body, Context, Event, IoEndImage, LeftOut, Nanos, ProgramBound, Seen, Task},
    oracle::in_step::{Judge, Oracle, Outcome},
    source::{sim::Random, trace::Reader},
};

const RECORDINGS: [&str; 4] = ["buffered-5.10", "buffered-6.1", "buffered-6.18", "lives-6.1"];
const LIVES_MIN: usize = 1_000;

/// A life of a recording, and the HOST record of its stream.
struct Life {
    host: Event,
    claims: bool,
    events: Vec<Event>,
}

fn lives() -> Vec<Life> {
    RECORDINGS.iter().flat_map(|name| lives_of(name)).collect()
}

fn lives_of(name: &str) -> Vec<Life> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let bytes = fs::read(dir.join(name).with_extension(name_ext(name))).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut host = None;
    let mut open: BTreeMap<u64, Vec<Event>> = BTreeMap::new();
    let mut workers: BTreeMap<u32, Event> = BTreeMap::new();
    let mut lives = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let event = decode(record).unwrap();
        let tid = event.stamp.task.tid;
        match event.body {
            Body::Host { .. } => host = Some(event),
            Body::WorkerBegin { .. } => drop(workers.insert(tid, event)),
            Body::WorkerEnd { .. } => drop(workers.remove(&tid)),
            Body::IoEndBirth { io_end, .. } => drop(open.insert(io_end.0, vec![event])),
            body => {
                let Some(addr) = io_end(&body) else { continue };
                let Some(events) = open.get_mut(&addr) else { continue };
                let first = matches!(body, Body::Claim(_) | Body::ConvertBegin(_));
                let inside = events.iter().any(|it| matches!(it.body, Body::WorkerBegin { .. }));
                events.extend(workers.get(&tid).filter(|_| first && !inside).copied());
                events.push(event);
                if matches!(body, Body::Release(_)) {
                    let events = open.remove(&addr).unwrap();
                    let host = host.unwrap();
                    lives.push(Life { host, claims: name.ends_with("6.18"), events });
                }
            }
        }
    }
    lives
}

/// `Path::with_extension` would take `.10` for one.
fn name_ext(name: &str) -> String {
    format!("{}.endiod", name.rsplit_once('.').unwrap().1)
}

fn io_end(body: &Body) -> Option<u64> {
    match body {
        Body::IoEndBirth { io_end, .. }
        | Body::RangeAdded { io_end, .. }
        | Body::BioAttach { io_end, .. }
        | Body::ConvertEnd { io_end, .. } => Some(io_end.0),
        body => seen(body).map(|seen| seen.io_end.0),
    }
}

fn seen(body: &Body) -> Option<Seen> {
    match body {
        Body::BioEnd { seen, .. }
        | Body::Put(seen)
        | Body::PutDefer(seen)
        | Body::Claim(seen)
        | Body::ConvertBegin(seen)
        | Body::Release(seen) => Some(*seen),
        _ => None,
    }
}

/// Does a core have a run with these events? Both are asked.
fn diverges(life: &Life, events: &[Event]) -> [bool; 2] {
    diverges_where(life, events, false)
}

/// The same, where bios may be attached that no probe sees, or not.
fn diverges_where(life: &Life, events: &[Event], bios_unseen: bool) -> [bool; 2] {
    let mut oracle = Oracle::default();
    oracle.set_bios_unseen(bios_unseen);
    oracle.set_claim_probe(life.claims);
    oracle.set_witnessed(true);
    oracle.observe(&life.host);
    events.iter().for_each(|event| oracle.observe(event));
    let mut tick = life.host;
    tick.stamp.at = Nanos(u64::MAX);
    tick.body = Body::Tick { ordinal: 1 };
    oracle.observe(&tick);
    Judge::ALL.map(|judge| oracle.tally(judge).outcome(Outcome::Diverged) > 0)
}

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

/// The kinds of events that are inserted.
const INSERTED: [&str; 10] = [
    "birth",
    "range",
    "attach",
    "bio_end",
    "put",
    "put_defer",
    "claim",
    "convert_begin",
    "convert_end",
    "release",
];

/// `kind` at `place`, by an actor and with bytes as they would be there.
fn insertion(life: &Life, kind: &str, place: usize, random: &mut Random) -> Option<Event> {
    let (before, after) = (&life.events[..place], &life.events[place..]);
    let birth = &life.events[0];
    let Body::IoEndBirth { io_end, inode, id } = birth.body else { unreachable!() };
    let put = before.iter().any(|it| matches!(it.body, Body::Put(_)))
        || before.iter().any(|it| {
            matches!(it.body, Body::PutDefer(_)) && it.stamp.task.tid == birth.stamp.task.tid
        });
    // Ranges and bios are the submitter's to add while it holds its reference: a range then is legal.
    if kind == "range" && !put {
        return None;
    }
    if kind == "claim" && !life.claims {
        return None;
    }
    // A birth after the release is the next life at that address.
    if kind == "birth" && after.is_empty() {
        return None;
    }
    let near = before.iter().rev().chain(after).find_map(|it| seen(&it.body))?;
    let mut event = *before.last()?;
    let workers = life.events.iter().find(|it| matches!(it.body, Body::ConvertBegin(_)));
    event.stamp.task = match (kind, workers) {
        ("birth" | "range" | "attach" | "put", _) => birth.stamp.task,
        ("claim" | "convert_begin" | "convert_end" | "release", Some(worker))
            if random.one_in(2) =>
        {
            worker.stamp.task
        }
        _ => Task { tid: 7, tgid: 7 },
    };
    event.stamp.context = endiod::event::Context::Task;
    event.body = match kind {
        "birth" => Body::IoEndBirth { io_end, inode, id },
        "range" => Body::RangeAdded { io_end, failed: false },
        "attach" => life.events.iter().find(|it| matches!(it.body, Body::BioAttach { .. }))?.body,
        "bio_end" => Body::BioEnd {
            bio: endiod::event::BioAddr(1),
            status: 0,
            ended_before: false,
            seen: near,
        },
        "put" => Body::Put(near),
        "put_defer" => Body::PutDefer(near),
        "claim" => Body::Claim(near),
        "convert_begin" => Body::ConvertBegin(near),
        "convert_end" => Body::ConvertEnd { io_end, ret: 0 },
        _ => Body::Release(near),
    };
    Some(event)
}

/// Diverged and all, by kind; of the core of 2012, of the refcounted one, of either.
type Shares = BTreeMap<String, [u32; 4]>;

fn note(shares: &mut Shares, kind: &str, told: [bool; 2]) {
    let row = shares.entry(kind.to_owned()).or_default();
    let either = told[0] || told[1];
    for (count, seen) in row.iter_mut().zip([told[0], told[1], either, true]) {
        *count += u32::from(seen);
    }
}

fn table(shares: &Shares) -> String {
    let row = |(kind, [old, new, either, all]): (&String, &[u32; 4])| {
        format!("{kind:<24} {old:>5} {new:>5} {either:>5} of {all}\n")
    };
    format!("{:<24} {:>5} {:>5} {:>5}\n", "kind", "2012", "5.5+", "any")
        + &shares.iter().map(row).collect::<String>()
}

#[test]
fn real_lives_are_allowed_whole() {
    let lives = lives();
    assert!(lives.len() >= LIVES_MIN, "only {} lives", lives.len());
    for life in &lives {
        assert_eq!(diverges(life, &life.events), [false; 2], "{:#?}", life.events);
    }
}

#[test]
fn after_one_inserted_event_the_oracle_diverges() {
    let mut random = Random::new(491);
    let mut shares = Shares::new();
    for life in &lives() {
        for kind in INSERTED {
            // After its birth, anywhere, also after its release.
            let place = 1 + random.below(life.events.len() as u64) as usize;
            let Some(event) = insertion(life, kind, place, &mut random) else { continue };
            let mut events = life.events.clone();
            events.insert(place, event);
            note(&mut shares, kind, diverges(life, &events));
        }
    }
    println!("{}", table(&shares));
    for (kind, [_, _, either, all]) in &shares {
        assert_eq!(either, all, "{kind}\n{}", table(&shares));
    }
}

/// One field of one image is changed.
fn alter(image: &mut IoEndImage, kind: &str) {
    match kind {
        "count + 1" => image.count += 1,
        "count - 1" => image.count = image.count.wrapping_sub(1),
        "flag ^ UNWRITTEN" => image.flag ^= 1,
        "flag ^ FAILED" => image.flag ^= 2,
        "flag | 4" => image.flag |= 4,
        "listed" => image.list_next = 0xffff_8880_0000_0400,
        _ => image.handle ^= 0xffff_8880_0000_0800,
    }
}

/// Least share in percent that is seen. Missed are: a count that other puts on their way explain, flags
/// before the submitter's put (they may be set then, and an image may be younger than its event), a
/// second handle in place of the first.
const ALTERED: [(&str, u32); 7] = [
    ("count + 1", 75),
    ("count - 1", 85),
    ("flag ^ UNWRITTEN", 88),
    ("flag ^ FAILED", 85),
    ("flag | 4", 100),
    ("listed", 100),
    ("handle", 60),
];

#[test]
fn after_one_altered_image_the_oracle_diverges_where_it_can_know() {
    let mut random = Random::new(3644);
    let mut shares = Shares::new();
    for life in &lives() {
        for (kind, _) in ALTERED {
            let imaged: Vec<usize> = (0..life.events.len())
                .filter(|at| seen(&life.events[*at].body).is_some_and(|seen| seen.image.is_some()))
                .collect();
            let mut events = life.events.clone();
            let place = imaged[random.below(imaged.len() as u64) as usize];
            match &mut events[place].body {
                Body::BioEnd { seen, .. }
                | Body::Put(seen)
                | Body::PutDefer(seen)
                | Body::Claim(seen)
                | Body::ConvertBegin(seen)
                | Body::Release(seen) => alter(seen.image.as_mut().unwrap(), kind),
                _ => unreachable!("it has an image"),
            }
            note(&mut shares, kind, diverges(life, &events));
        }
    }
    println!("{}", table(&shares));
    for (kind, share_min) in ALTERED {
        let [_, _, either, all] = shares[kind];
        assert!(either * 100 >= all * share_min, "{kind}\n{}", table(&shares));
    }
}
