//! One world, what the pipeline made of it, and whether the two agree.

use std::collections::{BTreeMap, BTreeSet};

use endiod::{
    event::{IoEndAddr, Nanos},
    finding::AddressKey,
    lifecycle::IoEndId,
    metrics::Metrics,
    oracle::in_step::Oracle,
    pipeline::{Pipeline, names},
    report::{Core, Summary},
    source::sim::{
        Chosen, Faults, HASH_KEY, LifeId, Options, Release, Simulated, Slip, World, simulate,
    },
};

/// io_ends of a world.
pub(crate) const LIVES: u32 = 120;

/// The rule that says what the cores said.
const DIVERGENCE: &str = "oracle_divergence";

/// Slips that no core can see, and why.
pub(crate) const UNSEEN_BY_CORES: [(Slip, &str); 4] = [
    (Slip::FsyncTooEarly, "a core follows io_ends, and no fsync"),
    (Slip::ErrorHidden, "a core follows io_ends, and looks at no return value"),
    (Slip::BioUnchained, "a core does not look at the chain of bios"),
    (Slip::WorkLost, "what does not happen is no event, and a core knows no time"),
];

pub(crate) struct Told {
    pub(crate) summary: Summary,
    simulated: Simulated,
    scrape: String,
    /// What shows it again.
    pub(crate) command: String,
}

/// Runs a world with an oracle through the pipeline.
pub(crate) fn run(world: World, seed: u64, faults: Faults, oracle: Oracle) -> Told {
    run_chosen(world, seed, faults, oracle, Chosen::default())
}

/// The same, with what is not left to the seed.
pub(crate) fn run_chosen(
    world: World,
    seed: u64,
    faults: Faults,
    oracle: Oracle,
    chosen: Chosen,
) -> Told {
    let simulated = simulate(&Options { world, seed, lives: LIVES, chosen, faults });
    let metrics = Metrics::new(names()).unwrap();
    let mut pipeline = Pipeline::with_oracle(metrics.clone(), oracle);
    simulated.records.iter().for_each(|record| pipeline.feed(record));
    pipeline.finish();
    let command = format!("{}; {}\n  {}", simulated.derived, simulated.done, simulated.command());
    Told { summary: pipeline.summary(), simulated, scrape: metrics.encode(), command }
}

impl Told {
    /// Who broke the protocol, by the simulator's word.
    pub(crate) fn breached(&self) -> BTreeSet<String> {
        self.simulated.breached.iter().map(name_of).collect()
    }

    /// Every rule that fired.
    pub(crate) fn rules(&self) -> BTreeSet<String> {
        let rule = |finding: &serde_json::Value| finding["rule"].as_str().unwrap().to_owned();
        self.summary.findings.iter().map(rule).collect()
    }

    /// What was found: (rule, object). Kernels without FAILED convert after a failed write: a known
    /// defect of theirs and no breach of this world's.
    pub(crate) fn found(&self) -> BTreeSet<(String, String)> {
        let without_failed = self.simulated.derived.release == Release::V5_10;
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let findings = self.summary.findings.iter();
        findings
            .map(|finding| (text(finding, "rule"), text(finding, "object")))
            .filter(|(rule, _)| !without_failed || rule != "convert_after_failed_write")
            .collect()
    }

    /// Who was accused of something.
    pub(crate) fn objects(&self) -> BTreeSet<String> {
        self.found().into_iter().map(|(_, object)| object).collect()
    }

    /// Does what was said fit who broke the protocol? `Err` says what does not.
    pub(crate) fn agrees(&self, breached: &BTreeSet<String>) -> Result<(), String> {
        let say = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        let accused = self.objects();
        say(
            accused.is_subset(breached),
            format!("accused, but nothing was wrong: {:?}", accused.difference(breached)),
        )?;
        self.of_whole_records()?;
        say(self.conserves(), format!("events are not conserved: {:?}", self.summary.oracle))?;
        for (name, core) in &self.summary.oracle {
            say(
                core.diverged <= breached.len() as u64,
                format!("{name} diverged {} times: {:?}", core.diverged, self.summary.divergences),
            )?;
        }
        let Faults { lost, cut, doubled, exchanged: _ } = self.simulated.options.faults;
        if lost + cut + doubled == 0 { self.agrees_whole(breached) } else { Ok(()) }
    }

    /// Each finding says up to when nothing was lost: is that true of its object's own records?
    fn of_whole_records(&self) -> Result<(), String> {
        let gaps: BTreeMap<String, u64> =
            self.simulated.touched.iter().map(|(life, at)| (name_of(life), *at)).collect();
        for finding in &self.summary.findings {
            let object = finding["object"].as_str().unwrap();
            let whole_to = finding["loss"]["none_to_ns"].as_u64().unwrap();
            if let Some(gap) = gaps.get(object).filter(|gap| **gap <= whole_to) {
                return Err(format!("of a record with a gap at {gap}: {finding}"));
            }
        }
        Ok(())
    }

    /// The same where nothing is missing: all of it must have been said, and by each.
    fn agrees_whole(&self, breached: &BTreeSet<String>) -> Result<(), String> {
        let say = |holds: bool, what: String| if holds { Ok(()) } else { Err(what) };
        // What follows a divergence is not judged; all else is.
        let untold = self.summary.oracle.values().any(|core| core.could_not_tell > 0);
        say(
            !untold || !breached.is_empty(),
            format!("all was there to judge: {:?}", self.summary.oracle),
        )?;
        let core = match self.simulated.options.world {
            World::CompletedList(_) => "completed_list",
            World::Refcounted(_) => "refcounted",
        };
        let slip = self.simulated.options.world.slip();
        let none = BTreeSet::new();
        let unseen = UNSEEN_BY_CORES.iter().any(|(unseen, _)| Some(*unseen) == slip);
        let divergent = if unseen { &none } else { breached };
        let diverged = self.summary.oracle[core].diverged;
        let all = divergent.len();
        say(diverged == all as u64, format!("{core} diverged {diverged} times, not {all}"))?;
        let by = |oracle: bool| -> BTreeSet<String> {
            let found = self.found().into_iter();
            let found = found.filter(|(rule, _)| (rule == DIVERGENCE) == oracle);
            found.map(|(_, object)| object).collect()
        };
        say(by(true) == *divergent, format!("{DIVERGENCE} of {:?}, not {divergent:?}", by(true)))?;
        say(by(false) == *breached, format!("rules found {:?}, not {breached:?}", by(false)))?;
        self.shows(all)
    }

    /// The scrape has what the findings are: one per object.
    fn shows(&self, divergences: usize) -> Result<(), String> {
        let row = format!("rule=\"{DIVERGENCE}\"");
        let rows = self
            .scrape
            .lines()
            .filter(|line| line.starts_with("endiod_violations_total{") && line.contains(&row));
        let shown: f64 = rows.filter_map(|row| row.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        let holds = shown == f64::from(u32::try_from(divergences).unwrap());
        if holds { Ok(()) } else { Err(format!("the scrape shows {shown}, not {divergences}")) }
    }

    /// Every event of an io_end was judged, or told as one that was not.
    fn conserves(&self) -> bool {
        let kinds = ["io_end_birth", "range_added", "bio_attach", "bio_end", "put", "put_defer"];
        let more = ["claim", "convert_begin", "convert_end", "requeue", "release"];
        let events =
            kinds.iter().chain(&more).filter_map(|kind| self.summary.stream.events.get(*kind));
        let events: u64 = events.sum();
        let judged = |core: &Core| core.allowed + core.diverged + core.could_not_tell;
        self.summary.oracle.values().all(|core| judged(core) == events)
    }
}

/// A life as findings name it.
fn name_of(life: &LifeId) -> String {
    let (addr, born) = (IoEndAddr(life.addr), Nanos(life.born_ns));
    AddressKey(HASH_KEY).object(IoEndId { addr, born })
}
