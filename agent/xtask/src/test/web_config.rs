//! Prometheus, as Debian built it, scrapes an endpoint behind TLS and a password, and does not where it lacks
//! one of the things that it takes.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    command::cargo,
    setup::{self, PROMETHEUS},
    workspace::Workspace,
};

const NAME: &str = "prometheus";
const PASSWORD: &str = "of: prometheus";
/// How long Prometheus may take to scrape once.
const PATIENCE: Duration = Duration::from_secs(60);
const BETWEEN: Duration = Duration::from_millis(200);

/// A job that has everything, and others that lack something; whether it is up.
fn jobs(addr: SocketAddr, dir: &Path) -> Vec<(Value, bool)> {
    let ca = json!({"ca_file": dir.join("ca.crt")});
    let as_whom = |password: &str| json!({"username": NAME, "password": password});
    let job = |name: &str, scheme: &str, tls: &Value, basic_auth: Option<Value>| {
        let targets = json!([{"targets": [addr.to_string()]}]);
        let mut job = json!({"job_name": name, "scheme": scheme, "tls_config": tls, "static_configs": targets});
        if let Some(basic_auth) = basic_auth {
            job["basic_auth"] = basic_auth;
        }
        job
    };
    vec![
        (job("right", "https", &ca, Some(as_whom(PASSWORD))), true),
        (job("wrong password", "https", &ca, Some(as_whom("wrong"))), false),
        (job("no password", "https", &ca, None), false),
        (job("no authority", "https", &json!({}), Some(as_whom(PASSWORD))), false),
        (job("no tls", "http", &json!({}), Some(as_whom(PASSWORD))), false),
        (
            job("tls 1.2", "https", &with(&ca, "max_version", "TLS12"), Some(as_whom(PASSWORD))),
            false,
        ),
    ]
}

fn with(value: &Value, key: &str, text: &str) -> Value {
    let mut value = value.clone();
    value[key] = text.into();
    value
}

/// A program that is ended when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fails with the jobs that are up or down and should not be.
pub(super) fn check(workspace: &Workspace) -> Result<()> {
    let programs = setup::programs_of_debian(workspace, &PROMETHEUS)?;
    let out = workspace.store().join("out/web-config");
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let files = out.join("files");
    let mut serve = cargo();
    serve.args(["run", "--quiet", "--package", "endiod", "--example", "behind_web_config", "--"]);
    serve.arg(&files).args([NAME, PASSWORD]).current_dir(workspace.root());
    let child = serve.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut endpoint = Running(child.context("cannot run the endpoint")?);
    let stdout = endpoint.0.stdout.take().context("no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let addr = line.trim().parse().with_context(|| format!("the endpoint says {line:?}"))?;
    let (jobs, expected): (Vec<_>, BTreeMap<_, _>) = jobs(addr, &files)
        .into_iter()
        .map(|(job, up)| {
            let name = job["job_name"].as_str().unwrap_or_default().to_owned();
            (job, (name, up))
        })
        .unzip();
    let prometheus = Prometheus::start(&programs, &out, jobs)?;
    let begun = Instant::now();
    loop {
        let up = prometheus.up().unwrap_or_default();
        if up.len() == expected.len() && up["right"] {
            ensure!(up == expected, "{up:?}, expected {expected:?}");
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            bail!("Prometheus tells {up:?} of {expected:?}; its log is in {}", out.display());
        }
        thread::sleep(BETWEEN);
    }
}

struct Prometheus {
    _running: Running,
    addr: SocketAddr,
}

impl Prometheus {
    fn start(programs: &Path, out: &Path, jobs: Vec<Value>) -> Result<Prometheus> {
        // Its own configuration is YAML, which JSON is.
        let global = json!({"scrape_interval": "1s"});
        let config = out.join("prometheus.yml");
        fs::write(&config, json!({"global": global, "scrape_configs": jobs}).to_string())?;
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(out.join("prometheus.log"))?;
        let mut command = setup::command_of_debian(programs, "prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", out.join("tsdb").display()));
        command.arg(format!("--web.listen-address={addr}"));
        // What an earlier run found is no answer.
        let _ = fs::remove_dir_all(out.join("tsdb"));
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Prometheus { _running: Running(child.context("cannot run Prometheus")?), addr })
    }

    /// Whether the target of each job is up, as far as it was scraped.
    fn up(&self) -> Result<BTreeMap<String, bool>> {
        let mut stream = TcpStream::connect(self.addr)?;
        write!(stream, "GET /api/v1/query?query=up HTTP/1.0\r\nHost: x\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no end of the headers")?;
        let body: Value = serde_json::from_str(body)?;
        let series = body["data"]["result"].as_array().context("no series")?;
        let up = series.iter().filter_map(|series| {
            Some((series["metric"]["job"].as_str()?.to_owned(), series["value"][1] == "1"))
        });
        Ok(up.collect())
    }
}
