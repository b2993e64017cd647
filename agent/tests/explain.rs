//! `endiod explain`: stories of worlds, recordings and crimes, and what it says of bad input.
//!
//! `ENDIOD_UPDATE=1` writes the pictures anew; read the difference before it is kept.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "explain/command.rs"]
mod command;
#[path = "explain/streams.rs"]
mod streams;

use std::collections::BTreeMap;

use endiod::{
    decode::decode,
    event::{Body, Nanos},
    source::sim::{Faults, Half, Slip, World},
    story::{Seeker, Story, WIDTH},
};

use streams::{BUG_2, NAMES, NO_FAULTS, records, renamed, story, watched};

const SEEDS: u64 = 4;
const LIVES: u32 = 12;
const EXCHANGED: Faults = Faults { exchanged: 500, ..NO_FAULTS };

fn worlds() -> Vec<World> {
    let cores = [Half::UNFIXED, Half::FIXED, BUG_2].map(World::CompletedList);
    let slips = Slip::ALL.into_iter().map(|slip| World::Refcounted(Some(slip)));
    cores.into_iter().chain([World::Refcounted(None)]).chain(slips).collect()
}

/// The accused io_ends of a stream with a finding of each, then some that are not accused.
fn subjects(records: &[Vec<u8>]) -> Vec<(String, Option<String>)> {
    let mut seeker = Seeker::new(None);
    let pipeline = watched(records, &mut seeker);
    let accused = pipeline.findings().iter();
    let accused = accused.map(|finding| (finding.object.clone(), Some(finding.id.clone())));
    let others = seeker.list().into_iter().take(3).map(|listed| (listed.object, None));
    accused.chain(others).collect()
}

/// Events of io_ends by address and birth, counted from the records alone: a birth begins an incarnation.
fn counted(records: &[Vec<u8>]) -> BTreeMap<(u64, Nanos), usize> {
    let mut born: BTreeMap<u64, Nanos> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for event in records.iter().filter_map(|record| decode(record).ok()) {
        let io_end = match event.body {
            Body::IoEndBirth { io_end, .. } => {
                born.insert(io_end.0, event.stamp.at);
                io_end
            }
            Body::RangeAdded { io_end, .. }
            | Body::BioAttach { io_end, .. }
            | Body::ConvertEnd { io_end, .. } => io_end,
            Body::BioEnd { seen, .. }
            | Body::Put(seen)
            | Body::PutDefer(seen)
            | Body::Claim(seen)
            | Body::ConvertBegin(seen)
            | Body::Requeue { seen, .. }
            | Body::Release(seen) => seen.io_end,
            _ => continue,
        };
        *counts.entry((io_end.0, born[&io_end.0])).or_default() += 1;
    }
    counts
}

/// Steps that are an event of the io_end, not of a call around it.
fn own_steps(story: &Story) -> usize {
    let around = ["worker_begin", "worker_end", "fsync_begin", "fsync_end"];
    story.steps.iter().filter(|step| !around.contains(&step.act)).count()
}

/// What must hold of every picture.
fn check_picture(story: &Story, finding: Option<&str>) {
    let picture = story.to_string();
    for line in picture.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
    let header = picture.lines().position(|line| line.starts_with("  step")).unwrap();
    let columns = |line: &str, wanted: &[char]| -> Vec<usize> {
        let found = line.chars().enumerate().filter(|(at, c)| *at < 45 && wanted.contains(c));
        found.map(|(at, _)| at).collect()
    };
    let letters: Vec<char> = story.lanes.iter().map(|lane| lane.letter).collect();
    let lanes = columns(picture.lines().nth(header).unwrap(), &letters);
    assert_eq!(lanes.len(), story.lanes.len(), "{picture}");
    let mut marks = 0;
    let steps = picture.lines().skip(header + 1).take(story.steps.len());
    for (line, step) in steps.zip(&story.steps) {
        assert_eq!(columns(line, &['●']), [lanes[step.lane]], "{line}\n{picture}");
        assert!(
            columns(line, &['┃', '│']).iter().all(|it| lanes.contains(it)),
            "{line}\n{picture}"
        );
        let shown: String = line.chars().skip(1).take(5).collect();
        assert_eq!(shown.trim().parse(), Ok(step.number), "{line}");
        marks += usize::from(line.starts_with('✗'));
    }
    // Nobody acted where something is stuck.
    let acted = finding.is_some() && !picture.contains(": stuck, symptom");
    assert_eq!(marks, usize::from(acted), "{picture}");
    assert_eq!(picture.lines().filter(|line| line.starts_with('✗')).count(), marks, "{picture}");
    assert!(story.plain.len() > 1, "{picture}");
}

#[test]
fn every_event_of_an_io_end_is_told_once_in_every_world() {
    let mut found = 0;
    for world in worlds() {
        for seed in 0..SEEDS {
            for faults in [NO_FAULTS, EXCHANGED] {
                let stream = records(world, seed, LIVES, faults);
                let counts = counted(&stream);
                for (object, finding) in subjects(&stream) {
                    let story = story(&stream, &object, finding.as_deref());
                    check_picture(&story, finding.as_deref());
                    let born = Nanos(story.born_ns);
                    let here = counts.iter().filter(|((_, at), _)| *at == born);
                    let here: Vec<usize> = here.map(|(_, count)| *count).collect();
                    assert_eq!(here, [own_steps(&story)], "{world:?} {seed}\n{story}");
                    found += usize::from(finding.is_some());
                }
            }
        }
    }
    assert!(found > 40, "only {found} findings were explained");
}

#[test]
fn a_stream_with_losses_is_told_as_far_as_it_goes() {
    let faults = Faults { lost: 60, cut: 20, doubled: 20, exchanged: 500 };
    let mut gaps = 0;
    for world in worlds() {
        for seed in 0..SEEDS / 2 {
            let stream = records(world, seed, LIVES, faults);
            for (object, finding) in subjects(&stream) {
                let story = story(&stream, &object, finding.as_deref());
                check_picture(&story, finding.as_deref());
                gaps += story.gaps.len();
            }
        }
    }
    assert!(gaps > 10, "only {gaps} gaps: nothing was lost");
}

#[test]
fn tasks_are_told_by_what_they_did_whatever_they_are_called() {
    for world in worlds() {
        for seed in 0..SEEDS / 2 {
            let stream = records(world, seed, LIVES, NO_FAULTS);
            let others = renamed(&stream, seed, &NAMES);
            for ((object, finding), (_, renamed)) in
                subjects(&stream).into_iter().zip(subjects(&others))
            {
                let one = story(&stream, &object, finding.as_deref());
                let other = story(&others, &object, renamed.as_deref());
                check_picture(&other, renamed.as_deref());
                let roles = |story: &Story| -> Vec<_> {
                    story.lanes.iter().map(|lane| (lane.role, lane.did.clone())).collect()
                };
                assert_eq!(roles(&one), roles(&other), "{one}\n{other}");
                let steps = |story: &Story| -> Vec<_> {
                    story.steps.iter().map(|step| (step.lane, step.what.clone())).collect()
                };
                assert_eq!(steps(&one), steps(&other), "{one}\n{other}");
                let named = other.lanes.iter().filter(|lane| lane.name.is_some()).count();
                assert_eq!(named, other.lanes.iter().filter(|it| it.tid.is_some()).count());
            }
        }
    }
}

/// Many CPUs and many tasks share the lanes that there are, and say who they are.
#[test]
fn more_actors_than_lanes_share_them() {
    let stream = records(World::Refcounted(None), 3, 40, NO_FAULTS);
    let mut most = 0;
    for (object, finding) in subjects(&stream) {
        // Every record in task context by another task.
        let mut crowd = stream.clone();
        for (at, record) in crowd.iter_mut().enumerate() {
            let tid_at = std::mem::offset_of!(endiod_wire::wire::Header, tid);
            record[tid_at..][..4].copy_from_slice(&(1000 + at as u32).to_ne_bytes());
        }
        let story = story(&crowd, &object, finding.as_deref());
        check_picture(&story, finding.as_deref());
        let shared = story.lanes.iter().any(|lane| lane.who == "other tasks");
        let said = story.steps.iter().any(|step| step.what.starts_with("task "));
        assert_eq!(shared, said, "{story}");
        most = most.max(story.lanes.len());
    }
    assert_eq!(most, 6, "no picture was crowded");
}

/// What a reader who never read the commit must be told of each bug.
#[test]
fn both_bugs_of_2012_are_told_in_plain_words() {
    let told = |name: &str, args: &[&str]| {
        let (exit, out, err) = command::explain(&command::data(name), args);
        assert_eq!((exit, err.as_str()), (Some(0), ""), "{name}");
        out.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    let contains = |told: &str, all: &[&str]| {
        for words in all {
            assert!(told.contains(words), "{words:?} is not in\n{told}");
        }
    };
    let bug_1 = told("bug_1.endiod", &[]);
    contains(
        &bug_1,
        &[
            "interrupts on cpu",
            "fsync path: took it off the list",
            "worker: freed it",
            "ext4_flush_completed_IO",
            "ext4_free_io_end",
            "In the middle of that, in step",
            "found it on no list",
            "can not even be killed",
        ],
    );
    let freed = told("bug_2_freed.endiod", &[]);
    contains(&freed, &["UNWRITTEN|IN_FSYNC", "the mark is there", "is gone", "a lost update"]);
    let hang = told("bug_2_hang.endiod", &["--io-end", "5d5ff6fb29828db4"]);
    contains(
        &hang,
        &["never freed", "more runs of the worker", "QUEUED outside of the lock", "umount"],
    );
}

/// A requeue whose record has the lock's word: held or free is what was seen, and free is told.
#[test]
fn a_requeue_outside_of_the_lock_is_told_as_that() {
    use endiod_wire::wire::{Header, PutDefer, Record as _, Requeue, bytes_of, context, valid};
    let stream = records(World::CompletedList(Half::FIXED), 1, 1, NO_FAULTS);
    let put = stream.iter().position(|it| it[..2] == PutDefer::KIND.to_ne_bytes()).unwrap();
    let event = decode(&stream[put]).unwrap();
    let Body::PutDefer(seen) = event.body else { panic!("it is a put") };
    for (lock, told) in [(0, "free"), (1, "held")] {
        let len = u16::try_from(size_of::<Requeue>()).unwrap();
        let (kind, cpu, lane, seq, time_ns) = (Requeue::KIND, 9, 0, 1, event.stamp.at.0);
        let (tid, tgid, context) = (50, 50, context::TASK);
        let header = Header { kind, len, cpu, lane, context, seq, time_ns, tid, tgid };
        let image = seen.image.unwrap();
        let io_end = seen.io_end.0;
        let mut other = stream.clone();
        let requeue = Requeue { header, io_end, valid: valid::IMAGE | valid::LOCK, lock, image };
        other.insert(put + 1, bytes_of(&requeue).to_vec());
        let (object, finding) = subjects(&other).remove(0);
        let story = story(&other, &object, finding.as_deref());
        let step = story.steps.iter().find(|step| step.act == "requeue").unwrap();
        assert_eq!(step.lock, Some(told), "{story}");
        let said = story.plain.iter().any(|it| it.contains("while nobody held the lock"));
        assert_eq!(said, lock == 0, "{story}");
    }
}
