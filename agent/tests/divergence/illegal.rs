//! What no run of a kernel has at its place in a life: an event too many, or a byte of another value.

use std::collections::BTreeMap;

use endiod::{
    event::{BioAddr, Body, Context, Event, IoEndImage, Task},
    source::sim::Random,
};

use crate::lives::{Life, image, seen};

/// The kinds of events that are inserted.
pub(crate) const INSERTED: [&str; 10] = [
    "birth",
    "range",
    "attach",
    "bio_end",
    "put",
    "put_defer",
    "claim",
    "convert_begin",
    "convert_end",
    "release",
];

/// The kinds of changes to one image.
pub(crate) const ALTERED: [&str; 7] =
    ["count + 1", "count - 1", "flag ^ UNWRITTEN", "flag ^ FAILED", "flag | 4", "listed", "handle"];

/// The life with an event of `kind` too many at `place`, by an actor and with bytes as they would be there;
/// `None` where it would be legal, or its bytes are not known.
pub(crate) fn inserted(
    life: &Life,
    kind: &str,
    place: usize,
    random: &mut Random,
) -> Option<Vec<Event>> {
    let (before, after) = (&life.events[..place], &life.events[place..]);
    let birth = &life.events[0];
    let Body::IoEndBirth { io_end, inode, id } = birth.body else { unreachable!() };
    let by_owner = |it: &&Event| {
        it.stamp.context == Context::Task && it.stamp.task.tid == birth.stamp.task.tid
    };
    let mine =
        |is: fn(&Body) -> bool| before.iter().filter(by_owner).filter(|it| is(&it.body)).count();
    // A bio that fails at once ends, and puts its reference, in the submitter's own task.
    let ends = mine(|it| matches!(it, Body::BioEnd { .. }));
    let put = before.iter().any(|it| matches!(it.body, Body::Put(_)))
        || mine(|it| matches!(it, Body::PutDefer(_))) > ends;
    // Ranges and bios are the submitter's to add while it holds its reference: a range then is legal.
    // A birth after the release is the next life at that address.
    let is_legal = kind == "range" && !put || kind == "birth" && after.is_empty();
    if is_legal || kind == "claim" && !life.claims {
        return None;
    }
    let near = before.iter().rev().chain(after).find_map(|it| seen(&it.body))?;
    let mut event = *before.last()?;
    let workers = life.events.iter().find(|it| matches!(it.body, Body::ConvertBegin(_)));
    event.stamp.task = match (kind, workers) {
        ("birth" | "range" | "attach" | "put", _) => birth.stamp.task,
        ("claim" | "convert_begin" | "convert_end" | "release", Some(worker))
            if random.one_in(2) =>
        {
            worker.stamp.task
        }
        _ => Task { tid: 7, tgid: 7 },
    };
    event.stamp.context = Context::Task;
    event.body = match kind {
        "birth" => Body::IoEndBirth { io_end, inode, id },
        "range" => Body::RangeAdded { io_end, failed: false },
        "attach" => life.events.iter().find(|it| matches!(it.body, Body::BioAttach { .. }))?.body,
        "bio_end" => Body::BioEnd { bio: BioAddr(1), status: 0, ended_before: false, seen: near },
        "put" => Body::Put(near),
        "put_defer" => Body::PutDefer(near),
        "claim" => Body::Claim(near),
        "convert_begin" => Body::ConvertBegin(near),
        "convert_end" => Body::ConvertEnd { io_end, ret: 0 },
        _ => Body::Release(near),
    };
    Some([before, &[event], after].concat())
}

/// The life with one field of one image changed, and the act whose image it is.
pub(crate) fn altered(life: &Life, kind: &str, random: &mut Random) -> (Vec<Event>, &'static str) {
    let mut events = life.events.clone();
    let mut images: Vec<_> = events
        .iter_mut()
        .filter_map(|event| {
            let act = act(&event.body);
            image(&mut event.body).map(|image| (image, act))
        })
        .collect();
    let at = random.below(images.len() as u64) as usize;
    let (image, act) = &mut images[at];
    alter(image, kind);
    let act = *act;
    (events, act)
}

fn alter(image: &mut IoEndImage, kind: &str) {
    match kind {
        "count + 1" => image.count += 1,
        "count - 1" => image.count = image.count.wrapping_sub(1),
        "flag ^ UNWRITTEN" => image.flag ^= 1,
        "flag ^ FAILED" => image.flag ^= 2,
        "flag | 4" => image.flag |= 4,
        "listed" => image.list_next = 0xffff_8880_0000_0400,
        _ => image.handle ^= 0xffff_8880_0000_0800,
    }
}

fn act(body: &Body) -> &'static str {
    match body {
        Body::BioEnd { .. } => "bio_end",
        Body::Put(_) => "put",
        Body::PutDefer(_) => "put_defer",
        Body::Claim(_) => "claim",
        Body::ConvertBegin(_) => "convert_begin",
        Body::Release(_) => "release",
        _ => "",
    }
}

/// Diverged of all: by the core of 2012, by the refcounted one, by either.
#[derive(Clone, Copy, Default)]
pub(crate) struct Share {
    diverged: [u32; 2],
    either: u32,
    all: u32,
}

impl Share {
    pub(crate) fn note(&mut self, told: [bool; 2]) {
        for (count, told) in self.diverged.iter_mut().zip(told) {
            *count += u32::from(told);
        }
        self.either += u32::from(told != [false; 2]);
        self.all += 1;
    }

    fn and(self, other: Share) -> Share {
        let add = |at: usize| self.diverged[at] + other.diverged[at];
        let (either, all) = (self.either + other.either, self.all + other.all);
        Share { diverged: [add(0), add(1)], either, all }
    }

    pub(crate) fn missed(self) -> u32 {
        self.all - self.either
    }

    /// Seen by either, in percent.
    pub(crate) fn percent(self) -> f64 {
        100.0 * f64::from(self.either) / f64::from(self.all)
    }
}

/// Shares by kind, in the order of their kinds.
pub(crate) type Shares = BTreeMap<(usize, String), Share>;

pub(crate) fn total(shares: &Shares) -> Share {
    shares.values().fold(Share::default(), |sum, share| sum.and(*share))
}

/// A row per kind, then all of them.
pub(crate) fn table(shares: &Shares) -> String {
    let row = |kind: &str, share: Share| {
        let Share { diverged: [old, new], either, all } = share;
        let (percent, missed) = (share.percent(), share.missed());
        format!("{kind:<28}{all:>7}{old:>8}{new:>8}{either:>8}{percent:>8.2} %{missed:>8}\n")
    };
    let head = ["kind", "all", "2012", "5.5+", "either", "share", "missed"];
    let [kind, all, old, new, either, share, missed] = head;
    format!("{kind:<28}{all:>7}{old:>8}{new:>8}{either:>8}{share:>10}{missed:>8}\n")
        + &shares.iter().map(|((_, kind), share)| row(kind, *share)).collect::<String>()
        + &row("all", total(shares))
}
