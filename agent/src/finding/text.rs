//! A finding as a few lines of text.

use std::fmt;

use super::{Finding, FindingPutBack, FindingStuck, FindingWaiter};
use crate::{
    event::Nanos,
    lifecycle::{FLAG_FAILED, FLAG_UNWRITTEN},
};

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} ({}): {}", self.id, self.rule, self.confidence, self.what)?;
        write!(f, "  {} {}", self.object_kind.label(), self.object)?;
        match (self.inode, &self.device) {
            (Some(inode), Some(device)) => write!(f, ", inode {inode} on {device}")?,
            _ => write!(f, ", inode unknown")?,
        }
        if let Some(name) = &self.device_name {
            write!(f, " ({name})")?;
        }
        writeln!(f, ", now {}", self.state)?;
        for (role, party) in ["first ", "second"].iter().zip(&self.parties) {
            let Some(party) = party else { continue };
            write!(f, "  {role} {} by task {}", party.symbol, party.tid)?;
            write!(f, " in {} context", party.context)?;
            writeln!(f, "{}", Suffix(" on cpu ", party.cpu))?;
        }
        if let Some(stuck) = &self.stuck {
            stuck.fmt_at(self.at_ns, f)?;
        }
        if self.history_skipped > 0 {
            writeln!(f, "  … {} earlier steps", self.history_skipped)?;
        }
        for step in &self.history {
            write!(f, "  {:>14} {:<11} {:<10}", step.at_ns, step.act, step.state)?;
            write!(f, " task {}{}", step.tid, Suffix(" cpu ", step.cpu))?;
            let flag = step.flag.map(|flag| Flags(u32::from(flag)));
            let more = if step.count == Some(u8::MAX) { " or more" } else { "" };
            writeln!(f, "{}{more}{}", Suffix(" count ", step.count), Suffix(" flag ", flag))?;
        }
        for (core, word) in &self.oracle {
            writeln!(f, "  oracle {core} {word}")?;
        }
        write!(f, "  nothing lost from {} to {}", self.loss.none_from_ns, self.loss.none_to_ns)?;
        write!(f, "{}", Suffix(", last loss at ", self.loss.last_ns))
    }
}

impl FindingStuck {
    fn fmt_at(&self, at_ns: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let for_s = Nanos(at_ns).since(Nanos(self.since_ns)).as_secs_f64();
        write!(f, "  stuck for {for_s:.1} s, since {}", self.since_ns)?;
        if self.alike > 0 {
            write!(f, "; {} younger ones of this device in the same way", self.alike)?;
        }
        if self.delays > 0 {
            let delays = self.delays;
            write!(
                f,
                "; {delays} other io_ends of this superblock wait for their conversion behind it"
            )?;
        }
        writeln!(f)?;
        if let Some(FindingPutBack { times, since_ns, last_ns }) = self.put_back {
            let time = if times == 1 { "time" } else { "times" };
            writeln!(f, "  its work put it back {times} {time} from {since_ns} to {last_ns}")?;
        }
        for waiter in &self.waiters {
            let FindingWaiter { tid, tgid: _, call, since_ns } = waiter;
            writeln!(f, "  waits  task {tid} in {call} since {since_ns}")?;
        }
        match (self.waiting as usize).saturating_sub(self.waiters.len()) {
            0 => Ok(()),
            more => writeln!(f, "  waits  {more} more tasks"),
        }
    }
}

/// Text and value, or nothing.
struct Suffix<T>(&'static str, Option<T>);

impl<T: fmt::Display> fmt::Display for Suffix<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.1 {
            Some(value) => write!(f, "{}{value}", self.0),
            None => Ok(()),
        }
    }
}

/// `flag` in the kernel's names.
struct Flags(u32);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "0"),
            FLAG_UNWRITTEN => write!(f, "UNWRITTEN"),
            FLAG_FAILED => write!(f, "FAILED"),
            both if both == FLAG_UNWRITTEN | FLAG_FAILED => write!(f, "UNWRITTEN|FAILED"),
            other => write!(f, "{other:#x}"),
        }
    }
}
