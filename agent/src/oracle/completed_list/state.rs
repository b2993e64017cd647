//! A state of the 2012 core: everything that its actors share, and where each of them is.
//!
//! It must never decide what may happen: that is in the actors' own files.

use super::Mutant;
use crate::oracle::fifo::Fifo;

/// Flags of `io->flag` that the completion uses; UNWRITTEN is set throughout.
pub(super) mod flag {
    /// The work was requeued before.
    pub(in super::super) const QUEUED: u8 = 4;
    /// The fsync path is processing it.
    pub(in super::super) const IN_FSYNC: u8 = 16;
}

/// Which core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// First half of the fix: the fsync path marks what it is processing.
    pub in_fsync: bool,
    /// Second half: QUEUED is set inside the lock.
    pub queued_under_lock: bool,
    /// Something is done wrong on purpose.
    pub mutant: Option<Mutant>,
}

impl Variant {
    /// 491caa43639a is in.
    pub const FIXED: Variant = Variant { in_fsync: true, queued_under_lock: true, mutant: None };
    /// 3.2 as it was.
    pub const UNFIXED: Variant =
        Variant { in_fsync: false, queued_under_lock: false, mutant: None };
    /// Its first half is left out: bug 1 stays.
    pub const WITHOUT_IN_FSYNC: Variant =
        Variant { in_fsync: false, queued_under_lock: true, mutant: None };
    /// Its second half is left out: bug 2 stays.
    pub const QUEUED_UNLOCKED: Variant =
        Variant { in_fsync: true, queued_under_lock: false, mutant: None };
    /// Fixed, but its worker never yields.
    pub const WITHOUT_YIELD: Variant =
        Variant { mutant: Some(Mutant::NeverYields), ..Variant::FIXED };
}

/// How many of each. At most 2 io_ends of one inode and 2 fsyncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    /// io_ends in flight at the beginning.
    pub io_ends: u8,
    /// Tasks that call fsync once.
    pub fsyncs: u8,
    /// All tasks share a CPU, and the worker is not preempted: until it sleeps in a conversion,
    /// yields or has no work left, nobody but the interrupt runs.
    pub one_cpu: bool,
}

/// An actor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lane(pub(super) u8);

impl Lane {
    pub(super) const INTERRUPT: Lane = Lane(0);
    pub(super) const WORKER: Lane = Lane(3);
    pub(super) const EVICT: Lane = Lane(4);

    fn name(self) -> &'static str {
        ["I", "P1", "P2", "W", "E"][usize::from(self.0)]
    }
}

/// One io_end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct IoEnd {
    /// Bits of [`flag`].
    pub(super) flag: u8,
    /// Its work was requeued: what QUEUED should say.
    pub(super) requeued: bool,
    /// Its write completed: it was listed.
    pub(super) completed: bool,
    /// Lanes whose claim on it is open, a bit each.
    pub(super) claims: u8,
    /// Conversions, 2 for more.
    pub(super) conversions: u8,
    /// Frees, 2 for more.
    pub(super) freed: u8,
}

impl IoEnd {
    pub(super) fn claim(&mut self, lane: Lane) {
        self.claims |= 1 << lane.0;
    }

    pub(super) fn give_up(&mut self, lane: Lane) {
        self.claims &= !(1 << lane.0);
    }
}

/// Where the completion of an io_end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Interrupt {
    InFlight,
    /// Of listing it and queueing its work, one is done.
    Half,
    Done,
}

impl Interrupt {
    pub(super) fn next(self) -> Interrupt {
        match self {
            Interrupt::InFlight => Interrupt::Half,
            Interrupt::Half | Interrupt::Done => Interrupt::Done,
        }
    }
}

/// Where a task in `ext4_flush_completed_IO` is; `owed` has a bit per io_end that was complete
/// when it entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flush {
    Outside,
    Entered,
    /// It holds the inode mutex.
    Holding,
    /// The mutant's store of IN_FSYNC is to come; the value it loaded.
    Marking(u8, u8),
    Converting(u8),
    /// It converted and must clear IN_FSYNC.
    Converted(u8),
    /// The mutant's free is to come.
    Freeing(u8),
    Drained,
    /// evict only: it waits until no io_end lives.
    Waiting,
    Returned,
}

/// Where the worker is, with its io_end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Worker {
    Idle,
    Running(u8),
    /// Whether it will yield.
    Requeueing(u8, bool),
    /// It requeued and found QUEUED set.
    Yielding(u8),
    /// Unfixed: it requeued and will read the flag.
    Loading(u8),
    /// Unfixed: it yielded and will read the flag again.
    Reloading(u8),
    /// Unfixed: it holds the value it read.
    Storing(u8, u8),
    Converting(u8),
    Converted(u8),
    Freeing(u8),
}

/// Everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) io: [IoEnd; 2],
    /// `i_completed_io_list`.
    pub(super) list: Fifo<2>,
    /// Works that are queued and not running.
    pub(super) works: Fifo<2>,
    /// Who holds the inode mutex.
    pub(super) mutex: Option<Lane>,
    pub(super) interrupts: [Interrupt; 2],
    pub(super) flushers: [Flush; 3],
    pub(super) owed: [u8; 3],
    pub(super) worker: Worker,
    /// The worker has the only CPU.
    pub(super) on_cpu: bool,
}

impl State {
    pub(super) fn new(world: World) -> Self {
        assert!(world.io_ends <= 2 && world.fsyncs <= 2, "a world has at most 2 of each");
        State {
            io: [IoEnd::default(); 2],
            list: Fifo::default(),
            works: Fifo::default(),
            mutex: None,
            interrupts: [Interrupt::InFlight; 2],
            flushers: [Flush::Outside; 3],
            owed: [0; 3],
            worker: Worker::Idle,
            on_cpu: false,
        }
    }

    pub(super) fn worker_is_idle(&self) -> bool {
        self.worker == Worker::Idle
    }

    pub(super) fn returned(&self, flusher: u8) -> bool {
        self.flushers[usize::from(flusher)] == Flush::Returned
    }

    /// `i_ioend_count`: a free takes one off, also a second free of the same io_end.
    pub(super) fn live(&self, world: World) -> i8 {
        let freed: u8 = self.io.iter().map(|io| io.freed).sum();
        world.io_ends.cast_signed() - freed.cast_signed()
    }

    pub(super) fn view(&self, world: World) -> String {
        let io_ends = (0..world.io_ends).map(|at| self.view_io_end(at));
        let mut text = io_ends.collect::<Vec<_>>().join("  ");
        if let Some(holder) = self.mutex {
            text += &format!("  i_mutex: {}", holder.name());
        }
        if self.on_cpu {
            text += "  CPU: W";
        }
        text
    }

    fn view_io_end(&self, at: u8) -> String {
        let io = &self.io[usize::from(at)];
        let name = ["a", "b"][usize::from(at)];
        let claims = (0..5).filter(|lane| io.claims & 1 << lane != 0);
        let claims: Vec<_> =
            claims.map(|lane| format!("claimed by {}", Lane(lane).name())).collect();
        let words = [
            (io.freed == 0, "UNWRITTEN"),
            (io.freed > 0, "FREED"),
            (io.flag & flag::QUEUED != 0, "QUEUED"),
            (io.flag & flag::IN_FSYNC != 0, "IN_FSYNC"),
            (self.list.contains(at), "listed"),
            (self.works.contains(at), "work queued"),
        ];
        let words = words.iter().filter(|(shown, _)| *shown).map(|(_, word)| (*word).to_owned());
        format!("{name}: {}", words.chain(claims).collect::<Vec<_>>().join(", "))
    }
}
