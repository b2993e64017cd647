//! Which numbers of a stream arrived: gaps and duplicates per (CPU, lane).
//!
//! Records of one lane are numbered densely from 1, but may arrive far out of order: a program takes
//! its number before it reserves room, and in between it can be interrupted, or on a preemptible
//! kernel (6.18) lose the CPU for as long as the scheduler likes. So a lane keeps the runs of numbers
//! that have not come yet, its *holes*, however old:
//!
//! ```text
//!   1 ───────── seen ─────────[ hole ]── seen ──[hole]── seen ── highest
//!                              ▲ a late number fills its hole, or splits it
//! ```
//!
//! Holes are few: one per interrupted program, one per burst of records that found no room. This
//! module must never decide what a hole means, and never grows: beyond its bound a lane gives up its
//! oldest hole, CPUs and lanes beyond theirs are counted as untracked.

use crate::event::{Cpu, Stamp};
use crate::limits;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before: use the record.
    Fresh,
    /// Seen before, or in a hole that was given up: drop the record.
    Repeated,
    /// The CPU or lane is beyond the bound: nothing is known about gaps.
    Untracked,
}

/// Where a stream's numbers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At 1: a higher first number is a gap.
    AtOne,
    /// Anywhere: the first number seen is the first that counts.
    Anywhere,
}

/// One lane, or the sum of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Numbers that arrived.
    pub seen: u64,
    /// Numbers below the highest that did not arrive, given up or not yet.
    pub missing: u64,
    /// Numbers that arrived again.
    pub repeated: u64,
    /// Highest number of a lane; 0 in a sum.
    pub highest: u64,
}

/// The lanes of a stream.
#[derive(Debug)]
pub struct Sequences {
    /// By CPU.
    rows: Vec<[Lane; limits::LANES_MAX]>,
    start: Start,
    totals: Counts,
    untracked: u64,
}

impl Sequences {
    /// Lanes for `cpus` CPUs, at most the bound.
    pub fn new(cpus: usize, start: Start) -> Self {
        let rows = (0..cpus.min(limits::CPUS_MAX))
            .map(|_| <[Lane; limits::LANES_MAX]>::default())
            .collect();
        Sequences { rows, start, totals: Counts::default(), untracked: 0 }
    }

    /// From here on a lane's first number may be any: what came before was not kept.
    pub fn start_anywhere(&mut self) {
        self.start = Start::Anywhere;
    }

    /// Forgets every number: the programs were loaded anew. A slice stays one.
    pub fn restart(&mut self) {
        for lane in self.rows.iter_mut().flatten() {
            *lane = Lane::default();
        }
        self.totals = Counts::default();
    }

    /// Takes the number of one record. The agent's own records are written and read by one thread;
    /// they cannot be lost, and a slice of a stream leaves some of them out on purpose.
    pub fn arrive(&mut self, stamp: &Stamp) -> Arrival {
        let Some(Cpu(cpu)) = stamp.cpu else { return Arrival::Fresh };
        let lane = self.rows.get_mut(usize::from(cpu));
        let Some(lane) = lane.and_then(|lanes| lanes.get_mut(usize::from(stamp.lane))) else {
            self.untracked += 1;
            return Arrival::Untracked;
        };
        let before = lane.counts;
        let arrival = lane.arrive(stamp.seq, self.start);
        self.totals.seen += lane.counts.seen - before.seen;
        self.totals.repeated += lane.counts.repeated - before.repeated;
        self.totals.missing =
            self.totals.missing.saturating_sub(before.missing).saturating_add(lane.counts.missing);
        arrival
    }

    /// Sums over all lanes.
    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// Records of CPUs or lanes beyond the bound.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// The counts of one lane.
    pub fn lane(&self, cpu: Cpu, lane: u8) -> Option<Counts> {
        self.rows.get(usize::from(cpu.0))?.get(usize::from(lane)).map(|lane| lane.counts)
    }
}

/// A run of numbers that have not come: first and last.
#[derive(Clone, Copy, Debug)]
struct Hole(u64, u64);

#[derive(Debug, Default)]
struct Lane {
    /// Highest number that came; `None` before the first.
    highest: Option<u64>,
    /// Oldest first.
    holes: Vec<Hole>,
    counts: Counts,
}

impl Lane {
    fn arrive(&mut self, seq: u64, start: Start) -> Arrival {
        let highest = self.highest.unwrap_or(match start {
            Start::AtOne => 0,
            Start::Anywhere => seq.saturating_sub(1),
        });
        if seq > highest {
            self.highest = Some(seq);
            self.counts.highest = seq;
            if seq > highest + 1 {
                self.counts.missing = self.counts.missing.saturating_add(seq - highest - 1);
                self.keep(Hole(highest + 1, seq - 1), self.holes.len());
            }
        } else if !self.fill(seq) {
            self.counts.repeated += 1;
            return Arrival::Repeated;
        }
        self.counts.seen += 1;
        Arrival::Fresh
    }

    /// Takes a late number out of its hole; `false` if it lies in none.
    fn fill(&mut self, seq: u64) -> bool {
        let Some(at) = self.holes.iter().rposition(|hole| hole.0 <= seq && seq <= hole.1) else {
            return false;
        };
        let Hole(first, last) = self.holes[at];
        match (first == seq, last == seq) {
            (true, true) => {
                self.holes.remove(at);
            }
            (true, false) => self.holes[at].0 = seq + 1,
            (false, true) => self.holes[at].1 = seq - 1,
            (false, false) => {
                self.holes[at].1 = seq - 1;
                self.keep(Hole(seq + 1, last), at + 1);
            }
        }
        self.counts.missing -= 1;
        true
    }

    /// Inserts a hole at its place; with no room the oldest is given up, its numbers stay missing.
    fn keep(&mut self, hole: Hole, at: usize) {
        // All of a lane's memory at its first hole, and none after.
        self.holes.reserve_exact(limits::HOLES_MAX.saturating_sub(self.holes.capacity()));
        if self.holes.len() < limits::HOLES_MAX {
            self.holes.insert(at, hole);
        } else if at > 0 {
            self.holes.remove(0);
            self.holes.insert(at - 1, hole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, Counts, Sequences, Start};
    use crate::event::{Context, Cpu, Nanos, Stamp, Task};
    use crate::limits;

    fn stamp(cpu: u16, lane: u8, seq: u64) -> Stamp {
        let task = Task { tid: 1, tgid: 1 };
        Stamp { at: Nanos(seq), cpu: Some(Cpu(cpu)), lane, seq, task, context: Context::Task }
    }

    /// Feeds numbers of one lane: the answers as text (f, r), then what is missing.
    fn check(start: Start, numbers: &[u64]) -> (String, u64) {
        let mut sequences = Sequences::new(2, start);
        let answers = numbers
            .iter()
            .map(|seq| match sequences.arrive(&stamp(0, 0, *seq)) {
                Arrival::Fresh => 'f',
                Arrival::Repeated => 'r',
                Arrival::Untracked => 'u',
            })
            .collect();
        (answers, sequences.totals().missing)
    }

    #[test]
    fn late_arrivals_are_fresh_and_nothing_is_missing() {
        assert_eq!(check(Start::AtOne, &[1, 3, 2, 6, 5, 4]), ("ffffff".into(), 0));
    }

    #[test]
    fn a_program_that_lost_the_cpu_may_be_late_by_any_distance() {
        assert_eq!(check(Start::AtOne, &[1, 3, 100_000, 2, 50_000]), ("fffff".into(), 99_995));
    }

    #[test]
    fn a_repeated_number_is_told() {
        assert_eq!(check(Start::AtOne, &[1, 2, 2, 1, 5, 4, 4, 0]), ("ffrrffrr".into(), 1));
    }

    #[test]
    fn a_first_number_above_one_is_a_gap_unless_the_stream_starts_in_the_middle() {
        assert_eq!(check(Start::AtOne, &[100]), ("f".into(), 99));
        assert_eq!(check(Start::Anywhere, &[500, 501, 700, 499]), ("fffr".into(), 198));
    }

    #[test]
    fn holes_are_bounded_and_what_is_given_up_stays_missing() {
        let mut sequences = Sequences::new(1, Start::AtOne);
        let holes = limits::HOLES_MAX as u64 + 3;
        for odd in 0..=holes {
            assert_eq!(sequences.arrive(&stamp(0, 0, 2 * odd + 1)), Arrival::Fresh);
        }
        assert_eq!(sequences.totals().missing, holes);
        assert_eq!(sequences.arrive(&stamp(0, 0, 2)), Arrival::Repeated);
        assert_eq!(sequences.arrive(&stamp(0, 0, 2 * holes)), Arrival::Fresh);
        assert_eq!(sequences.totals().missing, holes - 1);
    }

    #[test]
    fn lanes_and_cpus_are_apart_and_those_beyond_the_bound_are_counted() {
        let mut sequences = Sequences::new(2, Start::AtOne);
        assert_eq!(sequences.arrive(&stamp(0, 0, 1)), Arrival::Fresh);
        assert_eq!(sequences.arrive(&stamp(0, 1, 1)), Arrival::Fresh);
        assert_eq!(sequences.arrive(&stamp(1, 0, 1)), Arrival::Fresh);
        assert_eq!(sequences.arrive(&stamp(2, 0, 1)), Arrival::Untracked);
        let lane = u8::try_from(limits::LANES_MAX).expect("a lane fits a byte");
        assert_eq!(sequences.arrive(&stamp(0, lane, 1)), Arrival::Untracked);
        assert_eq!(sequences.untracked(), 2);
        let one = Counts { seen: 1, highest: 1, ..Counts::default() };
        assert_eq!(sequences.lane(Cpu(1), 0), Some(one));
        assert_eq!(sequences.totals().seen, 3);
    }

    /// In any order, with any losses: what was numbered up to the highest is seen or missing, and
    /// nothing that came once is called repeated.
    #[test]
    fn numbers_are_conserved() {
        let mut state = 7_u64;
        let mut random = move |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        };
        for _ in 0..100 {
            let mut numbers: Vec<u64> = (1..=2_000).filter(|_| random(50) > 0).collect();
            for _ in 0..40 {
                let (from, to) = (random(numbers.len()), random(numbers.len()));
                let late = numbers.remove(from);
                numbers.insert(to, late);
            }
            let mut sequences = Sequences::new(1, Start::AtOne);
            for seq in &numbers {
                sequences.arrive(&stamp(0, 0, *seq));
            }
            let Counts { seen, missing, repeated, .. } = sequences.totals();
            assert_eq!(Some(seen + missing), numbers.iter().max().copied());
            assert_eq!((seen, repeated), (numbers.len() as u64, 0));
        }
    }
}
