//! The core of 5.5 to 7.3 as a set of states, for one io_end: where it is, and its flags.
//!
//! ```text
//!             Held ──── the last put decrements ────┬───────────────┬──────────────┐
//!                                                   ▼               ▼              ▼
//!                                                 Direct         Inline        Listed
//!                                                   │               └──── claim ───┤
//!                                                   │                              ▼
//!                                                   │   (FAILED) ◄──────────── Claimed
//!                                                   │       │                      ▼ convert
//!                                                   │       │                 Converting ─► Converted
//!                                                   └───────┴──────► Freed ◄───────────────────┘
//! ```
//!
//! What no probe sees widens the set: UNWRITTEN and FAILED are set while held, UNWRITTEN is cleared
//! by the claimer, the last put decrements some time after it was entered. It must never take
//! an image for younger or older than it can be: while references are held only what is in program
//! order, or can no longer change, is held against it.

use super::Mutant;
use super::life::{Act, Known, PutBy, Sighting, States};
use super::protocol::Rules;
use crate::event::{IO_END_LIST_VEC_OFFSET, IoEndImage};

/// Flags, as in `io_end->flag`.
const UNWRITTEN: u32 = 1;
const FAILED: u32 = 2;
const FLAGS: u32 = 3;
/// Above this a count is an underflow, or saturated.
const COUNT_MAX: u32 = 1 << 30;

/// Where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Place {
    Held,
    Direct,
    Inline,
    Listed,
    Claimed,
    Converting,
    Converted,
    Freed,
}

use Place::{Claimed, Converted, Converting, Direct, Freed, Held, Inline, Listed};

const PLACES: [Place; 8] = [Held, Direct, Inline, Listed, Claimed, Converting, Converted, Freed];

/// A set of states: a bit per place and flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Set(u32);

impl States for Set {
    const BORN: Set = Set(1);
    const NONE: Set = Set(0);

    fn len(self) -> u32 {
        self.0.count_ones()
    }

    fn follow(self, sighting: &Sighting, before: &Known, after: &Known, rules: Rules) -> Set {
        let widened = self.widen(before, rules);
        let mut next = Set(0);
        for (place, flag) in widened.iter() {
            let wrong = wrong_step(place, sighting, rules);
            if let Some(place) = step(place, flag, sighting, before, rules).or(wrong) {
                next.add(place, flag);
            }
        }
        let next = next.widen(after, rules);
        let Some(image) = &sighting.image else { return next };
        if image.flag & !FLAGS != 0 {
            return Set(0);
        }
        match sighting.act {
            Act::BioEnd { .. } | Act::Put | Act::PutDefer => {
                let cleared =
                    before.last_by_same(sighting.by).is_some_and(|it| it & !image.flag != 0);
                if cleared { Set(0) } else { next.held(sighting, image, after, rules) }
            }
            _ => next.closing(sighting, image, after, rules),
        }
    }
}

impl Set {
    fn add(&mut self, place: Place, flag: u32) {
        self.0 |= 1 << (place as u32 * 4 + flag);
    }

    fn iter(self) -> impl Iterator<Item = (Place, u32)> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            (left != 0).then(|| {
                let bit = left.trailing_zeros();
                left &= left - 1;
                (PLACES[(bit / 4) as usize], bit % 4)
            })
        })
    }

    /// Steps that no probe sees.
    fn widen(self, known: &Known, rules: Rules) -> Set {
        let mut wide = self;
        for (place, flag) in self.iter() {
            match place {
                Held => {
                    let unwritten = if known.submitter_put.is_none() { UNWRITTEN } else { 0 };
                    let failed = if known.failed > 0 { FAILED } else { 0 };
                    for more in [0, unwritten, failed, unwritten | failed] {
                        wide.add(Held, flag | more);
                        if known.references() <= 0 {
                            hand_over(&mut wide, flag | more, known, rules);
                        }
                    }
                }
                Claimed if flag & FAILED != 0 => wide.add(Claimed, flag & !UNWRITTEN),
                // 6.6.y, 6.12.y, 6.14.y: no claim is seen of a failed one.
                Listed if flag & FAILED != 0 && !rules.claim_seen => {
                    wide.add(Listed, flag & !UNWRITTEN);
                }
                Converted => wide.add(Converted, flag & !UNWRITTEN),
                _ => {}
            }
        }
        wide
    }

    /// An image that was read while the reader held a reference.
    fn held(self, sighting: &Sighting, image: &IoEndImage, known: &Known, rules: Rules) -> Set {
        if rules.are(Mutant::PutsWhatNobodyHolds) {
            return self;
        }
        let counted = (1..=COUNT_MAX).contains(&image.count) && !known.is_surplus(image.count);
        let linked = image.list_next == sighting.addr && image.list_prev == sighting.addr;
        // No bio is left that could set FAILED.
        let unfounded = image.flag & FAILED != 0 && known.all_ended(rules) && known.failed == 0;
        // Every bio that ended has entered its put, after its store.
        let stored = rules.failed_known && known.failed > 0 && known.ended == known.bio_puts;
        let lost = stored && image.flag & FAILED == 0;
        let fixed = known.submitter_put.is_some();
        // The handle is moved in before UNWRITTEN is set, by the submitter.
        let bare = fixed && image.handle != 0 && image.flag & UNWRITTEN == 0;
        if !counted || !linked || unfounded || lost || bare {
            return Set(0);
        }
        let mut next = Set(0);
        for (place, flag) in self.iter() {
            let flag = flag | image.flag & UNWRITTEN;
            // After the submitter's put was entered nobody sets UNWRITTEN any more.
            if !fixed || flag & UNWRITTEN == image.flag & UNWRITTEN {
                next.add(place, flag);
            }
        }
        next
    }

    /// An image of a claim, a conversion or a release: nobody else is at it.
    fn closing(self, sighting: &Sighting, image: &IoEndImage, known: &Known, rules: Rules) -> Set {
        let linked = image.list_next == sighting.addr && image.list_prev == sighting.addr;
        let releases = sighting.act == Act::Release;
        let leaks = releases && image.handle != 0;
        let failed = known.failed > 0;
        let marked = image.flag & FAILED != 0;
        let right = if rules.failed_known { marked == failed } else { failed || !marked };
        let counted = image.count == 0 || rules.are(Mutant::ClaimsWhileHeld);
        if !counted || !linked || leaks || !right {
            return Set(0);
        }
        let vec_self = sighting.addr.wrapping_add(IO_END_LIST_VEC_OFFSET);
        let converts = sighting.act == Act::ConvertBegin;
        if converts && image.vec_next == vec_self {
            return Set(0);
        }
        let mut next = Set(0);
        for (place, flag) in self.iter().filter(|(_, flag)| *flag == image.flag) {
            next.add(place, flag);
        }
        next
    }
}

/// Where the last put may have taken it.
fn hand_over(set: &mut Set, flag: u32, known: &Known, rules: Rules) {
    let unwritten = flag & UNWRITTEN != 0;
    let aborts = flag & FAILED != 0 && rules.failed_known;
    let by_put = known.submitter_put == Some(PutBy::Put) && known.last_put != Some(PutBy::Defer);
    let deferred = known.bio_puts > 0 || known.submitter_put == Some(PutBy::Defer);
    let by_defer = deferred && known.last_put != Some(PutBy::Put);
    let defers = by_defer && !rules.are(Mutant::NeverDefers);
    for (may, place) in [(by_put, Inline), (defers, Listed)] {
        if may && (unwritten || aborts) {
            set.add(place, flag);
        }
        if may && !unwritten && !rules.are(Mutant::NeverFreesDirectly) {
            set.add(Direct, flag);
        }
    }
}

/// Where an event takes a state of a core that is wrong on purpose, and of no other.
fn wrong_step(place: Place, sighting: &Sighting, rules: Rules) -> Option<Place> {
    let (mutant, next) = match (sighting.act, place) {
        (Act::Claim, Claimed) => (Mutant::ClaimsTwice, Claimed),
        (Act::ConvertBegin, Converting) => (Mutant::ClaimsTwice, Converting),
        (Act::ConvertBegin, Converted) => (Mutant::ClaimsTwice, Converted),
        (Act::Claim, Converting) => (Mutant::ClaimsTwice, Converting),
        (Act::Claim, Converted) => (Mutant::ClaimsTwice, Converted),
        (Act::Release, Freed) => (Mutant::ReleasesTwice, Freed),
        (Act::PutDefer, Listed) => (Mutant::PutsWhatNobodyHolds, Listed),
        (Act::ConvertBegin, Freed) => (Mutant::ConvertsWhatIsFreed, Freed),
        _ => return None,
    };
    rules.are(mutant).then_some(next)
}

/// Where an event takes a state; `None`: it does not happen there.
fn step(
    place: Place,
    flag: u32,
    sighting: &Sighting,
    known: &Known,
    rules: Rules,
) -> Option<Place> {
    let by = sighting.by;
    let failed = flag & FAILED != 0;
    let owner = by.may_be(known.owner);
    let claimer = known.claimer == Some(by.tid);
    let worker = by.worker != Some(false);
    let submitting = known.submitter_put.is_none() && owner;
    match (sighting.act, place) {
        (Act::Range { .. } | Act::Attach, Held) => submitting.then_some(Held),
        (Act::BioEnd { .. }, Held) => (known.ended < known.attached).then_some(Held),
        (Act::Put, Held) => submitting.then_some(Held),
        (Act::PutDefer, Held) => {
            let bios = known.bio_puts < known.ended;
            (known.is_submitters(sighting) || bios).then_some(Held)
        }
        (Act::Claim, Listed) => (rules.failed_known && worker).then_some(Claimed),
        (Act::Claim, Inline) => (rules.failed_known && owner).then_some(Claimed),
        (Act::ConvertBegin, Claimed) => {
            (claimer && !failed && known.conversions == 0).then_some(Converting)
        }
        (Act::ConvertBegin, Listed) => {
            (!rules.claim_seen && !failed && worker).then_some(Converting)
        }
        (Act::ConvertBegin, Inline) => {
            (!rules.claim_seen && !failed && owner).then_some(Converting)
        }
        (Act::ConvertEnd, Converting) => claimer.then_some(Converted),
        (Act::Release, Direct) => Some(Freed),
        (Act::Release, Claimed) => (claimer && failed && flag & UNWRITTEN == 0).then_some(Freed),
        (Act::Release, Converted) => (claimer && flag & UNWRITTEN == 0).then_some(Freed),
        // 6.6.y, 6.12.y, 6.14.y: the worker frees a failed one, and no claim is seen of it.
        (Act::Release, Listed) => (failed && worker && !rules.claim_seen).then_some(Freed),
        _ => None,
    }
}
