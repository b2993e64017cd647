//! The set of states against the core that it stands for: in every interleaving of a small world, with
//! each put seen before it decrements, the set is never empty where the core holds, and becomes
//! empty where it breaks something that a probe can see.

use super::life::Life;
use super::protocol::{Protocol, Rules};
use super::{Act, By, Judge, Sighting};
use crate::event::{Context, IoEndImage, Nanos};
use crate::oracle::claims::{CLAIMS, Subject, mutants};
use crate::oracle::completed_list::{self, CompletedList};
use crate::oracle::explore::{Core, Explored, Step, explore};
use crate::oracle::property::{Properties, Property};
use crate::oracle::refcounted::{Generation, MUTANTS, Mutant, OWNERS, Refcounted, State};

/// Stands for "the set became empty".
const DIVERGED: Property = Property::WriteRule;
const JUDGE: usize = Judge::Refcounted as usize;
const OWNER: u32 = OWNERS[0];

/// The core and what the judge makes of one of its io_ends: it judges each life for itself.
struct Both {
    core: Refcounted,
    judged: u8,
    /// Attachments that no probe sees, a bit each, in their order.
    hidden: u8,
    /// Whether the judge knows that there may be such.
    bios_unseen: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Joint {
    core: State,
    life: Life,
    /// Lanes that entered their put and have not decremented, a bit each.
    entered: u16,
    /// Attachments so far.
    attached: u8,
}

impl Core for Both {
    type State = Joint;

    fn initial(&self) -> Joint {
        let owner = OWNERS[usize::from(self.judged)];
        let (core, life) = (self.core.initial(), Life::new(Nanos(1), owner));
        Joint { core, life, entered: 0, attached: 0 }
    }

    fn steps(&self, state: &Joint, out: &mut Vec<Step<Joint>>) {
        let mut steps = Vec::new();
        self.core.steps(&state.core, &mut steps);
        let claims = matches!(self.core.generation, Generation::G5 | Generation::G6);
        let all_seen = Protocol::Refcounted { claims }.rules(claims);
        let rules = Rules { bios_unseen: self.bios_unseen, ..all_seen };
        for step in steps {
            let bit = 1 << step.lane;
            let puts = step.what.starts_with("ext4_put_io_end");
            let enters = puts && state.entered & bit == 0;
            let mut next = *state;
            let mut diverged = false;
            if !puts || enters {
                for sighting in self.core.probes(&state.core, &step, self.judged) {
                    if sighting.act == Act::Attach {
                        next.attached += 1;
                        if self.hidden >> state.attached & 1 == 1 {
                            continue;
                        }
                    }
                    diverged |= next.life.follow(&sighting, rules)[JUDGE] == Some(0);
                }
            }
            if enters {
                next.entered |= bit;
            } else {
                next.core = step.next;
                next.entered &= !bit;
            }
            let Step { lane, what, object, .. } = step;
            let mut broken = Properties::NONE;
            broken.note(DIVERGED, diverged);
            out.push(Step { lane, what, object, next, broken });
        }
    }

    fn done(&self, state: &Joint) -> bool {
        self.core.done(&state.core)
    }

    fn lanes(&self) -> Vec<&'static str> {
        self.core.lanes()
    }

    fn view(&self, state: &Joint) -> String {
        self.core.view(&state.core)
    }
}

/// With at most two bios of one io_end, one of each of two: more of them add states and no rule.
fn small(mut core: Refcounted) -> Refcounted {
    let bios = if core.world.io_ends == 1 { 2 } else { 1 };
    for write in &mut core.world.writes {
        write.bios = write.bios.min(bios);
        write.failing &= (1 << bios) - 1;
    }
    core.world.fsync = false;
    core
}

/// For each io_end, what its judge says of every interleaving.
fn told(core: Refcounted) -> impl Iterator<Item = (Both, Explored)> {
    (0..core.world.io_ends).map(move |judged| {
        let both = Both { core: small(core), judged, hidden: 0, bios_unseen: false };
        let told = explored(&both);
        (both, told)
    })
}

fn explored(both: &Both) -> Explored {
    let told = explore(both);
    assert!(told.whole && told.states > 30);
    told
}

/// The story of a divergence, if there is one.
fn divergence(both: &Both, told: &Explored) -> Option<String> {
    let way = told.counterexample(DIVERGED)?;
    Some(crate::oracle::story::story(both, DIVERGED, way))
}

/// Does the judge of any of the io_ends say that the core has no such run?
fn diverges(core: Refcounted) -> bool {
    told(core).any(|(_, told)| !told.holds(DIVERGED))
}

#[test]
fn where_the_core_holds_the_set_is_never_empty() {
    let (mut of_one, mut of_two) = (0, 0);
    let mut done = Vec::new();
    for claim in CLAIMS.iter().filter(|claim| claim.breaks.is_empty()) {
        let Subject::Refcounted(core) = claim.subject else { continue };
        let core = small(core);
        if done.contains(&(core.generation, core.world)) {
            continue;
        }
        done.push((core.generation, core.world));
        for (both, told) in told(core) {
            let story = divergence(&both, &told);
            let (core, world, of) = (claim.core, claim.world, both.judged);
            assert!(story.is_none(), "{core}, {world}, {of}\n{}", story.unwrap_or_default());
        }
        *(if core.world.io_ends == 1 { &mut of_one } else { &mut of_two }) += 1;
    }
    assert!(of_one > 20 && of_two > 20, "{of_one} and {of_two} worlds");
}

/// In every interleaving, whichever of the bios are attached unseen: known to be possible, it explains
/// every event; not known, it looks like a bio's end too many.
#[test]
fn where_bios_may_be_attached_unseen_a_sound_core_never_diverges() {
    let sound = CLAIMS.iter().filter(|claim| claim.breaks.is_empty());
    let cores = sound.filter_map(|claim| match claim.subject {
        Subject::Refcounted(core) if core.world.io_ends == 1 => Some(small(core)),
        _ => None,
    });
    let mut worlds = 0;
    for core in cores.filter(|core| core.world.writes[0].bios > 0) {
        for hidden in 1..1 << core.world.writes[0].bios {
            let known = Both { core, judged: 0, hidden, bios_unseen: true };
            let story = divergence(&known, &explored(&known));
            assert!(story.is_none(), "{core:?} {hidden:b}\n{}", story.unwrap_or_default());
            let taken_for_seen = Both { core, judged: 0, hidden, bios_unseen: false };
            assert!(!explored(&taken_for_seen).holds(DIVERGED), "{core:?} {hidden:b}");
            worlds += 1;
        }
    }
    assert!(worlds > 20, "{worlds} worlds");
}

#[test]
fn what_a_probe_can_see_of_a_mutant_empties_the_set() {
    // What these do is in no image and in no order of events.
    let unseen = [
        Mutant::WritebackClearedEarly,
        Mutant::QueuedIfNotEmpty,
        Mutant::ListedUnlocked,
        Mutant::TakenUnlocked,
        Mutant::TakesOne,
        Mutant::RunNotRepeated,
        Mutant::InodeAfterWriteback,
    ];
    for (mutant, world, _) in MUTANTS {
        let core = Refcounted { generation: Generation::G6, world: *world, mutant: Some(*mutant) };
        assert_eq!(diverges(core), !unseen.contains(mutant), "{mutant:?}");
    }
}

#[test]
fn the_race_for_the_flag_empties_the_set() {
    let race = CLAIMS.iter().filter(|claim| claim.breaks.contains(&Property::UpdateLost));
    let mut races = 0;
    for claim in race {
        let Subject::Refcounted(core) = claim.subject else { continue };
        assert!(diverges(core), "{}, {}", claim.core, claim.world);
        races += 1;
    }
    assert_eq!(races, 3);
}

/// The core of 2012 and its judge, one life per io_end.
struct Old(CompletedList);

impl Core for Old {
    type State = (completed_list::State, [Life; 2]);

    fn initial(&self) -> Self::State {
        let rules = Protocol::CompletedList.rules(true);
        let mut life = Life::new(Nanos(1), OWNER);
        let by = By { tid: OWNER, cpu: 0, context: Context::Task, worker: None };
        for act in [Act::Attach, Act::Put] {
            life.follow(&Sighting { act, by, addr: 0x1000, image: None }, rules);
        }
        (self.0.initial(), [life; 2])
    }

    fn steps(&self, (core, lives): &Self::State, out: &mut Vec<Step<Self::State>>) {
        let rules = Protocol::CompletedList.rules(true);
        let mut steps = Vec::new();
        self.0.steps(core, &mut steps);
        for step in steps {
            let (mut lives, mut diverged) = (*lives, false);
            for (object, sighting) in self.0.probes(core, &step) {
                let told = lives[object].follow(&sighting, rules);
                diverged |= told[Judge::CompletedList as usize] == Some(0);
            }
            let mut broken = Properties::NONE;
            broken.note(DIVERGED, diverged);
            let Step { lane, what, object, next, .. } = step;
            out.push(Step { lane, what, object, next: (next, lives), broken });
        }
    }

    fn done(&self, state: &Self::State) -> bool {
        self.0.done(&state.0)
    }

    fn lanes(&self) -> Vec<&'static str> {
        self.0.lanes()
    }

    fn view(&self, state: &Self::State) -> String {
        self.0.view(&state.0)
    }
}

/// In every interleaving: the set is emptied exactly by the cores that free in use, free twice, convert
/// twice, touch what is freed or set QUEUED outside of the lock.
#[test]
fn the_set_of_2012_is_emptied_exactly_where_the_core_breaks_what_a_probe_can_see() {
    use Property::{Converted, FreedInUse, FreedOnce, UsedAfterFree};
    let claims = CLAIMS.iter().map(|claim| claim.subject);
    let (mut kept, mut broke) = (0, 0);
    for subject in claims.chain(mutants().map(|mutant| mutant.subject)) {
        let Subject::CompletedList(mut core) = subject else { continue };
        core.world.fsyncs = core.world.fsyncs.min(1);
        let (alone, both) = (explore(&core), explore(&Old(core)));
        let seen = [FreedInUse, UsedAfterFree, Converted, FreedOnce];
        let unlocked = !core.variant.queued_under_lock && !alone.holds(Property::WriteRule);
        let breaks = unlocked || seen.iter().any(|property| !alone.holds(*property));
        assert_eq!(breaks, !both.holds(DIVERGED), "{core:?}");
        (kept, broke) = (kept + u32::from(!breaks), broke + u32::from(breaks));
    }
    assert!(kept > 4 && broke > 8, "{kept} kept, {broke} broke");
}

/// What 6.18 does with one unwritten bio that the worker converts, without images.
const WHOLE: [(Act, u32); 9] = [
    (Act::Range { failed: false }, OWNER),
    (Act::Attach, OWNER),
    (Act::Put, OWNER),
    (Act::BioEnd { failed: false }, 99),
    (Act::PutDefer, 99),
    (Act::Claim, 50),
    (Act::ConvertBegin, 50),
    (Act::ConvertEnd, 50),
    (Act::Release, 50),
];
const STRANGER: u32 = 60;

/// Which core has no run with `act` by `tid` after the first `len` steps: 2012's, today's.
fn refused(len: usize, act: Act, tid: u32) -> [bool; 2] {
    refused_with(len, act, tid, None)
}

/// The same, of an event that shows this flag at count 0.
fn refused_with(len: usize, act: Act, tid: u32, flag: Option<u32>) -> [bool; 2] {
    let rules = Protocol::Refcounted { claims: true }.rules(true);
    let mut life = Life::new(Nanos(1), OWNER);
    let sighting = |(act, tid)| {
        let context = if tid == 99 { Context::SoftIrq } else { Context::Task };
        let by = By { tid, cpu: 0, context, worker: Some(tid == 50) };
        Sighting { act, by, addr: 0x1000, image: None }
    };
    for step in &WHOLE[..len] {
        let told = life.follow(&sighting(*step), rules);
        assert!(told.iter().all(|states| states.is_some_and(|states| states > 0)), "{step:?}");
    }
    let (list_next, list_prev) = (0x1000, 0x1000);
    let image = |flag| IoEndImage { flag, list_next, list_prev, ..IoEndImage::default() };
    let last = Sighting { image: flag.map(image), ..sighting((act, tid)) };
    life.follow(&last, rules).map(|states| states == Some(0))
}

#[test]
fn a_whole_life_is_allowed_and_nothing_comes_after_it() {
    for (act, tid) in WHOLE {
        assert_eq!(refused(WHOLE.len(), act, tid), [true; 2], "{act:?}");
    }
}

#[test]
fn a_stranger_may_not_touch_what_is_claimed() {
    for (len, act) in
        [(6, Act::ConvertBegin), (7, Act::ConvertEnd), (6, Act::Claim), (7, Act::Release)]
    {
        assert_eq!(refused(len, act, STRANGER), [true; 2], "{act:?}");
    }
    // Of old the worker frees what the flusher converted; today the claimer frees.
    assert_eq!(refused(8, Act::Release, STRANGER), [false, true]);
    assert_eq!(refused(8, Act::Release, 50), [false, false]);
}

#[test]
fn only_the_worker_claims_what_is_listed() {
    assert_eq!(refused(5, Act::Claim, STRANGER), [false, true]);
    // 2012 has no threads that are told apart from the worker: who takes it off the list, claims it.
    assert_eq!(refused(5, Act::Claim, 50), [false, false]);
}

#[test]
fn before_the_last_put_nobody_claims_or_frees() {
    for act in [Act::Claim, Act::ConvertBegin, Act::ConvertEnd, Act::Release] {
        for len in 0..4 {
            assert_eq!(refused(len, act, 50), [true; 2], "{act:?} after {len} steps");
        }
    }
}

#[test]
fn what_is_listed_is_not_freed_without_its_conversion() {
    for flag in [0, 1] {
        assert_eq!(refused_with(5, Act::Release, 50, Some(flag)), [flag == 1, flag == 1], "{flag}");
    }
}

/// What the cores say after `WHOLE` with these attachments seen and not known of, event by event:
/// `None` is "could not tell".
fn told_of(acts: &[(Act, u32)], bios_unseen: bool) -> Vec<[Option<u32>; 2]> {
    let rules = Rules { bios_unseen, ..Protocol::Refcounted { claims: true }.rules(true) };
    let mut life = Life::new(Nanos(1), OWNER);
    let follow = |&(act, tid): &(Act, u32)| {
        let context = if tid == 99 { Context::SoftIrq } else { Context::Task };
        let by = By { tid, cpu: 0, context, worker: Some(tid == 50) };
        life.follow(&Sighting { act, by, addr: 0x1000, image: None }, rules)
    };
    acts.iter().map(follow).collect()
}

/// The first event of which a core says that it has no run with it.
fn diverged_at(told: &[[Option<u32>; 2]]) -> Option<usize> {
    told.iter().position(|states| states.contains(&Some(0)))
}

#[test]
fn an_end_whose_attachment_was_not_seen_could_not_be_told_only_where_that_is_possible() {
    let unattached: Vec<_> = WHOLE.into_iter().filter(|(act, _)| *act != Act::Attach).collect();
    let end = unattached.iter().position(|(act, _)| matches!(act, Act::BioEnd { .. })).unwrap();
    assert_eq!(diverged_at(&told_of(&unattached, false)), Some(end));
    let told = told_of(&unattached, true);
    assert_eq!(diverged_at(&told), None);
    assert!(told[..end].iter().all(|states| states.iter().all(Option::is_some)));
    assert!(told[end..].iter().all(|states| *states == [None; 2]), "judged on wrong counts");
}

#[test]
fn an_end_too_many_diverges_where_every_attachment_is_seen() {
    let first = WHOLE.iter().position(|(act, _)| matches!(act, Act::BioEnd { .. })).unwrap();
    for place in first + 1..=WHOLE.len() {
        let mut acts = WHOLE.to_vec();
        acts.insert(place, WHOLE[first]);
        assert_eq!(diverged_at(&told_of(&acts, false)), Some(place));
        assert_eq!(
            diverged_at(&told_of(&acts, true)),
            None,
            "it may be of a bio that was not seen"
        );
    }
}

const FAILED: u32 = 2;

/// What today's core says of a put by the submitter that reads this, after these.
fn put_read(before: &[(Act, u32)], count: u32, flag: u32, bios_unseen: bool) -> Option<u32> {
    let rules = Rules { bios_unseen, ..Protocol::Refcounted { claims: true }.rules(true) };
    let (list_next, list_prev) = (0x1000, 0x1000);
    let image = IoEndImage { count, flag, list_next, list_prev, ..IoEndImage::default() };
    let mut life = Life::new(Nanos(1), OWNER);
    let mut told = [None; 2];
    let put = (Act::Put, OWNER);
    for &(act, tid) in before.iter().chain([&put]) {
        let context = if tid == 99 { Context::SoftIrq } else { Context::Task };
        let by = By { tid, cpu: 0, context, worker: Some(false) };
        let image = (act == Act::Put).then_some(image);
        told = life.follow(&Sighting { act, by, addr: 0x1000, image }, rules);
    }
    told[JUDGE]
}

#[test]
fn a_count_above_the_bios_seen_could_not_be_told_only_where_more_are_possible() {
    let attached = [(Act::Attach, OWNER)];
    // The submitter holds one, the bio another.
    assert!(put_read(&attached, 2, 0, false) > Some(0));
    assert_eq!(put_read(&attached, 3, 0, false), Some(0));
    assert_eq!(put_read(&attached, 3, 0, true), None);
}

/// One bio is seen attached and fails, another is not and ends well. A put that read the failure may be
/// told before the failed end: with the other's end all that were seen attached have ended.
#[test]
fn an_unseen_bio_does_not_make_the_failure_of_a_seen_one_unfounded() {
    let other = [(Act::BioEnd { failed: false }, 99), (Act::PutDefer, 99)];
    let before = [&[(Act::Attach, OWNER)][..], &other].concat();
    assert!(put_read(&before, 2, FAILED, true) > Some(0));
    assert_eq!(put_read(&before, 2, FAILED, false), Some(0));
}
