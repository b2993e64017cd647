//! What was lost, and which lives it could have touched.
//!
//! ```text
//!   events …  Loss Misses │TICK│  events …  Loss Misses │TICK│
//!             totals read ▲    ▲ closes the epoch
//!                         └ a total that rose dates its loss to here: it touches
//!                           every object born before, and none born after
//! ```
//!
//! A loss happened before its total was read, and the record that tells it is stamped after that. So
//! an object whose birth is later than that stamp cannot have lost an event to it; any other can.
//! That is stricter than "same epoch" where an object is born between the reading of a total and its
//! TICK. Totals are cumulative; the first one seen counts as risen unless it is 0. This module must
//! never forget a loss that may still touch a live object: it keeps the latest, which covers all.
//!
//! A lost record may have been any. A skipped hit is of one probe, and what a program leaves out at a
//! bound of its own is of one kind ([`hides`]): they touch what rests on that, and nothing else. So a
//! way's needs must name every witness whose silence could make it accuse.

use super::need::Need;
use crate::event::{Body, Cpu, Event, LeftOut, Nanos, ProgramBound};
use crate::limits;
use crate::probes::{self, Witness};
use crate::witnesses::WITNESSES;

/// Why something may be missing from a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Cause {
    /// Records found no room, never arrived, or were malformed.
    Loss,
    /// The kernel skipped hits of a probe.
    Misses,
    /// A probe was attached or detached.
    ProbesChanged,
    /// A program left out what is beyond a bound of its own.
    ProgramBound,
}

/// Those that may have taken anything; misses where it is not known of what.
const OF_ANYTHING: [Cause; 3] = [Cause::Loss, Cause::Misses, Cause::ProbesChanged];

/// For which need a witness stands in that is no need of its own: not every kernel has it, or a way
/// watches without.
fn serves(missed: Witness) -> Witness {
    match missed {
        Witness::AttachEnciphered => Witness::Attach,
        Witness::Claim | Witness::WorkerBegin | Witness::WorkerEnd => Witness::ConvertBegin,
        other => other,
    }
}

/// Does what has these needs rest on hits that were skipped?
fn rests_on(needs: &[Need], missed: Witness) -> bool {
    let mut witnesses = needs.iter().filter_map(|need| need.witness());
    witnesses.any(|need| need == missed || need == serves(missed))
}

/// What is not witnessed beyond a bound of the programs.
fn hides(bound: ProgramBound) -> &'static [Witness] {
    match bound {
        ProgramBound::OpenFsyncs => &[
            Witness::DataSubmit,
            Witness::DataWait,
            Witness::Journal,
            Witness::Barrier,
            Witness::EvictionBegin,
            Witness::EvictionEnd,
        ],
        // A completion is seen all the same.
        ProgramBound::OpenDirectIos => &[Witness::DirectIoBegin, Witness::DirectIoReturn],
        ProgramBound::LiveIoEnds => &[Witness::Release],
        ProgramBound::RequestWalk => &[Witness::BioDone],
        // LISTED has no witness of its own: it comes with a raw tracepoint's worker runs.
        ProgramBound::ListWalk => &[Witness::WorkerBegin],
    }
}

/// Does what needs that rest on what is hidden beyond the bound?
fn touches(bound: ProgramBound, needs: &[Need]) -> bool {
    let mut witnesses = needs.iter().filter_map(|need| need.witness());
    witnesses.any(|witness| hides(bound).contains(&witness))
}

/// The latest loss of each cause.
pub(super) struct Losses {
    /// Dropped records by CPU.
    dropped: Vec<u64>,
    /// Skipped hits by probe.
    missed: Vec<u64>,
    /// A gap or a malformed record since the last TICK.
    noted: bool,
    /// By [`Cause`], of those that may have taken anything.
    latest: [Option<Nanos>; OF_ANYTHING.len()],
    /// The latest misses by the witness they are of.
    latest_missed: [Option<(Witness, Nanos)>; WITNESSES],
    left_out: LeftOut,
    /// By [`ProgramBound`].
    reached: [Option<Nanos>; ProgramBound::ALL.len()],
}

impl Losses {
    pub(super) fn new() -> Self {
        Losses {
            dropped: vec![0; limits::CPUS_MAX],
            missed: vec![0; limits::PROBES_MAX],
            noted: false,
            latest: [None; OF_ANYTHING.len()],
            latest_missed: [None; WITNESSES],
            left_out: LeftOut::default(),
            reached: [None; ProgramBound::ALL.len()],
        }
    }

    pub(super) fn note(&mut self) {
        self.noted = true;
    }

    /// The programs were loaded anew: totals begin at 0 again.
    fn restart(&mut self) {
        self.dropped.fill(0);
        self.missed.fill(0);
        self.noted = false;
        self.left_out = LeftOut::default();
    }

    pub(super) fn observe(&mut self, event: &Event) {
        let cause = match event.body {
            Body::Loss { of_cpu: Cpu(cpu), dropped, .. } => {
                rose(&mut self.dropped, usize::from(cpu), dropped).then_some(Cause::Loss)
            }
            Body::Misses { probe, total } => {
                if !rose(&mut self.missed, probe.0 as usize, total) {
                    return;
                }
                match probes::probe(probe) {
                    // A store that no watchpoint saw excuses none that one saw.
                    Some(row) if row.is_of_watchpoints() => return,
                    Some(row) => return self.missed_of(row.witness, event.stamp.at),
                    None => Some(Cause::Misses),
                }
            }
            Body::Attach { backend: Some(_), .. } | Body::Detach { .. } => {
                Some(Cause::ProbesChanged)
            }
            Body::ProgramLoss { left_out } => return self.left_out(left_out, event.stamp.at),
            Body::Host { .. } => {
                self.restart();
                None
            }
            Body::Tick { .. } => std::mem::take(&mut self.noted).then_some(Cause::Loss),
            _ => None,
        };
        if let Some(cause) = cause {
            let latest = &mut self.latest[cause as usize];
            *latest = (*latest).max(Some(event.stamp.at));
        }
    }

    fn missed_of(&mut self, witness: Witness, at: Nanos) {
        let latest = &mut self.latest_missed[witness as usize];
        let before = latest.map(|(_, before)| before);
        *latest = Some((witness, before.map_or(at, |before| before.max(at))));
    }

    fn left_out(&mut self, left_out: LeftOut, at: Nanos) {
        let before = std::mem::replace(&mut self.left_out, left_out);
        for bound in ProgramBound::ALL {
            if left_out.at(bound) != before.at(bound) {
                let reached = &mut self.reached[bound as usize];
                *reached = (*reached).max(Some(at));
            }
        }
    }

    /// What may have taken an event that rests on `needs` from a life that began at `born`.
    pub(super) fn touching(&self, born: Nanos, needs: &[Need]) -> Option<Cause> {
        let since = |latest: Option<Nanos>| latest.is_some_and(|at| born <= at);
        let anything = OF_ANYTHING.into_iter().find(|cause| since(self.latest[*cause as usize]));
        let missed = || since(self.missed_by(needs)).then_some(Cause::Misses);
        let bound = || since(self.reached_by(needs)).then_some(Cause::ProgramBound);
        anything.or_else(missed).or_else(bound)
    }

    /// The latest loss of records or hits, or of what rests on `needs`.
    pub(super) fn last(&self, needs: &[Need]) -> Option<Nanos> {
        let lost = self.latest[Cause::Loss as usize].max(self.latest[Cause::Misses as usize]);
        lost.max(self.missed_by(needs)).max(self.reached_by(needs))
    }

    /// The latest that may have taken an end of something.
    pub(super) fn last_of_ends(&self) -> Option<Nanos> {
        let anything = self.latest.into_iter().flatten().max();
        let missed = self.latest_missed.into_iter().flatten().map(|(_, at)| at).max();
        anything.max(missed).max(self.reached[ProgramBound::LiveIoEnds as usize])
    }

    /// When hits that what has these needs rests on were last told to be skipped.
    fn missed_by(&self, needs: &[Need]) -> Option<Nanos> {
        let missed = self.latest_missed.into_iter().flatten();
        missed.filter(|(witness, _)| rests_on(needs, *witness)).map(|(_, at)| at).max()
    }

    /// When a bound that what has these needs rests on was last told to be reached.
    fn reached_by(&self, needs: &[Need]) -> Option<Nanos> {
        let bounds = ProgramBound::ALL.into_iter().filter(|bound| touches(*bound, needs));
        bounds.filter_map(|bound| self.reached[bound as usize]).max()
    }
}

/// Takes a cumulative total; beyond the table every total above 0 counts as risen.
fn rose(totals: &mut [u64], at: usize, total: u64) -> bool {
    match totals.get_mut(at) {
        Some(last) => std::mem::replace(last, total) != total,
        None => total > 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Losses};
    use crate::detect::Need;
    use crate::event::{
        Body, Context, Cpu, Event, LeftOut, Nanos, ProbeId, ProgramBound, Stamp, Task,
    };
    use crate::probes::{PROBES, Witness};

    fn event(at: u64, body: Body) -> Event {
        let task = Task { tid: 1, tgid: 1 };
        let context = Context::Task;
        Event { stamp: Stamp { at: Nanos(at), cpu: None, lane: 0, seq: at, task, context }, body }
    }

    fn loss(at: u64, dropped: u64) -> Event {
        event(at, Body::Loss { of_cpu: Cpu(3), emitted: 100, dropped })
    }

    #[test]
    fn a_rise_touches_what_was_born_before_it_and_nothing_after() {
        let mut losses = Losses::new();
        losses.observe(&loss(10, 0));
        assert_eq!(losses.touching(Nanos(5), &[]), None);
        losses.observe(&loss(20, 2));
        assert_eq!(losses.touching(Nanos(20), &[]), Some(Cause::Loss));
        assert_eq!(losses.touching(Nanos(21), &[]), None);
        losses.observe(&loss(30, 2));
        assert_eq!(losses.touching(Nanos(21), &[]), None);
        assert_eq!(losses.last(&[]), Some(Nanos(20)));
    }

    #[test]
    fn a_note_is_dated_by_the_next_tick() {
        let mut losses = Losses::new();
        losses.note();
        assert_eq!(losses.touching(Nanos(1), &[]), None);
        losses.observe(&event(50, Body::Tick { ordinal: 1 }));
        assert_eq!(losses.touching(Nanos(50), &[]), Some(Cause::Loss));
        losses.observe(&event(60, Body::Tick { ordinal: 2 }));
        assert_eq!(losses.touching(Nanos(55), &[]), None);
    }

    #[test]
    fn after_a_host_totals_begin_anew_and_what_is_known_of_losses_stays() {
        let mut losses = Losses::new();
        losses.observe(&loss(10, 7));
        let body = Body::Host {
            version: 1,
            cpus: 4,
            release: crate::event::Name::<64>::new("6.1.0"),
            hash_key: 0,
        };
        losses.observe(&event(20, body));
        losses.observe(&loss(30, 0));
        assert_eq!(losses.last(&[]), Some(Nanos(10)));
        losses.observe(&loss(40, 7));
        assert_eq!(losses.last(&[]), Some(Nanos(40)));
    }

    #[test]
    fn misses_and_probes_are_causes_of_their_own_and_unknown_probes_always_count() {
        let mut losses = Losses::new();
        losses.observe(&event(5, Body::Misses { probe: ProbeId(127), total: 1 }));
        assert_eq!(losses.touching(Nanos(5), &[]), Some(Cause::Misses));
        losses.observe(&event(7, Body::Misses { probe: ProbeId(u32::MAX), total: 1 }));
        losses.observe(&event(9, Body::Misses { probe: ProbeId(u32::MAX), total: 1 }));
        assert_eq!(losses.touching(Nanos(9), &[]), Some(Cause::Misses));
        losses.observe(&event(11, Body::Detach { probe: ProbeId(1) }));
        assert_eq!(losses.touching(Nanos(11), &[]), Some(Cause::ProbesChanged));
    }

    /// Of the probe whose program is called so.
    fn missed(at: u64, program: &str, total: u64) -> Event {
        let row = PROBES.iter().position(|row| row.program == program).expect("a program");
        let probe = ProbeId(u32::try_from(row).expect("there are few"));
        event(at, Body::Misses { probe, total })
    }

    #[test]
    fn a_skipped_hit_touches_what_rests_on_its_probe_and_nothing_else() {
        let needs = |witness| [Need::any(witness)];
        for (program, touched, untouched) in [
            ("submit_bio", Witness::Attach, Witness::Release),
            ("__blk_crypto_submit_bio", Witness::Attach, Witness::BioEnd),
            ("ext4_end_io_end", Witness::ConvertBegin, Witness::Put),
            ("ext4_end_io_rsv_work_exit", Witness::ConvertBegin, Witness::PutDefer),
            ("ext4_sync_file", Witness::FsyncBegin, Witness::Birth),
        ] {
            let mut losses = Losses::new();
            losses.observe(&missed(20, program, 1));
            losses.observe(&missed(30, program, 1));
            let cause = Some(Cause::Misses);
            assert_eq!(losses.touching(Nanos(20), &needs(touched)), cause, "{program}");
            assert_eq!(losses.touching(Nanos(21), &needs(touched)), None, "{program}");
            assert_eq!(losses.touching(Nanos(20), &needs(untouched)), None, "{program}");
            assert_eq!(losses.last(&needs(touched)), Some(Nanos(20)), "{program}");
            assert_eq!(losses.last(&needs(untouched)), None, "{program}");
            assert_eq!(losses.last_of_ends(), Some(Nanos(20)), "an end may be any");
        }
    }

    /// The record that tells of so much left out at one bound.
    fn left_out(at: u64, bound: ProgramBound, total: u64) -> Event {
        let mut left_out = LeftOut::default();
        left_out.0[bound as usize] = total;
        event(at, Body::ProgramLoss { left_out })
    }

    #[test]
    fn what_is_beyond_a_bound_touches_what_rests_on_it_and_nothing_else() {
        use ProgramBound::{ListWalk, LiveIoEnds, OpenDirectIos, OpenFsyncs, RequestWalk};
        for (witness, bound) in [
            (Witness::Journal, Some(OpenFsyncs)),
            (Witness::EvictionEnd, Some(OpenFsyncs)),
            (Witness::DirectIoBegin, Some(OpenDirectIos)),
            (Witness::Release, Some(LiveIoEnds)),
            (Witness::BioDone, Some(RequestWalk)),
            (Witness::WorkerBegin, Some(ListWalk)),
            (Witness::Birth, None),
            (Witness::WorkerEnd, None),
            (Witness::FsyncBegin, None),
            (Witness::DirectIoComplete, None),
        ] {
            for reached in ProgramBound::ALL {
                let mut losses = Losses::new();
                losses.observe(&left_out(20, reached, 1));
                let touched = (bound == Some(reached)).then_some(Cause::ProgramBound);
                let needs = [Need::any(witness)];
                assert_eq!(losses.touching(Nanos(20), &needs), touched, "{witness:?} {reached:?}");
                assert_eq!(losses.touching(Nanos(21), &needs), None);
                assert_eq!(losses.last(&needs), touched.map(|_| Nanos(20)));
            }
        }
    }

    #[test]
    fn a_total_that_stays_touches_nothing_anew_and_begins_again_with_a_host() {
        let needs = [Need::any(Witness::BioDone)];
        let mut losses = Losses::new();
        losses.observe(&left_out(10, ProgramBound::RequestWalk, 0));
        assert_eq!(losses.touching(Nanos(1), &needs), None);
        losses.observe(&left_out(20, ProgramBound::RequestWalk, 3));
        losses.observe(&left_out(30, ProgramBound::RequestWalk, 3));
        assert_eq!(losses.touching(Nanos(25), &needs), None);
        losses.restart();
        losses.observe(&left_out(40, ProgramBound::RequestWalk, 3));
        assert_eq!(losses.touching(Nanos(40), &needs), Some(Cause::ProgramBound));
    }

    #[test]
    fn only_releases_left_out_leave_something_open() {
        for bound in ProgramBound::ALL {
            let mut losses = Losses::new();
            losses.observe(&left_out(20, bound, 1));
            let expected = (bound == ProgramBound::LiveIoEnds).then_some(Nanos(20));
            assert_eq!(losses.last_of_ends(), expected, "{bound:?}");
        }
    }
}
