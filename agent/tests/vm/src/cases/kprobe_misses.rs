//! Hits that the kernel keeps from kprobes, forced: interrupts end bios while their CPU is in another
//! program of that kind. An agent on fentry, which loses nothing to that, watches the same load and says
//! how much was lost.
//!
//! ```text
//!  CPU 0   busy program …│ext4_end_bio│… busy program        a kprobe's: the kprobe skips the hit
//!                         └ interrupt                        a tracepoint's: trace_call_bpf does
//! ```

use anyhow::{Context as _, Result, ensure};
use endiod::{
    doctor::{Arming, Report},
    host::Host,
    report::Summary,
    source::kernel::KPROBE_MISSES_FROM,
};

use super::{conservation::settled_scrape, doctor};
use crate::{
    Facts, Guest,
    agent::{Agent, Ended, LISTEN_TOO},
    hindrance::{Busy, while_busy},
    http,
    workload::{make_room, stress_in, sync},
};

/// Two writers that wait for each write: the busy program is what their CPU does meanwhile.
const LINE: [&str; 8] = ["--buffered", "-t", "2", "-s", "4", "-S", "-o", "2"];

/// A function on which both agents have a program that tells each of its calls.
struct Hook {
    event: &'static str,
    function: &'static str,
}

const BIO_END: Hook = Hook { event: "bio_end", function: "ext4_end_bio" };
const RELEASE: Hook = Hook { event: "release", function: "ext4_release_io_end" };
const HOOKS: [Hook; 4] = [
    BIO_END,
    RELEASE,
    Hook { event: "put", function: "ext4_put_io_end" },
    Hook { event: "put_defer", function: "ext4_put_io_end_defer" },
];

/// What both agents show at one moment.
struct View {
    kprobe: String,
    fentry: String,
}

impl View {
    fn of([kprobe, fentry]: [&Agent; 2]) -> Result<View> {
        // What the one has counted by then, the other has too.
        let kprobe = settled_scrape(kprobe)?;
        Ok(View { kprobe, fentry: http::get(fentry.addr(), "/metrics")?.1 })
    }

    /// Calls that fentry saw and the kprobe did not.
    fn lost(&self, hook: &Hook) -> f64 {
        let kind = format!("kind=\"{}\"", hook.event);
        let seen = |scrape| http::sum_with(scrape, "endiod_events_total", &kind);
        seen(&self.fentry) - seen(&self.kprobe)
    }

    /// Hits that the kernel says the kprobe missed.
    fn missed(&self, hook: &Hook) -> f64 {
        missed(&self.kprobe, &format!("kprobe_{}", hook.function))
    }

    /// Whether the kernel says so at all.
    fn is_counted(&self) -> bool {
        let rows = self.kprobe.lines().filter(|line| line.starts_with("endiod_probe_missed_total"));
        rows.count() > 0
    }
}

fn missed(scrape: &str, program: &str) -> f64 {
    http::sum_with(scrape, "endiod_probe_missed_total", &format!("probe=\"{program}\""))
}

/// Forces misses in both ways, then lets the agent see a load in peace.
pub(crate) fn counted(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    let dir = std::path::Path::new("/mnt/kprobes");
    std::fs::create_dir_all(dir)?;
    sync();
    let is_counted = Host::default().version()? >= KPROBE_MISSES_FROM;
    let kprobe = Agent::start(&["--backend", "kprobe"])?;
    let fentry = Agent::start_at(LISTEN_TOO, &["--backend", "fentry"])?;
    let load = || stress_in(dir, 2, &LINE);
    let mut before: Option<View> = None;
    let mut forced_min = f64::INFINITY;
    for (busy, name) in [(Busy::Kprobe, "a kprobe"), (Busy::Tracepoint, "a tracepoint")] {
        while_busy(busy, load)?;
        sync();
        let view = View::of([&kprobe, &fentry])?;
        let lost = view.lost(&BIO_END) - before.as_ref().map_or(0.0, |it| it.lost(&BIO_END));
        facts.insert(format!("lost to {name}"), lost.into());
        ensure!(lost > 0.0, "no end of a bio was lost to {name}: this proves nothing");
        forced_min = forced_min.min(lost);
        check_told(&view, is_counted)?;
        let counted = view.missed(&BIO_END) - before.as_ref().map_or(0.0, |it| it.missed(&BIO_END));
        ensure!(counted > 0.0 || !is_counted, "{lost} hits were lost to {name}, none is counted");
        before = Some(view);
    }
    load()?;
    sync();
    let after = View::of([&kprobe, &fentry])?;
    std::fs::write(guest.out.join("kprobe_misses.prom"), &after.kprobe)?;
    check_told(&after, is_counted)?;
    let counted = is_counted.then(|| after.missed(&BIO_END));
    facts.insert("counted".into(), counted.map_or("not".into(), Into::into));
    // The agent's own programs keep its kprobes from a hit now and then as well.
    let untold_max = if is_counted { 0.0 } else { forced_min / 2.0 };
    check_recovery(&before.context("nothing was forced")?, &after, untold_max, facts)?;
    let fentry = fentry.stop(guest, "kprobe_misses_fentry")?;
    let kprobe = kprobe.stop(guest, "kprobe_misses")?;
    check_verdicts(&kprobe, &fentry, is_counted)?;
    check_doctor(is_counted)
}

/// What is lost is counted where the kernel counts, with a reason that tells it from what other back ends
/// miss, and elsewhere nothing is said of it: no row, and no zero.
fn check_told(view: &View, is_counted: bool) -> Result<()> {
    ensure!(
        view.is_counted() == is_counted,
        "kprobes of this kernel are counted: {is_counted}, rows: {}",
        view.is_counted()
    );
    for (scrape, reason) in [(&view.kprobe, "kprobe"), (&view.fentry, "recursion")] {
        let label = format!("reason=\"{reason}\"");
        let mut rows = scrape.lines().filter(|line| line.starts_with("endiod_probe_missed_total{"));
        let odd = rows.find(|row| !row.contains(&label));
        ensure!(odd.is_none(), "missed for another reason than {reason}: {odd:?}");
    }
    let degraded = http::sum_with(&view.kprobe, "endiod_detector_degraded", "reason=\"kprobe\"");
    ensure!(degraded > 0.0, "no rule is said to be degraded by kprobes");
    ensure!(!view.kprobe.contains("endiod_violations_total{"), "a rule is armed on kprobes");
    Ok(())
}

/// Once nothing is in its way, the agent sees what there is, but for hits that are counted as missed and,
/// of each function, for so many that the kernel does not count.
fn check_recovery(before: &View, after: &View, untold_max: f64, facts: &mut Facts) -> Result<()> {
    let since = |of: fn(&View, &Hook) -> f64, hook: &Hook| of(after, hook) - of(before, hook);
    for hook in [BIO_END, RELEASE] {
        let lost = since(View::lost, &hook);
        let doubt = since(View::missed, &hook) + missed(&after.fentry, hook.function) + untold_max;
        ensure!(lost.abs() <= doubt, "{lost} of {} are still lost, {doubt} told", hook.function);
    }
    let completed = |view: &View| http::sum(&view.kprobe, "endiod_io_end_completed_total");
    let completed = completed(after) - completed(before);
    facts.insert("io_ends completed afterwards".into(), completed.into());
    ensure!(completed > 0.0, "no io_end was seen afterwards: this proves nothing");
    Ok(())
}

/// Nobody is accused, no life is taken for whole, and the summary says whether misses are counted.
fn check_verdicts(kprobe: &Ended, fentry: &Ended, is_counted: bool) -> Result<()> {
    let (summary, io_ends) = (&kprobe.summary, &kprobe.summary.io_ends);
    for Ended { summary, .. } in [kprobe, fentry] {
        ensure!(summary.findings.is_empty(), "accused: {:?}", summary.findings);
        ensure!(summary.diverged() == 0, "diverged: {:?}", summary.divergences);
        ensure!(summary.dropped() == 0, "records were lost, the ring is too small");
    }
    ensure!(summary.oracle.values().all(|core| core.allowed == 0), "{:?}", summary.oracle);
    let unknown = io_ends.incomplete.get("birth_unseen").copied().unwrap_or(0);
    ensure!(
        io_ends.adopted > 0 && io_ends.complete == 0 && unknown == io_ends.adopted,
        "lives of unknown birth are taken for whole: {io_ends:?}"
    );
    let timed: Vec<_> =
        summary.durations.keys().filter(|name| name.starts_with("io_end")).collect();
    ensure!(timed.is_empty(), "phases of lives with holes are timed: {timed:?}");
    let uncounted = &summary.probes.uncounted;
    ensure!(uncounted.is_empty() == is_counted, "told as uncounted: {uncounted:?}");
    if is_counted {
        HOOKS.iter().try_for_each(|hook| check_count(hook, [summary, &fentry.summary]))?;
        let unseen = summary.probes.missed.get("kprobe_ext4_release_io_end").copied();
        ensure!(io_ends.in_flight <= unseen.unwrap_or(0), "{unseen:?} ends missed: {io_ends:?}");
    }
    Ok(())
}

/// Every call was seen or is counted as missed, by both: to the last one.
fn check_count(hook: &Hook, [kprobe, fentry]: [&Summary; 2]) -> Result<()> {
    let Hook { event, function } = hook;
    let calls = |summary: &Summary, program: &str| {
        let seen = summary.stream.events.get(*event).copied().unwrap_or(0);
        let missed = summary.probes.missed.get(program).copied().unwrap_or(0);
        [seen + missed, missed]
    };
    let by_kprobe = calls(kprobe, &format!("kprobe_{function}"));
    let by_fentry = calls(fentry, function);
    ensure!(
        by_kprobe[0] == by_fentry[0],
        "{function}: calls and those of them missed, kprobe {by_kprobe:?}, fentry {by_fentry:?}"
    );
    Ok(())
}

/// The page says the same beforehand.
fn check_doctor(is_counted: bool) -> Result<()> {
    let output = doctor::endiod(&["doctor", "--backend", "kprobe", "--format", "json"])?;
    let report: Report = serde_json::from_slice(&output.stdout).context("no page")?;
    let counted = report.programs.kprobe_misses_counted;
    ensure!(counted == Some(is_counted), "doctor says that misses are counted: {counted:?}");
    let rules = &report.rules;
    ensure!(rules.iter().all(|rule| rule.verdict == Arming::Off), "armed on kprobes: {rules:?}");
    Ok(())
}
