//! The states of an io_end, and the one table of its legal moves.
//!
//! Kernels 5.10 to 7.3 (fs/ext4/page-io.c). `n` is the reference count of the model:
//! 1 + bios attached − puts entered.
//!
//! ```text
//!              range                attach                   submitter's put, n > 0
//!   Born ───────────► Ranged ───────────────► Submitting ───────────────► InFlight
//!    │ └────────────────┼─────── attach ─────────▲ │ ▲ range, attach,        │ ▲ bio end,
//!    │                  │                          │ └─┘ bio end, bio's put  │ └─┘ bio's put
//!    └──────────────────┴───────────┬──────────────┴─────────────────────────┘
//!                                   │ last put: n = 0
//!                 not deferred      │      deferred (UNWRITTEN and a range,
//!                ┌──────────────────┴───────────────┐   in ext4_put_io_end_defer)
//!                ▼                                  ▼
//!              Final                             Queued
//!                │ └──────── claim ───────┐         │ claim        │
//!                │ (owner, inline)        ▼         ▼              │
//!                │                    Claimed ──convert──┐         │
//!                │                    │     ▲────────────┘         │
//!                │       FAILED, 6.15+│     │ convert end          │ FAILED, 6.6.y, 6.12.y
//!                │                    │     ▼                      │ and 6.14.y stable
//!                │                    │  Converted                 │
//!                └───── release ──────┴─────┴── release ───────────┘
//!                                           ▼
//!                                       Released (tombstone until its address is born again)
//!
//!   Adopted (first seen after its birth) ── anything ──► Adopted ── release ──► Released
//! ```
//!
//! Where puts are not witnessed (raw tracepoints) no count can be kept, and a life is told by less:
//!
//! ```text
//!   Born ─range─► Ranged ──attach──► Submitting ──listed──► Queued ──claim──► Claimed ─► Converted
//!     │ listed        │ listed          │ ▲ part done,                            (if witnessed)
//!     └───────────────┴─► Queued        │ └─┘ bio done, put
//!   release, from any of these ──► Released
//! ```
//!
//! The claim is `ext4_end_io_end` where that is a function (6.15 on), else the entry of
//! `ext4_convert_unwritten_io_end_vec`. This module must never look at an event: what moves an
//! object is decided in `io_end`.

/// Where an io_end is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum State {
    /// First seen after its birth: timed, never accused.
    Adopted,
    /// `ext4_init_io_end` returned it.
    Born,
    /// Ranges were added; whether they are unwritten, the flag says.
    Ranged,
    /// Bios are being attached; the submitter still holds its reference.
    Submitting,
    /// The submitter has put its reference; bios are outstanding.
    InFlight,
    /// The last reference was dropped, nothing was deferred.
    Final,
    /// The last reference was dropped and the conversion left to the inode's worker; where puts are
    /// not witnessed, it was seen on the worker's list.
    Queued,
    /// A task took it for conversion.
    Claimed,
    /// The conversion returned.
    Converted,
    /// `ext4_release_io_end` was entered: kept as a tombstone.
    Released,
}

impl State {
    /// All states, in the order of life.
    pub const ALL: [State; 10] = [
        State::Adopted,
        State::Born,
        State::Ranged,
        State::Submitting,
        State::InFlight,
        State::Final,
        State::Queued,
        State::Claimed,
        State::Converted,
        State::Released,
    ];

    /// The states of a live object, for metrics.
    pub fn live() -> impl Iterator<Item = State> {
        Self::ALL.into_iter().filter(|state| *state != State::Released)
    }

    /// The `state` label.
    pub fn label(self) -> &'static str {
        match self {
            State::Adopted => "adopted",
            State::Born => "born",
            State::Ranged => "ranged",
            State::Submitting => "submitting",
            State::InFlight => "in_flight",
            State::Final => "final",
            State::Queued => "queued",
            State::Claimed => "claimed",
            State::Converted => "converted",
            State::Released => "released",
        }
    }
}

/// What moves an io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Move {
    /// A range was added.
    Range,
    /// A range could not be allocated.
    RangeFailed,
    /// A bio was submitted with a reference.
    Attach,
    /// A bio completed.
    BioEnd,
    /// The submitter dropped its reference, others remain.
    SubmitterPut,
    /// A completing bio dropped its reference, others remain.
    BioPut,
    /// The last reference was dropped, nothing is deferred.
    LastPut,
    /// The last reference was dropped, the worker will convert.
    LastPutQueues,
    /// A reference was dropped when none was left.
    PutBeyondLast,
    /// A task took it for conversion.
    Claim,
    /// The conversion began under a claim that `ext4_end_io_end` made.
    Convert,
    /// The conversion returned.
    ConvertEnd,
    /// Released.
    Release,
    /// Released without a conversion because a write failed (FAILED).
    ReleaseFailed,
    /// The device is done with a part of a bio.
    PartDone,
    /// The device is done with all of a bio.
    BioDone,
    /// It was on the inode's list when the worker started.
    Listed,
    /// Its work put it back (2012).
    Requeue,
    /// A reference was dropped where not all puts are witnessed.
    PutUnwatched,
    /// Taken for conversion where what makes it final is not witnessed.
    ClaimUnwatched,
    /// Released where what comes before it is not witnessed.
    ReleaseUnwatched,
    /// Somebody who had to wait for its end did not: legal nowhere, and it stays where it is.
    PassBy,
}

impl Move {
    /// All moves.
    pub const ALL: [Move; 22] = [
        Move::Range,
        Move::RangeFailed,
        Move::Attach,
        Move::BioEnd,
        Move::SubmitterPut,
        Move::BioPut,
        Move::LastPut,
        Move::LastPutQueues,
        Move::PutBeyondLast,
        Move::Claim,
        Move::Convert,
        Move::ConvertEnd,
        Move::Release,
        Move::ReleaseFailed,
        Move::PartDone,
        Move::BioDone,
        Move::Listed,
        Move::Requeue,
        Move::PutUnwatched,
        Move::ClaimUnwatched,
        Move::ReleaseUnwatched,
        Move::PassBy,
    ];

    /// Is it over with this move?
    pub fn releases(self) -> bool {
        matches!(self, Move::Release | Move::ReleaseFailed | Move::ReleaseUnwatched)
    }

    /// Short name, for findings and tests.
    pub fn label(self) -> &'static str {
        match self {
            Move::Range => "range",
            Move::RangeFailed => "range_failed",
            Move::Attach => "attach",
            Move::BioEnd => "bio_end",
            Move::SubmitterPut => "submitter_put",
            Move::BioPut => "bio_put",
            Move::LastPut => "last_put",
            Move::LastPutQueues => "last_put_queues",
            Move::PutBeyondLast => "put_beyond_last",
            Move::Claim => "claim",
            Move::Convert => "convert",
            Move::ConvertEnd => "convert_end",
            Move::Release => "release",
            Move::ReleaseFailed => "release_failed",
            Move::PartDone => "part_done",
            Move::BioDone => "bio_done",
            Move::Listed => "listed",
            Move::Requeue => "requeue",
            Move::PutUnwatched => "put_unwatched",
            Move::ClaimUnwatched => "claim_unwatched",
            Move::ReleaseUnwatched => "release_unwatched",
            Move::PassBy => "pass_by",
        }
    }
}

/// Every legal move of an object whose birth was seen. `Adopted` is not here: its past is unknown,
/// so nothing is illegal for it (see [`transition`]).
pub const TRANSITIONS: &[(State, Move, State)] = &[
    (State::Born, Move::Range, State::Ranged),
    (State::Born, Move::RangeFailed, State::Born),
    (State::Born, Move::Attach, State::Submitting),
    (State::Born, Move::LastPut, State::Final),
    (State::Born, Move::LastPutQueues, State::Queued),
    (State::Ranged, Move::Range, State::Ranged),
    (State::Ranged, Move::RangeFailed, State::Ranged),
    (State::Ranged, Move::Attach, State::Submitting),
    (State::Ranged, Move::LastPut, State::Final),
    (State::Ranged, Move::LastPutQueues, State::Queued),
    (State::Submitting, Move::Range, State::Submitting),
    (State::Submitting, Move::RangeFailed, State::Submitting),
    (State::Submitting, Move::Attach, State::Submitting),
    (State::Submitting, Move::BioEnd, State::Submitting),
    (State::Submitting, Move::BioPut, State::Submitting),
    (State::Submitting, Move::SubmitterPut, State::InFlight),
    (State::Submitting, Move::LastPut, State::Final),
    (State::Submitting, Move::LastPutQueues, State::Queued),
    (State::InFlight, Move::BioEnd, State::InFlight),
    (State::InFlight, Move::BioPut, State::InFlight),
    (State::InFlight, Move::LastPut, State::Final),
    (State::InFlight, Move::LastPutQueues, State::Queued),
    (State::Final, Move::Claim, State::Claimed),
    (State::Final, Move::Release, State::Released),
    (State::Final, Move::ReleaseFailed, State::Released),
    (State::Queued, Move::Claim, State::Claimed),
    (State::Queued, Move::ReleaseFailed, State::Released),
    (State::Claimed, Move::Convert, State::Claimed),
    (State::Claimed, Move::ConvertEnd, State::Converted),
    (State::Claimed, Move::ReleaseFailed, State::Released),
    (State::Converted, Move::Release, State::Released),
    (State::Converted, Move::ReleaseFailed, State::Released),
    // Seen in the place of a bio's end and of the last put.
    (State::Submitting, Move::PartDone, State::Submitting),
    (State::Submitting, Move::BioDone, State::Submitting),
    (State::InFlight, Move::PartDone, State::InFlight),
    (State::InFlight, Move::BioDone, State::InFlight),
    (State::Born, Move::Listed, State::Queued),
    (State::Ranged, Move::Listed, State::Queued),
    (State::Submitting, Move::Listed, State::Queued),
    (State::Final, Move::Listed, State::Queued),
    (State::Queued, Move::Listed, State::Queued),
    // In the core of 2012: another task has it, or holds the mutex.
    (State::Queued, Move::Requeue, State::Queued),
    (State::Claimed, Move::Requeue, State::Claimed),
    (State::Converted, Move::Requeue, State::Converted),
    // Where what comes before them is not witnessed.
    (State::Born, Move::PutUnwatched, State::Born),
    (State::Ranged, Move::PutUnwatched, State::Ranged),
    (State::Submitting, Move::PutUnwatched, State::Submitting),
    (State::Born, Move::ClaimUnwatched, State::Claimed),
    (State::Ranged, Move::ClaimUnwatched, State::Claimed),
    (State::Submitting, Move::ClaimUnwatched, State::Claimed),
    (State::Queued, Move::ClaimUnwatched, State::Claimed),
    (State::Born, Move::ReleaseUnwatched, State::Released),
    (State::Ranged, Move::ReleaseUnwatched, State::Released),
    (State::Submitting, Move::ReleaseUnwatched, State::Released),
    (State::Final, Move::ReleaseUnwatched, State::Released),
    (State::Queued, Move::ReleaseUnwatched, State::Released),
    (State::Claimed, Move::ReleaseUnwatched, State::Released),
    (State::Converted, Move::ReleaseUnwatched, State::Released),
];

/// The table unfolded, so that a look-up is one load.
static NEXT: [[Option<State>; Move::ALL.len()]; State::ALL.len()] = unfold();

/// Where `action` leads from `before`; `None` when the protocol has no such move.
pub fn transition(before: State, action: Move) -> Option<State> {
    match (before, action) {
        (State::Adopted, action) if action.releases() => Some(State::Released),
        (State::Adopted, _) => Some(State::Adopted),
        _ => NEXT[before as usize][action as usize],
    }
}

/// Where an object is after a move that has no row: followed as far as the move itself proves.
pub(super) fn after_irregular(before: State, action: Move) -> State {
    match (before, action) {
        (State::Released, _) => State::Released,
        (_, action) if action.releases() => State::Released,
        (State::Claimed | State::Converted, _) => before,
        (_, Move::Claim | Move::ClaimUnwatched | Move::Convert) => State::Claimed,
        (_, Move::ConvertEnd) => State::Converted,
        _ => before,
    }
}

const fn unfold() -> [[Option<State>; Move::ALL.len()]; State::ALL.len()] {
    let mut next = [[None; Move::ALL.len()]; State::ALL.len()];
    let mut row = 0;
    while row < TRANSITIONS.len() {
        let (before, action, after) = TRANSITIONS[row];
        assert!(next[before as usize][action as usize].is_none(), "two rows for one move");
        next[before as usize][action as usize] = Some(after);
        row += 1;
    }
    next
}

#[cfg(test)]
mod tests {
    use super::{Move, State, TRANSITIONS, transition};

    #[test]
    fn all_lists_every_value_at_its_own_place() {
        assert!(State::ALL.iter().enumerate().all(|(at, state)| *state as usize == at));
        assert!(Move::ALL.iter().enumerate().all(|(at, action)| *action as usize == at));
    }

    #[test]
    fn every_state_but_the_first_two_is_reached_and_every_live_state_can_be_left() {
        for state in State::live().filter(|state| *state != State::Adopted) {
            let reached = TRANSITIONS.iter().any(|(_, _, after)| *after == state);
            assert!(reached || state == State::Born, "{state:?} is never entered");
            let left = TRANSITIONS.iter().any(|(from, _, to)| *from == state && *to != state);
            assert!(left, "{state:?} is never left");
        }
    }

    #[test]
    fn released_has_no_moves_and_nothing_returns_to_an_earlier_state() {
        for action in Move::ALL {
            assert_eq!(transition(State::Released, action), None);
        }
        for (before, _, after) in TRANSITIONS {
            assert!(*after as u8 >= *before as u8, "{before:?} to {after:?}");
        }
    }

    #[test]
    fn nothing_is_illegal_for_an_adopted_object() {
        for action in Move::ALL {
            assert!(transition(State::Adopted, action).is_some());
        }
    }
}
