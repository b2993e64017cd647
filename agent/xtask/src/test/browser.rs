//! The agent's own pages in a browser: `agent/tests/browser/look.mjs` says what is asked of them. They are served
//! by the agent's endpoint with findings of the corpus (`agent/examples/page.rs`).

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{cargo, output},
    setup,
    workspace::Workspace,
};

/// Looks at them; pictures of two are left in `out/browser`.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let browser = setup::browser(workspace)?;
    let out = workspace.store().join("out/browser");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut pages = cargo();
    pages.args(["run", "--quiet", "--package", "endiod", "--example", "page"]);
    pages.current_dir(workspace.root()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut pages = pages.spawn().context("cannot run the example that serves the pages")?;
    let looked = address(&mut pages).and_then(|url| {
        let script = workspace.root().join("agent/tests/browser/look.mjs");
        output(&mut browser.drive(&script, &url, &out))
    });
    // It ends with its standard input.
    drop(pages.stdin.take());
    let ended = pages.wait().context("cannot wait for the example")?;
    eprintln!("test: {}; pictures are in {}", looked?.trim_end(), out.display());
    ensure!(ended.success(), "the example that serves the pages ended with {ended}");
    Ok(())
}

/// Where it serves them, which it says first.
fn address(pages: &mut Child) -> Result<String> {
    let mut url = String::new();
    let said = pages.stdout.as_mut().context("the example says nothing")?;
    BufReader::new(said).read_line(&mut url).context("cannot read what the example says")?;
    ensure!(url.starts_with("http://"), "the example said {url:?} and no address");
    Ok(url.trim_end().to_owned())
}
