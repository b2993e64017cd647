//! Tables of fixed capacity: what they cannot hold is refused and counted, nothing ever grows.
//!
//! ```text
//!   index: address ─► slot          slots: [ live | live | tombstone | free | … ]
//!                                   tombstones: FIFO of (slot, birth)
//! ```
//!
//! Slots are reused last-in first-out, so memory in use follows the peak of live objects. The index
//! is made for twice the slots: hashbrown then rehashes in place and never allocates again. Its hash
//! is seeded at random, so it must never be iterated: order would not replay. A tombstone is the
//! last state of a released object; it goes when its address is born again, when more than the
//! bound are kept, or when a newcomer needs its slot.

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

use super::io_end::{IoEnd, IoEndId};
use super::kin::Kin;
use super::state::State;
use crate::event::{InodeAddr, IoEndAddr, Nanos};
use crate::limits;

/// Bounds of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacities {
    /// io_ends, tombstones included.
    pub io_ends: usize,
    /// Bios that the device has not done.
    pub bios: usize,
    /// Direct writes.
    pub direct_ios: usize,
    /// fsyncs.
    pub fsyncs: usize,
    /// Evictions.
    pub evictions: usize,
}

impl Default for Capacities {
    fn default() -> Self {
        Capacities {
            io_ends: limits::IO_ENDS_MAX,
            bios: limits::BIOS_MAX,
            direct_ios: limits::DIRECT_IOS_MAX,
            fsyncs: limits::FSYNCS_MAX,
            evictions: limits::EVICTIONS_MAX,
        }
    }
}

/// The table was full; the newcomer is not tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A place in the table, good until the next insertion or eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    /// Its place.
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Objects by address, tombstones included.
pub(super) struct IoEnds {
    index: HashMap<IoEndAddr, Slot>,
    slots: Vec<Option<IoEnd>>,
    free: Vec<Slot>,
    kin: Kin,
    tombstones: VecDeque<(Slot, IoEndId)>,
    /// Never more than it was made for.
    capacity: usize,
    made_for: usize,
    live: u64,
}

impl IoEnds {
    pub(super) fn new(capacity: usize) -> Self {
        IoEnds {
            index: HashMap::with_capacity(2 * capacity),
            slots: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            kin: Kin::new(capacity),
            tombstones: VecDeque::with_capacity(limits::TOMBSTONES_MAX + 1),
            capacity,
            made_for: capacity,
            live: 0,
        }
    }

    /// Holds no more than that many from now on, and never more than it was made for.
    pub(super) fn bound(&mut self, capacity: usize) {
        self.capacity = capacity.min(self.made_for);
    }

    /// Most that it holds.
    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where the object or tombstone of `addr` is.
    pub(super) fn find(&self, addr: IoEndAddr) -> Option<Slot> {
        self.index.get(&addr).copied()
    }

    /// The object or tombstone in a slot.
    pub(super) fn at(&mut self, slot: Slot) -> &mut IoEnd {
        self.slots[slot.index()].as_mut().expect("a slot that was found is in use")
    }

    /// Forgets what is at `addr`; gives it back if it was still alive.
    pub(super) fn evict(&mut self, addr: IoEndAddr) -> Option<IoEnd> {
        let slot = self.index.remove(&addr)?;
        let object = self.slots[slot.index()].take().expect("an indexed slot is in use");
        self.kin.leave(slot);
        self.free.push(slot);
        let alive = object.state() != State::Released;
        self.live -= u64::from(alive);
        alive.then_some(object)
    }

    /// Takes a new object; nothing may be at its address.
    pub(super) fn insert(&mut self, object: IoEnd) -> Result<Slot, Full> {
        let addr = object.id().addr;
        let slot = self.slot()?;
        let shadowed = self.index.insert(addr, slot);
        assert!(shadowed.is_none(), "an address holds one object");
        self.live += 1;
        self.slots[slot.index()] = Some(object);
        Ok(slot)
    }

    /// The live object in that slot is of this inode.
    pub(super) fn is_of(&mut self, slot: Slot, inode: InodeAddr) {
        self.kin.enter(inode, slot);
    }

    /// Which inode the object in that slot is of, if its birth told it.
    pub(super) fn inode_of(&self, slot: Slot) -> Option<InodeAddr> {
        self.kin.inode_of(slot)
    }

    /// The oldest live object of an inode.
    pub(super) fn first_of(&self, inode: InodeAddr) -> Option<Slot> {
        self.kin.first_of(inode)
    }

    /// The next younger one of the same inode.
    pub(super) fn after(&self, slot: Slot) -> Option<Slot> {
        self.kin.after(slot)
    }

    /// Takes note of a worker run of that inode that ended.
    pub(super) fn note_run(&mut self, inode: InodeAddr, begun: Nanos) {
        self.kin.note_run(inode, begun);
    }

    /// When the latest such run for the object in that slot had begun.
    pub(super) fn last_run_of(&self, slot: Slot) -> Option<Nanos> {
        self.kin.last_run_of(slot)
    }

    /// Remembers an object that was just released as a tombstone.
    pub(super) fn bury(&mut self, slot: Slot) {
        let object = self.at(slot);
        assert!(object.state() == State::Released, "only the dead are buried");
        let id = object.id();
        self.kin.leave(slot);
        self.live -= 1;
        self.tombstones.push_back((slot, id));
        if self.tombstones.len() > limits::TOMBSTONES_MAX {
            self.forget_oldest();
        }
    }

    /// Live objects.
    pub(super) fn live(&self) -> u64 {
        self.live
    }

    /// Live objects in slot order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &IoEnd> {
        self.slots.iter().flatten().filter(|object| object.state() != State::Released)
    }

    /// The same with their slots.
    pub(super) fn iter_slots(&self) -> impl Iterator<Item = (Slot, &IoEnd)> {
        let slots = (0..).map(Slot).zip(&self.slots);
        let objects = slots.filter_map(|(slot, object)| Some((slot, object.as_ref()?)));
        objects.filter(|(_, object)| object.state() != State::Released)
    }

    /// The object or tombstone in a slot.
    pub(super) fn peek(&self, slot: Slot) -> &IoEnd {
        self.slots[slot.index()].as_ref().expect("a slot that was found is in use")
    }

    /// Slots that were ever used.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The address of the object or tombstone in that slot.
    pub(super) fn any_at(&self, at: usize) -> Option<IoEndAddr> {
        self.slots[at].as_ref().map(|object| object.id().addr)
    }

    fn slot(&mut self) -> Result<Slot, Full> {
        loop {
            if let Some(slot) = self.free.pop() {
                return Ok(slot);
            }
            if self.slots.len() < self.capacity {
                self.slots.push(None);
                let at = u32::try_from(self.slots.len() - 1);
                return Ok(Slot(at.expect("the capacity fits 32 bits")));
            }
            if !self.forget_oldest() {
                return Err(Full);
            }
        }
    }

    /// Drops the oldest tombstone; `false` if there is none. One whose address was born again since
    /// is gone already.
    fn forget_oldest(&mut self) -> bool {
        let Some((slot, id)) = self.tombstones.pop_front() else { return false };
        let is_it = |object: &IoEnd| object.id() == id && object.state() == State::Released;
        if self.slots[slot.index()].as_ref().is_some_and(is_it) {
            self.evict(id.addr);
        }
        true
    }
}

/// The positive errno of a failed call's return value.
pub(super) fn errno(ret: i64) -> Option<i32> {
    ret.checked_neg().and_then(|errno| i32::try_from(errno).ok()).filter(|errno| *errno > 0)
}

/// Open spans by key.
pub(super) struct Spans<K, V> {
    open: HashMap<K, V>,
    capacity: usize,
}

impl<K: Hash + Eq, V> Spans<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Spans { open: HashMap::with_capacity(2 * capacity), capacity }
    }

    /// Opens a span; gives back the one that it replaces.
    pub(super) fn begin(&mut self, key: K, span: V) -> Result<Option<V>, Full> {
        if self.open.len() == self.capacity && !self.open.contains_key(&key) {
            return Err(Full);
        }
        Ok(self.open.insert(key, span))
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.open.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.open.get_mut(key)
    }

    pub(super) fn end(&mut self, key: &K) -> Option<V> {
        self.open.remove(key)
    }

    pub(super) fn len(&self) -> u64 {
        self.open.len() as u64
    }

    /// Drops every span that is `over`; how many there were.
    pub(super) fn forget(&mut self, over: impl Fn(&V) -> bool) -> u64 {
        let before = self.len();
        self.open.retain(|_, span| !over(span));
        before - self.len()
    }

    /// Shows every span, in an order that does not replay.
    pub(super) fn each(&self, show: impl FnMut(&V)) {
        self.open.values().for_each(show);
    }

    /// The earliest of `begun` over all spans: the one question that order cannot change.
    pub(super) fn oldest(&self, begun: impl Fn(&V) -> Nanos) -> Option<Nanos> {
        self.open.values().map(begun).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{IoEnd, IoEnds, Spans};
    use crate::event::{Backend, Context, Cpu, IoEndAddr, Nanos, Stamp, Task};
    use crate::lifecycle::act::Act;
    use crate::lifecycle::model::Input;
    use crate::lifecycle::sight::Sight;
    use crate::lifecycle::state::State;
    use crate::limits;
    use crate::witnesses::Witnesses;

    fn stamp(at: u64) -> Stamp {
        let task = Task { tid: 1, tgid: 1 };
        Stamp { at: Nanos(at), cpu: Some(Cpu(0)), lane: 0, seq: at, task, context: Context::Task }
    }

    fn insert(table: &mut IoEnds, addr: u64, at: u64) -> bool {
        table.insert(IoEnd::born(&stamp(at), IoEndAddr(addr), None)).is_ok()
    }

    fn release(table: &mut IoEnds, addr: u64, at: u64) {
        let stamp = stamp(at);
        let (act, image) = (Act::Release, None);
        let sight = Sight::new(&Witnesses::all_by(Backend::Fentry));
        let input =
            Input { stamp: &stamp, act, image, ret: 0, ended_before: false, sight, run: None };
        let slot = table.find(IoEndAddr(addr)).expect("it is in the table");
        table.at(slot).apply(input);
        table.bury(slot);
    }

    #[test]
    fn a_full_table_refuses_but_recycles_tombstones_first() {
        let mut table = IoEnds::new(2);
        assert!(insert(&mut table, 1, 1) && insert(&mut table, 2, 2));
        assert!(!insert(&mut table, 3, 3));
        release(&mut table, 1, 4);
        let slot = table.find(IoEndAddr(1)).expect("its tombstone is there");
        assert_eq!(table.at(slot).state(), State::Released);
        assert!(insert(&mut table, 3, 5));
        assert!(table.find(IoEndAddr(1)).is_none());
        assert_eq!(table.live(), 2);
    }

    #[test]
    fn only_the_last_tombstones_are_kept_and_memory_does_not_grow() {
        let mut table = IoEnds::new(limits::TOMBSTONES_MAX + 64);
        let allocated = (table.index.capacity(), table.slots.capacity(), table.free.capacity());
        for addr in 0..20 * limits::TOMBSTONES_MAX as u64 {
            assert!(insert(&mut table, addr, addr));
            release(&mut table, addr, addr);
        }
        assert_eq!(table.slots.iter().flatten().count(), limits::TOMBSTONES_MAX);
        let now = (table.index.capacity(), table.slots.capacity(), table.free.capacity());
        assert_eq!(now.1, allocated.1);
        assert_eq!(now.2, allocated.2);
        assert!(now.0 <= allocated.0, "the index grew from {} to {}", allocated.0, now.0);
        assert_eq!(table.live(), 0);
    }

    #[test]
    fn spans_are_bounded_and_a_second_begin_gives_the_first_back() {
        let mut spans = Spans::new(1);
        assert_eq!(spans.begin(1, 10), Ok(None));
        assert_eq!(spans.begin(1, 11), Ok(Some(10)));
        assert!(spans.begin(2, 20).is_err());
        assert_eq!(spans.oldest(|at| Nanos(*at)), Some(Nanos(11)));
        assert_eq!(spans.end(&1), Some(11));
        assert_eq!(spans.len(), 0);
    }
}
