//! The label lists that the metrics are set up with, each taken from the table that owns it.

use endiod_wire::wire::RECORDS;

use crate::{
    decode::Malformed,
    detect::{Lack, Rule, Suppressed},
    event::{Backend, ProbeId, ProgramBound},
    lifecycle::{State, Table},
    metrics::Names,
    probes::{self, PROBES},
};

/// Stage of a loss: the ring between programs and agent.
pub(crate) const RING: &str = "ring";
/// Reason: it was full.
pub(crate) const FULL: &str = "full";
/// Stage of a loss: the decoder.
pub(crate) const DECODE: &str = "decode";
/// Stage of a loss: the sequence windows.
pub(crate) const SEQUENCE: &str = "sequence";
/// Reason: the number came before, or after it was given up.
pub(crate) const REPEATED: &str = "repeated";
/// Reason: its CPU or lane is beyond the bound, so nothing is known about gaps.
pub(crate) const UNTRACKED: &str = "untracked";
/// Stage of a loss: a fixed-capacity table; the reason is the table.
pub(crate) const TABLE: &str = "table";
/// Stage of a loss: the programs' own tables and walks; the reason is the bound.
pub(crate) const PROGRAM: &str = "program";
/// Why a probe missed a hit: its program was already running on that CPU.
pub(crate) const RECURSION: &str = "recursion";
/// Why a kprobe did: it, another kprobe, or the program of one or of a classic tracepoint was running on
/// that CPU. The kernel counts these in two places and the stream carries their sum.
pub(crate) const KPROBE: &str = "kprobe";

static EVENT_KINDS: [&str; RECORDS.len()] = {
    let mut kinds = [""; RECORDS.len()];
    let mut index = 0;
    while index < kinds.len() {
        kinds[index] = RECORDS[index].1;
        index += 1;
    }
    kinds
};

/// Kinds are below this.
const KINDS_MAX: usize = 128;

/// Place in `RECORDS` of each kind; `RECORDS.len()` for a number that is no kind.
static KIND_INDEX: [usize; KINDS_MAX] = {
    let mut places = [RECORDS.len(); KINDS_MAX];
    let mut index = 0;
    while index < RECORDS.len() {
        places[RECORDS[index].0 as usize] = index;
        index += 1;
    }
    places
};

/// Place of a kind in `RECORDS`, which is its index in the event metrics.
pub(super) fn kind_index(kind: u16) -> Option<usize> {
    KIND_INDEX.get(usize::from(kind)).copied().filter(|index| *index < RECORDS.len())
}

/// Every list; made once, for the life of the process.
pub fn names() -> Names {
    Names {
        event_kinds: &EVENT_KINDS,
        states: leak(State::live().map(State::label)),
        rules: leak(Rule::ALL.iter().map(|rule| rule.label())),
        probes: leak(PROBES.iter().map(|probe| probe.program)),
        tables: leak(Table::ALL.iter().map(|table| table.label())),
        losses: leak(losses()),
        suppression_reasons: leak(Suppressed::ALL.iter().map(|reason| reason.label())),
        degraded_reasons: leak(Lack::ALL.into_iter().map(Lack::label)),
        miss_reasons: &[RECURSION, KPROBE],
    }
}

/// Why a probe missed hits, by its back end; one that this version does not know is no kprobe of it.
pub(super) fn miss_reason(probe: ProbeId) -> &'static str {
    match probes::probe(probe).map(|row| row.hook.backend()) {
        Some(Backend::Kprobe) => KPROBE,
        Some(Backend::Fentry | Backend::RawTracepoint | Backend::Watchpoint) | None => RECURSION,
    }
}

fn losses() -> impl Iterator<Item = (&'static str, &'static str)> {
    let malformed = Malformed::ALL.iter().map(|reason| (DECODE, reason.label()));
    let tables = Table::ALL.iter().map(|table| (TABLE, table.label()));
    let program = ProgramBound::ALL.iter().map(|bound| (PROGRAM, bound.label()));
    [(RING, FULL), (SEQUENCE, REPEATED), (SEQUENCE, UNTRACKED)]
        .into_iter()
        .chain(program)
        .chain(malformed)
        .chain(tables)
}

/// The lists live as long as the process; there is one metrics handle in it.
fn leak<T>(items: impl Iterator<Item = T>) -> &'static [T] {
    Vec::leak(items.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kprobes_miss_has_a_reason_of_its_own() {
        for (id, row) in (0..).map(ProbeId).zip(PROBES) {
            let is_kprobe = row.program.starts_with("kprobe_");
            let expected = if is_kprobe { KPROBE } else { RECURSION };
            assert_eq!(miss_reason(id), expected, "{}", row.program);
        }
        assert!(PROBES.iter().any(|row| row.program.starts_with("kprobe_")));
        assert_eq!(miss_reason(ProbeId(u32::MAX)), RECURSION);
    }
}
