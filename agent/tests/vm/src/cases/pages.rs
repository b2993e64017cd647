//! What the repository's pages tell people to type, typed: on a Debian 12 with the package of the agent, and
//! where the fixture module `replica` is loaded.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{package, replica, stop};
use crate::{
    Facts, Guest,
    agent::LISTEN,
    http,
    pages::{Block, blocks_of},
    patience::until,
};

/// The pages, as the harness put them into the guest.
const PAGES: &str = "/in/pages";
/// What stands on the pages for something of the reader's, and what it is here.
const HERE: &[(&str, &str)] = &[
    ("sudo ", ""),
    ("target/release/endiod", "endiod"),
    ("target/endiod/deb/endiod_*.deb", package::FIRST),
    ("endiod_NEWER_amd64.deb", package::NEXT),
    ("MOUNTPOINT", "/mnt"),
    ("--duration 60", "--duration 2"),
    ("$1", "6.1"),
    // What lies there is replayed by the harness.
    ("/out/", "/tmp/pages/"),
];
/// Programs that this Debian lacks: curl as the harness brings it.
const CURL: &str = "#!/bin/sh
exec /in/curl/ld-linux-x86-64.so.2 --library-path /in/curl /in/curl/curl \"$@\"
";
const CURL_PATH: &str = "/usr/local/bin/curl";
/// Where blocks are run, and what they write lies.
const DIR: &str = "/tmp/pages";
/// How long the agent may take to be ready, or to end, under emulation.
const PATIENCE: Duration = Duration::from_secs(90);

/// Every block for a host, with the package installed and running, but where the block says otherwise.
pub(crate) fn on_a_host(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let before = stop::programs();
    fs::write(CURL_PATH, CURL)?;
    fs::set_permissions(CURL_PATH, fs::Permissions::from_mode(0o755))?;
    fs::create_dir_all(DIR)?;
    let blocks = blocks_of(Path::new(PAGES), "guest");
    ensure!(blocks.len() > 8, "only {} blocks are for a guest", blocks.len());
    facts.insert("blocks".into(), blocks.len().into());
    let result = blocks.iter().try_for_each(|block| {
        println!("{}", block.place);
        let (status, said) = typed(block)?;
        keep(guest, &said)?;
        block.differs(status, &said).map_or(Ok(()), |why| bail!(why))
    });
    // The next case begins without it, whatever came of this one.
    sh("dpkg --purge endiod")?;
    fs::remove_file(CURL_PATH)?;
    result?;
    stop::drained_to(before)
}

/// Every block for the fixture module, which is loaded.
pub(crate) fn on_the_replica(guest: &Guest, facts: &mut Facts) -> Result<()> {
    replica::module::set(replica::FIXED_WIDENED, 1)?;
    fs::create_dir_all(DIR)?;
    let blocks = blocks_of(Path::new(PAGES), "replica");
    ensure!(!blocks.is_empty(), "no block is for the replica");
    facts.insert("blocks".into(), blocks.len().into());
    for block in &blocks {
        println!("{}", block.place);
        let (status, said) = sh(&block.script(HERE))?;
        keep(guest, &said)?;
        if let Some(why) = block.differs(status, &said) {
            bail!(why);
        }
    }
    Ok(())
}

/// What was printed comes back to the host.
fn keep(guest: &Guest, said: &str) -> Result<()> {
    let path = guest.out.join("pages.log");
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, before + said)?;
    Ok(())
}

/// Runs a block, and returns how it ended and what it printed.
///
/// A line that is `endiod run` is a terminal of its own: what comes after it is typed once that agent is
/// ready, and it is stopped afterwards. The unit of the package, which serves on the same port, is not
/// running then.
fn typed(block: &Block) -> Result<(Option<i32>, String)> {
    let script = block.script(HERE);
    let is_installed = Path::new("/usr/bin/endiod").exists();
    if !is_installed && !script.contains("dpkg --install") {
        checked(&format!("dpkg --install {}", package::FIRST))?;
    }
    let lines: Vec<_> = script.lines().collect();
    let is_daemon =
        |line: &&str| line.starts_with("endiod run") && !line.contains("--check-config");
    let Some(at) = lines.iter().position(is_daemon) else {
        if Path::new("/usr/bin/endiod").exists() {
            checked("systemctl start endiod")?;
        }
        return sh(&script);
    };
    checked("systemctl stop endiod")?;
    let (status, mut said) = sh(&lines[..at].join("\n"))?;
    if status != Some(0) {
        return Ok((status, said));
    }
    let daemon = shell(&format!("exec {}", lines[at])).spawn().context("cannot start a shell")?;
    until(PATIENCE, "the agent is not ready", || {
        Ok(http::get(LISTEN.parse()?, "/readyz")
            .is_ok_and(|(status, _)| status == 200)
            .then_some(()))
    })?;
    let (status, after) = sh(&lines[at + 1..].join("\n"))?;
    checked(&format!("kill -TERM {}", daemon.id()))?;
    let output = daemon.wait_with_output()?;
    said.push_str(&String::from_utf8_lossy(&output.stdout));
    said.push_str(&after);
    ensure!(output.status.success(), "{} ended with {}:\n{said}", lines[at], output.status);
    Ok((status, said))
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-euc", &format!("exec 2>&1\n{script}")]).current_dir(DIR);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn sh(script: &str) -> Result<(Option<i32>, String)> {
    let output = shell(script).output().context("cannot start a shell")?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

fn checked(script: &str) -> Result<()> {
    let (status, said) = sh(script)?;
    ensure!(status == Some(0), "{script} ended with {status:?}:\n{said}");
    Ok(())
}
