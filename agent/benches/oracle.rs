//! What the oracle costs: the corpus of real lives through the whole pipeline, and its events through the
//! oracle alone.
//!
//! ```text
//!   cargo bench -p endiod --bench oracle                      time per event
//!   valgrind --tool=callgrind … PART ROUNDS, with two ROUNDS  instructions per event: their difference
//! ```
//!
//! `PART` is `pipeline` or `oracle`. A round is every recording once. It must never be a test: a time
//! is one of a machine.

#![expect(clippy::unwrap_used, reason = "a benchmark may")]

use std::{env, fs, hint::black_box, path::Path, time::Instant};

use endiod::{
    decode::decode,
    event::{Body, Event},
    metrics::Metrics,
    oracle::in_step::{Judge, Oracle, Outcome, Protocol},
    pipeline::{Pipeline, names},
    source::trace::Reader,
};

const RECORDINGS: [&str; 4] = ["failing/6.1", "failing/6.18", "buffered-6.18", "lives-6.1"];
const ROUNDS: u32 = 40;

/// A recording: its records, and what they say.
struct Corpus {
    records: Vec<Vec<u8>>,
    events: Vec<Event>,
}

fn main() {
    let corpora: Vec<Corpus> = RECORDINGS.iter().map(|name| corpus(name)).collect();
    let events: usize = corpora.iter().map(|corpus| corpus.events.len()).sum();
    // Cargo gives `--bench` of its own.
    let args: Vec<String> = env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let (parts, rounds): (Vec<&str>, u32) = match &args[..] {
        [] => (vec!["pipeline", "oracle"], ROUNDS),
        [part, rounds] => (vec![part], rounds.parse().unwrap()),
        other => panic!("PART ROUNDS, not {other:?}"),
    };
    for part in parts {
        let run = match part {
            "pipeline" => pipeline,
            "oracle" => oracle,
            other => panic!("pipeline or oracle, not {other}"),
        };
        let begun = Instant::now();
        (0..rounds).for_each(|_| corpora.iter().for_each(run));
        let all = f64::from(rounds) * f64::from(u32::try_from(events).unwrap());
        let per_event_ns = begun.elapsed().as_secs_f64() * 1e9 / all;
        println!("{part:<10}{events} events, {rounds} rounds: {per_event_ns:.1} ns per event");
    }
}

fn corpus(name: &str) -> Corpus {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let bytes = fs::read(dir.join(format!("{name}.endiod"))).unwrap();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        records.push(record.to_vec());
    }
    let events = records.iter().map(|record| decode(record).unwrap()).collect();
    Corpus { records, events }
}

fn pipeline(corpus: &Corpus) {
    let mut pipeline = Pipeline::new(Metrics::new(names()).unwrap());
    corpus.records.iter().for_each(|record| pipeline.feed(record));
    black_box(pipeline.findings());
}

fn oracle(corpus: &Corpus) {
    let mut oracle = Oracle::default();
    let claims = corpus.events.iter().any(|event| match event.body {
        Body::Host { release, .. } => {
            Protocol::of(&release.0) == Protocol::Refcounted { claims: true }
        }
        _ => false,
    });
    oracle.set_claim_probe(claims);
    oracle.set_witnessed(true);
    for event in &corpus.events {
        // An attached probe is a doubt: here all of them are there from the first.
        if !matches!(event.body, Body::Attach { .. }) {
            oracle.observe(event);
        }
        black_box(oracle.said());
    }
    assert!(oracle.tally(Judge::Refcounted).outcome(Outcome::Allowed) > 0);
}
