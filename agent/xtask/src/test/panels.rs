//! The panels of the dashboards with their queries as Grafana would ask them: variables put in, a panel
//! that is repeated there for each value of a variable.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use super::dashboards::files_of;
use crate::workspace::Workspace;

/// What Grafana makes of the times that are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// `$__rate_interval`: at least four scrapes.
    pub(super) rate_interval: &'static str,
    /// `$__range`: what is looked at.
    pub(super) range: &'static str,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Dashboard {
    /// Its uid.
    pub(super) name: String,
    pub(super) panels: Vec<Panel>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Panel {
    pub(super) title: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) unit: String,
    pub(super) queries: Vec<Query>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Query {
    pub(super) expr: String,
    pub(super) legend: String,
    /// Asked of one moment, not of a range.
    pub(super) instant: bool,
}

/// What a guest's Prometheus is asked, which scrapes every second for some minutes; not each scrape of a busy
/// guest comes in time.
const GUEST_TIMES: Times = Times { rate_interval: "15s", range: "5m" };

/// The same for the guest whose Prometheus is asked, in a file.
pub(super) fn file(workspace: &Workspace) -> Result<PathBuf> {
    let all = dashboards(&workspace.root().join("dashboards/grafana"), GUEST_TIMES)?;
    let file = workspace.store().join("out/panels.json");
    fs::create_dir_all(workspace.store().join("out")).context("cannot create the directory out")?;
    fs::write(&file, serde_json::to_vec_pretty(&all)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Every dashboard of a folder; its annotations are a panel more.
pub(super) fn dashboards(folder: &Path, times: Times) -> Result<Vec<Dashboard>> {
    let read = |path: &Path| -> Result<Dashboard> {
        let text = fs::read_to_string(path)?;
        dashboard(&serde_json::from_str(&text)?, times)
    };
    let files = files_of(folder, "json")?;
    let dashboards =
        files.iter().map(|path| read(path).with_context(|| format!("{}", path.display())));
    dashboards.collect()
}

fn dashboard(json: &Value, times: Times) -> Result<Dashboard> {
    let mut panels = Vec::new();
    for panel in json["panels"].as_array().context("a dashboard without panels")? {
        if panel["targets"].is_array() {
            let repeated = panel["repeat"].as_str();
            for value in values(json, repeated)? {
                let put_in = repeated.zip(value.as_deref());
                panels.push(read_panel(panel, put_in, times)?);
            }
        }
    }
    for annotation in json["annotations"]["list"].as_array().into_iter().flatten() {
        let query = read_query(&annotation["target"], None, times)?;
        panels.push(Panel {
            title: text(annotation, "name"),
            kind: "annotation".to_owned(),
            unit: String::new(),
            queries: vec![query],
        });
    }
    Ok(Dashboard { name: text(json, "uid"), panels })
}

/// What a variable is put in for; nothing, once, without one.
fn values(json: &Value, variable: Option<&str>) -> Result<Vec<Option<String>>> {
    let Some(variable) = variable else { return Ok(vec![None]) };
    let variables = json["templating"]["list"].as_array().into_iter().flatten();
    let known = variables.filter(|it| it["name"] == variable).find_map(|it| it["query"].as_str());
    let list = known.with_context(|| format!("no list of ${variable}"))?;
    Ok(list.split(',').map(|value| Some(value.to_owned())).collect())
}

fn read_panel(panel: &Value, put_in: Option<(&str, &str)>, times: Times) -> Result<Panel> {
    let mut title = text(panel, "title");
    if let Some((variable, value)) = put_in {
        title = title.replace(&format!("${variable}"), value);
    }
    let queries = panel["targets"].as_array().into_iter().flatten();
    let queries = queries.map(|target| read_query(target, put_in, times));
    Ok(Panel {
        kind: text(panel, "type"),
        unit: text(&panel["fieldConfig"]["defaults"], "unit"),
        queries: queries.collect::<Result<_>>().with_context(|| title.clone())?,
        title,
    })
}

fn read_query(target: &Value, put_in: Option<(&str, &str)>, times: Times) -> Result<Query> {
    let expr = target["expr"].as_str().context("no expression")?;
    Ok(Query {
        expr: with_variables(expr, put_in, times)?,
        legend: text(target, "legendFormat"),
        instant: target["instant"] == true,
    })
}

fn with_variables(query: &str, put_in: Option<(&str, &str)>, times: Times) -> Result<String> {
    let Times { rate_interval, range } = times;
    let times = [("__rate_interval", rate_interval), ("__range", range)];
    let all = [("instance", ".*"), ("device", ".*")];
    let mut query = query.to_owned();
    for (variable, value) in times.into_iter().chain(put_in).chain(all) {
        query = query.replace(&format!("${variable}"), value);
    }
    ensure!(!query.contains('$'), "a variable that nothing is known of: {query}");
    Ok(query)
}

fn text(json: &Value, key: &str) -> String {
    json[key].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TIMES: Times = Times { rate_interval: "1m", range: "30m" };

    #[test]
    fn a_variable_that_grafana_would_not_know_is_refused() {
        let query = "rate(a{instance=~\"$instance\"}[$__rate_interval])";
        assert_eq!(with_variables(query, None, TIMES).unwrap(), "rate(a{instance=~\".*\"}[1m])");
        assert!(with_variables("a{b=\"$nobody\"}", None, TIMES).is_err());
    }

    #[test]
    fn a_repeated_panel_is_there_once_for_each_value() {
        let read = dashboard(
            &json!({
                "uid": "d",
                "templating": {"list": [{"name": "phase", "query": "submit,total"}]},
                "panels": [
                    {"type": "row", "title": "a row asks nothing"},
                    {"type": "heatmap", "title": "of $phase", "repeat": "phase",
                     "targets": [{"expr": "a{phase=~\"$phase\"}"}]},
                ],
            }),
            TIMES,
        );
        let panels = read.unwrap().panels;
        let told: Vec<_> = panels.iter().map(|it| (&*it.title, &*it.queries[0].expr)).collect();
        let submit = ("of submit", "a{phase=~\"submit\"}");
        assert_eq!(told, [submit, ("of total", "a{phase=~\"total\"}")]);
    }
}
