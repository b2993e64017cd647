//! Prometheus, its Alertmanager and node_exporter, as Debian built them: what `dashboards/README.md` tells
//! people to configure, with this guest's addresses, scraping and judging every second.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{Guest, http, patience::until};

/// Programs and libraries, as the harness put them into the guest.
const PROGRAMS: &str = "/in/prometheus";
/// The repository's own dashboards, rules and the page on them.
const DASHBOARDS: &str = "/in/dashboards";
/// Where Alertmanager looks for its templates.
const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
/// In memory: what they write must not be ext4 I/O.
const STATE: &str = "/tmp/scrape";

pub(super) const PROMETHEUS: &str = "127.0.0.1:9090";
pub(super) const ALERTMANAGER: &str = "127.0.0.1:9093";
const NODE_EXPORTER: &str = "127.0.0.1:9100";

/// How long a program may take to answer, under emulation.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the page's example says, and what it is here. The rest of it is taken as it is.
const HERE: &[(&str, &str)] = &[
    ("/etc/prometheus/endiod/*.yml", "/in/dashboards/rules/*.yml"),
    (r#""db1:10491", "db2:10491""#, r#""127.0.0.1:10491""#),
    (r#""db1:9100", "db2:9100""#, r#""127.0.0.1:9100""#),
    ("alertmanager:9093", ALERTMANAGER),
    ("scrape_interval: 15s", "scrape_interval: 1s"),
    ("evaluation_interval: 15s", "evaluation_interval: 1s"),
];

/// Alertmanager with no one to tell.
const RECEIVER: &str = "route: {receiver: none, group_wait: 1s}\nreceivers: [{name: none}]\n";

/// The running programs.
pub(super) struct Stack {
    children: Vec<Child>,
    logs: PathBuf,
}

impl Stack {
    /// Starts all three and returns when each answers.
    pub(super) fn start(guest: &Guest) -> Result<Stack> {
        let logs = guest.out.join("scrape");
        for dir in [STATE, &logs.to_string_lossy()] {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
        }
        fs::create_dir_all(TEMPLATES)?;
        for template in ["default.tmpl", "email.tmpl"] {
            fs::copy(format!("{PROGRAMS}/{template}"), format!("{TEMPLATES}/{template}"))?;
        }
        let config = write("prometheus.yml", &config()?)?;
        let receiver = write("alertmanager.yml", RECEIVER)?;
        let mut stack = Stack { children: Vec::new(), logs };
        let listen = |addr: &str| format!("--web.listen-address={addr}");
        stack.run("prometheus-node-exporter", &[&listen(NODE_EXPORTER)])?;
        stack.run(
            "prometheus-alertmanager",
            &[
                &listen(ALERTMANAGER),
                &format!("--config.file={}", receiver.display()),
                &format!("--storage.path={STATE}/alertmanager"),
                "--cluster.listen-address=",
            ],
        )?;
        stack.run(
            "prometheus",
            &[
                &listen(PROMETHEUS),
                &format!("--config.file={}", config.display()),
                &format!("--storage.tsdb.path={STATE}/tsdb"),
                "--enable-feature=exemplar-storage",
            ],
        )?;
        for (addr, path) in
            [(NODE_EXPORTER, "/"), (ALERTMANAGER, "/-/ready"), (PROMETHEUS, "/-/ready")]
        {
            until(PATIENCE, &format!("no answer of http://{addr}{path}"), || {
                stack.are_alive()?;
                let answered =
                    http::get(addr.parse()?, path).is_ok_and(|(status, _)| status == 200);
                Ok(answered.then_some(()))
            })?;
        }
        Ok(stack)
    }

    fn run(&mut self, program: &str, args: &[&str]) -> Result<()> {
        let log = File::create(self.logs.join(format!("{program}.log")))?;
        let child = Command::new(format!("{PROGRAMS}/ld-linux-x86-64.so.2"))
            .args(["--library-path", PROGRAMS, &format!("{PROGRAMS}/{program}")])
            .args(args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        self.children.push(child.with_context(|| format!("cannot start {program}"))?);
        Ok(())
    }

    fn are_alive(&mut self) -> Result<()> {
        for child in &mut self.children {
            let ended = child.try_wait()?;
            ensure!(ended.is_none(), "one ended with {ended:?}: {}", self.logs.display());
        }
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Both fail if it has ended, which is as well.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The page's example, here.
fn config() -> Result<String> {
    let page = Path::new(DASHBOARDS).join("README.md");
    let page = fs::read_to_string(&page).with_context(|| format!("no {}", page.display()))?;
    let example = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    let mut config = example.context("the page has no configuration")?.to_owned();
    for (there, here) in HERE {
        ensure!(config.contains(there), "the page's configuration has no {there}");
        config = config.replace(there, here);
    }
    Ok(config)
}

fn write(name: &str, text: &str) -> Result<PathBuf> {
    let path = Path::new(STATE).join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
