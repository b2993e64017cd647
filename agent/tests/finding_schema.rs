//! Findings are what `docs/finding.schema.json` says: every rule's, and nothing else is.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "support/cores.rs"]
mod cores;
#[path = "lifecycle/notation.rs"]
mod notation;

use std::{collections::BTreeSet, fs, path::Path};

use endiod::{
    detect::{Confidence, DETECTORS, Detectors, Fact, Facts, ObjectKind, Rule},
    event::Backend,
    finding::{AddressKey, Finding},
    lifecycle::{Act, Capacities, DirectAct, DirectWrite, Lifecycle, State},
    limits,
    oracle::in_step::{Judge, Oracle, Outcome},
    probes::Witness,
    witnesses::Witnesses,
};
use serde_json::{Map, Value, json};

use notation::Line;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn schema() -> Value {
    serde_json::from_str(&read("docs/finding.schema.json")).unwrap()
}

/// A JSON Schema, as far as ours uses it; a keyword that it does not know is a panic.
struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    /// What is wrong with `value`, by the path to it.
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let keywords = schema.as_object().expect("a schema is an object");
        keywords
            .iter()
            .flat_map(|(keyword, given)| self.keyword(keywords, keyword, given, value, at))
            .collect()
    }

    fn keyword(
        &self,
        schema: &Map<String, Value>,
        keyword: &str,
        given: &Value,
        value: &Value,
        at: &str,
    ) -> Vec<String> {
        let length = || value.as_str().map(str::len).or(value.as_array().map(Vec::len));
        let bound = || given.as_u64().expect("a bound is a number");
        let holds = match keyword {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let path = given.as_str().and_then(|path| path.strip_prefix('#')).unwrap();
                return self.check(self.root.pointer(path).unwrap(), value, at);
            }
            "anyOf" => given
                .as_array()
                .unwrap()
                .iter()
                .any(|branch| self.check(branch, value, at).is_empty()),
            "const" => value == given,
            "enum" => given.as_array().unwrap().contains(value),
            "type" => match given.as_array() {
                Some(types) => types.iter().any(|it| is_type(value, it.as_str().unwrap())),
                None => is_type(value, given.as_str().unwrap()),
            },
            "minLength" => !value.is_string() || length() >= usize::try_from(bound()).ok(),
            "maxLength" => !value.is_string() || length() <= usize::try_from(bound()).ok(),
            "minItems" => !value.is_array() || length() >= usize::try_from(bound()).ok(),
            "maxItems" => !value.is_array() || length() <= usize::try_from(bound()).ok(),
            "minimum" => value.as_i64().is_none_or(|it| i128::from(it) >= i128::from(bound())),
            "maximum" => value.as_u64().is_none_or(|it| it <= bound()),
            "required" => {
                let names = given.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                value
                    .as_object()
                    .is_none_or(|it| names.into_iter().all(|name| it.contains_key(name)))
            }
            "additionalProperties" => {
                assert_eq!(given, &json!(false));
                let known = &schema["properties"];
                value.as_object().is_none_or(|it| it.keys().all(|name| known.get(name).is_some()))
            }
            "properties" => {
                let properties = given.as_object().unwrap().iter();
                return properties
                    .filter_map(|(name, schema)| Some((name, schema, value.get(name)?)))
                    .flat_map(|(name, schema, it)| self.check(schema, it, &format!("{at}.{name}")))
                    .collect();
            }
            "items" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                return items
                    .iter()
                    .enumerate()
                    .flat_map(|(n, it)| self.check(given, it, &format!("{at}[{n}]")))
                    .collect();
            }
            unknown => panic!("the checker does not know {unknown}"),
        };
        if holds { Vec::new() } else { vec![format!("{at}: {keyword} {given} does not hold")] }
    }
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the checker does not know type {other}"),
    }
}

fn wrong(value: &Value) -> Vec<String> {
    let root = schema();
    Checker { root: &root }.check(&root, value, "finding")
}

/// Findings of a trace under `tests/data`.
fn findings(fixture: &str) -> Vec<Value> {
    let text = read(&format!("tests/data/{fixture}"));
    let capacities =
        Capacities { io_ends: 64, bios: 64, direct_ios: 64, fsyncs: 64, evictions: 64 };
    let mut lifecycle = Lifecycle::new(capacities);
    let mut witnesses = Witnesses::all_by(Backend::Fentry);
    let mut detectors = Detectors::new();
    let mut oracle = None;
    let mut findings = Vec::new();
    for line in notation::parse(text.split_once("---\n").unwrap().0) {
        match line {
            Line::Event(event) => {
                if let Some(oracle) = &mut oracle {
                    Oracle::observe(oracle, &event);
                    detectors.hear(oracle.said());
                }
                lifecycle.observe(&event, &mut |step| detectors.step(&step));
                detectors.observe(&event, &mut |verdict| {
                    let finding = Finding::new(verdict, AddressKey(7), Some("vda"));
                    findings.push(serde_json::to_value(finding).unwrap());
                });
            }
            Line::Directive(words) => {
                match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["claim_probe"] => {}
                    ["kernel", release] => oracle = Some(cores::cores(release, false)),
                    ["witnesses", "raw_tp"] => {
                        witnesses = Witnesses::all_by(Backend::RawTracepoint);
                    }
                    ["witness", "FlagWrite", "watchpoint"] => {
                        witnesses.set(Witness::FlagWrite, Some(Backend::Watchpoint));
                    }
                    ["witness", "Requeue", "nobody"] => witnesses.set(Witness::Requeue, None),
                    ["unknown", "NoOtherFlags"] => {
                        detectors.know(Facts::ALL.with(Fact::NoOtherFlags, false));
                    }
                    ["unknown", "FailedFlag"] => {
                        let facts = Facts::NONE.with(Fact::NoOtherFlags, true);
                        detectors.know(facts.with(Fact::AllBiosSeen, true));
                    }
                    _ => panic!("{fixture}: {words:?}"),
                }
                lifecycle.set_witnesses(&witnesses);
                detectors.arm(&witnesses);
            }
        }
    }
    findings
}

#[test]
fn the_findings_of_every_rule_fit_the_schema() {
    let mut rules = BTreeSet::new();
    for way in DETECTORS.iter().flat_map(|detector| detector.ways) {
        for finding in findings(way.fixture) {
            assert_eq!(wrong(&finding), Vec::<String>::new(), "{finding:#}");
            rules.insert(finding["rule"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(rules.len(), Rule::ALL.len(), "{rules:?}");
}

#[test]
fn what_is_stuck_with_an_object_fits_the_schema_and_nothing_else_does() {
    let findings = findings("stuck_put_back.trace");
    let put_back: Vec<_> =
        findings.iter().filter(|it| !it["stuck"]["put_back"].is_null()).collect();
    let times = put_back.iter().map(|it| it["stuck"]["put_back"]["times"].as_u64().unwrap());
    assert_eq!(times.collect::<Vec<_>>(), [3, 3, 1]);
    let waits = put_back.iter().find(|it| it["stuck"]["waiting"] == json!(1)).unwrap();
    for part in ["/stuck", "/stuck/put_back", "/stuck/waiters/0"] {
        let mut more = (*waits).clone();
        assert_eq!(wrong(&more), Vec::<String>::new());
        more.pointer_mut(part).unwrap().as_object_mut().unwrap().insert("more".into(), json!(1));
        assert_ne!(wrong(&more), Vec::<String>::new(), "{part} has one more");
        for name in waits.pointer(part).unwrap().as_object().unwrap().keys() {
            let mut less = (*waits).clone();
            less.pointer_mut(part).unwrap().as_object_mut().unwrap().remove(name);
            assert_ne!(wrong(&less), Vec::<String>::new(), "{part}/{name} is missing");
        }
    }
}

#[test]
fn a_field_that_is_missing_or_new_or_of_another_kind_does_not_fit() {
    let finding: Value = serde_json::from_str(&read("tests/data/finding.json")).unwrap();
    assert_eq!(wrong(&finding), Vec::<String>::new());
    for part in ["", "/parties/0", "/image", "/history/0", "/loss"] {
        let fields = finding.pointer(part).unwrap().as_object().unwrap();
        for name in fields.keys() {
            let mut less = finding.clone();
            less.pointer_mut(part).unwrap().as_object_mut().unwrap().remove(name);
            assert_ne!(wrong(&less), Vec::<String>::new(), "{part}/{name} is missing");
            let mut other = finding.clone();
            *other.pointer_mut(&format!("{part}/{name}")).unwrap() = json!({ "other": 1.5 });
            assert_ne!(wrong(&other), Vec::<String>::new(), "{part}/{name} is of another kind");
        }
        let mut more = finding.clone();
        more.pointer_mut(part).unwrap().as_object_mut().unwrap().insert("more".into(), json!(1));
        assert_ne!(wrong(&more), Vec::<String>::new(), "{part} has one more");
    }
}

#[test]
fn the_schema_lists_what_the_tables_list() {
    let schema = schema();
    let listed = |path: &str| -> BTreeSet<String> {
        let values = schema.pointer(path).unwrap()["enum"].as_array().unwrap();
        values.iter().map(|value| value.as_str().unwrap().to_owned()).collect()
    };
    let set = |labels: &mut dyn Iterator<Item = &'static str>| -> BTreeSet<String> {
        labels.map(str::to_owned).collect()
    };
    let rules = set(&mut Rule::ALL.iter().map(|rule| rule.label()));
    assert_eq!(listed("/properties/rule"), rules);
    let confidences = [Confidence::Certain, Confidence::Likely, Confidence::Symptom];
    assert_eq!(listed("/properties/confidence"), set(&mut confidences.iter().map(|it| it.label())));
    let kinds = ObjectKind::ALL.iter().map(|kind| kind.label());
    assert_eq!(listed("/properties/object_kind"), set(&mut kinds.into_iter()));
    let states = State::ALL.iter().map(|state| state.label()).chain(DirectWrite::STATES);
    assert_eq!(listed("/$defs/state"), set(&mut states.into_iter()));
    assert_eq!(listed("/$defs/word"), set(&mut Outcome::ALL.iter().map(|word| word.label())));
    let cores = schema.pointer("/properties/oracle/properties").unwrap().as_object().unwrap();
    let cores: BTreeSet<String> = cores.keys().cloned().collect();
    assert_eq!(cores, set(&mut Judge::ALL.iter().map(|judge| judge.label())));
    let direct = DirectAct::ALL.iter().map(|act| act.label());
    let acts = set(&mut Act::ALL.iter().map(|act| act.label()).chain(direct));
    assert_eq!(listed("/$defs/step/properties/act"), acts);
    assert_eq!(schema["properties"]["history"]["maxItems"], json!(limits::HISTORY_LEN));
    assert_eq!(schema["$defs"]["stuck"]["properties"]["waiters"]["maxItems"], limits::WAITERS_MAX);
    assert_eq!(schema["properties"]["schema"]["const"], json!(endiod::finding::SCHEMA));
}
