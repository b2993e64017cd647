//! One thread's part of a run: its files, its queue, its stages.
//!
//! ```text
//!  round:  for each active context, in rotation: take slots ─► stage a turn of I/Os
//!          one io_submit of all that is staged; full queue ─► wait for a turn of completions
//!  --buffered without -S: each write is submitted, waited for and synced before the next one
//! ```
//!
//! Must never end a stage with I/O in flight, and never count an I/O that the kernel did not answer.
//! Units: bytes.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::StressError;
use super::aio::{Completion, Direction, Queue};
use super::context::Context;
use super::gate::Gate;
use super::options::Op;
use super::pattern;
use super::plan::Plan;
use super::report::Tally;

/// How often `io_submit` may take nothing while nothing is in flight: the kernel was out of memory
/// for a request, so a few more tries are worth it and a loop without end is not.
const IDLE_SUBMITS_MAX: u32 = 1000;

/// What all workers share.
pub(super) struct Shared<'a> {
    /// Set from outside to end the run.
    pub(super) stop: &'a AtomicBool,
    /// Set by a worker that cannot go on.
    pub(super) abort: &'a AtomicBool,
    pub(super) gate: &'a Gate,
    /// For each stage, whether a worker has ended it.
    pub(super) ended: &'a [AtomicBool],
}

impl Shared<'_> {
    /// Ends the run for everyone: nothing new is issued and nobody is waited for.
    pub(super) fn give_up(&self) {
        self.abort.store(true, Ordering::Relaxed);
        self.gate.break_open();
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.abort.load(Ordering::Relaxed)
    }
}

/// A worker that panics must not leave the others at the gate.
struct GiveUpOnPanic<'a>(&'a Shared<'a>);

impl Drop for GiveUpOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.give_up();
        }
    }
}

/// An I/O between being staged and being counted.
#[derive(Clone, Copy, Debug)]
struct Pending {
    context: usize,
    offset: u64,
    since: Instant,
}

/// One thread's state.
#[derive(Debug)]
pub(super) struct Worker<'a> {
    plan: &'a Plan,
    contexts: Vec<Context<'a>>,
    queue: Queue,
    pending: Vec<Option<Pending>>,
    done: Vec<Completion>,
    op: Op,
    tally: Tally,
}

impl<'a> Worker<'a> {
    /// A worker over its share of the files, with its own AIO context and buffers.
    pub(super) fn new(
        plan: &'a Plan,
        contexts: Vec<Context<'a>>,
    ) -> Result<Worker<'a>, StressError> {
        let options = plan.options();
        let slots = contexts.len() * options.depth as usize;
        let small = |len: u64| usize::try_from(len).expect("BUFFERS_LEN_MAX fits usize");
        let queue = Queue::new(
            u32::try_from(slots).expect("BUFFERS_LEN_MAX bounds the slots"),
            small(options.record.0),
            small(plan.buffer_alignment()),
        )?;
        Ok(Worker {
            plan,
            contexts,
            queue,
            pending: vec![None; slots],
            done: Vec::with_capacity(slots),
            op: Op::Write,
            tally: Tally::default(),
        })
    }

    /// How many of its files had data before the run.
    pub(super) fn files_not_empty(&self) -> usize {
        self.contexts.iter().filter(|context| context.is_old_file()).count()
    }

    /// Goes through all stages in step with the other workers: one tally per stage.
    pub(super) fn run(mut self, shared: &Shared<'_>) -> Result<Vec<Tally>, StressError> {
        let _guard = GiveUpOnPanic(shared);
        let mut tallies = Vec::new();
        for (index, &op) in self.plan.stages().iter().enumerate() {
            shared.gate.wait();
            let started = Instant::now();
            let result = self.stage(op, shared, &shared.ended[index]);
            if let Err(error) = result {
                shared.give_up();
                return Err(error);
            }
            let mut tally = std::mem::take(&mut self.tally);
            tally.elapsed = started.elapsed();
            tallies.push(tally);
            shared.gate.wait();
        }
        Ok(tallies)
    }

    fn stage(
        &mut self,
        op: Op,
        shared: &Shared<'_>,
        ended: &AtomicBool,
    ) -> Result<(), StressError> {
        self.op = op;
        self.contexts.iter_mut().for_each(|context| context.restart(op));
        let options = self.plan.options();
        let mut active: VecDeque<usize> = (0..self.contexts.len()).collect();
        let mut rounds = 0;
        while !active.is_empty() && options.rounds_max.is_none_or(|max| rounds < max) {
            if shared.is_stopped() || (options.stonewall && ended.load(Ordering::Relaxed)) {
                break;
            }
            self.round(&mut active)?;
            rounds += 1;
        }
        self.drain()?;
        self.tally.unissued = self.contexts.iter().map(Context::remaining).sum();
        if options.stage_sync && !shared.is_stopped() {
            (0..self.contexts.len()).for_each(|index| self.sync(index));
        }
        ended.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// One turn for as many active contexts as one `io_submit` holds; finished ones leave the list.
    fn round(&mut self, active: &mut VecDeque<usize>) -> Result<(), StressError> {
        let turn = self.plan.options().turn;
        let mut room = self.plan.submit_max();
        for _ in 0..active.len() {
            if room < turn {
                break;
            }
            let Some(index) = active.pop_front() else { break };
            for _ in 0..self.contexts[index].remaining().min(u64::from(turn)) {
                self.stage_one(index)?;
                room -= 1;
            }
            if self.contexts[index].remaining() > 0 {
                active.push_back(index);
            }
        }
        self.submit_all()
    }

    fn stage_one(&mut self, index: usize) -> Result<(), StressError> {
        let slot = loop {
            if let Some(slot) = self.queue.take() {
                break slot;
            }
            // Turns are no longer than the depth, so what is staged cannot fill all slots.
            assert!(self.queue.in_flight() > 0, "no slot is free and none will be");
            self.reap(self.plan.options().turn)?;
        };
        let context = &mut self.contexts[index];
        let offset = context.next_offset(self.op);
        let is_write = self.op.is_write();
        let options = self.plan.options();
        if options.verify {
            let buffer = self.queue.buffer(&slot);
            if is_write {
                pattern::fill(options.seed, offset, buffer);
            } else {
                // What the read leaves alone must not look like what was written.
                buffer.fill(0);
            }
        }
        self.pending[slot.index()] =
            Some(Pending { context: index, offset, since: Instant::now() });
        let direction = if is_write { Direction::Write } else { Direction::Read };
        self.queue.stage(slot, context.as_fd(), direction, offset);
        if is_write && self.plan.syncs_each_write() {
            self.submit_all()?;
            self.drain()?;
        }
        Ok(())
    }

    /// Passes on all that is staged, waiting for completions where the kernel takes no more.
    fn submit_all(&mut self) -> Result<(), StressError> {
        let mut idle_submits = 0;
        while self.queue.staged() > 0 {
            let started = Instant::now();
            let taken = self.queue.submit()?;
            self.tally.submit.record(started.elapsed());
            if taken == 0 && self.queue.in_flight() == 0 {
                idle_submits += 1;
                if idle_submits > IDLE_SUBMITS_MAX {
                    let source = io::Error::from_raw_os_error(libc::EAGAIN);
                    return Err(StressError::Aio { call: "io_submit", source });
                }
                std::thread::yield_now();
            }
            if self.queue.staged() > 0 {
                self.reap(self.plan.options().turn)?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Result<(), StressError> {
        while self.queue.in_flight() > 0 {
            self.reap(1)?;
        }
        Ok(())
    }

    /// Waits for up to `min` I/Os and counts all that are done.
    fn reap(&mut self, min: u32) -> Result<(), StressError> {
        let mut done = std::mem::take(&mut self.done);
        self.queue.wait(min, &mut done)?;
        let now = Instant::now();
        for completion in done.drain(..) {
            self.count(completion, now);
        }
        self.done = done;
        Ok(())
    }

    fn count(&mut self, Completion { slot, result }: Completion, now: Instant) {
        let pending = self.pending[slot.index()].take();
        let pending = pending.expect("each slot in flight was noted by stage_one");
        self.tally.completion.record(now - pending.since);
        match result {
            Err(error) => self.count_error(pending, &error),
            Ok(0) if self.op.is_write() => {
                self.count_error(pending, &io::Error::from(io::ErrorKind::WriteZero));
            }
            Ok(len) if self.op.is_write() => self.count_write(pending, len),
            Ok(len) => {
                self.count_read(pending, len);
                if self.plan.options().verify {
                    let buffer = self.queue.buffer(&slot);
                    let context = &self.contexts[pending.context];
                    context.verify(pending.offset, &buffer[..len as usize], &mut self.tally);
                }
            }
        }
        self.queue.release(slot);
    }

    fn count_write(&mut self, pending: Pending, len: u64) {
        self.tally.writes += 1;
        self.tally.bytes_written += len;
        self.tally.short_writes += u64::from(len < self.plan.options().record.0);
        self.contexts[pending.context].mark_written(pending.offset, len);
        if self.plan.syncs_each_write() {
            self.sync(pending.context);
        }
    }

    /// A read may end early at the end of the file; anywhere else that is an error.
    fn count_read(&mut self, pending: Pending, len: u64) {
        self.tally.reads += 1;
        self.tally.bytes_read += len;
        if len == self.plan.options().record.0 {
            return;
        }
        let context = &self.contexts[pending.context];
        let ends_at = pending.offset + len;
        if context.file_len().is_some_and(|file_len| file_len > ends_at) {
            self.tally.short_reads += 1;
            let at = self.place(pending);
            self.tally.note(|| format!("{at}: only {len} bytes, and the file goes on"));
        }
    }

    fn count_error(&mut self, pending: Pending, error: &io::Error) {
        self.tally.io_errors += 1;
        let at = self.place(pending);
        let is_misaligned =
            error.raw_os_error() == Some(libc::EINVAL) && self.plan.options().direct;
        let hint = "; with -O the device may need larger -r and -a, such as 4k";
        self.tally.note(|| format!("{at}: {error}{}", if is_misaligned { hint } else { "" }));
    }

    fn place(&self, pending: Pending) -> String {
        let (record, path) = (self.plan.options().record, self.contexts[pending.context].path());
        format!("{} of {record} at {} in {path}", self.op, pending.offset)
    }

    fn sync(&mut self, index: usize) {
        let context = &self.contexts[index];
        self.tally.fsyncs += 1;
        if let Err(error) = context.sync() {
            self.tally.sync_errors += 1;
            self.tally.note(|| format!("sync {}: {error}", context.path()));
        }
    }
}
