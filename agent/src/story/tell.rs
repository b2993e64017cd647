//! From what was collected to the story: names, lanes, marks, words.

use super::{
    LeftOut, SCHEMA, Step, Story, bits,
    cast::{Actor, Cast},
    collect::{Collector, Row, gap_labels},
    plain::{self, Scene},
    words::{Around, Deed, symbol_today, words},
};
use crate::{
    finding::{Finding, context_label},
    lifecycle::State,
    oracle::in_step::Protocol,
};

impl Collector {
    /// The story, if there were events of the io_end; of its findings those that `told` picks.
    pub fn tell(
        &self,
        kernel: &str,
        protocol: Protocol,
        findings: &[Finding],
        told: impl Fn(&Finding) -> bool,
    ) -> Option<Story> {
        let known = self.known?;
        let (rows, first) = self.rows();
        let of_it: Vec<&Finding> =
            findings.iter().filter(|finding| finding.object == self.wanted()).collect();
        let (findings, others): (Vec<&Finding>, Vec<&Finding>) =
            of_it.into_iter().partition(|finding| told(finding));
        let marks: Vec<Marks> = findings.iter().map(|finding| Marks::of(finding, &rows)).collect();
        let parties = marks.iter().flat_map(|marks| [marks.first, marks.illegal]).flatten();
        let parties: Vec<Actor> = parties.map(|at| Actor::of(&rows[at].stamp)).collect();
        let cast = Cast::of(&rows, &parties);
        let lanes = cast.tell(&rows, &self.names, protocol);
        let mut steps = steps(&rows, &cast, protocol, known.id.born.0);
        for (marks, finding) in marks.iter().zip(&findings) {
            if let Some(at) = marks.illegal {
                steps[at].illegal.push(finding.id.clone());
            }
            if let Some(at) = marks.first {
                steps[at].first_party.push(finding.id.clone());
            }
        }
        let device = known.inode.map(|inode| inode.dev);
        let device_name = device.and_then(|dev| self.devices.get(&dev)).map(ToString::to_string);
        let scene = Scene {
            protocol,
            rows: &rows,
            lanes: &lanes,
            steps: &steps,
            known: &known,
            device_name: device_name.as_deref(),
            findings: &findings,
            names: &self.names,
            empty_runs: self.empty_runs,
            marks_seen: self.marks_seen,
        };
        let plain = plain::plain(&scene);
        Some(Story {
            schema: SCHEMA,
            kernel: kernel.to_owned(),
            protocol: protocol_label(protocol),
            object: self.wanted().to_owned(),
            born_ns: known.id.born.0,
            birth_seen: known.birth_seen(),
            inode: known.inode.map(|inode| inode.ino.0),
            device: device.map(|dev| dev.to_string()),
            device_name,
            state: if known.lost { "ended unseen" } else { known.state.label() },
            gaps: gap_labels(known.gaps),
            lanes,
            left_out: (self.left_out > 0).then_some(LeftOut { after: first, steps: self.left_out }),
            empty_runs_left_out: self.empty_runs_left_out(),
            findings: findings.into_iter().cloned().collect(),
            other_findings: others.iter().map(|finding| finding.id.clone()).collect(),
            steps,
            plain,
        })
    }
}

fn protocol_label(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::CompletedList => "2012",
        Protocol::Refcounted { .. } => "refcounted",
        Protocol::Unknown => "unknown",
    }
}

/// Where a finding's parties act, by the index of the row.
struct Marks {
    first: Option<usize>,
    illegal: Option<usize>,
}

impl Marks {
    fn of(finding: &Finding, rows: &[Row]) -> Marks {
        let [first, second] = &finding.parties;
        let is = |row: &Row, tid: u32, cpu: Option<u16>, symbol: &str| {
            let stamp = &row.stamp;
            stamp.task.tid == tid
                && stamp.cpu.map(|cpu| cpu.0) == cpu
                && symbol_today(row.deed) == symbol
        };
        let illegal = second.as_ref().and_then(|party| {
            let here = |row: &Row| row.stamp.at.0 == finding.at_ns;
            let exactly = |row: &Row| here(row) && is(row, party.tid, party.cpu, &party.symbol);
            rows.iter().position(exactly).or_else(|| rows.iter().position(here))
        });
        let before = &rows[..illegal.unwrap_or(rows.len())];
        let first = first.as_ref().and_then(|party| {
            before.iter().rposition(|row| is(row, party.tid, party.cpu, &party.symbol))
        });
        Marks { first, illegal }
    }
}

fn steps(rows: &[Row], cast: &Cast, protocol: Protocol, born_ns: u64) -> Vec<Step> {
    let mut inside = vec![Inside::default(); rows.len().min(super::cast::LANES_MAX)];
    // The io_ends of 2012 have no references.
    let counts = protocol != Protocol::CompletedList;
    let mut state = None;
    let mut claim_seen = false;
    let mut steps = Vec::with_capacity(rows.len());
    for (row, number) in rows.iter().zip(1..) {
        let lane = cast.lane(&row.stamp);
        let around = Around {
            in_run: row.in_run,
            last: last_reference(state, row.state),
            claims: !claim_seen,
        };
        claim_seen |= matches!(row.deed, Deed::Claim | Deed::ConvertBegin);
        inside[lane].step(row.deed, protocol);
        let told = words(protocol, row.deed, around);
        let named =
            if cast.is_shared(lane) { Actor::of(&row.stamp).named() } else { String::new() };
        state = row.state.or(state);
        steps.push(Step {
            number,
            at_ns: row.stamp.at.0,
            since_birth_ns: row.stamp.at.0.cast_signed().wrapping_sub(born_ns.cast_signed()),
            lane,
            cpu: row.stamp.cpu.map(|cpu| cpu.0),
            context: context_label(row.stamp.context),
            tid: row.stamp.task.tid,
            act: told.act,
            symbol: told.symbol,
            what: named + &told.what,
            state: row.state.map(State::label),
            flag: row.image.map(|image| image.flag),
            flag_names: row.image.map(|image| bits::names(image.flag, protocol)),
            count: row.image.filter(|_| counts).map(|image| image.count),
            listed: row.image.map(|image| image.list_next != row.io_end.0),
            lock: told.lock,
            inside: inside[lane].is_open(),
            illegal: Vec::new(),
            first_party: Vec::new(),
        });
    }
    steps
}

/// Whether a put dropped the last reference, by the states around it, and whether the worker converts.
fn last_reference(before: Option<State>, after: Option<State>) -> Option<bool> {
    match after {
        after if after == before => None,
        Some(State::Queued) => Some(true),
        Some(State::Final) => Some(false),
        _ => None,
    }
}

/// What an actor is in the middle of.
#[derive(Clone, Copy, Default)]
struct Inside {
    run: bool,
    claim: bool,
}

impl Inside {
    fn step(&mut self, deed: Deed, protocol: Protocol) {
        match deed {
            Deed::RunBegin { .. } => self.run = true,
            Deed::RunEnd { .. } => *self = Inside::default(),
            Deed::Claim | Deed::ConvertBegin => self.claim = true,
            // In the core of 2012 the fsync path is through with it and leaves the rest to the worker.
            Deed::ConvertEnd { .. } if protocol == Protocol::CompletedList => self.claim = false,
            Deed::Release => self.claim = false,
            _ => {}
        }
    }

    fn is_open(self) -> bool {
        self.run || self.claim
    }
}
