//! One record's way through the agent: decode, sequence, lifecycle, detect, oracle, metrics.
//!
//! ```text
//!  bytes ─► decode ─► sequence ─► layout ─► lifecycle ─► Step ─► detect ─► Verdict ─► Finding
//!             │           │         │                     └────► meter ─► metrics
//!             └ malformed └ duplicates, gaps ──► oracle ──► allowed, diverged, could not tell
//! ```
//!
//! It knows time, loss and names from records alone, so a recording gives what the live stream gave. It must never do I/O or read a clock; the findings it keeps are bounded.

mod health;
pub(crate) mod kernel_facts;
mod meter;
mod names;
mod onlooker;
mod stream;
mod summary;
mod watching;

use std::collections::BTreeMap;

use endiod_wire::wire::{config_key, subject};

pub use health::Health;
pub use names::names;
pub use onlooker::Onlooker;

use crate::{
    decode::decode,
    detect::{Detectors, Rule, Verdict},
    event::{Backend, Body, DevId, Event, Name, ProbeId, ProgramBound},
    finding::{AddressKey, Finding},
    generation::Upstream,
    layout::Layout,
    lifecycle::Lifecycle,
    limits,
    metrics::Metrics,
    oracle::in_step::{Oracle, Protocol},
    probes::{self, Witness},
    sequence::{Arrival, Sequences, Start},
    witnesses::Witnesses,
};

use kernel_facts::{Evidence, Shown};
use meter::Meter;
use onlooker::Nobody;
use stream::{ProbeFate, Totals};
use watching::Watching;

/// What the reference cores cannot follow an io_end without.
const ORACLE_NEEDS: [Witness; 8] = [
    Witness::Birth,
    Witness::Attach,
    Witness::BioEnd,
    Witness::Put,
    Witness::PutDefer,
    Witness::ConvertBegin,
    Witness::ConvertEnd,
    Witness::Release,
];

/// What they also take, where it is there.
const ORACLE_TAKES: [Witness; 5] = [
    Witness::Range,
    Witness::Claim,
    Witness::ReleaseLate,
    Witness::WorkerBegin,
    Witness::WorkerEnd,
];

/// The cores know the order and the losses of fentry only: a kprobe skips hits that it does not
/// count, a raw tracepoint may come after what it tells. One event by either, and they cannot tell.
fn oracle_can_judge(witnesses: &Witnesses) -> bool {
    let by_fentry = |witness: &Witness| witnesses.get(*witness) == Some(Backend::Fentry);
    ORACLE_NEEDS.iter().all(by_fentry)
        && ORACLE_TAKES.iter().all(|witness| !witnesses.sees(*witness) || by_fentry(witness))
}

/// The probe without which bios of enciphered files are attached unseen, and the first kernel on which
/// they are (block/blk-crypto.c): before, `submit_bio` sees every bio.
const ENCIPHERED: (&str, (u32, u32)) = ("__blk_crypto_submit_bio", (7, 0));

/// May a bio be attached that no probe sees? By what became of the probe; a recording of an agent that
/// knew of none says nothing of it.
fn bios_unseen(fate: Option<ProbeFate>, by: Option<Backend>, release: Option<&str>) -> bool {
    let (_, since) = ENCIPHERED;
    match fate {
        Some(ProbeFate::Absent) => false,
        Some(ProbeFate::Attached | ProbeFate::Failed) => by != Some(Backend::Fentry),
        None => {
            let upstream = release.and_then(Upstream::parse);
            upstream.is_none_or(|upstream| upstream.series >= since)
        }
    }
}

/// Takes wire bytes, keeps what they say.
pub struct Pipeline {
    sequences: Sequences,
    layout: Layout,
    lifecycle: Lifecycle,
    detectors: Detectors,
    oracle: Oracle,
    meter: Meter,
    watching: Watching,
    totals: Totals,
    findings: Vec<Finding>,
    /// Confirmed findings that found no room.
    findings_left_out: u64,
    key: AddressKey,
    release: Option<Name<64>>,
    /// What is watched if not the kernel's ext4, one of `wire::subject`.
    subject: Option<u64>,
    /// What io_ends showed of the kernel.
    shown: Shown,
    device_names: BTreeMap<DevId, Name<32>>,
    attached: Vec<ProbeId>,
}

impl Pipeline {
    /// With empty tables; their memory is taken here.
    pub fn new(metrics: Metrics) -> Self {
        Pipeline::with_oracle(metrics, Oracle::default())
    }

    /// The same beside an oracle of the caller's: a wrong one, say, for a test.
    pub fn with_oracle(metrics: Metrics, oracle: Oracle) -> Self {
        Pipeline {
            sequences: Sequences::new(limits::CPUS_MAX, Start::AtOne),
            layout: Layout::default(),
            lifecycle: Lifecycle::default(),
            detectors: Detectors::new(),
            oracle,
            meter: Meter::new(metrics),
            watching: Watching::default(),
            totals: Totals::new(),
            findings: Vec::with_capacity(limits::FINDINGS_MAX),
            findings_left_out: 0,
            key: AddressKey(0),
            release: None,
            subject: None,
            shown: Shown::default(),
            device_names: BTreeMap::new(),
            attached: Vec::with_capacity(probes::PROBES.len()),
        }
    }

    /// Takes one record.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.feed_before(bytes, &mut Nobody);
    }

    /// Takes one record while somebody looks on.
    pub fn feed_before(&mut self, bytes: &[u8], onlooker: &mut impl Onlooker) {
        let event = match decode(bytes) {
            Ok(event) => event,
            Err(malformed) => {
                self.totals.malformed += 1;
                self.meter.metrics().events_lost(names::DECODE, malformed.label(), 1);
                return self.note_loss();
            }
        };
        match self.sequences.arrive(&event.stamp) {
            Arrival::Fresh => {}
            Arrival::Untracked => {
                self.meter.metrics().events_lost(names::SEQUENCE, names::UNTRACKED, 1);
                self.note_loss();
            }
            Arrival::Repeated => {
                self.meter.metrics().events_lost(names::SEQUENCE, names::REPEATED, 1);
                return self.note_loss();
            }
        }
        self.count(bytes);
        self.totals.saw(event.stamp.at);
        self.take(&event, onlooker);
    }

    /// Confirmed findings so far, the first ones if there were too many.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// What stands for kernel addresses in what is told of this stream.
    pub fn key(&self) -> AddressKey {
        self.key
    }

    /// Which protocol this kernel speaks.
    pub fn protocol(&self) -> Protocol {
        self.oracle.protocol()
    }

    /// The stream is over: what no TICK closed is not confirmed.
    pub fn finish(&mut self) {
        self.detectors.finish();
        self.oracle.finish();
        self.meter.suppressed(self.detectors.tally());
        self.meter.oracle(&self.oracle);
    }

    fn note_loss(&mut self) {
        self.detectors.note_loss();
        self.oracle.note_loss();
    }

    fn count(&mut self, bytes: &[u8]) {
        let kind = u16::from_ne_bytes([bytes[0], bytes[1]]);
        if let Some(index) = names::kind_index(kind) {
            self.totals.by_kind[index] += 1;
            self.meter.metrics().event(index);
        }
    }

    fn take(&mut self, event: &Event, onlooker: &mut impl Onlooker) {
        if self.layout.observe(&event.body) {
            self.detectors.believe_layout(self.layout.is_believed());
            self.show_arming();
        }
        let Some(event) = self.layout.admit(event) else { return };
        let event = &*event;
        // Before the rules, so that they hear what the cores say; but a TICK is dated by what is noted
        // at it.
        if !matches!(event.body, Body::Tick { .. }) {
            self.oracle.observe(event);
            self.detectors.hear(self.oracle.said());
        }
        self.watching.event(&event.body);
        let Pipeline { lifecycle, detectors, meter, watching, .. } = self;
        let mut shown = self.shown;
        lifecycle.observe(event, &mut |step| {
            detectors.step(&step);
            meter.step(&step);
            watching.step(&step);
            onlooker.step(&step);
            shown.take(&step);
        });
        self.learn(shown);
        self.about_the_stream(event, onlooker);
        onlooker.event(event);
    }

    fn about_the_stream(&mut self, event: &Event, onlooker: &mut impl Onlooker) {
        match event.body {
            Body::Host { release, hash_key, .. } => {
                self.begin_stream();
                self.release = Some(release);
                self.subject = None;
                // What is seen attached is told by totals, which go on.
                self.shown = Shown { attaches: self.shown.attaches, ..Shown::default() };
                self.key = AddressKey(hash_key);
                self.facts_changed();
            }
            Body::Config { key: config_key::SUBJECT, value } => {
                self.subject = Some(value).filter(|value| *value != subject::EXT4);
                self.facts_changed();
            }
            Body::Slice { .. } => self.sequences.start_anywhere(),
            Body::Device { dev, name } => self.name_device(dev, name),
            Body::Attach { probe, backend, failed } => self.attach(probe, backend, failed),
            Body::Detach { probe } => self.detach(probe),
            Body::Loss { of_cpu, emitted, dropped } => {
                let lost = self.totals.loss(of_cpu, emitted, dropped);
                self.meter.metrics().events_lost(names::RING, names::FULL, lost);
            }
            Body::Misses { probe, total } => {
                let missed = self.totals.missed(probe, total);
                self.meter.metrics().probe_missed(probe, names::miss_reason(probe), missed);
            }
            Body::ProgramLoss { left_out } => {
                let rose = self.totals.program_loss(left_out);
                for bound in ProgramBound::ALL {
                    let (stage, reason) = (names::PROGRAM, bound.label());
                    self.meter.metrics().events_lost(stage, reason, rose.at(bound));
                }
            }
            Body::Tick { .. } => return self.tick(event, onlooker),
            _ => {}
        }
        self.settle(event);
    }

    /// A HOST: numbers and totals begin anew, nothing is attached yet. Objects were forgotten by the
    /// lifecycle, held candidates are by the detectors, lives by the oracle.
    fn begin_stream(&mut self) {
        let streams: Vec<_> = self.cpus().collect();
        self.totals.restart(streams.into_iter());
        self.meter.begin_stream();
        self.sequences.restart();
        if self.attached.is_empty() {
            return;
        }
        for probe in std::mem::take(&mut self.attached) {
            self.meter.probe_gone(probe);
        }
        self.probes_changed();
    }

    /// Closes an epoch: candidates are settled, gauges set.
    fn tick(&mut self, event: &Event, onlooker: &mut impl Onlooker) {
        if self.totals.missing_rose(self.sequences.totals().missing) {
            self.note_loss();
        }
        self.oracle.observe(event);
        let attaches = kernel_facts::attaches_shown(self.lifecycle.summary());
        self.learn(Shown { attaches, ..self.shown });
        self.settle(event);
        let Pipeline { lifecycle, detectors, meter, .. } = self;
        let lossy_until = detectors.last_loss_of_ends();
        lifecycle.sweep(event.stamp.at, lossy_until, &mut |step| {
            meter.step(&step);
            onlooker.step(&step);
        });
        self.meter.tick(&self.lifecycle, event.stamp.at);
        self.meter.rules_watched(&self.detectors, event.stamp.at);
        self.meter.watching(&self.watching);
        self.meter.suppressed(self.detectors.tally());
        self.meter.oracle(&self.oracle);
    }

    fn settle(&mut self, event: &Event) {
        let mut confirmed = Vec::new();
        self.detectors.observe(event, &mut |verdict| confirmed.push(*verdict));
        for verdict in &confirmed {
            self.confirm(verdict);
        }
    }

    fn confirm(&mut self, verdict: &Verdict) {
        let dev = Finding::device_of(verdict);
        let name = dev.and_then(|dev| self.device_names.get(&dev)).map(ToString::to_string);
        let is_kept = self.findings.len() < limits::FINDINGS_MAX;
        let finding = is_kept.then(|| Finding::new(verdict, self.key, name.as_deref()));
        self.meter.violation(dev, verdict, finding.as_ref());
        match finding {
            Some(finding) => self.findings.push(finding),
            None => self.findings_left_out += 1,
        }
    }

    fn name_device(&mut self, dev: DevId, name: Name<32>) {
        let known = self.device_names.contains_key(&dev);
        if known || self.device_names.len() < limits::DEVICE_NAMES_MAX {
            self.device_names.insert(dev, name);
            self.meter.name_device(dev, &name.to_string());
        }
    }

    fn attach(&mut self, probe: ProbeId, backend: Option<Backend>, failed: bool) {
        self.totals.probe(probe, ProbeFate::of(backend, failed));
        let (Some(row), Some(backend)) = (probes::probe(probe), backend) else {
            self.facts_changed();
            // Until one is attached nothing is shown as armed.
            if !self.attached.is_empty() {
                self.show_arming();
            }
            return;
        };
        self.meter.probe(probe, row.function, backend.label());
        if !self.attached.contains(&probe) {
            self.attached.push(probe);
        }
        self.probes_changed();
    }

    fn detach(&mut self, probe: ProbeId) {
        self.meter.probe_gone(probe);
        self.attached.retain(|attached| *attached != probe);
        self.probes_changed();
    }

    /// What is witnessed has changed: for the model, the rules and the rows that can be filled.
    fn probes_changed(&mut self) {
        let witnesses = self.witnesses();
        self.lifecycle.set_witnesses(&witnesses);
        self.oracle.set_claim_probe(witnesses.sees(Witness::Claim));
        self.oracle.set_witnessed(oracle_can_judge(&witnesses));
        self.detectors.arm(&witnesses);
        self.meter.observe(&witnesses);
        self.facts_changed();
        self.show_arming();
    }

    fn show_arming(&self) {
        for rule in Rule::ALL {
            self.meter.arm(*rule, &self.detectors);
        }
    }

    fn witnesses(&self) -> Witnesses {
        Witnesses::of(self.attached.iter().filter_map(|id| probes::probe(*id)))
    }

    fn learn(&mut self, shown: Shown) {
        if shown != self.shown {
            self.shown = shown;
            self.facts_changed();
            self.show_arming();
        }
    }

    /// What is known of the kernel may have changed, and so which rules are armed.
    fn facts_changed(&mut self) {
        let witnesses = self.witnesses();
        let release = self.release.map(|release| release.to_string());
        let fate = self.totals.fate(ENCIPHERED.0);
        let by = witnesses.get(Witness::AttachEnciphered);
        let bios_unseen = bios_unseen(fate, by, release.as_deref());
        self.oracle.set_bios_unseen(bios_unseen);
        self.detectors.know(kernel_facts::known(Evidence {
            // What is watched in ext4's place is no part of that release.
            release: release.as_deref().filter(|_| self.subject.is_none()),
            claims_seen: witnesses.sees(Witness::Claim),
            shown: self.shown,
            bios_unseen,
            core_described: self.oracle.is_described(),
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Backend, ENCIPHERED, ORACLE_NEEDS, ORACLE_TAKES, ProbeFate, Witnesses, bios_unseen,
        oracle_can_judge, probes,
    };

    #[test]
    fn the_oracle_judges_by_fentry_alone() {
        let fentry = Witnesses::all_by(Backend::Fentry);
        assert!(oracle_can_judge(&fentry));
        for witness in ORACLE_NEEDS.into_iter().chain(ORACLE_TAKES) {
            for by in [None, Some(Backend::Kprobe), Some(Backend::RawTracepoint)] {
                let mut witnesses = fentry;
                witnesses.set(witness, by);
                let spared = by.is_none() && ORACLE_TAKES.contains(&witness);
                assert_eq!(oracle_can_judge(&witnesses), spared, "{witness:?} by {by:?}");
            }
        }
    }

    #[test]
    fn enciphered_bios_are_unseen_where_their_probe_should_be_and_is_not() {
        let release = |release| bios_unseen(None, None, Some(release));
        assert!(
            !release("6.18.15+deb13-cloud-amd64") && release("7.0.0") && release("7.3.4+deb13")
        );
        assert!(bios_unseen(None, None, None), "nobody knows");
        let newest = Some("7.3.4");
        for (fate, by, unseen) in [
            (ProbeFate::Attached, Some(Backend::Fentry), false),
            (ProbeFate::Attached, Some(Backend::Kprobe), true),
            (ProbeFate::Failed, None, true),
            (ProbeFate::Failed, Some(Backend::Kprobe), true),
            (ProbeFate::Absent, None, false),
        ] {
            assert_eq!(bios_unseen(Some(fate), by, newest), unseen, "{fate:?} {by:?}");
        }
        let row = probes::PROBES.iter().find(|probe| probe.program == ENCIPHERED.0);
        let row = row.expect("it is a row of the table");
        assert_eq!(
            (row.hook, row.witness),
            (probes::Hook::Entry, probes::Witness::AttachEnciphered)
        );
    }
}
