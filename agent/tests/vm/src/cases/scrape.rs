//! The agent as a fleet meets it: Prometheus scrapes it and node_exporter every second with the
//! repository's own rules, Alertmanager is told of what the saboteur does, and every panel is asked for.
//!
//! ```text
//!   ext4 ◄── mixes of I/O, then the saboteur
//!    └─► endiod ──► Prometheus ──► rules ──► Alertmanager
//!   node_exporter ──┘    └──► every query of every panel ──► panels/*.json
//! ```

mod api;
mod panels;
mod stack;

use std::{collections::BTreeSet, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use endiod::{clock, event::Nanos, report::Summary};
use serde_json::Value;

use self::{api::number, stack::Stack};
use super::{conservation::RUNS_COUNTED, crimes, mixes, mounts::SLICES};
use crate::{Facts, Guest, agent::Agent, http, patience::until, workload::make_room};

/// What writes before the crimes and after them: around the page cache and through it.
const BEFORE: &[&str] = &["mix: stress", "mix: fio direct"];
const AFTER: &[&str] = &["mix: fio mixed fsync"];
/// What is committed, and for how many milliseconds it is held.
const CRIMES: &[(&str, u32)] =
    &[("flag_unknown", 200), ("put_again", 200), ("stuck_worker", 6_000)];
/// How long a scrape, a rule or an alert may take, under emulation.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a guest's clocks may drift apart while the case runs.
const CLOCKS_APART_S: f64 = 1.0;

/// The disk of the guest's ext4, by the agent's word on it and by node_exporter's, both as they are by
/// default; of the last minute, for not each scrape of a busy guest comes in time.
const DISK_JOIN: &str = r#"label_replace(last_over_time(endiod_device_info[1m]), "host", "$1", "instance", "(.+):[0-9]+")
    * on (host, disk) group_left () label_replace(label_replace(last_over_time(node_disk_writes_completed_total[1m]),
        "host", "$1", "instance", "(.+):[0-9]+"), "disk", "$1", "device", "(.+)")"#;
/// The same as the rules record it.
const RECORDED_JOIN: &str = "last_over_time(instance_disk:endiod_device:info[1m])
    * on (host, disk) group_left () last_over_time(host_disk:node_disk_writes_completed:rate10m[1m])";

/// Everything that a dashboard, a rule or an alert promises, by the real programs.
pub(crate) fn as_a_fleet_does(guest: &Guest, facts: &mut Facts) -> Result<()> {
    make_room()?;
    fs::write(RUNS_COUNTED, "1").context("cannot have runs of programs counted")?;
    let agent = Agent::start(&["--findings-dir", SLICES])?;
    let stack = Stack::start(guest)?;
    until(PATIENCE, "not every target is up", || {
        Ok((number("sum(up)")? == Some(2.0) && number("count(up)")? == Some(2.0)).then_some(()))
    })?;
    let from_s = clock::since_epoch().as_secs_f64();
    load(BEFORE, guest.mix_time)?;
    crimes::commit_each(CRIMES)?;
    load(AFTER, guest.mix_time)?;
    // What a panel shows of this moment is shown while something writes.
    let to_s = clock::since_epoch().as_secs_f64();
    counted_as_the_agent_counts(&agent)?;
    leave_scrapes(guest, &agent)?;
    alerted(facts)?;
    joined()?;
    let exemplars = api::exemplars("endiod_violations_total", from_s, to_s)?;
    panels::ask_all(guest, facts, from_s, to_s)?;
    facts.insert("seconds".into(), (to_s - from_s).round().into());
    let scraped = number("sum(count_over_time(up[1h]))")?;
    let in_time = number("sum(sum_over_time(up[1h]))")?;
    facts.insert("scrapes".into(), scraped.into());
    facts.insert("scrapes in time".into(), in_time.into());
    drop(stack);
    let summary = agent.stop(guest, "scrape")?.summary;
    are_findings(&exemplars, &summary, facts)
}

fn load(mixes: &[&str], each: Duration) -> Result<()> {
    mixes.iter().try_for_each(|mix| mixes::load_named(mix, each))
}

/// What the agent counted is what Prometheus has, once it has scraped.
fn counted_as_the_agent_counts(agent: &Agent) -> Result<()> {
    for metric in ["endiod_violations_total", "endiod_io_end_completed_total"] {
        let scrape = http::get(agent.addr(), "/metrics")?.1;
        let counted = http::sum(&scrape, metric);
        ensure!(counted > 0.0, "{metric} is 0");
        until(PATIENCE, &format!("{metric} is not {counted}"), || {
            Ok((number(&format!("sum({metric})"))? == Some(counted)).then_some(()))
        })?;
    }
    Ok(())
}

/// For who reads them on the host: promtool, and the parser of OpenMetrics.
fn leave_scrapes(guest: &Guest, agent: &Agent) -> Result<()> {
    for (accept, name) in
        [("text/plain", "scrape.prom"), ("application/openmetrics-text", "scrape.openmetrics")]
    {
        let (status, scrape) = http::get_as(agent.addr(), "/metrics", accept)?;
        ensure!(status == 200, "/metrics answers {status}");
        fs::write(guest.out.join(name), scrape).with_context(|| format!("cannot write {name}"))?;
    }
    Ok(())
}

/// The violation is an alert, and no other fires that may not.
fn alerted(facts: &mut Facts) -> Result<()> {
    let names = |alerts: &[Value]| -> BTreeSet<String> {
        let names = alerts.iter().filter_map(|alert| alert["labels"]["alertname"].as_str());
        names.map(str::to_owned).collect()
    };
    let fired = until(PATIENCE, "Alertmanager was not told of the violation", || {
        let fired = names(&api::alerts()?);
        Ok(fired.contains("EndiodViolation").then_some(fired))
    })?;
    facts.insert("alerts".into(), fired.iter().cloned().collect::<Vec<_>>().join(", ").into());
    let may = BTreeSet::from(["EndiodViolation", "EndiodOracleDiverged"].map(str::to_owned));
    ensure!(fired.is_subset(&may), "alerts that nothing is known of: {fired:?}");
    Ok(())
}

/// The agent's devices are node_exporter's disks.
fn joined() -> Result<()> {
    for join in [DISK_JOIN, RECORDED_JOIN] {
        let rows = until(PATIENCE, &format!("no row of {join}"), || {
            let rows = api::query(join)?;
            Ok((!rows.is_empty()).then_some(rows))
        })?;
        let disks = rows.iter().map(|row| row["metric"]["disk"].as_str());
        let disks: Option<Vec<_>> = disks.collect();
        let disks = disks.context("a row without a disk")?;
        ensure!(disks == ["vda"], "the disk is vda, the join gives {disks:?}");
    }
    Ok(())
}

/// Each series that rose has an exemplar, and each exemplar is a finding of the rule of its series, dated
/// when that was.
fn are_findings(exemplars: &[Value], summary: &Summary, facts: &mut Facts) -> Result<()> {
    let findings = &summary.findings;
    ensure!(!findings.is_empty(), "no crime was found: {summary}");
    let rules: BTreeSet<_> =
        findings.iter().map(|finding| &finding["rule"]).map(Value::to_string).collect();
    let mut told = BTreeSet::new();
    for series in exemplars {
        let rule = &series["seriesLabels"]["rule"];
        for exemplar in series["exemplars"].as_array().context("a series without exemplars")? {
            let id = &exemplar["labels"]["finding_id"];
            let its = findings.iter().find(|finding| finding["id"] == *id);
            let its = its.with_context(|| format!("{exemplar} is of no finding"))?;
            ensure!(its["rule"] == *rule, "{exemplar} of {rule} is of {its}");
            let dated = exemplar["timestamp"].as_f64().context("an exemplar without a time")?;
            let at_ns = its["at_ns"].as_u64().context("a finding without a time")?;
            let wanted = clock::date(Nanos(at_ns)).as_secs_f64();
            ensure!((dated - wanted).abs() < CLOCKS_APART_S, "{exemplar} was at {wanted}");
            told.insert(rule.to_string());
        }
    }
    ensure!(told == rules, "found by {rules:?}, exemplars of {told:?}");
    facts.insert("exemplars of".into(), told.into_iter().collect::<Vec<_>>().join(", ").into());
    Ok(())
}
