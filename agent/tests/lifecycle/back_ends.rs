//! The same worlds as other back ends see them: fewer acts, and nothing made up for the rest.

use std::collections::VecDeque;

use endiod::detect::Rule;
use endiod::event::{Backend, BioAddr, Body, Event, InodeAddr, IoEndAddr, Seen};
use endiod::lifecycle::{Move, Orphan, TRANSITIONS};
use endiod::probes::Witness;
use endiod::witnesses::Witnesses;

use crate::crimes::{
    Crime, Judged, again, commit, judge_by, kernel_of, needs_another_back_end, seeds, witnesses_of,
};
use crate::world::{Kernel, Random, World};

const INODE: InodeAddr = InodeAddr(7);

/// A world's stream as raw tracepoints show it.
pub(crate) fn raw_tracepoints(events: &[Event], random: &mut Random) -> Vec<Event> {
    let mut seen = with_tracepoints(events, random);
    seen.retain(|event| witness_of(&event.body).is_none());
    for event in &mut seen {
        if let Body::IoEndBirth { id, .. } = &mut event.body {
            *id = None;
        }
    }
    seen
}

/// A world's stream with bios done and worker runs as raw tracepoints show them. Bios are done as a
/// whole, or in two parts.
fn with_tracepoints(events: &[Event], random: &mut Random) -> Vec<Event> {
    let mut seen = Vec::new();
    let mut open: Vec<(IoEndAddr, VecDeque<BioAddr>)> = Vec::new();
    for (at, event) in events.iter().enumerate() {
        let mut say = |body| seen.push(Event { stamp: event.stamp, body });
        match event.body {
            Body::IoEndBirth { io_end, .. } => {
                open.retain(|(addr, _)| *addr != io_end);
                open.push((io_end, VecDeque::new()));
                say(event.body);
            }
            Body::BioAttach { io_end, sector, bytes, bio: _ } => {
                let bio = BioAddr(0xb10 + 8 * at as u64);
                if let Some((_, bios)) = open.iter_mut().find(|(addr, _)| *addr == io_end) {
                    bios.push_back(bio);
                }
                let id = Some(endiod::event::InodeId {
                    ino: endiod::event::Ino(7),
                    dev: endiod::event::DevId(254 << 20),
                });
                say(Body::IoEndInode { io_end, inode: INODE, id, layout: None });
                say(Body::BioAttach { io_end, bio, sector, bytes });
            }
            Body::BioEnd { status, seen: image, bio: _, ended_before: _ } => {
                let bios = open.iter_mut().find(|(addr, _)| *addr == image.io_end);
                let bio = bios.and_then(|(_, bios)| bios.pop_front()).unwrap_or(BioAddr(1));
                let mut done =
                    |part_bytes| say(Body::BioDone { bio, part_bytes, status, seen: image });
                if random.one_in(2) {
                    done(None);
                } else {
                    [Some(1024), Some(3072)].into_iter().for_each(&mut done);
                }
            }
            Body::WorkerBegin { inode } => {
                say(Body::WorkQueued { inode });
                say(Body::WorkerBegin { inode });
                let tid = event.stamp.task.tid;
                let own = events[at..].iter().filter(|it| it.stamp.task.tid == tid);
                let run = own.take_while(|it| !matches!(it.body, Body::WorkerEnd { .. }));
                for event in run {
                    let Body::Release(Seen { io_end, .. }) = event.body else { continue };
                    say(Body::Listed { inode, seen: Seen { io_end, image: None } });
                }
            }
            _ => say(event.body),
        }
    }
    for (seq, event) in seen.iter_mut().enumerate() {
        event.stamp.seq = seq as u64 + 1;
    }
    seen
}

/// Up to 5.15 `kmem_cache_free` is traced after the memory is free: a release can come after the next
/// birth at its address.
fn releases_late(events: &mut Vec<Event>, random: &mut Random) -> u64 {
    let mut crossed = 0;
    for at in 0..events.len() {
        let Body::Release(Seen { io_end, .. }) = events[at].body else { continue };
        let next_birth = events[at..].iter().position(
            |it| matches!(it.body, Body::IoEndBirth { io_end: born, .. } if born == io_end),
        );
        let Some(ahead) = next_birth.filter(|_| random.one_in(2)) else { continue };
        let behind = at + ahead + random.below(6);
        let release = events.remove(at);
        events.insert(behind.min(events.len()), release);
        crossed += 1;
    }
    crossed
}

fn world(seed: u64) -> World {
    let mut world = World::new(seed, kernel_of(seed), 1 + (seed % 5) as u32);
    while world.step() {}
    world
}

fn raw() -> Witnesses {
    Witnesses::all_by(Backend::RawTracepoint)
}

#[test]
fn legal_worlds_are_whole_lives_to_raw_tracepoints_and_never_accused() {
    for seed in seeds(3_000) {
        let world = world(seed);
        let events = raw_tracepoints(&world.events, &mut Random(seed));
        let judged = judge_by(&events, &raw(), 256);
        let summary = judged.lifecycle.summary();
        let objects = world.objects.len() as u64;
        assert_eq!(judged.findings, [], "{}", again(seed));
        assert_eq!(judged.detectors.tally(), &Default::default(), "{}", again(seed));
        assert_eq!(summary.irregular_steps, 0, "{}", again(seed));
        assert_eq!(summary.incomplete.iter().sum::<u64>(), 0, "{}", again(seed));
        assert_eq!(summary.lives_complete, objects, "{}", again(seed));
        assert_eq!(summary.bios_attached, summary.bios_done, "{}", again(seed));
        assert_eq!(summary.orphan(Orphan::BioDone), 0, "{}", again(seed));
        assert_eq!(judged.lifecycle.open_bios(), 0, "{}", again(seed));
        assert_eq!((summary.puts, summary.bios_ended), (0, 0), "{}", again(seed));
    }
}

#[test]
fn releases_that_are_traced_late_accuse_nobody() {
    let (mut crossed, mut doubtful) = (0, 0);
    for seed in seeds(3_000) {
        let mut random = Random(seed ^ 0xf4ee);
        let mut world = World::new(seed, kernel_of(seed), 5);
        // Few addresses, so that each is born again at once.
        world.free.truncate(16);
        while world.step() {}
        let mut events = raw_tracepoints(&world.events, &mut random);
        crossed += releases_late(&mut events, &mut random);
        let judged = judge_by(&events, &raw(), 256);
        assert_eq!(judged.findings, [], "{}", again(seed));
        doubtful += judged.lifecycle.summary().incomplete.iter().sum::<u64>();
    }
    let all = std::env::var_os("ENDIOD_SEED").is_none();
    assert!(!all || crossed > 1_000 && doubtful > 1_000, "only {crossed} crossed, {doubtful} told");
}

#[test]
fn bios_of_the_dead_are_found_by_raw_tracepoints() {
    let (mut committed, mut found) = (0_u64, 0_u64);
    for seed in 0..1_000 {
        let mut world = World::new(seed, kernel_of(seed), 3);
        if commit(&mut world, Crime::LateBio).is_none() {
            continue;
        }
        committed += 1;
        let events = raw_tracepoints(&world.events, &mut Random(seed));
        let judged = judge_by(&events, &raw(), 256);
        found += u64::from(judged.findings.contains(&Rule::UseAfterRelease));
    }
    assert!(committed > 300, "committed {committed} times");
    assert!(found * 100 >= committed * 95, "{found} of {committed}");
}

/// Streams in which some of what fentry sees is not witnessed, or by another back end.
fn mixed(events: &[Event], kernel: Kernel, without: &[Witness]) -> Judged {
    let mut witnesses = witnesses_of(kernel);
    without.iter().for_each(|witness| witnesses.set(*witness, None));
    let bios_by_tracepoint = events.iter().any(|it| matches!(it.body, Body::BioDone { .. }));
    if bios_by_tracepoint {
        witnesses.set(Witness::BioEnd, None);
        for witness in [Witness::BioDone, Witness::WorkerBegin, Witness::WorkerEnd] {
            witnesses.set(witness, Some(Backend::RawTracepoint));
        }
    }
    let mut events = events.to_vec();
    let gone = |body: &Body| match body {
        Body::WorkerEnd { .. } => without.contains(&Witness::WorkerEnd),
        body => witness_of(body).is_some_and(|it| without.contains(&it)),
    };
    events.retain(|event| !gone(&event.body));
    judge_by(&events, &witnesses, 256)
}

fn witness_of(body: &Body) -> Option<Witness> {
    Some(match body {
        Body::RangeAdded { .. } => Witness::Range,
        Body::BioEnd { .. } => Witness::BioEnd,
        Body::Put(_) => Witness::Put,
        Body::PutDefer(_) => Witness::PutDefer,
        Body::ConvertBegin(_) => Witness::ConvertBegin,
        Body::ConvertEnd { .. } => Witness::ConvertEnd,
        Body::Claim(_) => Witness::Claim,
        _ => return None,
    })
}

#[test]
fn lives_are_whole_whichever_witnesses_there_are() {
    use Witness::{BioEnd, ConvertBegin, ConvertEnd, Put, PutDefer, Range, WorkerEnd};
    let mut rows = vec![false; TRANSITIONS.len()];
    let gone: [&[Witness]; 9] = [
        &[],
        &[Put],
        &[PutDefer],
        &[Put, PutDefer],
        &[BioEnd],
        &[ConvertEnd],
        &[ConvertBegin, ConvertEnd],
        &[Range, Put],
        &[Put, PutDefer, ConvertBegin, ConvertEnd],
    ];
    for seed in seeds(300) {
        let world = world(seed);
        let tracepoints = with_tracepoints(&world.events, &mut Random(seed));
        for (events, without) in
            gone.iter().flat_map(|without| [(&world.events, without), (&tracepoints, without)])
        {
            let judged = mixed(events, kernel_of(seed), without);
            let summary = judged.lifecycle.summary();
            let told = format!("without {without:?}, {}", again(seed));
            assert_eq!(judged.findings, [], "{told}");
            assert_eq!(summary.irregular_steps, 0, "{told}");
            assert_eq!(summary.lives_complete, world.objects.len() as u64, "{told}");
            rows.iter_mut().zip(judged.rows).for_each(|(row, taken)| *row |= taken);
        }
        // Nobody is taken for a worker for ever, so nothing claimed by its thread later is odd.
        let judged = mixed(&world.events, kernel_of(seed), &[WorkerEnd]);
        assert_eq!(judged.findings, [], "{}", again(seed));
        let events = raw_tracepoints(&world.events, &mut Random(seed));
        let judged = judge_by(&events, &raw(), 256);
        rows.iter_mut().zip(judged.rows).for_each(|(row, taken)| *row |= taken);
    }
    let taken = TRANSITIONS.iter().zip(rows).filter(|(_, taken)| *taken).map(|(row, _)| *row);
    let missing: Vec<_> = TRANSITIONS
        .iter()
        .filter(|(_, action, _)| needs_another_back_end(*action))
        // Of 2012 alone: legal_requeue_2012.trace.
        .filter(|(_, action, _)| *action != Move::Requeue)
        .filter(|row| !taken.clone().any(|it| it == **row))
        .collect();
    assert!(missing.is_empty(), "no world takes {missing:?}");
}
