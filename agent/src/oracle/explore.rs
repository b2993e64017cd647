//! Every interleaving of a core's actors in a small world.
//!
//! ```text
//!   initial ──breadth first──► all reachable states ──► the first step that breaks each property
//!                                    │                  (breadth first: no shorter way exists)
//!                                    ├── no step, not done ──► deadlock
//!   done ◄──backward over all edges──┘
//!     └── states that are not reached backward ──► evict can never return from there
//! ```
//!
//! **Fairness.** "From every reachable state a done state is reachable" is, in a finite world, the
//! same as: evict returns in every run in which a step that is possible again and again is taken at
//! last. So the worker and the flusher are assumed fair, and nothing else is: a run that only loops
//! without a way out is found, one that merely may loop for long is not a fault. A scheduler that is
//! not fair belongs to the core, as steps that are not possible while another has the CPU.
//!
//! A broken property does not end a branch: what comes after bug 1 is explored too, so that one
//! property never hides another. The explorer must never know a core; it is bounded by
//! [`limits::EXPLORED_STATES_MAX`] and says so when it stops there.

use std::hash::Hash;

use hashbrown::HashMap;

use super::property::{Properties, Property};
use crate::limits;

/// Something to explore.
pub trait Core {
    /// A state: plain and small.
    type State: Copy + Eq + Hash;

    /// Where it begins.
    fn initial(&self) -> Self::State;

    /// Every step that some actor can take, in an order of their own that is always the same.
    fn steps(&self, state: &Self::State, out: &mut Vec<Step<Self::State>>);

    /// Evict returned, every io_end is freed, nobody has anything left to do.
    fn done(&self, state: &Self::State) -> bool;

    /// Names of the actors, by lane.
    fn lanes(&self) -> Vec<&'static str>;

    /// What an outsider could read off the state.
    fn view(&self, state: &Self::State) -> String;
}

/// A step of one actor.
#[derive(Clone, Copy, Debug)]
pub struct Step<S> {
    /// Who.
    pub lane: u8,
    /// What, with `{}` for the object.
    pub what: &'static str,
    /// On which object, if the text names one.
    pub object: Option<u8>,
    /// Where it leads.
    pub next: S,
    /// What it breaks.
    pub broken: Properties,
}

/// What exploring a world told.
#[derive(Debug)]
pub struct Explored {
    /// Reachable states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// Whether all were seen; `false` when the bound was reached.
    pub whole: bool,
    /// States from which no done state can be reached.
    pub doomed: usize,
    /// The shortest way to a breach, by property: the place of each step among those of its state.
    counterexamples: [Option<Vec<u16>>; Property::ALL.len()],
}

impl Explored {
    /// Does it hold?
    pub fn holds(&self, property: Property) -> bool {
        self.whole && self.counterexamples[property as usize].is_none()
    }

    /// The shortest counterexample, for [`super::story`].
    pub fn counterexample(&self, property: Property) -> Option<&[u16]> {
        self.counterexamples[property as usize].as_deref()
    }

    /// What is broken.
    pub fn broken(&self) -> Properties {
        let broken = |property: &Property| self.counterexamples[*property as usize].is_some();
        Property::ALL.iter().copied().filter(broken).collect()
    }
}

/// Explores the whole world.
pub fn explore<C: Core>(core: &C) -> Explored {
    let mut graph = Graph::walk(core);
    let doomed = graph.doomed();
    if let Some(first) = doomed.first() {
        graph.breaches[Property::Evict as usize].get_or_insert(Breach::In(*first));
    }
    Explored {
        states: graph.states.len(),
        steps: graph.edges.len(),
        whole: graph.whole,
        doomed: doomed.len(),
        counterexamples: graph.breaches.map(|breach| Some(graph.way_to(breach?))),
    }
}

/// Where a property broke.
#[derive(Clone, Copy)]
enum Breach {
    /// By the n-th step out of a state.
    By(u32, u16),
    /// In a state.
    In(u32),
}

struct Graph<S> {
    states: Vec<S>,
    /// How each state was first reached; the first state by nothing.
    from: Vec<(u32, u16)>,
    edges: Vec<(u32, u32)>,
    done: Vec<bool>,
    breaches: [Option<Breach>; Property::ALL.len()],
    whole: bool,
}

impl<S: Copy + Eq + Hash> Graph<S> {
    fn walk<C: Core<State = S>>(core: &C) -> Self {
        let mut graph = Graph {
            states: vec![core.initial()],
            from: vec![(0, 0)],
            edges: Vec::new(),
            done: Vec::new(),
            breaches: [None; Property::ALL.len()],
            whole: true,
        };
        let mut index: HashMap<S, u32> = HashMap::from([(core.initial(), 0)]);
        let mut steps = Vec::new();
        let mut at = 0;
        while at < graph.states.len() {
            let state = graph.states[at];
            let done = core.done(&state);
            graph.done.push(done);
            steps.clear();
            core.steps(&state, &mut steps);
            if steps.is_empty() && !done {
                graph.note(Property::Deadlock, Breach::In(id(at)));
            }
            for (step, place) in steps.iter().zip(0..) {
                for property in step.broken.iter() {
                    graph.note(property, Breach::By(id(at), place));
                }
                if graph.states.len() == limits::EXPLORED_STATES_MAX {
                    graph.whole = false;
                    return graph;
                }
                let to = *index.entry(step.next).or_insert_with(|| {
                    graph.states.push(step.next);
                    graph.from.push((id(at), place));
                    id(graph.states.len() - 1)
                });
                graph.edges.push((id(at), to));
            }
            at += 1;
        }
        graph
    }

    fn note(&mut self, property: Property, breach: Breach) {
        self.breaches[property as usize].get_or_insert(breach);
    }

    /// States from which no done state can be reached, nearest to the beginning first.
    fn doomed(&self) -> Vec<u32> {
        if !self.whole {
            return Vec::new();
        }
        // Edges by their target: those of state n are at starts[n]..starts[n + 1].
        let mut starts = vec![0_u32; self.states.len() + 1];
        for (_, to) in &self.edges {
            starts[*to as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut sources = vec![0; self.edges.len()];
        let mut free = starts.clone();
        for (from, to) in &self.edges {
            sources[free[*to as usize] as usize] = *from;
            free[*to as usize] += 1;
        }
        let mut saved = self.done.clone();
        let mut open: Vec<usize> = (0..saved.len()).filter(|at| saved[*at]).collect();
        while let Some(at) = open.pop() {
            for from in &sources[starts[at] as usize..starts[at + 1] as usize] {
                if !std::mem::replace(&mut saved[*from as usize], true) {
                    open.push(*from as usize);
                }
            }
        }
        (0..saved.len()).filter(|at| !saved[*at]).map(id).collect()
    }

    fn way_to(&self, breach: Breach) -> Vec<u16> {
        let (mut at, mut way) = match breach {
            Breach::By(state, place) => (state, vec![place]),
            Breach::In(state) => (state, Vec::new()),
        };
        while at != 0 {
            let (before, place) = self.from[at as usize];
            way.push(place);
            at = before;
        }
        way.reverse();
        way
    }
}

fn id(at: usize) -> u32 {
    u32::try_from(at).expect("the bound on states fits 32 bits")
}

#[cfg(test)]
mod tests {
    use super::{Core, Property, Step, explore};
    use crate::oracle::property::Properties;

    /// Counts up to `end`; from `trap` on it may loop without a way out, or stop.
    struct Counter {
        end: u8,
        trap: Option<(u8, bool)>,
    }

    impl Core for Counter {
        type State = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn steps(&self, state: &u8, out: &mut Vec<Step<u8>>) {
            let step = |next| Step {
                lane: 0,
                what: "counts",
                object: None,
                next,
                broken: Properties::NONE,
            };
            match self.trap {
                Some((at, loops)) if *state == at + 100 => out.extend(loops.then(|| step(*state))),
                Some((at, _)) if *state == at => out.extend([step(at + 1), step(at + 100)]),
                _ if *state < self.end => out.push(step(*state + 1)),
                _ => {}
            }
        }

        fn done(&self, state: &u8) -> bool {
            *state == self.end
        }

        fn lanes(&self) -> Vec<&'static str> {
            vec!["counter"]
        }

        fn view(&self, state: &u8) -> String {
            state.to_string()
        }
    }

    #[test]
    fn a_world_that_always_ends_holds() {
        let told = explore(&Counter { end: 5, trap: None });
        assert_eq!((told.states, told.steps, told.doomed), (6, 5, 0));
        assert!(told.broken().is_empty());
    }

    #[test]
    fn a_loop_without_a_way_out_is_a_hang_and_no_deadlock() {
        let told = explore(&Counter { end: 5, trap: Some((3, true)) });
        assert_eq!(told.broken().iter().collect::<Vec<_>>(), [Property::Evict]);
        assert_eq!(told.counterexample(Property::Evict), Some(&[0, 0, 0, 1][..]));
        assert_eq!(told.doomed, 1);
    }

    #[test]
    fn a_stop_before_the_end_is_both() {
        let told = explore(&Counter { end: 5, trap: Some((2, false)) });
        let broken: Vec<_> = told.broken().iter().collect();
        assert_eq!(broken, [Property::Deadlock, Property::Evict]);
        assert_eq!(told.counterexample(Property::Deadlock), Some(&[0, 0, 1][..]));
    }
}
