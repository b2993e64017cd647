//! What a run will do: the options as given, checked, with everything derived from them.
//!
//! A `Plan` exists only if it can run as far as its numbers say. Must never open or stat a file.
//! Units: bytes; counts of I/Os, rounds, threads.

use std::fmt;

use super::StressError;
use super::options::{Op, Options};
use super::size::Bytes;

/// Most threads; the commit used 20, and each costs a stack and an AIO ring.
pub(super) const THREADS_MAX: u32 = 1024;
/// Most bytes of buffers, which are all in use at full depth; the guests have 2 GiB.
pub(super) const BUFFERS_LEN_MAX: u64 = 1 << 30;
/// Most records that `-v` remembers for a file, one bit each: 32 MiB of memory per file.
pub(super) const WRITTEN_UNITS_MAX: u64 = 1 << 28;
/// What O_DIRECT asks of offsets, lengths and buffers at the least: a sector.
pub(super) const DIRECT_ALIGNMENT: u64 = 512;
/// Alignment of buffers without `-a`: the page, as in aio-stress.
const PAGE_LEN: u64 = 4096;

/// An option that was lowered because it could have no effect as given; aio-stress does the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Adjustment {
    /// More threads than parts of files.
    Threads {
        /// What was given.
        asked: u32,
        /// What is used.
        used: u32,
    },
    /// A turn longer than `-d` or `-b` allows.
    Turn {
        /// What was given.
        asked: u32,
        /// What is used.
        used: u32,
    },
    /// `-O` beside `--buffered`.
    DirectIgnored,
}

impl fmt::Display for Adjustment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Adjustment::Threads { asked, used } => {
                write!(f, "-t {asked}: using {used}, as many as there are files × contexts")
            }
            Adjustment::Turn { asked, used } => {
                write!(f, "-i {asked}: using {used}, as many as -d and -b allow")
            }
            Adjustment::DirectIgnored => f.write_str("-O: ignored because of --buffered"),
        }
    }
}

/// Checked options; `run` takes only this.
#[derive(Clone, Debug)]
pub struct Plan {
    options: Options,
    stages: Vec<Op>,
    submit_max: u32,
    adjustments: Vec<Adjustment>,
}

impl Plan {
    /// Checks the options and derives what they leave open.
    pub fn new(mut options: Options) -> Result<Plan, StressError> {
        refuse_zeros(&options)?;
        let mut adjustments = Vec::new();
        if options.buffered && options.direct {
            options.direct = false;
            adjustments.push(Adjustment::DirectIgnored);
        }
        refuse_sizes(&options)?;
        let contexts = context_count(&options);
        let asked = options.threads;
        if u64::from(asked) > contexts {
            options.threads = u32::try_from(contexts).expect("below a u32 that it is less than");
            adjustments.push(Adjustment::Threads { asked, used: options.threads });
        }
        if options.threads > THREADS_MAX {
            return Err(StressError::TooManyThreads { threads: options.threads });
        }
        let asked = options.turn;
        options.turn = asked.min(options.depth).min(options.submit_max.unwrap_or(u32::MAX));
        if options.turn < asked {
            adjustments.push(Adjustment::Turn { asked, used: options.turn });
        }
        let all_turns = contexts.saturating_mul(u64::from(options.turn));
        let submit_max = u32::try_from(all_turns).unwrap_or(u32::MAX);
        let submit_max = options.submit_max.unwrap_or(submit_max);
        let every = options.ops.is_empty();
        let stages = Op::ALL.into_iter().filter(|op| every || options.ops.contains(op)).collect();
        let plan = Plan { options, stages, submit_max, adjustments };
        plan.refuse_memory(contexts)?;
        Ok(plan)
    }

    /// The options in effect.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// What was lowered or ignored, for the people who asked.
    pub fn adjustments(&self) -> &[Adjustment] {
        &self.adjustments
    }

    /// The ops in the order in which they run.
    pub fn stages(&self) -> &[Op] {
        &self.stages
    }

    /// I/Os of a run that nothing cuts short.
    pub fn planned_ios(&self) -> u64 {
        let records = (0..self.options.contexts).map(|part| self.records(part));
        let per_file = records.fold(0, u64::saturating_add);
        let files_and_stages = self.options.files.len() as u64 * self.stages.len() as u64;
        per_file.saturating_mul(files_and_stages)
    }

    /// Where part `part` of a file starts and ends.
    pub(super) fn range(&self, part: u32) -> (u64, u64) {
        let cut = u64::from(part) * self.options.context_offset.0;
        (cut, self.options.size.0 - cut)
    }

    /// I/Os of one stage over part `part` of a file.
    pub(super) fn records(&self, part: u32) -> u64 {
        let (start, end) = self.range(part);
        (end - start) / self.options.record.0
    }

    /// Random offsets are multiples of this many bytes, from the start of the part.
    pub(super) fn grain(&self) -> u64 {
        self.options.alignment.map_or(self.options.record.0, |alignment| alignment.0)
    }

    /// Alignment of buffers.
    pub(super) fn buffer_alignment(&self) -> u64 {
        self.options.alignment.map_or(PAGE_LEN, |alignment| alignment.0)
    }

    /// Most I/Os of one `io_submit`.
    pub(super) fn submit_max(&self) -> u32 {
        self.submit_max
    }

    /// Whether each write is followed by its own fsync, before the next write.
    pub(super) fn syncs_each_write(&self) -> bool {
        self.options.buffered && !self.options.sync
    }

    fn refuse_memory(&self, contexts: u64) -> Result<(), StressError> {
        let record = self.options.record.0.checked_next_multiple_of(self.buffer_alignment());
        let slots = contexts.saturating_mul(u64::from(self.options.depth));
        let needed = slots.saturating_mul(record.unwrap_or(u64::MAX));
        if needed > BUFFERS_LEN_MAX {
            return Err(StressError::BuffersTooLarge { needed: Bytes(needed) });
        }
        if !self.options.verify {
            return Ok(());
        }
        let units = self.options.size.0 / self.grain();
        if units > WRITTEN_UNITS_MAX {
            return Err(StressError::VerifyTooLarge { units });
        }
        let writes = self.stages.iter().any(|op| op.is_write());
        if writes { Ok(()) } else { Err(StressError::VerifyWithoutWrite) }
    }
}

fn context_count(options: &Options) -> u64 {
    options.files.len() as u64 * u64::from(options.contexts)
}

fn refuse_zeros(options: &Options) -> Result<(), StressError> {
    if options.files.is_empty() {
        return Err(StressError::NoFiles);
    }
    let counts = [
        ("-t", "threads", u64::from(options.threads)),
        ("-s", "the size of a file", options.size.0),
        ("-r", "the record", options.record.0),
        ("-a", "the alignment", options.alignment.map_or(1, |alignment| alignment.0)),
        ("-d", "I/Os in flight", u64::from(options.depth)),
        ("-i", "I/Os of a turn", u64::from(options.turn)),
        ("-b", "I/Os of an io_submit", options.submit_max.map_or(1, u64::from)),
        ("-I", "rounds", options.rounds_max.unwrap_or(1)),
        ("-c", "contexts of a file", u64::from(options.contexts)),
    ];
    match counts.into_iter().find(|&(_, _, count)| count == 0) {
        Some((flag, what, _)) => Err(StressError::Zero { flag, what }),
        None => Ok(()),
    }
}

fn refuse_sizes(options: &Options) -> Result<(), StressError> {
    let &Options { size, record, alignment, context_offset, contexts, .. } = options;
    if i64::try_from(size.0).is_err() {
        return Err(StressError::SizeTooLarge { size });
    }
    // The last part is the smallest: it loses its offset at both ends.
    let cut = context_offset.0.saturating_mul(u64::from(contexts - 1)).saturating_mul(2);
    let part = Bytes(size.0.saturating_sub(cut));
    if part < record {
        return Err(StressError::SizeBelowRecord { size: part, record });
    }
    if let Some(alignment) = alignment.filter(|alignment| !alignment.0.is_power_of_two()) {
        return Err(StressError::BadAlignment { alignment });
    }
    if !options.direct {
        return Ok(());
    }
    let offset = if contexts > 1 { context_offset } else { Bytes(0) };
    for (flag, value) in [("-r", Some(record)), ("-a", alignment), ("-C", Some(offset))] {
        let unaligned = |value: &Bytes| !value.0.is_multiple_of(DIRECT_ALIGNMENT);
        if let Some(value) = value.filter(unaligned) {
            return Err(StressError::DirectAlignment { flag, value });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(change: impl FnOnce(&mut Options)) -> Options {
        let mut options = Options { files: vec!["f".into(), "g".into()], ..Options::default() };
        change(&mut options);
        options
    }

    fn check(change: impl FnOnce(&mut Options)) -> String {
        Plan::new(options(change)).map_or_else(|error| error.to_string(), |_| "ok".to_owned())
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        assert_eq!(check(|_| {}), "ok");
        assert!(check(|o| o.files.clear()).contains("no files"));
        assert_eq!(check(|o| o.threads = 0), "-t is 0; threads must be at least 1");
        assert_eq!(check(|o| o.rounds_max = Some(0)), "-I is 0; rounds must be at least 1");
        assert!(check(|o| o.size = Bytes(1 << 15)).contains("32k does not hold a record of 64k"));
        assert!(check(|o| o.alignment = Some(Bytes(3000))).contains("-a 3000b is not a power"));
        assert!(check(|o| (o.direct, o.record) = (true, Bytes(1000))).contains("-r 1000b"));
        assert_eq!(check(|o| o.record = Bytes(1000)), "ok");
        assert!(check(|o| o.depth = 1 << 20).contains("lower -d or -r"));
        assert!(check(|o| (o.verify, o.ops) = (true, vec![Op::Read])).contains("add -o 0"));
        assert!(check(|o| (o.contexts, o.size) = (3, Bytes(8 << 20))).contains("lower -r, -c"));
        assert!(check(|o| (o.verify, o.size) = (true, Bytes(1 << 62))).contains("-v over"));
        assert!(check(|o| o.size = Bytes(u64::MAX)).contains("more than a file"));
    }

    #[test]
    fn what_can_have_no_effect_is_lowered_and_said() {
        let plan = Plan::new(options(|o| (o.threads, o.depth) = (20, 4))).unwrap();
        assert_eq!((plan.options().threads, plan.options().turn), (2, 4));
        let notes = plan.adjustments().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            notes,
            [
                "-t 20: using 2, as many as there are files × contexts",
                "-i 8: using 4, as many as -d and -b allow",
            ]
        );
    }

    #[test]
    fn stages_run_in_the_order_of_their_numbers() {
        let plan = Plan::new(options(|o| o.ops = vec![Op::RandomRead, Op::Write])).unwrap();
        assert_eq!(plan.stages(), [Op::Write, Op::RandomRead]);
        assert_eq!(Plan::new(options(|_| {})).unwrap().stages(), Op::ALL);
    }

    #[test]
    fn parts_of_a_file_lose_their_offset_at_both_ends() {
        let plan = Plan::new(options(|o| (o.contexts, o.size) = (2, Bytes(10 << 20)))).unwrap();
        assert_eq!(plan.range(1), (2 << 20, 8 << 20));
        assert_eq!((plan.records(0), plan.records(1)), (160, 96));
        assert_eq!(plan.planned_ios(), 2 * 4 * 256);
    }
}
