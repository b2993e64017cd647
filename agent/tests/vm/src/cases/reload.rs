//! SIGHUP: the configuration file is read again, what can change changes, and a mistake changes nothing.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};

use crate::{Facts, Guest, agent::Agent, http, patience::until};

const FILE: &str = "/tmp/endiod.toml";
const SUCCESSFUL: &str = "endiod_config_last_reload_successful";
const CONFIG: &str = "endiod_events_total";
/// How long a signal may take to be answered.
const PATIENCE: Duration = Duration::from_secs(60);

/// A new threshold is in the stream, another address waits for a restart, a bad file is refused.
pub(crate) fn takes_what_can_change(guest: &Guest, facts: &mut Facts) -> Result<()> {
    fs::write(FILE, "stuck_after = 25\n")?;
    let agent = Agent::start(&["--config", FILE])?;
    let begun = configs(&agent)?;
    ensure!(successful(&agent)? == 1.0, "the file that it started with is not told");
    fs::write(FILE, "stuck_after = 12\nring_bytes = 16777216\n")?;
    agent.kill(libc::SIGHUP)?;
    until(PATIENCE, "no new threshold came into the stream", || {
        Ok((configs(&agent)? > begun).then_some(()))
    })?;
    fs::write(FILE, "stuck_after = 7\nlisen = \"127.0.0.1:1\"\n")?;
    agent.kill(libc::SIGHUP)?;
    until(PATIENCE, "a bad file was not refused", || {
        Ok((successful(&agent)? == 0.0).then_some(()))
    })?;
    let after = configs(&agent)?;
    let ended = agent.stop(guest, "reload")?;
    facts.insert("thresholds".into(), ((after - begun) as u64).into());
    ensure!(after - begun == 1.0, "{} thresholds came, and one was meant", after - begun);
    for words in [
        "SIGHUP: stuck_after = 12",
        "changes at the next start only: ring_bytes = 16777216",
        "/tmp/endiod.toml:2:1: no setting is called `lisen`; did you mean `listen`?",
        "every setting stays as it was",
    ] {
        ensure!(ended.log.contains(words), "the log does not say {words:?}:\n{}", ended.log);
    }
    Ok(())
}

fn successful(agent: &Agent) -> Result<f64> {
    Ok(http::sum(&http::get(agent.addr(), "/metrics")?.1, SUCCESSFUL))
}

/// CONFIG records so far.
fn configs(agent: &Agent) -> Result<f64> {
    let (_, scrape) = http::get(agent.addr(), "/metrics")?;
    Ok(http::sum_with(&scrape, CONFIG, "kind=\"config\""))
}
