//! The page for people: plain text, aligned, at most [`WIDTH`] columns, made from the report alone.

use std::fmt::{self, Write as _};

use super::report::{Answer, Probe, ProbeVerdict, Report, Requirement};

/// Columns of the page.
const WIDTH: usize = 100;
/// Where text begins behind a label.
const LABEL: usize = 15;
/// Reasons of a requirement that are listed; the sections below have them all.
const REASONS_MAX: usize = 3;
/// Where the reason of a probe begins, on a line of its own.
const REASON: usize = 13;
/// What comes before the verifier's log in a refusal.
const LOG_TITLE: &str = ". Verifier output:";

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page::default();
        page.verdict(self);
        page.kernel(self);
        page.privileges(self);
        page.backends(self);
        page.probes(self);
        page.rules(self);
        page.devices(self);
        page.defects(self);
        f.write_str(&page.text)
    }
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn section(&mut self, title: &str) {
        self.line(&format!("\n{title}"));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// `  label   text`, the text wrapped under itself.
    fn row(&mut self, label: &str, text: &str) {
        self.wrapped(&format!("  {label:<width$}", width = LABEL - 2), text);
    }

    /// A head that ends where the text begins; a longer text goes on below its beginning.
    fn wrapped(&mut self, head: &str, text: &str) {
        let indent = head.chars().count();
        let mut line = head.to_owned();
        let mut column = indent;
        for word in text.split_ascii_whitespace().flat_map(|word| pieces(word, WIDTH - indent)) {
            let width = word.chars().count();
            if column > indent && column + 1 + width > WIDTH {
                self.line(&line);
                line = " ".repeat(indent);
                column = indent;
            }
            if column > indent {
                line.push(' ');
                column += 1;
            }
            line.push_str(&word);
            column += width;
        }
        self.line(&line);
    }

    fn verdict(&mut self, report: &Report) {
        let Report { version, kernel, basic, full, fix, .. } = report;
        self.line(&format!("endiod {version} doctor: what this host lets us observe"));
        self.line("");
        self.row("kernel", &kernel.release);
        self.row("basic", &answer(basic));
        self.row("full", &answer(full));
        if let Some(fix) = fix {
            self.row("to do", fix);
        }
    }

    fn kernel(&mut self, report: &Report) {
        let Report { kernel, security, programs, .. } = report;
        self.section("Kernel");
        self.row("upstream", &kernel.upstream);
        self.row("generation", &kernel.generations.join(" or "));
        for evidence in &kernel.evidence {
            self.row("", evidence);
        }
        let preemption = kernel.preemption.as_deref().unwrap_or("not shown");
        self.row("preemption", &format!("{preemption}: {}", kernel.preemption_note));
        self.row("BTF", &kernel.btf);
        self.row("ext4", &kernel.ext4);
        if let Some(pins) = &kernel.ext4_pinned_by {
            self.row("pinned by", pins);
        }
        if let Some(layout) = &kernel.ext4_layout {
            self.row("layout", layout);
        }
        self.row("lockdown", security.lockdown.as_deref().unwrap_or("not shown"));
        let setting = |value: Option<u64>| value.map_or("not shown".to_owned(), |v| v.to_string());
        let sysctl = format!(
            "kptr_restrict {}, unprivileged_bpf_disabled {}",
            setting(security.kptr_restrict),
            setting(security.unprivileged_bpf_disabled)
        );
        self.row("sysctl", &sysctl);
        let modules = security.security_modules.as_ref().map(|modules| modules.join(" "));
        self.row("LSM", modules.as_deref().unwrap_or("not shown: securityfs is not mounted"));
        let numbering = programs.numbering.replace('_', "-");
        self.row("numbering", &format!("{numbering}: {}", programs.numbering_why));
        let misses = match programs.misses_counted {
            Some(true) => "counted by the kernel",
            Some(false) => "not counted: this kernel has no such counter (from 5.12), and no guard",
            None => "unknown: nothing attached",
        };
        let kprobes = match programs.kprobe_misses_counted {
            Some(false) => "; those of kprobes are not counted (from 6.7, with CAP_SYS_ADMIN)",
            Some(true) | None => "",
        };
        self.row("skipped hits", &format!("{misses}{kprobes}"));
    }

    fn privileges(&mut self, report: &Report) {
        self.section("Privileges of this process");
        for row in &report.privileges {
            let head = format!("  {:<LABEL$}{:<28}", row.verdict.label(), row.feature);
            let why = row.why.as_ref().map_or(String::new(), |why| format!(": {why}"));
            self.wrapped(&head, &format!("needs {}{why}", row.needs));
            self.wrapped(&" ".repeat(head.len()), &format!("kept {}", row.held));
        }
    }

    fn backends(&mut self, report: &Report) {
        self.section("Back ends");
        for row in &report.backends {
            let count = match row.probes {
                0 => String::new(),
                1 => "1 probe".to_owned(),
                count => format!("{count} probes"),
            };
            let parts = [&*count, &*row.why].into_iter().filter(|part| !part.is_empty());
            self.row(&row.backend, &parts.collect::<Vec<_>>().join("; "));
        }
    }

    fn probes(&mut self, report: &Report) {
        let probes = &report.probes;
        let count = |verdict| probes.iter().filter(|probe| probe.verdict == verdict).count();
        let mut title = "Probes:".to_owned();
        for verdict in [
            ProbeVerdict::Ok,
            ProbeVerdict::Degraded,
            ProbeVerdict::Missing,
            ProbeVerdict::NotTried,
            ProbeVerdict::NotNeeded,
            ProbeVerdict::Served,
            ProbeVerdict::NotAsked,
        ] {
            if count(verdict) > 0 {
                // Writing to a String cannot fail.
                let _ = write!(title, " {} {},", count(verdict), verdict.label());
            }
        }
        self.section(title.trim_end_matches(','));
        let common = common_reason(report);
        if let Some(reason) = common {
            let has_more = probes.iter().filter_map(|probe| probe.why.as_deref()).any(has_log);
            let more = if has_more { "; the verifier's words are in --format json" } else { "" };
            self.row("all of them", &format!("{reason}{more}"));
        }
        let shown: Vec<_> = probes.iter().filter(|probe| is_shown(probes, probe)).collect();
        for pair in shown.chunk_by(|left, right| is_same_function(left, right)) {
            self.probe(pair, common);
        }
    }

    /// One line for the probes of one function that share a fate.
    fn probe(&mut self, probes: &[&Probe], common: Option<&str>) {
        let [first, ..] = probes else { return };
        let join = |member: fn(&Probe) -> Option<&str>, with: &str| {
            let mut texts: Vec<_> = probes.iter().copied().filter_map(member).collect();
            texts.dedup();
            texts.join(with)
        };
        let backends = join(|probe| Some(&probe.backend), "+");
        let head = format!("  {:<11}{backends:<13}{:<34}", first.verdict.label(), first.function);
        let why = first.why.as_deref().filter(|why| Some(brief(why)) != common);
        let text = match (first.verdict, why) {
            (ProbeVerdict::NotNeeded, Some(why)) => why.to_owned(),
            (ProbeVerdict::Missing, _) => {
                format!("lost: {}", join(|probe| probe.lost.as_deref(), "; "))
            }
            _ => join(|probe| Some(&probe.witnesses), ", "),
        };
        self.wrapped(&head, &text);
        if let Some(why) = why.filter(|_| first.verdict != ProbeVerdict::NotNeeded) {
            self.wrapped(&" ".repeat(REASON), why);
        }
    }

    fn rules(&mut self, report: &Report) {
        self.section("Rules");
        for rule in &report.rules {
            let head = format!("  {:<11}{:<28}", rule.verdict.label(), rule.rule);
            let rests = match &rule.lacks[..] {
                [] => format!("needs {}", rule.needs.join(", ")),
                lacks => format!("lacks {}", lacks.join(", ")),
            };
            self.wrapped(&head, &format!("{}; {rests}", rule.claim));
        }
    }

    fn devices(&mut self, report: &Report) {
        self.section("Mounted ext4");
        for device in &report.devices {
            let head = format!("  {:<LABEL$}{:<8}", device.name, device.dev);
            self.wrapped(&head, &device.mountpoint);
        }
        if let Some(note) = &report.devices_note {
            self.wrapped("  ", note);
        }
    }

    fn defects(&mut self, report: &Report) {
        self.section(
            "Known defects of this area, by upstream version (your vendor may have backported)",
        );
        if report.defects.is_empty() {
            self.line("  none");
        }
        for defect in &report.defects {
            let fix = defect.fix.as_deref().unwrap_or("no fix");
            let head = format!("  {:<11}{fix:<14}", defect.verdict.label());
            let cve = defect.cve.as_ref().map_or(String::new(), |cve| format!(" ({cve})"));
            self.wrapped(&head, &format!("{}{cve}", defect.title));
            let indent = " ".repeat(head.len());
            match (&defect.rule, &defect.unseen_because) {
                (Some(rule), _) => self.wrapped(&indent, &format!("seen by {rule}")),
                (None, Some(why)) => self.wrapped(&indent, &format!("not seen: {why}")),
                (None, None) => {}
            }
        }
    }
}

fn answer(requirement: &Requirement) -> String {
    let mut text = requirement.answer.label().to_owned();
    if requirement.answer != Answer::Meets {
        let shown =
            requirement.why.iter().take(REASONS_MAX).cloned().collect::<Vec<_>>().join(", ");
        text = format!("{text}: {shown}");
        if let more @ 1.. = requirement.why.len().saturating_sub(REASONS_MAX) {
            text = format!("{text} and {more} more");
        }
    }
    text
}

/// A word, cut into as many pieces as its width needs.
fn pieces(word: &str, width_max: usize) -> impl Iterator<Item = String> {
    let letters: Vec<char> = word.chars().collect();
    letters.chunks(width_max).map(String::from_iter).collect::<Vec<_>>().into_iter()
}

/// Whether it says more than the section about back ends: not what another back end serves, and not the
/// last of several that were refused for the same function.
fn is_shown(probes: &[Probe], probe: &Probe) -> bool {
    let stands_in = probe.backend == "raw_tp" || probe.backend == "kprobe";
    let known = || {
        probes.iter().any(|other| {
            other.function == probe.function
                && other.backend != probe.backend
                && other.verdict == ProbeVerdict::Missing
        })
    };
    match probe.verdict {
        ProbeVerdict::Ok | ProbeVerdict::Degraded => true,
        ProbeVerdict::Served | ProbeVerdict::NotAsked => false,
        ProbeVerdict::NotNeeded | ProbeVerdict::NotTried => !stands_in,
        ProbeVerdict::Missing => !(stands_in && known()),
    }
}

fn is_same_function(left: &Probe, right: &Probe) -> bool {
    left.function == right.function && left.verdict == right.verdict && left.why == right.why
}

/// A reason without the verifier's log, which differs from program to program.
fn brief(why: &str) -> &str {
    why.split(LOG_TITLE).next().unwrap_or(why)
}

fn has_log(why: &str) -> bool {
    why.contains(LOG_TITLE)
}

/// The one reason of all probes that are missing or were not tried, if there are several.
fn common_reason(report: &Report) -> Option<&str> {
    let lost = [ProbeVerdict::Missing, ProbeVerdict::NotTried];
    let mut reasons = report
        .probes
        .iter()
        .filter(|probe| lost.contains(&probe.verdict))
        .filter_map(|probe| probe.why.as_deref())
        .map(brief);
    let first = reasons.next()?;
    let others: Vec<_> = reasons.collect();
    (!others.is_empty() && others.iter().all(|reason| *reason == first)).then_some(first)
}
