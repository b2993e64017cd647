//! A story as a picture in text, at most [`WIDTH`] columns.
//!
//! ```text
//!    step      time  A  B  C   what                                  flag       n  list lock
//!       4  3.000 µs  ●         bio 1 submitted by submit_bio
//!       9  8.000 µs  │  │  ●   taken off the list: ext4_flush_…      UNWRITTEN  0   no  took
//!  ✗   13  12.00 µs     ●  ┃   freed by ext4_free_io_end
//!   ● acts   ┃ is in the middle of its work   │ is elsewhere   ✗ the illegal step   ◆ who acted first
//! ```
//!
//! Every line of it has its columns at the same places, whatever names and values come in. It must never
//! leave a step out, nor show one twice.

use std::fmt::{self, Write as _};

use super::{
    Lane, Step, Story,
    text::{duration, fit, wrap},
};
use crate::finding::{Finding, FindingParty};

/// Columns of a picture.
pub const WIDTH: usize = 120;
/// Columns of what happened.
pub(super) const WHAT: usize = 46;
const TIME: usize = 13;
const COUNT: usize = 4;
const LIST: usize = 5;
const LOCK: usize = 7;
/// Columns of a lane.
const LANE: usize = 3;
/// Columns before the lanes: mark, number, time.
const HEAD: usize = 1 + 5 + 1 + TIME + 2;
/// Columns of the plain words.
pub(super) const PLAIN: usize = 100;

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut picture = Picture { text: String::new(), story: self };
        picture.object();
        picture.lanes();
        picture.steps();
        picture.findings();
        picture.plain();
        f.write_str(&picture.text)
    }
}

struct Picture<'a> {
    text: String,
    story: &'a Story,
}

impl Picture<'_> {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// `label   text`, wrapped under itself.
    fn labelled(&mut self, label: &str, text: &str) {
        let wrapped = wrap(text, WIDTH, "            ");
        let (first, rest) = wrapped.split_once('\n').unwrap_or((&wrapped, ""));
        let first = format!("{label:<12}{}", first.trim_start());
        self.line(&first);
        if !rest.is_empty() {
            self.line(rest);
        }
    }

    fn object(&mut self) {
        let Story { kernel, object, born_ns, inode, device, device_name, state, .. } = self.story;
        let inode = inode.map_or("inode unknown".to_owned(), |inode| format!("inode {inode}"));
        let device = device.as_ref().map(|device| format!(" on {device}")).unwrap_or_default();
        let name = device_name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        self.labelled("io_end", &format!("{object}, {inode}{device}{name}, at the end {state}"));
        let kernel: String = kernel.chars().filter(|c| !c.is_control()).collect();
        self.labelled("kernel", &kernel);
        let first = if self.story.birth_seen { "birth" } else { "first sight" };
        self.labelled("times", &format!("since its {first} at {born_ns} ns"));
        if !self.story.gaps.is_empty() {
            self.labelled("not seen", &self.story.gaps.join(", "));
        }
    }

    fn lanes(&mut self) {
        for (at, lane) in self.story.lanes.iter().enumerate() {
            let Lane { letter, who, role, did, .. } = lane;
            let role = if *role == "interrupt" { String::new() } else { format!(", {role}") };
            let did = if did.is_empty() { String::new() } else { format!(": {}", did.join(", ")) };
            let label = if at == 0 { "lanes" } else { "" };
            self.labelled(label, &format!("{letter}  {who}{role}{did}"));
        }
        self.line("");
    }

    /// Columns of the flag: what the others leave.
    fn flag_width(&self) -> usize {
        let others = HEAD + LANE * self.story.lanes.len() + 1 + WHAT + 1 + COUNT + LIST + LOCK;
        let longest = self.story.steps.iter().filter_map(|step| step.flag_names.as_ref());
        let longest = longest.map(|names| names.chars().count()).max().unwrap_or(0).max(4);
        longest.min(WIDTH - others)
    }

    fn steps(&mut self) {
        let flag = self.flag_width();
        let letters = self.story.lanes.iter().map(|lane| fit(&lane.letter.to_string(), LANE));
        let letters: String = letters.collect();
        let head = format!("{:>6} {:>TIME$}  {letters} ", "step", "time");
        let columns = format!(
            "{head}{:<WHAT$} {:<flag$}{:>COUNT$}{:>LIST$}  lock",
            "what", "flag", "n", "list"
        );
        self.line(&columns);
        for (at, step) in self.story.steps.iter().enumerate() {
            self.step(at, step, flag);
            if let Some(left_out) = self.story.left_out.filter(|it| it.after == at + 1) {
                self.line(&format!("       … {} steps are left out here", left_out.steps));
            }
        }
        let empty = self.story.empty_runs_left_out;
        if empty > 0 {
            self.line(&format!(
                "       and {empty} more runs of the worker that touched no io_end"
            ));
        }
        self.line("");
        self.line("  ● acts   ┃ is in the middle of its work   │ is elsewhere   ✗ illegal   ◆ acted first");
        if self.story.protocol != "unknown" {
            self.line(
                "  lock: i_completed_io_lock by the kernel's source: no, not held; took, was held just \
                 before; takes, inside",
            );
        }
        if self.story.steps.iter().any(|step| matches!(step.lock, Some("held" | "free"))) {
            self.line(
                "        held, free: the lock's own word at that moment; held does not say by whom",
            );
        }
        self.line("");
    }

    fn step(&mut self, at: usize, step: &Step, flag: usize) {
        let mark = match (step.illegal.is_empty(), step.first_party.is_empty()) {
            (false, _) => '✗',
            (true, false) => '◆',
            (true, true) => ' ',
        };
        let lanes: String = (0..self.story.lanes.len()).map(|lane| self.lane(at, lane)).collect();
        let names = step.flag_names.as_deref().unwrap_or("·");
        let names = if names.chars().count() > flag { short(names) } else { names.to_owned() };
        let count = step.count.map_or("·".to_owned(), count);
        let list = step.listed.map_or("·", |listed| if listed { "yes" } else { "no" });
        let lock = step.lock.unwrap_or("·");
        let mut line = format!("{mark}{:>5} ", step.number);
        // Writing to a String cannot fail.
        let _ = write!(line, "{:>TIME$}  {lanes} ", duration(step.since_birth_ns));
        let _ = write!(line, "{} {}", fit(&step.what, WHAT), fit(&names, flag));
        let _ = write!(line, "{count:>COUNT$}{list:>LIST$}  {lock}");
        self.line(&line);
    }

    fn lane(&self, at: usize, lane: usize) -> String {
        let steps = &self.story.steps;
        if steps[at].lane == lane {
            return fit("●", LANE);
        }
        let before = steps[..at].iter().rev().find(|step| step.lane == lane);
        let after = steps[at..].iter().any(|step| step.lane == lane);
        let glyph = match (before, after) {
            (Some(step), _) if step.inside => "┃",
            (Some(_), true) => "│",
            _ => "",
        };
        fit(glyph, LANE)
    }

    fn findings(&mut self) {
        for finding in &self.story.findings {
            self.finding(finding);
        }
        if !self.story.other_findings.is_empty() {
            let ids = self.story.other_findings.join(", ");
            self.labelled("", &format!("the same io_end is accused in {ids} as well"));
            self.line("");
        }
    }

    fn finding(&mut self, finding: &Finding) {
        let Finding { id, rule, confidence, claim, what, loss, .. } = finding;
        let number = |of: fn(&Step) -> &Vec<String>| {
            self.story.steps.iter().find(|step| of(step).contains(id))
        };
        let (illegal, first) = (number(|step| &step.illegal), number(|step| &step.first_party));
        let at = illegal.map_or(String::new(), |step| format!(" in step {}", step.number));
        self.labelled("finding", &format!("{id}: {rule}{at}, {confidence}"));
        self.labelled("  claim", claim);
        self.labelled("  here", what);
        for (label, party, step) in
            [("  first", &finding.parties[0], first), ("  second", &finding.parties[1], illegal)]
        {
            match party {
                Some(party) => self.labelled(label, &self.party(party, step)),
                None => self.labelled(label, "not known"),
            }
        }
        let last = loss.last_ns.map_or(String::new(), |at| format!(", last loss at {at}"));
        let loss = format!("none from {} ns to {} ns{last}", loss.none_from_ns, loss.none_to_ns);
        self.labelled("  loss", &loss);
        self.line("");
    }

    fn party(&self, party: &FindingParty, step: Option<&Step>) -> String {
        let FindingParty { tid, cpu, context, symbol, .. } = party;
        let cpu = cpu.map(|cpu| format!(" on cpu {cpu}")).unwrap_or_default();
        match step {
            Some(step) => {
                let lane = &self.story.lanes[step.lane];
                let (who, letter, symbol) = (&lane.who, lane.letter, &step.symbol);
                format!("{who}, lane {letter}, in {symbol}{cpu} ({context}), step {}", step.number)
            }
            None => format!("task {tid} in {symbol}{cpu} ({context})"),
        }
    }

    fn plain(&mut self) {
        self.line("In plain words");
        for paragraph in &self.story.plain {
            self.line(&wrap(paragraph, PLAIN, "  "));
        }
    }
}

/// A count that is none (it underflowed or is saturated) is told as that.
fn count(count: u32) -> String {
    match count {
        0..1000 => count.to_string(),
        crate::lifecycle::COUNT_SANE_MAX.. => "bad".to_owned(),
        _ => "999+".to_owned(),
    }
}

/// Each name by its first letters, for a column that the names are too long for.
fn short(names: &str) -> String {
    let short = names.split('|').map(|name| {
        let bare = name.strip_prefix("IN_").unwrap_or(name);
        bare.chars().take(5).collect::<String>()
    });
    short.collect::<Vec<_>>().join("|")
}
