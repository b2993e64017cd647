//! The manifest for the Prometheus operator, by declarations that are made from the types its CRD is made from.
//! They know every member, which are required, and what are numbers and what words; patterns, as of
//! durations, they do not know.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::grafana::{compile, project};
use crate::{
    command::output,
    setup::{self, Grafana},
    workspace::Workspace,
};

const MANIFEST: &str = "agent/packaging/kubernetes/servicemonitor.yaml";
const TYPE: &str = "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
/// A reader of YAML comes with the validator of the other manifests.
const TO_JSON: &str = "import json, sys, yaml; \
                       print(json.dumps(yaml.safe_load(open(sys.argv[1])), indent=1))";

/// What is put in place of what, and what of it must be named.
const MISTAKES: [(&str, &str, &str); 5] = [
    (r#""sourceLabels""#, r#""source_labels""#, "source_labels"),
    (r#""endpoints""#, r#""endPoints""#, "endPoints"),
    (r#""matchLabels""#, r#""matchLabel""#, "matchLabel"),
    (r#""port": "metrics""#, r#""port": 10491"#, "number"),
    (r#""ServiceMonitor""#, r#""PodMonitor""#, "PodMonitor"),
];

/// Fails with what does not fit, or if a mistake does.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let grafana = setup::grafana(workspace)?;
    let modules = setup::wheel(workspace, setup::KUBERNETES_VALIDATE)?;
    let mut to_json = setup::python(workspace)?.with(&modules);
    let manifest = output(to_json.args(["-c", TO_JSON]).arg(workspace.root().join(MANIFEST)))?;
    let out = workspace.store().join("out/service-monitor");
    project(&grafana, &out)?;
    judge(&grafana, &out, &manifest).context(MANIFEST)?;
    for (right, wrong, named) in MISTAKES {
        let mistaken = manifest.replacen(right, wrong, 1);
        if mistaken == manifest {
            bail!("{MANIFEST} has no {right} to get wrong");
        }
        match judge(&grafana, &out, &mistaken) {
            Err(error) if format!("{error:#}").contains(named) => {}
            other => bail!("{wrong} in {MANIFEST} was not named: {other:?}"),
        }
    }
    Ok(())
}

fn judge(grafana: &Grafana, out: &Path, manifest: &str) -> Result<()> {
    let text = format!(
        "import type {{ IServiceMonitor }} from \"{TYPE}\";\n\
         export const manifest: IServiceMonitor = {manifest};\n"
    );
    fs::write(out.join("manifest.ts"), text).context("cannot write the manifest")?;
    compile(grafana, out)
}
