//! The agent under test: start it, wait until it watches, stop it, read its last summary.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread::JoinHandle,
};

use anyhow::{Context as _, Result, bail, ensure};
use endiod::report::Summary;

use crate::Guest;

/// Where the agent under test serves.
pub(crate) const LISTEN: &str = "127.0.0.1:10491";
/// Where a second one serves, beside the first.
pub(crate) const LISTEN_TOO: &str = "127.0.0.1:10492";

/// What the agent logs once every probe is attached.
const WATCHING: &str = "watching ext4";

/// The same where it watches the fixture module.
const WATCHING_REPLICA: &str = "watching the replica";

/// What it logs while there is nothing to attach to.
const WAITING: &str = "waiting for the first ext4 mount";

/// A running agent.
pub(crate) struct Agent {
    child: Child,
    /// Reads what it says; `None` once it was asked for.
    log: Option<JoinHandle<String>>,
    addr: SocketAddr,
}

/// What an agent left behind.
pub(crate) struct Ended {
    /// Its last summary.
    pub(crate) summary: Summary,
    /// Everything it wrote to stderr.
    pub(crate) log: String,
}

impl Agent {
    /// Starts `endiod run` and returns when it says that it is watching.
    pub(crate) fn start(args: &[&str]) -> Result<Agent> {
        Agent::start_at(LISTEN, args)
    }

    /// The same, serving there.
    pub(crate) fn start_at(listen: &str, args: &[&str]) -> Result<Agent> {
        let run = ["run", "--format", "json", "--listen", listen];
        Agent::spawn(listen, &[&run, args].concat(), WATCHING)
    }

    /// Starts `endiod run` where nothing is mounted, and returns when it says that it waits.
    pub(crate) fn start_waiting(args: &[&str]) -> Result<Agent> {
        let run = ["run", "--format", "json", "--listen", LISTEN];
        Agent::spawn(LISTEN, &[&run, args].concat(), WAITING)
    }

    /// Starts `endiod record`, likewise.
    pub(crate) fn record(file: &str) -> Result<Agent> {
        Agent::spawn(LISTEN, &["record", "--format", "json", "--output", file], WATCHING)
    }

    /// Starts `endiod record` with an age, in seconds, from which an io_end is stuck.
    pub(crate) fn record_ages(file: &str, stuck_after: &str) -> Result<Agent> {
        let record = ["record", "--format", "json", "--stuck-after", stuck_after, "--output", file];
        Agent::spawn(LISTEN, &record, WATCHING)
    }

    /// Starts `endiod run` on the fixture module `replica`.
    pub(crate) fn start_replica(args: &[&str]) -> Result<Agent> {
        let run = ["run", "--format", "json", "--listen", LISTEN, "--subject", "replica"];
        Agent::spawn(LISTEN, &[&run, args].concat(), WATCHING_REPLICA)
    }

    /// Starts `endiod record` on it.
    pub(crate) fn record_replica(file: &str) -> Result<Agent> {
        let record = ["record", "--format", "json", "--subject", "replica", "--output", file];
        Agent::spawn(LISTEN, &record, WATCHING_REPLICA)
    }

    /// Returns when the agent's log has a line with `until`.
    fn spawn(listen: &str, args: &[&str], until: &'static str) -> Result<Agent> {
        let addr = listen.parse().context("not an address")?;
        let mut child = Command::new("endiod")
            .args(args)
            // An emulated CPU does in a second what others do in fifty milliseconds.
            .env("ENDIOD_CPU_MAX", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start endiod")?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let (ready, watching) = mpsc::channel();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains(until) {
                    // The receiver may be gone after the first such line.
                    let _ = ready.send(());
                }
                log.push_str(&line);
                log.push('\n');
            }
            log
        });
        if watching.recv().is_err() {
            // The sender is gone without a word: the agent ended.
            let status = child.wait()?;
            let log = log.join().unwrap_or_default();
            bail!("endiod ended with {status} before it watched:\n{log}");
        }
        Ok(Agent { child, log: Some(log), addr })
    }

    /// Where it serves.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub(crate) fn kill(&self, signal: i32) -> Result<()> {
        send(self.pid(), signal)
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn signal(mut self, signal: i32) -> Result<(ExitStatus, String, String)> {
        self.kill(signal)?;
        let mut stdout = String::new();
        self.child.stdout.take().context("stdout is piped")?.read_to_string(&mut stdout)?;
        let status = self.child.wait()?;
        let log = self.log.take().context("an agent ends once")?;
        let log = log.join().map_err(|_| anyhow::anyhow!("the log reader panicked"))?;
        Ok((status, stdout, log))
    }

    /// Stops it with SIGTERM; keeps summary and log in the directory that comes back to the host.
    pub(crate) fn stop(self, guest: &Guest, name: &str) -> Result<Ended> {
        let (status, stdout, log) = self.signal(libc::SIGTERM)?;
        fs::write(guest.out.join(format!("{name}.summary.json")), &stdout)?;
        fs::write(guest.out.join(format!("{name}.log")), &log)?;
        ensure!(status.success(), "endiod ended with {status}:\n{log}");
        let summary = serde_json::from_str(&stdout).context("the last summary is no JSON")?;
        Ok(Ended { summary, log })
    }
}

/// Sends a signal to a process that is there.
pub(crate) fn send(pid: u32, signal: i32) -> Result<()> {
    // SAFETY: kill(2) takes plain integers.
    ensure!(unsafe { libc::kill(i32::try_from(pid)?, signal) } == 0, "cannot signal {pid}");
    Ok(())
}

/// An agent that records for the host, which replays the file and holds it against the live summary.
pub(crate) struct Recorder {
    agent: Agent,
    /// The recording, in the directory that comes back to the host.
    pub(crate) path: PathBuf,
}

impl Recorder {
    /// Starts `endiod record`; the file is called after `name`.
    pub(crate) fn start(guest: &Guest, name: &str) -> Result<Recorder> {
        let path = guest.out.join(format!("{name}.endiod"));
        let agent = Agent::record(path.to_str().context("the path is text")?)?;
        Ok(Recorder { agent, path })
    }

    /// Stops it with SIGTERM; its summary as it was printed lies beside the recording afterwards.
    pub(crate) fn stop(self) -> Result<Summary> {
        let (status, live, log) = self.agent.signal(libc::SIGTERM)?;
        fs::write(self.path.with_extension("live.json"), &live)?;
        ensure!(status.success(), "endiod record ended with {status}:\n{log}");
        serde_json::from_str(&live).context("the last summary is no JSON")
    }
}

impl Drop for Agent {
    /// A case that fails takes its agent with it: the next one needs the port.
    fn drop(&mut self) {
        // Both fail if it has ended, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
