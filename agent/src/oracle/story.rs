//! A counterexample as a picture in text: a lane per actor, a line per step.
//!
//! ```text
//!      interrupt             fsync P               worker W
//!   1  lock, add a, unlock   ·                     ·                     a: UNWRITTEN listed
//!   2  ·                     lock, del a, unlock   ·                     a: UNWRITTEN  claimed by P
//! ```
//!
//! It must never leave a step out: what is printed is the whole way from the initial state.

use std::fmt::Write as _;

use super::explore::{Core, Step};
use super::property::Property;

/// Names of the objects of a world.
const OBJECTS: [&str; 4] = ["a", "b", "c", "d"];

/// One line.
struct Line {
    lane: usize,
    text: String,
    view: String,
}

/// Lines of what comes after a hang.
const AFTER_MAX: usize = 24;

/// Tells the way that `property` was broken, step by step. A hang is told on until it repeats itself.
pub fn story<C: Core>(core: &C, property: Property, way: &[u16]) -> String {
    let (mut lines, state) = follow(core, way);
    let broken_at = lines.len();
    if property == Property::Evict {
        lines.extend(go_on(core, state));
    }
    let lanes = core.lanes();
    // A lane that does nothing in this story is left out.
    let used = |lane: &usize| lines.iter().any(|line| line.lane == *lane);
    let shown: Vec<usize> = (0..lanes.len()).filter(used).collect();
    let width = |lane: usize| {
        let texts = lines.iter().filter(|line| line.lane == lane).map(|line| line.text.as_str());
        texts.chain([lanes[lane]]).map(|text| text.chars().count()).max().unwrap_or(0) + 2
    };
    let mut text = String::from("     ");
    for lane in &shown {
        pad(&mut text, lanes[*lane], width(*lane));
    }
    text.truncate(text.trim_end().len());
    for (line, number) in lines.iter().zip(1..) {
        if number == broken_at + 1 {
            text.push_str("\n     from here on no schedule lets evict return; this one, say:");
        }
        // Writing to a String cannot fail.
        let _ = write!(text, "\n{number:3}  ");
        for lane in &shown {
            let said = if *lane == line.lane { line.text.as_str() } else { "·" };
            pad(&mut text, said, width(*lane));
        }
        text.push_str(&line.view);
    }
    let _ = write!(text, "\n     broken: {}: {}\n", property.label(), property.claim());
    text
}

fn pad(text: &mut String, word: &str, width: usize) {
    text.push_str(word);
    text.extend(std::iter::repeat_n(' ', width - word.chars().count()));
}

fn follow<C: Core>(core: &C, way: &[u16]) -> (Vec<Line>, C::State) {
    let mut state = core.initial();
    let mut lines = Vec::new();
    let mut steps = Vec::new();
    for place in way {
        steps.clear();
        core.steps(&state, &mut steps);
        let step = steps[usize::from(*place)];
        state = step.next;
        lines.push(line(core, &step));
    }
    (lines, state)
}

/// One of the ways on, until a state comes back or nobody can take a step.
fn go_on<C: Core>(core: &C, mut state: C::State) -> Vec<Line> {
    let mut seen = vec![state];
    let mut lines = Vec::new();
    let mut steps = Vec::new();
    while lines.len() < AFTER_MAX {
        steps.clear();
        core.steps(&state, &mut steps);
        let Some(step) = steps.last() else { break };
        state = step.next;
        lines.push(line(core, step));
        if seen.contains(&state) {
            break;
        }
        seen.push(state);
    }
    lines
}

fn line<C: Core>(core: &C, step: &Step<C::State>) -> Line {
    let object = step.object.map_or("", |object| OBJECTS[usize::from(object)]);
    Line {
        lane: usize::from(step.lane),
        text: step.what.replace("{}", object),
        view: core.view(&step.next),
    }
}

#[cfg(test)]
mod tests {
    use super::story;
    use crate::oracle::completed_list::{CompletedList, Variant, World};
    use crate::oracle::explore::explore;
    use crate::oracle::property::Property;
    use crate::oracle::refcounted::{Generation, Refcounted, World as Modern, Write};

    fn told(variant: Variant, property: Property) -> String {
        let core =
            CompletedList { variant, world: World { io_ends: 1, fsyncs: 1, one_cpu: false } };
        let explored = explore(&core);
        story(&core, property, explored.counterexample(property).unwrap())
    }

    #[test]
    fn bug_1_is_told_as_it_was_found_in_2012() {
        let told = told(Variant::UNFIXED, Property::FreedInUse);
        let order =
            ["fsync P1", "list_add a", "del a, unlock", "a is on no list", "free a", "broken: "];
        let mut rest = told.as_str();
        for words in order {
            let at = rest.find(words).unwrap_or_else(|| panic!("{words} comes too late\n{told}"));
            rest = &rest[at..];
        }
        assert!(!told.contains("evict E"), "evict has no part in it\n{told}");
    }

    #[test]
    fn a_worker_that_never_yields_is_told_to_keep_the_only_cpu() {
        let world = World { io_ends: 1, fsyncs: 1, one_cpu: true };
        let core = CompletedList { variant: Variant::WITHOUT_YIELD, world };
        let explored = explore(&core);
        let told = story(&core, Property::Evict, explored.counterexample(Property::Evict).unwrap());
        let (_, after) = told.split_once("from here on").expect(&told);
        let mut steps = after.lines().skip(1).take_while(|line| !line.contains("broken"));
        assert!(after.contains("trylock fails"), "{told}");
        assert!(steps.all(|line| line.ends_with("i_mutex: P1  CPU: W")), "{told}");
    }

    #[test]
    fn a_conversion_that_hangs_holds_up_the_other_inode_of_the_superblock() {
        let write = Write::of(1);
        let world = Modern { inodes: 2, hangs: true, ..Modern::two(write, write) };
        let core = Refcounted { generation: Generation::G6, world, mutant: None };
        let explored = explore(&core);
        let way = explored.counterexample(Property::Deadlock).unwrap();
        let told = story(&core, Property::Deadlock, way);
        let last = told.lines().rev().nth(1).unwrap();
        assert!(last.contains("the conversion of a hangs"), "{told}");
        assert!(last.contains("b: n=0 writeback=1") && last.ends_with("b's work queued"), "{told}");
        assert!(told.contains("fsync b") && !told.contains("evict b"), "{told}");
    }

    #[test]
    fn a_hang_is_told_until_it_repeats_itself() {
        let told = told(Variant::QUEUED_UNLOCKED, Property::Evict);
        let (_, after) = told.split_once("from here on").expect(&told);
        assert!(after.contains("store flag of a | QUEUED"), "{told}");
        assert!(after.contains("IN_FSYNC is set"), "{told}");
    }
}
