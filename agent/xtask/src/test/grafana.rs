//! Each dashboard against Grafana's schema: its JSON becomes TypeScript, one constant per panel, and
//! Grafana's declarations decide what compiles. What the constants' types are is in
//! `agent/tests/grafana/board.ts`.
//!
//! Grafana itself is in no package that a set-up may draw on: nothing here has drawn a board.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::dashboards::files_of;
use crate::{
    command::{output, remove_dir_all},
    setup::{self, Grafana},
    workspace::Workspace,
};

const OPTIONS: &str = r#"{
  "compilerOptions": {
    "strict": true, "noEmit": true, "skipLibCheck": true, "types": [],
    "target": "es2022", "module": "esnext", "moduleResolution": "bundler"
  }
}
"#;

/// Mistakes that a board must not get through with: what is put in place of what, and what of it the
/// compiler must name.
const MISTAKES: [(&str, &str, &str); 10] = [
    (r#""drawStyle": "bars""#, r#""drawStyle": "barz""#, "barz"),
    (r#""colorMode": "background""#, r#""colourMode": "background""#, "colourMode"),
    (r#""yHistogram""#, r#""histogramY""#, "histogramY"),
    (r#""legendFormat""#, r#""legend""#, "legend"),
    (r#""unit": "s""#, r#""unit": "sec""#, "sec"),
    (r#""mode": "multi""#, r#""mode": "many""#, "many"),
    (r#""type": "timeseries""#, r#""type": "graph""#, "graph"),
    (r#""datasource": {"#, r#""dataSource": {"#, "dataSource"),
    (r#""min": 0"#, r#""min": 0, "min": 0"#, "multiple properties"),
    (r#""uid": "${datasource}""#, r#""uid": "prometheus""#, "prometheus"),
];
const MISTAKEN: &str = "endiod-overview";

/// Fails with what the compiler says of a board, or if it takes one with a mistake.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let grafana = setup::grafana(workspace)?;
    let out = workspace.store().join("out/grafana");
    project(&grafana, &out)?;
    fs::copy(workspace.root().join("agent/tests/grafana/board.ts"), out.join("board.ts"))?;
    for path in files_of(&workspace.root().join("dashboards/grafana"), "json")? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path)?;
        fs::write(out.join(format!("{name}.ts")), typed(&text).context(name)?)?;
    }
    compile(&grafana, &out)?;
    let board = out.join(format!("{MISTAKEN}.ts"));
    let sound = fs::read_to_string(&board)?;
    for (right, wrong, named) in MISTAKES {
        let mistaken = sound.replacen(right, wrong, 1);
        if mistaken == sound {
            bail!("{MISTAKEN} has no {right} to get wrong");
        }
        fs::write(&board, mistaken)?;
        match compile(&grafana, &out) {
            Err(error) if format!("{error:#}").contains(named) => {}
            other => bail!("{wrong} in {MISTAKEN} was not named: {other:?}"),
        }
    }
    fs::write(&board, sound)?;
    Ok(())
}

/// An empty directory for the compiler, with the declarations at hand.
pub(super) fn project(grafana: &Grafana, out: &Path) -> Result<()> {
    remove_dir_all(out)?;
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    std::os::unix::fs::symlink(grafana.packages(), out.join("node_modules"))?;
    fs::write(out.join("tsconfig.json"), OPTIONS).context("cannot write the compiler's options")
}

/// Fails with what the compiler says of a project.
pub(super) fn compile(grafana: &Grafana, out: &Path) -> Result<()> {
    output(grafana.compiler().arg("--project").arg(out)).map(drop)
}

/// A board as TypeScript. Excess members are refused of what is written out where it gets its type, and
/// best where that is no union: so each panel stands by itself, under its own type. As it was written the
/// board comes last, for a reader of JSON takes the second of two members with one name.
fn typed(dashboard: &str) -> Result<String> {
    let mut board: Value = serde_json::from_str(dashboard)?;
    let panels = board.as_object_mut().and_then(|board| board.remove("panels"));
    let mut text = "import type { Board, Panel } from \"./board\";\n".to_owned();
    writeln!(text, "export const board: Board = {board:#};")?;
    for panel in panels.as_ref().and_then(Value::as_array).context("no panels")? {
        let (id, kind) = (&panel["id"], &panel["type"]);
        writeln!(text, "export const panel_{id}: Panel<{kind}> = {panel:#};")?;
    }
    writeln!(text, "export const written = {dashboard};")?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_is_a_constant_of_its_type() {
        let text = typed(r#"{"uid": "b", "panels": [{"id": 7, "type": "stat"}]}"#).unwrap();
        assert!(text.contains("export const board: Board = {\n  \"uid\": \"b\"\n};"), "{text}");
        assert!(text.contains("export const panel_7: Panel<\"stat\"> = {"), "{text}");
        assert!(text.contains(r#"written = {"uid": "b", "panels""#), "{text}");
        assert!(typed("{}").is_err());
    }
}
