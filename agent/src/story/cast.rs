//! Who acts in a story: a lane for each task and for the interrupts of each CPU, at most [`LANES_MAX`].
//!
//! In interrupt context the current task is a bystander, so there the CPU acts. Beyond the bound the
//! interrupts share a lane first, then the tasks that do least; what a shared lane does says who did it.
//! A role is told from what an actor did and never from its name.

use std::collections::BTreeMap;

use super::{Lane, collect::Row, text::printable, words::Deed};
use crate::{
    event::{Context, Name, Stamp},
    oracle::in_step::Protocol,
};

/// Lanes of a picture.
pub(super) const LANES_MAX: usize = 6;

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Actor {
    /// Interrupts of a CPU; `None`: of more than one.
    Interrupt(Option<u16>),
    Task(u32),
    /// Tasks that share a lane.
    Others,
}

impl Actor {
    pub(super) fn of(stamp: &Stamp) -> Actor {
        match (stamp.context, stamp.cpu) {
            (Context::SoftIrq | Context::HardIrq | Context::Nmi, cpu) => {
                Actor::Interrupt(cpu.map(|cpu| cpu.0))
            }
            (Context::Task | Context::Unknown, _) => Actor::Task(stamp.task.tid),
        }
    }

    /// In a lane that is shared: who it is.
    pub(super) fn named(self) -> String {
        match self {
            Actor::Interrupt(Some(cpu)) => format!("cpu {cpu}: "),
            Actor::Task(tid) => format!("task {tid}: "),
            Actor::Interrupt(None) | Actor::Others => String::new(),
        }
    }
}

/// The lanes of a story, and who is in which.
pub(super) struct Cast {
    lanes: Vec<Actor>,
    of: BTreeMap<Actor, usize>,
}

impl Cast {
    /// Of these rows; `parties` keep a lane of their own as long as there is one.
    pub(super) fn of(rows: &[Row], parties: &[Actor]) -> Cast {
        let mut steps: BTreeMap<Actor, usize> = BTreeMap::new();
        let mut order: Vec<Actor> = Vec::new();
        for actor in rows.iter().map(|row| Actor::of(&row.stamp)) {
            if !order.contains(&actor) {
                order.push(actor);
            }
            *steps.entry(actor).or_default() += 1;
        }
        let mut shared: BTreeMap<Actor, Actor> = BTreeMap::new();
        if order.len() > LANES_MAX {
            let cpus = |actor: &&Actor| matches!(actor, Actor::Interrupt(Some(_)));
            shared.extend(order.iter().filter(cpus).map(|it| (*it, Actor::Interrupt(None))));
        }
        while lanes(&order, &shared).len() > LANES_MAX {
            let alone = |actor: &&Actor| !shared.contains_key(actor);
            let least = |actor: &&Actor| (parties.contains(actor), steps[*actor]);
            let Some(least) = order.iter().filter(alone).min_by_key(least) else { break };
            shared.insert(*least, Actor::Others);
        }
        let lanes = lanes(&order, &shared);
        let place = |actor: &Actor| {
            let shown = shared.get(actor).unwrap_or(actor);
            lanes.iter().position(|lane| lane == shown).expect("every actor has a lane")
        };
        let of = order.iter().map(|actor| (*actor, place(actor))).collect();
        Cast { lanes, of }
    }

    /// The lane of a step.
    pub(super) fn lane(&self, stamp: &Stamp) -> usize {
        self.of[&Actor::of(stamp)]
    }

    /// Whether others are in the same lane.
    pub(super) fn is_shared(&self, lane: usize) -> bool {
        matches!(self.lanes[lane], Actor::Others | Actor::Interrupt(None))
    }

    /// The lanes as they are told.
    pub(super) fn tell(
        &self,
        rows: &[Row],
        names: &BTreeMap<u32, Name<16>>,
        protocol: Protocol,
    ) -> Vec<Lane> {
        let letters = 'A'..='Z';
        let lanes = self.lanes.iter().zip(letters).enumerate();
        let told = lanes.map(|(at, (actor, letter))| {
            let deeds: Vec<&Row> = rows.iter().filter(|row| self.lane(&row.stamp) == at).collect();
            let tid = if let Actor::Task(tid) = actor { Some(*tid) } else { None };
            let name = tid.and_then(|tid| names.get(&tid)).map(|name| printable(&name.0));
            Lane {
                letter,
                who: who(*actor, name.as_deref()),
                role: role(*actor, &deeds, protocol),
                tid,
                name,
                did: did(&deeds, protocol),
            }
        });
        told.collect()
    }
}

fn lanes(order: &[Actor], shared: &BTreeMap<Actor, Actor>) -> Vec<Actor> {
    let mut lanes: Vec<Actor> = Vec::new();
    for actor in order.iter().map(|actor| shared.get(actor).unwrap_or(actor)) {
        if !lanes.contains(actor) {
            lanes.push(*actor);
        }
    }
    lanes
}

fn who(actor: Actor, name: Option<&str>) -> String {
    match (actor, name) {
        (Actor::Interrupt(Some(cpu)), _) => format!("interrupts on cpu {cpu}"),
        (Actor::Interrupt(None), _) => "interrupts".to_owned(),
        (Actor::Task(tid), None) => format!("task {tid}"),
        (Actor::Task(tid), Some(name)) => format!("task {tid} \"{name}\""),
        (Actor::Others, _) => "other tasks".to_owned(),
    }
}

fn role(actor: Actor, deeds: &[&Row], protocol: Protocol) -> &'static str {
    let does = |wanted: fn(&Row) -> bool| deeds.iter().any(|row| wanted(row));
    match actor {
        Actor::Interrupt(_) => "interrupt",
        Actor::Others => "others",
        Actor::Task(_) if does(|row| row.in_run || matches!(row.deed, Deed::RunBegin { .. })) => {
            "worker"
        }
        Actor::Task(_) if does(|row| row.deed == Deed::FsyncBegin) => "fsync path",
        // In the core of 2012 nobody else but the worker takes an io_end off the list.
        Actor::Task(_)
            if protocol == Protocol::CompletedList && does(|row| row.deed == Deed::Claim) =>
        {
            "fsync path"
        }
        Actor::Task(_)
            if does(|row| matches!(row.deed, Deed::Birth | Deed::Attach(_) | Deed::Put)) =>
        {
            "submitter"
        }
        Actor::Task(_) if does(|row| matches!(row.deed, Deed::BioEnd { .. })) => "completes bios",
        Actor::Task(_) => "another task",
    }
}

fn did(deeds: &[&Row], protocol: Protocol) -> Vec<&'static str> {
    let of_2012 = protocol == Protocol::CompletedList;
    let mut did = Vec::new();
    for row in deeds {
        let short = match row.deed {
            Deed::Birth => "made it",
            Deed::Attach(_) => "submitted its bios",
            Deed::BioEnd { .. } | Deed::PartDone { .. } | Deed::BioDone { .. } => "ended its bios",
            Deed::PutDefer if of_2012 => "put it on the list",
            Deed::Claim if of_2012 => "took it off the list",
            Deed::Claim => "claimed it",
            Deed::ConvertBegin => "converted it",
            Deed::Release | Deed::ReleaseLate if of_2012 => "freed it",
            Deed::Release | Deed::ReleaseLate => "released it",
            _ => continue,
        };
        if !did.contains(&short) {
            did.push(short);
        }
    }
    did
}
