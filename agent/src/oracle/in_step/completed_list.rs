//! The fixed core of 2012 as a set of states, for one io_end.
//!
//! ```text
//!   InFlight ─ last put ─► (Listed) ─ claim ─► Claimed ─ conversion returns ─► Converted ─► Freed
//!      └────────────── UNWRITTEN clear, or claimed in place ─────────────────────────────────┘
//! ```
//!
//! Its rules: who completes lists once; a claim is the removal from the list, so there is one; one
//! conversion; nobody frees while another's claim is open; nothing touches what is freed; its work puts it
//! back, and sets QUEUED, under the lock (a lock that nobody holds is not held by the work). It must never
//! look at counts: that there is a last put, `Known` says.

use super::Mutant;
use super::life::{Act, Known, PutBy, Sighting, States};
use super::protocol::Rules;

/// UNWRITTEN of `io_end->flag`.
const UNWRITTEN: u32 = 1;
/// FAILED of `io_end->flag`.
const FAILED: u32 = 2;

/// A set of states, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Set(u8);

const IN_FLIGHT: u8 = 1;
const LISTED: u8 = 2;
const CLAIMED: u8 = 4;
const CONVERTED: u8 = 8;
const FREED: u8 = 16;

impl States for Set {
    const BORN: Set = Set(IN_FLIGHT);
    const NONE: Set = Set(0);

    fn len(self) -> u32 {
        self.0.count_ones()
    }

    fn follow(self, sighting: &Sighting, before: &Known, after: &Known, rules: Rules) -> Set {
        let Sighting { act, by, image, .. } = sighting;
        let over = before.references() <= 0;
        let flag = image.map(|image| image.flag);
        let mine = before.claimer == Some(by.tid);
        let next = match act {
            Act::Range { .. } | Act::Attach | Act::BioEnd { .. } if !over => self.0 & IN_FLIGHT,
            Act::Put | Act::PutDefer if !over => match self.0 & IN_FLIGHT {
                0 => 0,
                held if after.references() > 0 => held,
                held if rules.are(Mutant::ListsNothing) => held,
                // Nobody else may list it: by this put, or by one still on its way.
                held => held | LISTED,
            },
            Act::Claim if over => self.claim(before, by.may_be(before.owner)),
            Act::ConvertBegin if over && rules.claim_seen => {
                let first = before.conversions == 0 && mine;
                if first { self.0 & CLAIMED } else { 0 }
            }
            Act::ConvertBegin if over => self.claim(before, by.may_be(before.owner)),
            Act::ConvertEnd if mine && self.0 & CLAIMED != 0 => CONVERTED,
            Act::ConvertEnd if mine && rules.are(Mutant::FreesWhatOthersClaim) => self.0 & FREED,
            Act::Release if over => self.free(mine, flag, rules),
            // Also one whose conversion has returned: IN_FSYNC is cleared in a later critical section.
            Act::Requeue { locked }
                if over && (*locked != Some(false) || rules.are(Mutant::RequeuesUnlocked)) =>
            {
                self.0 & (LISTED | CLAIMED | CONVERTED)
            }
            _ => 0,
        };
        Set(next)
    }
}

impl Set {
    fn claim(self, known: &Known, by_owner: bool) -> u8 {
        let in_place = known.submitter_put == Some(PutBy::Put) && by_owner;
        let from = if in_place { LISTED | IN_FLIGHT } else { LISTED };
        if self.0 & from != 0 { CLAIMED } else { 0 }
    }

    fn free(self, mine: bool, flag: Option<u32>, rules: Rules) -> u8 {
        let failed = flag.is_none_or(|flag| flag & FAILED != 0);
        let written = flag.is_none_or(|flag| flag & UNWRITTEN == 0);
        let may = [
            (CONVERTED, true),
            // The claimer gives up what failed.
            (CLAIMED, mine && failed || rules.are(Mutant::FreesWhatOthersClaim)),
            (LISTED, failed),
            (IN_FLIGHT, written),
        ];
        let frees = may.iter().any(|(state, may)| self.0 & state != 0 && *may);
        if frees { FREED } else { 0 }
    }
}
