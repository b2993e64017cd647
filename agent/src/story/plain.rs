//! What a story means, in plain words.
//!
//! ```text
//!   what an io_end is ─► what happened to this one ─► what the findings mean ─► what it leads to
//! ```
//!
//! What happened is read off the rows: a claim that another task's release cuts short, a mark that
//! vanishes from the flag, a worker that comes for ever. It must say what follows from them and no more;
//! where a cause is concluded from the source of that generation, the words say so.

use std::collections::BTreeMap;

use super::{
    Lane, Step, bits,
    collect::{Known, Row, gap_labels},
    meaning::meaning,
    text::duration,
    waits,
    words::Deed,
};
use crate::{
    event::Name,
    finding::Finding,
    lifecycle::{Phases, State},
    oracle::in_step::Protocol,
};

/// All that words can be made of.
pub(super) struct Scene<'a> {
    pub(super) protocol: Protocol,
    pub(super) rows: &'a [Row],
    pub(super) steps: &'a [Step],
    pub(super) lanes: &'a [Lane],
    pub(super) known: &'a Known,
    pub(super) device_name: Option<&'a str>,
    pub(super) findings: &'a [&'a Finding],
    /// What tasks were called.
    pub(super) names: &'a BTreeMap<u32, Name<16>>,
    /// Runs of the worker while it waited that touched no io_end.
    pub(super) empty_runs: u64,
    /// IN_FSYNC was seen set, in this io_end or in another.
    pub(super) marks_seen: bool,
}

/// The paragraphs.
pub(super) fn plain(scene: &Scene<'_>) -> Vec<String> {
    let mut told = vec![scene.what_it_is()];
    let cut_short = scene.cut_short();
    told.extend(scene.lost_mark());
    told.extend(scene.unlocked_requeue());
    told.extend(scene.second_claim());
    let freed_in_use = match &cut_short {
        Some(cut) => Some(scene.tell_cut_short(cut)),
        None => scene.went_on(),
    };
    let says_more = freed_in_use.is_some() && scene.is_2012();
    told.extend(freed_in_use);
    told.extend(scene.never_freed());
    told.extend(scene.held_up());
    let happened = told.len() > 1;
    if says_more {
        told.push(FREED_IN_2012.to_owned());
    }
    told.extend(scene.meanings(says_more));
    if scene.findings.is_empty() && !happened {
        told.push(scene.nothing());
    }
    told
}

const FREED_IN_2012: &str = "From there on that task reads and writes memory that is nobody's. If nobody has taken it meanwhile, \
     nothing is noticed. If it was handed out anew and zeroed, the write is never reported as done, and \
     the process that waits for it can not even be killed. If it is another io_end by now, that one's \
     write is reported done too early, and once more later.";

/// A claim that somebody else's release cut short, by the indexes of rows.
struct CutShort {
    claim: usize,
    release: usize,
    /// Where the claimer's work returned, if it did.
    until: Option<usize>,
}

impl Scene<'_> {
    fn what_it_is(&self) -> String {
        let inode = self.known.inode.map(|inode| format!(" of inode {}", inode.ino.0));
        let device = self.device_name.map(|name| format!(" on {name}"));
        let of = inode.unwrap_or_default() + &device.unwrap_or_default();
        match self.protocol {
            Protocol::CompletedList => format!(
                "An io_end stands for a write{of}. When the device is done the interrupt puts it on the \
                 inode's list and queues its work. Whoever takes it off the list converts its extents: \
                 the worker, or a task in fsync that does not want to wait for the worker. Only the \
                 worker frees it."
            ),
            Protocol::Refcounted { .. } => format!(
                "An io_end stands for the writes of one round of writeback{of}; each bio holds a \
                 reference, and so does whoever submits them. Who drops the last one, or the worker for \
                 him, claims the io_end, converts the extents that were written, and releases it."
            ),
            Protocol::Unknown => format!("An io_end stands for writes{of}."),
        }
    }

    /// `task 20 (fsync path, lane C)`.
    fn who(&self, at: usize) -> String {
        let step = &self.steps[at];
        let lane = &self.lanes[step.lane];
        let Lane { letter, who, role, .. } = lane;
        match lane.tid {
            Some(_) => format!("{who} ({role}, lane {letter})"),
            None => format!("{who} (lane {letter})"),
        }
    }

    fn same_actor(&self, one: usize, other: usize) -> bool {
        self.rows[one].stamp.task.tid == self.rows[other].stamp.task.tid
            && self.steps[one].lane == self.steps[other].lane
    }

    fn claims(&self) -> impl Iterator<Item = usize> + '_ {
        let claims = |row: &Row| matches!(row.deed, Deed::Claim | Deed::ConvertBegin);
        self.rows.iter().enumerate().filter(move |(_, row)| claims(row)).map(|(at, _)| at)
    }

    /// Where the claimer of `claim` has done with it.
    fn until(&self, claim: usize) -> Option<usize> {
        let mut later = claim + 1..self.rows.len();
        later.find(|at| {
            let over = matches!(self.rows[*at].deed, Deed::ConvertEnd { .. } | Deed::Release);
            over && self.same_actor(claim, *at)
        })
    }

    /// Is another task's claim open when this one is made?
    fn is_second(&self, claim: usize) -> bool {
        let earlier = self.claims().take_while(|at| *at < claim);
        earlier.into_iter().any(|at| {
            !self.same_actor(at, claim) && self.until(at).is_none_or(|until| until > claim)
        })
    }

    fn second_claim(&self) -> Option<String> {
        let second = self.claims().find(|claim| self.is_second(*claim))?;
        let first = self.claims().find(|at| !self.same_actor(*at, second))?;
        let number = |at: usize| self.steps[at].number;
        let (one, other) = (self.who(first), self.who(second));
        let done = match self.until(first) {
            Some(until) => format!("Before it was done, which was in step {}", number(until)),
            None => "Before it was done".to_owned(),
        };
        Some(format!(
            "In step {} {one} claimed it. {done}, {other} set to work on it as well, in step {}.",
            number(first),
            number(second)
        ))
    }

    fn cut_short(&self) -> Option<CutShort> {
        self.claims().filter(|claim| !self.is_second(*claim)).find_map(|claim| {
            let until = self.until(claim);
            let mut within = claim + 1..until.unwrap_or(self.rows.len());
            let release = within
                .find(|at| self.rows[*at].deed == Deed::Release && !self.same_actor(claim, *at))?;
            Some(CutShort { claim, release, until })
        })
    }

    fn tell_cut_short(&self, cut: &CutShort) -> String {
        let number = |at: usize| self.steps[at].number;
        let (claimer, other) = (self.who(cut.claim), self.who(cut.release));
        let until = match cut.until {
            Some(until) => format!("and was busy with it until step {}", number(until)),
            None => "and was busy with it to the end of what was recorded".to_owned(),
        };
        let freed = if self.is_2012() { "freed" } else { "released" };
        let took = if self.is_2012() { "took it off the list" } else { "claimed it" };
        let mut told = format!(
            "In step {} {claimer} {took}, {until}. In the middle of that, in step {}, {other} {freed} it.",
            number(cut.claim),
            number(cut.release)
        );
        if self.is_2012() && self.rows[cut.release].in_run {
            told.push_str(
                " The worker had found it on no list, and took that for a sign that nobody needs it any \
                 more: it can not see that another task has it in hand.",
            );
        }
        told
    }

    /// The flag from row to row, where it was read.
    fn flags(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let rows = self.rows.iter().enumerate();
        rows.filter_map(|(at, row)| Some((at, row.image?.flag)))
    }

    /// IN_FSYNC is not there though the claim that it stands for is open (3.3 to 3.6).
    fn lost_mark(&self) -> Option<String> {
        if !self.is_2012() {
            return None;
        }
        let marked = |flag: u32| flag & bits::IN_FSYNC != 0;
        let claim = self.claims().find(|at| !self.rows[*at].in_run)?;
        let until = self.until(claim).unwrap_or(self.rows.len());
        let within = |at: usize| (claim..until).contains(&at);
        let (gone, flag) = self.flags().find(|(at, flag)| within(*at) && !marked(*flag))?;
        let seen = self.flags().filter(|(at, flag)| within(*at) && *at < gone && marked(*flag));
        let seen = seen.last().map(|(at, _)| self.steps[at].number);
        let queued = flag & bits::QUEUED != 0;
        let and_queued = if queued { ", and QUEUED is there" } else { "" };
        let (fsync, gone) = (self.who(claim), self.steps[gone].number);
        let mut told = match seen {
            Some(seen) => format!(
                "{} had marked the io_end with IN_FSYNC, by which it tells the worker to keep off: in step \
                 {seen} the mark is there. In step {gone} it is gone{and_queued}. Only that task may take \
                 it away, when its work is done and under the lock.",
                capitalised(&fsync)
            ),
            None if self.marks_seen => format!(
                "On this kernel the fsync path marks what it takes off the list with IN_FSYNC, under the \
                 lock, by which it tells the worker to keep off. {} took it, and yet in step {gone} the mark \
                 is not there{and_queued}.",
                capitalised(&fsync)
            ),
            None => return None,
        };
        if queued {
            told.push_str(
                " The work routine sets QUEUED when it puts its work back, and without the fix it does so \
                 after it has dropped the lock: it had read the flag before the mark was set, and stored \
                 that old value with QUEUED in it. The mark was overwritten (a lost update), and with it \
                 went what kept the worker off.",
            );
        }
        Some(told)
    }

    /// The worker wrote to the flag while nobody held the lock.
    fn unlocked_requeue(&self) -> Option<String> {
        let unlocked = |row: &Row| row.deed == Deed::Requeue { locked: Some(false) };
        let at = self.rows.iter().position(unlocked)?;
        Some(format!(
            "In step {} {} put its work back and set QUEUED while nobody held the lock. It reads the flag, \
             adds the bit and writes all of it back: what another task does to the flag in between is \
             undone.",
            self.steps[at].number,
            self.who(at)
        ))
    }

    /// It was released, and somebody who had it in hand went on with it.
    fn went_on(&self) -> Option<String> {
        let release = self.rows.iter().position(|row| row.deed == Deed::Release)?;
        let uses = |at: &usize| {
            let row = &self.rows[*at];
            row.state.is_some() && !self.same_actor(release, *at)
        };
        let used = (release + 1..self.rows.len()).find(uses)?;
        let freed = if self.is_2012() { "freed" } else { "released" };
        let (one, other) = (self.who(release), self.who(used));
        Some(format!(
            "In step {} {one} {freed} it, while {other} still had it in hand: in step {} it went on with it.",
            self.steps[release].number, self.steps[used].number
        ))
    }

    fn is_2012(&self) -> bool {
        self.protocol == Protocol::CompletedList
    }

    /// The worker came again and again, and it was never freed.
    fn never_freed(&self) -> Option<String> {
        let over = self.known.lost || self.known.state == State::Released;
        if !self.is_2012() || over || self.empty_runs == 0 {
            return None;
        }
        let converted = self.rows.iter().rposition(|it| matches!(it.deed, Deed::ConvertEnd { .. }));
        let since = converted.map_or(String::new(), |at| {
            format!(" though its conversion had returned in step {}", self.steps[at].number)
        });
        Some(format!(
            "It was never freed,{since}. The worker came {} times without touching any io_end: it puts its \
             work back whenever IN_FSYNC is set. With no task in fsync that has it in hand, the mark must \
             have been written back after it was cleared: the work routine sets QUEUED outside of the \
             lock, in an old value of the flag. So it goes on for ever, and whoever waits for the last \
             io_end of the inode, umount or the last close of a deleted file, hangs.",
            self.empty_runs
        ))
    }

    /// Who waits, by the findings.
    fn held_up(&self) -> impl Iterator<Item = String> + '_ {
        let stuck = self.findings.iter().filter_map(|it| Some((it.stuck.as_ref()?, it.at_ns)));
        stuck.filter_map(|(stuck, at_ns)| waits::paragraph(stuck, at_ns, self.names))
    }

    /// `told_in_full`: what a free of something in use leads to was said.
    fn meanings(&self, told_in_full: bool) -> Vec<String> {
        let mut told: Vec<String> = Vec::new();
        for finding in self.findings {
            let Some((means, leads)) = meaning(finding.rule) else {
                told.push(format!("{}: {}.", finding.rule, finding.claim));
                continue;
            };
            let leads = if told_in_full { "" } else { leads };
            told.push(format!("{}: {means} {leads}", finding.rule).trim_end().to_owned());
        }
        told
    }

    /// Of a life in which nothing departs from the protocol.
    fn nothing(&self) -> String {
        let gaps = gap_labels(self.known.gaps);
        if !gaps.is_empty() {
            return format!(
                "Not all of this life was seen ({}), so it is told and timed, and nobody is accused.",
                gaps.join(", ")
            );
        }
        let Phases { submit, device, queue, convert, total } = self.known.phases;
        let phases = [
            ("submit", submit),
            ("device", device),
            ("queue", queue),
            ("convert", convert),
            ("total", total),
        ];
        let took = phases.iter().filter_map(|(name, took)| {
            let took = i64::try_from((*took)?.0).unwrap_or(i64::MAX);
            Some(format!("{name} {}", duration(took)))
        });
        let took = took.collect::<Vec<_>>().join(", ");
        let open = if self.known.state == State::Released { "" } else { " It is not over yet." };
        format!(
            "Nothing in this life departs from the protocol. {}{open}",
            capitalised(&took) + "."
        )
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}
