//! The trace notation: one event per line, text to [`Event`].
//!
//! ```text
//!   <time> cpu<N> task<T>[/softirq|/hardirq|/unknown] <verb> [<object>] [word | key=value]…
//!   <time> agent <verb> [key=value]…
//!   # comment
//! ```
//!
//! Image words, for the acts that carry one: `n=<count>` (default 1), `f=<flag>`, `listed`, `ranged`
//! (the default when bit 0 of the flag is set), `norange`, `handle`, `unpinned` (no bio is chained to it),
//! `noimage`. An object is a letter and a
//! number: `a1` is address 0x1000 × 1, of an io_end or a kiocb. A bio is `bio=<number>`, 0 by default,
//! of `bytes=<count>`, 4096 by default. `inode=` is an inode's number and its place, `ino=` another
//! number. A birth without `inode=` cannot tell it, an fsync with
//! `unranged` its range. A bio that ends `again` has lost its `bi_end_io`. A store to a flag comes from `ip=`,
//! which `symbol` names, with the lock of the list held unless it is `unlocked`. Directives, without a time:
//!
//! ```text
//!   !witnesses <back end>              that back end sees all that it can, and no other anything
//!   !witness <Witness> <back end>      this one is seen by that back end, or by `nobody`
//!   !kernel <release>                  the reference cores judge it, after the directives above
//!   !unknown <Fact>                    that the kernel is so is not known
//!   !claim_probe  !io_ends <capacity>  !bios <capacity>  !note_loss  !finish
//! ```
//!
//! Without a directive fentry sees all, but the claim.

use endiod_wire::wire::config_key;

use endiod::event::{
    Backend, BioAddr, Body, ByteRange, CodeAddr, Context, Cpu, DevId, Event, FsyncPhase,
    FsyncRange, Ino, InodeAddr, InodeId, IoEndAddr, IoEndImage, IocbAddr, LeftOut, Name, Nanos,
    ProbeId, ProgramBound, Seen, Stamp, Task,
};

/// One line of a trace.
pub(crate) enum Line {
    /// An event.
    Event(Event),
    /// `!word [word]…`.
    Directive(Vec<String>),
}

/// Parses the part of a file before `---`.
pub(crate) fn parse(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            [] => {}
            [first, ..] if first.starts_with('#') => {}
            [directive, values @ ..] if directive.starts_with('!') => {
                let words = std::iter::once(&directive[1..]).chain(values.iter().copied());
                lines.push(Line::Directive(words.map(str::to_owned).collect()));
            }
            words => {
                let event = event(words, number as u64 + 1);
                lines.push(Line::Event(event.unwrap_or_else(|| panic!("cannot read: {line}"))));
            }
        }
    }
    lines
}

/// An object's address by its name's number.
pub(crate) fn address(number: u64) -> u64 {
    0x1000 * number
}

fn event(words: &[&str], seq: u64) -> Option<Event> {
    let at = Nanos(words.first()?.parse().ok()?);
    if words.get(1) == Some(&"agent") {
        let task = Task { tid: 1, tgid: 1 };
        let stamp = Stamp { at, cpu: None, lane: 0, seq, task, context: Context::Task };
        return Some(Event { stamp, body: agent_body(&Args(&words[2..]))? });
    }
    let cpu = Some(Cpu(words.get(1)?.strip_prefix("cpu")?.parse().ok()?));
    let (tid, context) = match words.get(2)?.strip_prefix("task")?.split_once('/') {
        None => (words[2].strip_prefix("task")?, Context::Task),
        Some((tid, "softirq")) => (tid, Context::SoftIrq),
        Some((tid, "hardirq")) => (tid, Context::HardIrq),
        Some((tid, "unknown")) => (tid, Context::Unknown),
        Some(_) => return None,
    };
    let tid = tid.parse().ok()?;
    let task = Task { tid, tgid: tid };
    let stamp = Stamp { at, cpu, lane: 0, seq, task, context };
    Some(Event { stamp, body: kernel_body(&Args(&words[3..]))? })
}

/// Verb, object, words and key=value pairs.
struct Args<'a>(&'a [&'a str]);

impl Args<'_> {
    fn verb(&self) -> &str {
        self.0.first().copied().unwrap_or_default()
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn get<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        let value = self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
        value.parse().ok()
    }

    fn number<T: std::str::FromStr + Default>(&self, key: &str) -> T {
        self.get(key).unwrap_or_default()
    }

    fn object(&self) -> Option<u64> {
        Some(address(self.0.get(1)?.get(1..)?.parse().ok()?))
    }

    fn seen(&self) -> Option<Seen> {
        let addr = self.object()?;
        let flag = self.number("f");
        let ranged = self.has("ranged") || (flag & 1 != 0 && !self.has("norange"));
        let image = IoEndImage {
            list_next: if self.has("listed") { 0xbad_0000 } else { addr },
            list_prev: if self.has("listed") { 0xbad_0000 } else { addr },
            flag,
            count: self.get("n").unwrap_or(1),
            handle: if self.has("handle") { 0xbad_2000 } else { 0 },
            bio: if self.has("unpinned") { 0 } else { 0xbad_3000 },
            vec_next: if ranged { 0xbad_1000 } else { addr + 48 },
            ..IoEndImage::default()
        };
        Some(Seen { io_end: IoEndAddr(addr), image: (!self.has("noimage")).then_some(image) })
    }

    /// The inode that `inode=` names, which is its place too, unless `ino=` does.
    fn inode(&self) -> Option<InodeId> {
        let ino = self.get("ino").or_else(|| self.get("inode"))?;
        Some(InodeId { ino: Ino(ino), dev: DevId(254 << 20 | 1) })
    }

    fn phase(&self) -> Option<FsyncPhase> {
        FsyncPhase::ALL.into_iter().find(|phase| self.has(phase.label()))
    }
}

fn kernel_body(args: &Args<'_>) -> Option<Body> {
    let io_end = || args.object().map(IoEndAddr);
    let iocb = || args.object().map(IocbAddr);
    let inode = InodeAddr(args.number("inode"));
    let bio = BioAddr(0xb10 + args.number::<u64>("bio"));
    let part_bytes = args.get("bytes").unwrap_or(4096);
    Some(match args.verb() {
        "birth" => Body::IoEndBirth { io_end: io_end()?, inode, id: args.inode() },
        "range" => Body::RangeAdded { io_end: io_end()?, failed: args.has("failed") },
        "attach" => Body::BioAttach { io_end: io_end()?, bio, sector: 0, bytes: part_bytes },
        "bio_end" => {
            let (status, ended_before) = (args.number("status"), args.has("again"));
            Body::BioEnd { bio, status, ended_before, seen: args.seen()? }
        }
        "put" => Body::Put(args.seen()?),
        "put_defer" => Body::PutDefer(args.seen()?),
        "claim" => Body::Claim(args.seen()?),
        "convert" => Body::ConvertBegin(args.seen()?),
        "convert_end" => Body::ConvertEnd { io_end: io_end()?, ret: args.number("ret") },
        "release" => Body::Release(args.seen()?),
        "release_late" => Body::ReleaseLate { io_end: io_end()? },
        "inode" => Body::IoEndInode { io_end: io_end()?, inode, id: args.inode(), layout: None },
        "part_done" | "bio_done" => Body::BioDone {
            bio,
            part_bytes: (args.verb() == "part_done").then_some(part_bytes),
            status: args.number("status"),
            seen: args.seen()?,
        },
        "queue_work" => Body::WorkQueued { inode },
        "listed" => Body::Listed { inode, seen: args.seen()? },
        "requeue" => Body::Requeue { seen: args.seen()?, locked: Some(!args.has("unlocked")) },
        "flag_write" => {
            let (seen, locked) = (args.seen()?, Some(!args.has("unlocked")));
            Body::FlagWrite { seen, locked, ip: CodeAddr(args.number("ip")) }
        }
        "worker" => Body::WorkerBegin { inode },
        "worker_end" => Body::WorkerEnd { inode },
        _ => return span_body(args, iocb()),
    })
}

fn span_body(args: &Args<'_>, iocb: Option<IocbAddr>) -> Option<Body> {
    let (bytes, ret) = (args.number("bytes"), args.number("ret"));
    let last = args.get("end").unwrap_or(i64::MAX);
    let bytes_asked = ByteRange { first: args.number("start"), last };
    let range = FsyncRange {
        bytes: (!args.has("unranged")).then_some(bytes_asked),
        datasync: args.has("datasync"),
    };
    Some(match args.verb() {
        "dio" => Body::DirectIoBegin {
            iocb: iocb?,
            id: args.inode(),
            pos_bytes: 0,
            len_bytes: args.get("len"),
        },
        "dio_complete" => {
            let error = args.number("error");
            Body::DirectIoCompleteBegin { iocb: iocb?, bytes, error, flags: 0 }
        }
        "dio_complete_end" => Body::DirectIoCompleteEnd { iocb: iocb?, ret },
        "dio_uncounted" => Body::DirectIoUncounted { iocb: iocb? },
        "dio_return" => Body::DirectIoReturn { iocb: iocb?, ret },
        "fsync" => {
            let inode = InodeAddr(args.number("inode"));
            Body::FsyncBegin { inode, id: args.inode(), range, phases_followed: true }
        }
        "fsync_end" => Body::FsyncEnd { ret },
        "destroy" => {
            Body::InodeDestroy { inode: InodeAddr(args.number("inode")), id: args.inode() }
        }
        "evict" => Body::EvictionBegin { inode: InodeAddr(args.number("inode")), id: args.inode() },
        "evict_end" => Body::EvictionEnd { inode: InodeAddr(args.number("inode")) },
        "phase" => Body::FsyncPhaseBegin { phase: args.phase()? },
        "phase_end" => Body::FsyncPhaseEnd { phase: args.phase()?, ret },
        _ => return None,
    })
}

fn agent_body(args: &Args<'_>) -> Option<Body> {
    let probe = ProbeId(args.number("probe"));
    Some(match args.verb() {
        "tick" => Body::Tick { ordinal: args.number("ordinal") },
        "subject" => Body::Config { key: config_key::SUBJECT, value: args.number("value") },
        "loss" => Body::Loss {
            of_cpu: Cpu(args.number("cpu")),
            emitted: args.number("emitted"),
            dropped: args.number("dropped"),
        },
        "misses" => Body::Misses { probe, total: args.number("total") },
        "program_loss" => {
            let total = |bound: ProgramBound| args.number(bound.label());
            Body::ProgramLoss { left_out: LeftOut(ProgramBound::ALL.map(total)) }
        }
        "symbol" => Body::Symbol {
            address: CodeAddr(args.number("ip")),
            name: Name::new(&args.get::<String>("name")?),
        },
        "stuck_after" => Body::Config { key: config_key::STUCK_AFTER_NS, value: args.number("ns") },
        "probe" => Body::Attach { probe, backend: Some(Backend::Fentry), failed: false },
        "detach" => Body::Detach { probe },
        _ => return None,
    })
}
