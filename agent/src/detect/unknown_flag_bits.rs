//! The flag has bits that no kernel from 5.5 to 7.3 defines.
//!
//! ```text
//!   F5   any snapshot of a live io_end ──► flag & ~(UNWRITTEN | FAILED)
//! ```
//!
//! FAILED passes on every kernel: it was backported, and which builds have it is not always known. This
//! rule must never watch a kernel that is newer than those that were looked at, nor use the bytes at
//! `kmem_cache_free`, which up to 5.15 comes after the memory is free.

use super::{Charge, Confidence, Detector, Fact, Need, Rule, Way};
use crate::lifecycle::{Act, FLAG_FAILED, FLAG_UNWRITTEN, Gap, IoEndStep, State};
use crate::probes::Witness;

/// Every bit that means something.
const KNOWN: u32 = FLAG_UNWRITTEN | FLAG_FAILED;

pub(super) const DETECTOR: Detector = Detector {
    rule: Rule::UnknownFlagBits,
    claim: "the flag of an io_end has bits that mean nothing",
    ways: &[
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::function(Witness::Release),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "unknown_flag_bits.trace",
            check,
        },
        Way {
            needs: &[
                Need::any(Witness::Birth),
                Need::tracepoint(Witness::BioDone),
                Need::any(Witness::Release),
                Need::fact(Fact::NoOtherFlags),
            ],
            fixture: "raw_tp_unknown_flag_bits.trace",
            check: at_the_device,
        },
    ],
    despite: &[Gap::AttachMissed, Gap::PutMissed, Gap::ClaimMissed],
    sound: "the flag is 0 at birth (ext4_init_io_end allocates zeroed) and ext4 sets no other bits; the \
            bytes are those of a live incarnation whose birth was seen, at a place where its caller, its \
            list or its claim keeps it alive.",
    misses: "bits that are gone again when the next probe reads the flag; a wrong UNWRITTEN or FAILED, \
             which other rules look for; with raw tracepoints all but the device's points",
};

fn check(step: &IoEndStep<'_>) -> Option<Charge> {
    let unknown = step.before != State::Released && step.image?.flag & !KNOWN != 0;
    unknown.then_some(Charge {
        confidence: Confidence::Certain,
        what: "its flag has bits that ext4 does not define",
        first: None,
    })
}

fn at_the_device(step: &IoEndStep<'_>) -> Option<Charge> {
    let done = matches!(step.act, Act::PartDone | Act::BioDone);
    if done { check(step) } else { None }
}
