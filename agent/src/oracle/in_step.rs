//! The cores in step with a stream: is what was seen something that the core allows?
//!
//! ```text
//!   Event ──► Life (address and birth) ──┬─► refcounted      set of states ─┐  empty: the core has
//!               counts, who claimed      └─► completed_list  set of states ─┤  no such run
//!                                                                           ▼
//!   LOSS, MISSES, ATTACH … ─► doubt ──────────────────────► held ──TICK──► allowed, diverged,
//!                                                                          could_not_tell
//! ```
//!
//! Each core keeps, per io_end, the set of its states that explain everything seen so far; a step
//! that no probe sees (a decrement, a store, a hand-over) widens it, an event narrows it. On 5.5 to
//! 7.3 the core of 2012 judges as well: queued, claimed and released are its listed, claimed and
//! freed; it knows no counts and no flags.
//!
//! What may have been lost: a loss is told after it happened, so it touches every io_end born before it
//! was told. Any state explains such an io_end, and nothing is judged of it; a divergence is held
//! until the TICK that shows that nothing was lost. An io_end whose birth was not seen is not
//! judged, nor is anything of a generation that no core describes, or while a probe is missing or is
//! not fentry's. Where bios may be attached unseen (those of enciphered files, from 7.0 on, without
//! their probe), a life that shows one is not judged from there on; where every bio is seen attached,
//! an end too many diverges. A HOST begins a new stream: what is open then is forgotten.
//!
//! This module must never share code with `lifecycle` or `detect`. It allocates nothing per event;
//! its table is bounded by [`limits::ORACLE_LIVES_MAX`]: a life that finds no room is counted as one that
//! could not be told.

mod completed_list;
mod doubt;
mod life;
mod mutant;
mod protocol;
mod refcounted;
mod said;
mod table;
mod tally;

pub use life::{Act, By, Sighting};
pub use mutant::Mutant;
pub use protocol::Protocol;
pub use said::{Said, Words};
pub use tally::{Divergence, Judge, Outcome, Tally};

use endiod_wire::wire::config_key;

use crate::event::{Body, Context, Event, IoEndAddr, Nanos, Seen, Stamp};
use crate::limits;

use doubt::Doubt;
use life::Life;
use protocol::Rules;
use table::Lives;
use tally::Held;

/// Both cores, in step with one stream.
pub struct Oracle {
    protocol: Protocol,
    claim_probe: bool,
    bios_unseen: bool,
    witnessed: bool,
    lives: Lives,
    doubt: Doubt,
    /// Threads inside `ext4_end_io_rsv_work`.
    workers: Vec<u32>,
    /// Their begin is probed: one was seen.
    workers_seen: bool,
    held: Vec<Held>,
    tallies: [Tally; Judge::ALL.len()],
    divergences: Vec<Divergence>,
    /// Of the last event's object.
    said: Option<Said>,
    mutant: Option<Mutant>,
}

impl Default for Oracle {
    fn default() -> Self {
        Oracle {
            protocol: Protocol::Unknown,
            claim_probe: false,
            bios_unseen: false,
            witnessed: false,
            lives: Lives::new(limits::ORACLE_LIVES_MAX),
            doubt: Doubt::default(),
            workers: Vec::with_capacity(limits::WORKERS_MAX),
            workers_seen: false,
            held: Vec::with_capacity(limits::ORACLE_HELD_MAX),
            tallies: [Tally::default(); Judge::ALL.len()],
            divergences: Vec::with_capacity(limits::ORACLE_DIVERGENCES_MAX),
            said: None,
            mutant: None,
        }
    }
}

impl Oracle {
    /// One that is wrong on purpose.
    pub fn wrong(mutant: Mutant) -> Self {
        Oracle { mutant: Some(mutant), ..Oracle::default() }
    }

    /// Tells whether `ext4_end_io_end` is probed; a real function from 6.15 on.
    pub fn set_claim_probe(&mut self, attached: bool) {
        self.claim_probe = attached;
    }

    /// Tells whether a bio may be attached that no probe sees.
    pub fn set_bios_unseen(&mut self, unseen: bool) {
        self.bios_unseen = unseen;
    }

    /// Tells whether every event that the cores need is probed, and by fentry: birth, bios, puts,
    /// conversion, release. Until then nothing is judged.
    pub fn set_witnessed(&mut self, witnessed: bool) {
        self.witnessed = witnessed;
    }

    /// Something was lost that no record tells; the next TICK dates it.
    pub fn note_loss(&mut self) {
        self.doubt.note();
    }

    /// Which protocol the stream's kernel speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Is there a core that describes the stream's kernel, as far as its probes tell?
    pub fn is_described(&self) -> bool {
        match self.witnessed {
            true => self.protocol.is_described(self.claim_probe),
            false => self.protocol != Protocol::Unknown,
        }
    }

    /// What the cores say of the object of the last event; `None` if it had none.
    pub fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }

    /// What a core said so far.
    pub fn tally(&self, judge: Judge) -> &Tally {
        &self.tallies[judge as usize]
    }

    /// The first divergences that are certain.
    pub fn divergences(&self) -> &[Divergence] {
        &self.divergences
    }

    /// The stream is over: what no TICK closed could not be told.
    pub fn finish(&mut self) {
        for held in self.held.drain(..) {
            self.tallies[held.divergence.judge as usize].count(Outcome::CouldNotTell);
        }
    }

    /// Follows one event.
    pub fn observe(&mut self, event: &Event) {
        let stamp = &event.stamp;
        self.said = None;
        self.doubt.observe(event);
        match event.body {
            Body::Host { release, .. } => {
                self.begin_stream();
                self.protocol = Protocol::of(&release.0);
            }
            Body::Config { key: config_key::SUBJECT, value } => {
                self.protocol = self.protocol.watching(value);
            }
            Body::IoEndBirth { io_end, .. } => self.birth(stamp, io_end),
            Body::RangeAdded { io_end, failed } => {
                self.saw(stamp, io_end, Act::Range { failed }, None);
            }
            Body::BioAttach { io_end, .. } => self.saw(stamp, io_end, Act::Attach, None),
            Body::BioEnd { status, seen, .. } => {
                self.seen(stamp, seen, Act::BioEnd { failed: status != 0 });
            }
            Body::Put(seen) => self.seen(stamp, seen, Act::Put),
            Body::PutDefer(seen) => self.seen(stamp, seen, Act::PutDefer),
            Body::Claim(seen) => self.seen(stamp, seen, Act::Claim),
            Body::ConvertBegin(seen) => self.seen(stamp, seen, Act::ConvertBegin),
            Body::ConvertEnd { io_end, .. } => self.saw(stamp, io_end, Act::ConvertEnd, None),
            Body::Release(seen) => self.seen(stamp, seen, Act::Release),
            Body::Requeue { seen, locked } => self.seen(stamp, seen, Act::Requeue { locked }),
            Body::ReleaseLate { io_end } => self.lives.forget(io_end),
            Body::WorkerBegin { .. } => self.worker_begin(stamp.task.tid),
            Body::WorkerEnd { .. } => self.workers.retain(|tid| *tid != stamp.task.tid),
            Body::Tick { .. } => self.settle(),
            _ => {}
        }
    }

    /// A HOST: no TICK will close what is held, no event ends the old lives, totals begin anew.
    fn begin_stream(&mut self) {
        self.finish();
        self.lives.clear();
        self.doubt.clear();
        self.workers.clear();
        self.workers_seen = false;
    }

    fn seen(&mut self, stamp: &Stamp, seen: Seen, act: Act) {
        self.saw(stamp, seen.io_end, act, Some(seen));
    }

    fn birth(&mut self, stamp: &Stamp, addr: IoEndAddr) {
        let judges = self.judges();
        let doubt = &self.doubt;
        let unfinished = |life: &&mut Life| {
            !life.is_freed() && life.is_followed() && !doubt.touches(life.born())
        };
        let before = self.lives.get(addr).filter(unfinished).map(|life| life.born());
        let life = Life::new(stamp.at, stamp.task.tid);
        if judges.is_empty() || !self.lives.insert(addr, life) {
            return self.nobody_can_tell(judges);
        }
        let Some(born) = before else {
            return judges.iter().for_each(|it| self.tallies[*it as usize].count(Outcome::Allowed));
        };
        let mut fresh = Words::default();
        for judge in judges {
            if self.diverged(*judge, addr, born, stamp.at, "birth") {
                fresh.say(*judge, Outcome::Diverged);
            }
        }
        let words = Words::all(judges, Outcome::Diverged);
        self.said = Some(Said { addr, born: Some(born), words, fresh });
    }

    fn saw(&mut self, stamp: &Stamp, addr: IoEndAddr, act: Act, seen: Option<Seen>) {
        let judges = self.judges();
        let needs_context = matches!(act, Act::BioEnd { .. } | Act::PutDefer);
        if stamp.context == Context::Unknown && needs_context {
            // Whether a bio or the submitter put its reference cannot be told, nor what follows.
            self.lives.forget(addr);
        }
        let doubt = &self.doubt;
        let life = self.lives.get(addr).filter(|life| !doubt.touches(life.born()));
        let Some(life) = life.filter(|_| !judges.is_empty()) else {
            let words = Words::all(self.protocol.judges(), Outcome::CouldNotTell);
            self.said = Some(Said { addr, born: None, words, fresh: Words::default() });
            return self.nobody_can_tell(judges);
        };
        // A run whose begin was lost, or is not probed, is not known.
        let stranger = (self.workers_seen && !doubt.is_any()).then_some(false);
        let was_freed = life.is_freed();
        let sighting = Sighting {
            act,
            by: By {
                tid: stamp.task.tid,
                cpu: stamp.cpu.map_or(u16::MAX, |cpu| cpu.0),
                context: stamp.context,
                worker: self.workers.contains(&stamp.task.tid).then_some(true).or(stranger),
            },
            addr: addr.0,
            image: seen.and_then(|seen| seen.image),
        };
        let (bios_unseen, mutant) = (self.bios_unseen, self.mutant);
        let rules = Rules { bios_unseen, mutant, ..self.protocol.rules(self.claim_probe) };
        let told = life.follow(&sighting, rules);
        let (born, words) = (life.born(), life.words(judges));
        if life.is_freed() && !was_freed {
            self.lives.bury(addr, born);
        }
        let mut fresh = Words::default();
        for judge in judges {
            let tally = &mut self.tallies[*judge as usize];
            match told[*judge as usize] {
                Some(0) => {
                    if self.diverged(*judge, addr, born, stamp.at, act.label()) {
                        fresh.say(*judge, Outcome::Diverged);
                    }
                }
                Some(states) => {
                    tally.count(Outcome::Allowed);
                    tally.states(states);
                }
                None => tally.count(Outcome::CouldNotTell),
            }
        }
        self.said = Some(Said { addr, born: Some(born), words, fresh });
    }

    fn judges(&self) -> &'static [Judge] {
        if self.witnessed && self.is_described() { self.protocol.judges() } else { &[] }
    }

    fn nobody_can_tell(&mut self, judges: &[Judge]) {
        let described = self.protocol.judges();
        let asked = match (judges.is_empty(), described.is_empty()) {
            (false, _) => judges,
            (true, false) => described,
            (true, true) => &Judge::ALL[..],
        };
        for judge in asked {
            self.tallies[*judge as usize].count(Outcome::CouldNotTell);
        }
    }

    fn worker_begin(&mut self, tid: u32) {
        self.workers_seen = true;
        if self.workers.contains(&tid) {
            return;
        }
        if self.workers.len() == limits::WORKERS_MAX {
            // Its claims would look like a stranger's.
            return self.doubt.note();
        }
        self.workers.push(tid);
    }

    /// Is there room to hold it until its TICK?
    fn diverged(
        &mut self,
        judge: Judge,
        addr: IoEndAddr,
        born: Nanos,
        at: Nanos,
        act: &'static str,
    ) -> bool {
        let has_room = self.held.len() < limits::ORACLE_HELD_MAX;
        if has_room {
            self.held.push(Held { divergence: Divergence { judge, addr, born, at, act } });
        } else {
            self.tallies[judge as usize].count(Outcome::CouldNotTell);
        }
        has_room
    }

    /// A TICK: what is held and untouched by a loss is certain.
    fn settle(&mut self) {
        let Oracle { held, doubt, tallies, divergences, .. } = self;
        for Held { divergence } in held.drain(..) {
            let tally = &mut tallies[divergence.judge as usize];
            if doubt.touches(divergence.born) {
                tally.count(Outcome::CouldNotTell);
                continue;
            }
            tally.count(Outcome::Diverged);
            if divergences.len() < limits::ORACLE_DIVERGENCES_MAX {
                divergences.push(divergence);
            }
        }
    }
}

/// In interrupt context the current task is a bystander.
fn is_task(context: Context) -> bool {
    context == Context::Task
}

#[cfg(test)]
mod tests;
