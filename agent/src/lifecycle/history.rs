//! The last steps of one object, packed: 16 bytes a step, no allocation.
//!
//! A step holds nanoseconds since the object's birth in 48 bits (78 hours, then it saturates) and a
//! reference count in a byte (255 means more; the verdict's own image has the exact value). This
//! module must never be asked for a verdict: it is what people read afterwards.

use super::act::Act;
use super::state::State;
use crate::event::{Context, Cpu, Nanos};
use crate::limits;

/// Nanoseconds since a birth; 48 bits, all ones is "did not happen".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Since([u16; 3]);

impl Since {
    pub(super) const NEVER: Since = Since([u16::MAX; 3]);
    const MAX: u64 = (1 << 48) - 2;

    pub(super) fn new(at: Nanos, born: Nanos) -> Self {
        let ns = at.since(born).0.min(Self::MAX);
        let part = |shift: u32| (ns >> shift) as u16;
        Since([part(0), part(16), part(32)])
    }

    pub(super) fn get(self, born: Nanos) -> Option<Nanos> {
        let part = |at: usize| u64::from(self.0[at]) << (16 * at);
        (self != Self::NEVER).then(|| Nanos(born.0.saturating_add(part(0) | part(1) | part(2))))
    }
}

/// One step as it is kept.
#[derive(Clone, Copy)]
struct Packed {
    since: Since,
    cpu: u16,
    /// Low and high half: a step aligned to two bytes leaves no padding behind the ring.
    tid: [u16; 2],
    /// Act in the low five bits, context above.
    act_context: u8,
    state: State,
    /// `flag` as far as a byte holds it; bit 7 = there were more bits, bit 6 = no image.
    flag: u8,
    count: u8,
}

const FLAG_MORE: u8 = 1 << 7;
const FLAG_ABSENT: u8 = 1 << 6;
const FLAG_MASK: u32 = 0x3f;

/// One step as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Nanos,
    /// What happened.
    pub act: Act,
    /// State after it.
    pub state: State,
    /// On which CPU, if it was not the agent's own.
    pub cpu: Option<Cpu>,
    /// In which context.
    pub context: Context,
    /// Current thread, a bystander in interrupt context.
    pub tid: u32,
    /// `flag` and `count` at that moment; `None` where no image was taken.
    pub image: Option<ToldImage>,
}

/// The two words of the image that a history keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToldImage {
    /// Low six bits of `flag`.
    pub flag: u8,
    /// `flag` had bits above those.
    pub flag_more: bool,
    /// `count`; 255 means 255 or more.
    pub count: u8,
}

/// A ring of the last steps.
#[derive(Clone, Copy)]
pub(super) struct History {
    steps: [Packed; limits::HISTORY_LEN],
    /// Steps pushed so far.
    pushed: u16,
}

impl History {
    pub(super) const EMPTY: History = History {
        steps: [Packed {
            since: Since::NEVER,
            cpu: 0,
            tid: [0; 2],
            act_context: 0,
            state: State::Adopted,
            flag: FLAG_ABSENT,
            count: 0,
        }; limits::HISTORY_LEN],
        pushed: 0,
    };

    pub(super) fn push(&mut self, born: Nanos, told: &Told) {
        let at = usize::from(self.pushed) % limits::HISTORY_LEN;
        let image = told.image.unwrap_or(ToldImage { flag: 0, flag_more: false, count: 0 });
        let absent = if told.image.is_some() { 0 } else { FLAG_ABSENT };
        let more = if image.flag_more { FLAG_MORE } else { 0 };
        self.steps[at] = Packed {
            since: Since::new(told.at, born),
            cpu: told.cpu.map_or(u16::MAX, |cpu| cpu.0),
            tid: [told.tid as u16, (told.tid >> 16) as u16],
            act_context: told.act as u8 | (told.context as u8) << 5,
            state: told.state,
            flag: image.flag | more | absent,
            count: image.count,
        };
        // After 65,535 steps the ring keeps its place, and the steps skipped are at least so many.
        self.pushed =
            self.pushed.checked_add(1).unwrap_or(u16::MAX - (limits::HISTORY_LEN as u16 - 1));
    }

    /// Steps that are no longer kept.
    pub(super) fn skipped(&self) -> u16 {
        self.pushed.saturating_sub(limits::HISTORY_LEN as u16)
    }

    /// The kept steps, oldest first.
    pub(super) fn iter(&self, born: Nanos) -> impl Iterator<Item = Told> + '_ {
        (self.skipped()..self.pushed).map(move |at| {
            let packed = self.steps[usize::from(at) % limits::HISTORY_LEN];
            let absent = packed.flag & FLAG_ABSENT != 0;
            Told {
                at: packed.since.get(born).unwrap_or(born),
                act: Act::ALL[usize::from(packed.act_context & 0x1f)],
                state: packed.state,
                cpu: (packed.cpu != u16::MAX).then_some(Cpu(packed.cpu)),
                context: CONTEXTS[usize::from(packed.act_context >> 5)],
                tid: u32::from(packed.tid[0]) | u32::from(packed.tid[1]) << 16,
                image: (!absent).then_some(ToldImage {
                    flag: packed.flag & !(FLAG_MORE | FLAG_ABSENT),
                    flag_more: packed.flag & FLAG_MORE != 0,
                    count: packed.count,
                }),
            }
        })
    }
}

impl ToldImage {
    pub(super) fn new(flag: u32, count: u32) -> Self {
        ToldImage {
            flag: (flag & FLAG_MASK) as u8,
            flag_more: flag & !FLAG_MASK != 0,
            count: u8::try_from(count).unwrap_or(u8::MAX),
        }
    }
}

const CONTEXTS: [Context; 5] =
    [Context::Unknown, Context::Task, Context::SoftIrq, Context::HardIrq, Context::Nmi];

#[cfg(test)]
mod tests {
    use super::{CONTEXTS, History, Since, Told, ToldImage};
    use crate::event::{Context, Cpu, Nanos};
    use crate::lifecycle::act::Act;
    use crate::lifecycle::state::State;
    use crate::limits;

    fn told(at: u64) -> Told {
        Told {
            at: Nanos(at),
            act: Act::PutDefer,
            state: State::Queued,
            cpu: Some(Cpu(3)),
            context: Context::HardIrq,
            tid: 77 << 16 | 78,
            image: Some(ToldImage::new(0x41, 300)),
        }
    }

    #[test]
    fn a_step_comes_back_as_it_was_pushed() {
        let mut history = History::EMPTY;
        history.push(Nanos(100), &told(5_000_000_100));
        let without = Told { image: None, cpu: None, ..told(5_000_000_101) };
        history.push(Nanos(100), &without);
        let back: Vec<Told> = history.iter(Nanos(100)).collect();
        assert_eq!(back, [told(5_000_000_100), without]);
    }

    #[test]
    fn only_the_last_steps_are_kept_and_the_others_counted() {
        let mut history = History::EMPTY;
        for at in 0..70_000 {
            history.push(Nanos(0), &told(at));
        }
        let times: Vec<u64> = history.iter(Nanos(0)).map(|step| step.at.0).collect();
        let len = limits::HISTORY_LEN as u64;
        assert_eq!(times, (70_000 - len..70_000).collect::<Vec<u64>>());
        assert!(history.skipped() > 60_000);
    }

    #[test]
    fn contexts_are_listed_by_their_number() {
        assert!(CONTEXTS.iter().enumerate().all(|(at, context)| *context as usize == at));
    }

    #[test]
    fn a_time_that_did_not_happen_is_absent_and_a_long_one_saturates() {
        assert_eq!(Since::NEVER.get(Nanos(9)), None);
        assert_eq!(Since::new(Nanos(5), Nanos(9)).get(Nanos(9)), Some(Nanos(9)));
        assert_eq!(Since::new(Nanos(u64::MAX), Nanos(0)).get(Nanos(0)), Some(Nanos(Since::MAX)));
    }
}
