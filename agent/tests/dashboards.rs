//! The dashboards, the rules and the runbooks name what exists: metrics and labels of `METRICS`, pages,
//! commands, each other. What only Prometheus can tell is checked by `cargo xtask test`.

#[path = "dashboards/files.rs"]
mod files;
#[path = "dashboards/promql.rs"]
mod promql;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

use files::{alerts, dashboards, list, names, path, rules, text, word, yaml};
use promql::{Known, Named, check, known};

const VARIABLES: [&str; 3] = ["datasource", "instance", "device"];
const SEVERITIES: [&str; 3] = ["critical", "warning", "info"];
const SECTIONS: [&str; 4] = ["What it means", "Look at", "Do", "False alarm"];

/// Panels that are no rows.
fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "panels").iter().filter(|panel| panel["type"] != "row")
}

/// The agent's series and those of the recording rules.
fn known_with_records() -> Known {
    let mut known = known();
    for rule in rules() {
        let Some(record) = rule["record"].as_str() else { continue };
        let labels = check(word(&rule, "expr"), &known).unwrap_or_else(|wrong| panic!("{wrong}"));
        known.insert(record.to_owned(), labels);
    }
    known
}

/// Labels between a mark and the end of the name that follows it.
fn labels_after<'a>(text: &'a str, mark: &str) -> impl Iterator<Item = &'a str> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(mark).skip(1).map(move |rest| rest.split(end).next().unwrap_or_default())
}

#[test]
fn every_dashboard_has_a_uid_a_title_the_variables_and_leads_to_the_others() {
    let dashboards = dashboards();
    let uids: BTreeSet<_> = dashboards.iter().map(|dashboard| word(dashboard, "uid")).collect();
    assert_eq!(uids.len(), 4, "{uids:?}");
    for dashboard in &dashboards {
        let uid = word(dashboard, "uid");
        assert!(path(&format!("grafana/{uid}.json")).is_file(), "{uid} is in another file");
        assert!(word(dashboard, "title").starts_with("endiod: "), "{uid}");
        assert!(dashboard["schemaVersion"].as_u64() >= Some(39), "{uid}");
        let variables: Vec<_> = list(&dashboard["templating"], "list").iter().collect();
        for wanted in VARIABLES {
            assert!(variables.iter().any(|it| it["name"] == wanted), "{uid} has no {wanted}");
        }
        let tags: Vec<_> = list(dashboard, "tags").iter().collect();
        let mut links = list(dashboard, "links").iter().flat_map(|link| list(link, "tags"));
        assert!(links.any(|tag| tags.contains(&tag)), "{uid} does not lead to the others");
        for link in uids_in_links(dashboard) {
            assert!(uids.contains(link), "{uid} leads to {link}");
        }
    }
}

fn uids_in_links(dashboard: &Value) -> Vec<&str> {
    let links =
        panels(dashboard).filter_map(|it| it["fieldConfig"]["defaults"]["links"].as_array());
    links
        .flatten()
        .map(|link| word(link, "url").strip_prefix("/d/").expect("a link to a dashboard"))
        .map(|url| url.split('?').next().unwrap_or_default())
        .collect()
}

#[test]
fn every_panel_has_a_title_a_description_a_unit_and_a_query_of_the_chosen_hosts() {
    for dashboard in dashboards() {
        let mut ids = BTreeSet::new();
        for panel in list(&dashboard, "panels") {
            assert!(ids.insert(panel["id"].as_u64()), "an id is there twice: {panel}");
            assert!(!word(panel, "title").is_empty(), "{panel}");
        }
        for panel in panels(&dashboard) {
            let title = word(panel, "title");
            let description = word(panel, "description");
            assert!(description.ends_with('.') && description.len() > 20, "{title}");
            assert!(!word(&panel["fieldConfig"]["defaults"], "unit").is_empty(), "{title}");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            assert!(!list(panel, "targets").is_empty(), "{title} has no query");
            for target in list(panel, "targets") {
                let expr = word(target, "expr");
                for (series, selected) in Named::of(expr).series {
                    assert!(selected.contains("instance"), "{title}: {series} of every host");
                }
                let ranges = expr.split('[').skip(1).filter_map(|rest| rest.split(']').next());
                for range in ranges {
                    assert!(["$__rate_interval", "$__range"].contains(&range), "{title}: {range}");
                }
            }
        }
    }
}

#[test]
fn no_panel_covers_another() {
    for dashboard in dashboards() {
        let mut taken = BTreeMap::new();
        for panel in list(&dashboard, "panels") {
            let side = |name: &str| panel["gridPos"][name].as_u64().expect("a place");
            assert!(side("x") + side("w") <= 24, "{} is too wide", panel["title"]);
            for x in side("x")..side("x") + side("w") {
                for y in side("y")..side("y") + side("h") {
                    let other = taken.insert((x, y), &panel["title"]);
                    assert!(other.is_none(), "{} covers {other:?}", panel["title"]);
                }
            }
        }
    }
}

#[test]
fn dashboards_use_metrics_and_labels_of_the_table_only() {
    let known = known();
    let mut wrong = Vec::new();
    for dashboard in dashboards() {
        for panel in panels(&dashboard) {
            for target in list(panel, "targets") {
                match check(word(target, "expr"), &known) {
                    Err(what) => wrong.push(what),
                    Ok(labels) => {
                        let legend = target["legendFormat"].as_str().unwrap_or_default();
                        let unknown = labels_after(legend, "{{").filter(|it| !labels.contains(*it));
                        wrong.extend(unknown.map(|label| format!("{legend} names {label}")));
                    }
                }
            }
        }
        for variable in list(&dashboard["templating"], "list") {
            let query = variable["query"]["query"].as_str().unwrap_or_default();
            let inner = query.trim_start_matches("label_values(").trim_end_matches(')');
            if let Some((series, label)) = inner.rsplit_once(", ") {
                let labels = check(series, &known);
                wrong.extend(labels.as_ref().err().cloned());
                assert!(labels.is_ok_and(|labels| labels.contains(label)), "{query}");
            }
        }
        for mark in list(&dashboard["annotations"], "list") {
            wrong.extend(check(word(&mark["target"], "expr"), &known).err());
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_expressions_finds_a_wrong_name() {
    let known = known();
    for (expression, said) in [
        ("rate(endiod_nothing_total[5m])", "no metric endiod_nothing_total"),
        ("sum(endiod_fsync_duration_seconds)", "no metric endiod_fsync_duration_seconds"),
        ("endiod_events_total{colour=\"}\", kind=\"put\"} > 1", "no label colour"),
        ("sum by (job, colour) (rate(endiod_events_total[5m]))", "no label colour"),
        ("up * on (host) group_left () up", "no label host"),
        ("label_replace(up, \"host\", \"$1\", \"colour\", \"(.*)\")", "no label colour"),
        ("vector(1)", "no metric"),
    ] {
        let found = check(expression, &known).expect_err(expression);
        assert!(found.contains(said), "{found}");
    }
    let replaced = "sum by (host) (label_replace(up, \"host\", \"$1\", \"instance\", \"(.*)\"))";
    assert!(check(replaced, &known).is_ok());
}

#[test]
fn rules_use_metrics_and_labels_that_exist() {
    let known = known_with_records();
    for rule in rules() {
        let labels = check(word(&rule, "expr"), &known).unwrap_or_else(|wrong| panic!("{wrong}"));
        for (_, annotation) in rule["annotations"].as_object().into_iter().flatten() {
            let annotation = annotation.as_str().expect("a text");
            for label in labels_after(annotation, "$labels.") {
                assert!(labels.contains(label), "{} names the label {label}", rule["alert"]);
            }
            for series in annotation.split(|c: char| c.is_whitespace() || "{(\"".contains(c)) {
                let is_ours = series.contains(":endiod_") || series.starts_with("endiod_");
                assert!(!is_ours || known.contains_key(series), "{series}");
            }
        }
    }
}

#[test]
fn every_alert_has_a_severity_a_text_and_a_runbook_and_every_runbook_an_alert() {
    let mut pages: BTreeSet<_> = names("runbooks", "md").into_iter().collect();
    for alert in alerts() {
        let name = word(&alert, "alert");
        assert!(SEVERITIES.contains(&word(&alert["labels"], "severity")), "{name}");
        for annotation in ["summary", "description"] {
            assert!(word(&alert["annotations"], annotation).len() > 20, "{name}");
        }
        let page = format!("{name}.md");
        let url = word(&alert["annotations"], "runbook_url");
        assert_eq!(url, format!("dashboards/runbooks/{page}"));
        assert!(pages.remove(&page), "{name} has no runbook");
        let page = text(&format!("runbooks/{page}"));
        let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(sections, SECTIONS, "{name}");
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
    }
    assert!(pages.is_empty(), "of no alert: {pages:?}");
}

#[test]
fn every_alert_is_tested_when_it_fires_and_when_it_is_silent() {
    let mut seen = BTreeSet::new();
    for file in names("rules/tests", "yml") {
        for case in list(&yaml(&format!("rules/tests/{file}")), "tests") {
            for test in list(case, "alert_rule_test") {
                let fires = !list(test, "exp_alerts").is_empty();
                seen.insert((word(test, "alertname").to_owned(), fires));
            }
        }
    }
    let wanted = alerts()
        .into_iter()
        .flat_map(|alert| [true, false].map(|fires| (word(&alert, "alert").to_owned(), fires)));
    assert_eq!(seen, wanted.collect());
}

/// The help of a verb.
fn help(verb: &str) -> String {
    let agent = env!("CARGO_BIN_EXE_endiod");
    let output = Command::new(agent).args([verb, "--help"]).output().expect("the agent runs");
    assert!(output.status.success(), "there is no endiod {verb}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn runbooks_name_commands_and_flags_that_exist() {
    let mut commands = BTreeSet::new();
    for page in names("runbooks", "md") {
        let text = text(&format!("runbooks/{page}"));
        let code = text.split('`').skip(1).step_by(2).flat_map(str::lines);
        let lines = text.lines().map(str::trim).chain(code);
        commands.extend(lines.filter(|line| line.starts_with("endiod ")).map(str::to_owned));
    }
    assert!(commands.len() > 10, "{commands:?}");
    let mut helps = BTreeMap::new();
    for command in &commands {
        let mut words = command.split_whitespace().skip(1);
        let verb = words.next().expect("a verb");
        let help = helps.entry(verb.to_owned()).or_insert_with_key(|verb| help(verb));
        for flag in words.filter(|word| word.starts_with('-') && *word != "--help") {
            let is_flag = |word: &str| word.trim_end_matches(',') == flag;
            assert!(help.split_whitespace().any(is_flag), "{command}: there is no {flag}");
        }
    }
}

#[test]
fn the_page_lists_every_dashboard_and_every_alert_and_its_links_lead_somewhere() {
    let page = text("README.md");
    for dashboard in dashboards() {
        let uid = word(&dashboard, "uid");
        assert!(page.contains(&format!("(grafana/{uid}.json)")), "{uid}");
    }
    for alert in alerts() {
        let row = format!(
            "[{0}](runbooks/{0}.md) | {1} |",
            alert["alert"].as_str().expect("a name"),
            word(&alert["labels"], "severity")
        );
        assert!(page.contains(&row), "{row}");
    }
    let pages = names("runbooks", "md").into_iter().map(|name| format!("runbooks/{name}"));
    for name in pages.chain(["README.md".to_owned()]) {
        let folder = path(&name);
        let folder = folder.parent().expect("a folder");
        for link in text(&name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(link.contains("://") || folder.join(file).exists(), "{name} leads to {link}");
        }
    }
}

/// As SVG has it between two tags.
fn escaped(text: &str) -> String {
    let pairs = [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")];
    pairs.iter().fold(text.to_owned(), |text, (plain, escaped)| text.replace(*plain, escaped))
}

#[test]
fn every_dashboard_has_a_picture_with_all_its_panels_and_the_pages_show_it() {
    const BYTES_MAX: usize = 200_000;
    let page = text("README.md");
    for dashboard in dashboards() {
        let uid = word(&dashboard, "uid");
        let picture = text(&format!("pictures/{uid}.svg"));
        assert!(picture.len() < BYTES_MAX, "{uid} has {} bytes", picture.len());
        assert!(picture.contains("not by Grafana"), "{uid} does not say who drew it");
        for panel in list(&dashboard, "panels") {
            let title = escaped(word(panel, "title"));
            let shown = match title.split_once('$') {
                Some((constant, _)) => picture.lines().any(|line| line.starts_with(constant)),
                None => picture.lines().any(|line| line == title),
            };
            assert!(
                shown,
                "draw {uid} anew (dashboards/README.md): `{title}` is not in its picture"
            );
        }
        assert!(page.contains(&format!("](pictures/{uid}.svg)")), "{uid} is not shown");
    }
    assert_eq!(names("pictures", "svg").len(), dashboards().len());
    assert!(text("../README.md").contains("](dashboards/pictures/endiod-overview.svg)"));
}

#[test]
fn grafana_is_told_of_the_folder_and_of_the_data_source() {
    let providers = yaml("grafana/provisioning/dashboards/endiod.yaml");
    let provider = &list(&providers, "providers")[0];
    assert_eq!((word(provider, "type"), &provider["allowUiUpdates"]), ("file", &false.into()));
    assert!(word(&provider["options"], "path").starts_with('/'));
    let sources = yaml("grafana/provisioning/datasources/endiod.yaml");
    assert_eq!(word(&list(&sources, "datasources")[0], "type"), "prometheus");
}
