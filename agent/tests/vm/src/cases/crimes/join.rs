//! Crimes and findings, joined by address and time.
//!
//! ```text
//!   birth ──────── crime ──────── finding        one address: the latest crime of that life before it
//! ```
//!
//! A crime is written down before its act, so a finding comes after it; an address is reused, so the
//! birth of the finding's object must not be after the crime.

use anyhow::{Context as _, Result};
use endiod::finding::AddressKey;
use serde_json::Value;

use super::kernel_log::Committed;

/// A crime and the rules that told of its io_end.
#[derive(Clone, Debug)]
pub(super) struct Fate {
    pub(super) crime: String,
    pub(super) rules: Vec<String>,
}

/// All of them.
pub(super) struct Joined {
    fates: Vec<Fate>,
    /// Findings that belong to no crime, in a line each.
    pub(super) of_no_crime: Vec<String>,
}

impl Joined {
    /// Those of one crime.
    pub(super) fn of<'a>(&'a self, crime: &'a str) -> impl Iterator<Item = &'a Fate> {
        self.fates.iter().filter(move |fate| fate.crime == crime)
    }
}

pub(super) fn join(crimes: &[Committed], findings: &[Value], key: AddressKey) -> Result<Joined> {
    let hashes: Vec<String> =
        crimes.iter().map(|crime| format!("{:016x}", key.hash_of(crime.object))).collect();
    let mut fates: Vec<Fate> =
        crimes.iter().map(|crime| Fate { crime: crime.crime.clone(), rules: Vec::new() }).collect();
    let mut of_no_crime = Vec::new();
    for finding in findings {
        let text =
            |key: &str| finding[key].as_str().with_context(|| format!("no {key}: {finding}"));
        let (hash, born) = text("object")?.split_once('@').context("an object is hash@birth")?;
        let born: u64 = born.parse()?;
        let at_ns = finding["at_ns"].as_u64().context("no at_ns")?;
        let its = |at: &usize| hashes[*at] == hash && (born..=at_ns).contains(&crimes[*at].at_ns);
        let rule = text("rule")?.to_owned();
        match (0..crimes.len()).filter(its).max_by_key(|at| crimes[*at].at_ns) {
            Some(at) => fates[at].rules.push(rule),
            None => {
                let near = (0..crimes.len()).filter(|at| hashes[*at] == hash);
                let near: Vec<&str> = near.map(|at| &*crimes[at].line).collect();
                let what = text("what")?;
                of_no_crime
                    .push(format!("{rule} at {at_ns} of one born at {born}: {what}; {near:?}"));
            }
        }
    }
    Ok(Joined { fates, of_no_crime })
}
