//! Builds the eBPF programs (`../ebpf`) with what the machine has and hands their objects to the
//! agent, which embeds them.
//!
//! The programs need `core` for the BPF target, so a compiler with the standard library's source: a
//! rustup nightly with the `rust-src` component, or Debian's `rustc-web` with `rust-web-src`, which
//! `cargo xtask setup` unpacks under `target/`. And `bpf-linker`. Without them the agent is built all
//! the same, without programs, and says so at run time. Overrides: `ENDIOD_BPF_RUSTC`,
//! `ENDIOD_BPF_LINKER` (paths), `ENDIOD_SKIP_PROGRAMS=1`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// File name of each object in `OUT_DIR`, and the features it is built with.
const OBJECTS: [(&str, &str); 2] = [("programs.o", ""), ("programs-lanes.o", "lanes")];

/// Where `cargo xtask setup` puts Debian's compiler and the linker, under the workspace.
const OWN_RUSTC: &str = "target/endiod/toolchain/usr/bin/rustc";
const OWN_LINKER_DIR: &str = "target/endiod/tools/bin";

/// Where the standard library's source lies under a sysroot.
const STD_SOURCE: &str = "lib/rustlib/src/rust/library/Cargo.lock";

fn main() -> Result<()> {
    println!("cargo::rustc-check-cfg=cfg(programs)");
    for name in ["ENDIOD_BPF_RUSTC", "ENDIOD_BPF_LINKER", "ENDIOD_SKIP_PROGRAMS"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    let manifest_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest_dir.parent().context("the agent lies in a workspace")?;
    for part in ["ebpf/src", "ebpf/Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rustc-env=ENDIOD_REVISION={}", revision(workspace));
    match find_tools(workspace) {
        Ok(tools) => {
            build(workspace, &tools)?;
            println!("cargo::rustc-cfg=programs");
        }
        Err(missing) => {
            println!("cargo::warning=built without programs: {missing}");
            // A file that is not there makes cargo look again at every build.
            println!("cargo::rerun-if-changed={}", workspace.join(OWN_RUSTC).display());
            println!("cargo::rerun-if-changed={}", workspace.join(OWN_LINKER_DIR).display());
        }
    }
    Ok(())
}

/// What it takes to build the programs.
struct Tools {
    rustc: PathBuf,
    linker_dir: PathBuf,
}

fn find_tools(workspace: &Path) -> Result<Tools> {
    if env::var_os("ENDIOD_SKIP_PROGRAMS").is_some_and(|value| value == "1") {
        bail!("ENDIOD_SKIP_PROGRAMS is set");
    }
    Ok(Tools { rustc: find_rustc(workspace)?, linker_dir: find_linker(workspace)? })
}

fn find_rustc(workspace: &Path) -> Result<PathBuf> {
    if let Some(rustc) = env::var_os("ENDIOD_BPF_RUSTC") {
        return Ok(PathBuf::from(rustc));
    }
    let nightly = Command::new("rustup")
        .args(["which", "--toolchain", "nightly", "rustc"])
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    [PathBuf::from(nightly), workspace.join(OWN_RUSTC), PathBuf::from("/usr/bin/rustc")]
        .into_iter()
        .find(|rustc| has_source(rustc))
        .context("no rustc with the standard library's source; run `cargo xtask setup`")
}

/// `rustc` lies in `SYSROOT/bin`.
fn has_source(rustc: &Path) -> bool {
    let sysroot = rustc.parent().and_then(Path::parent);
    rustc.is_file() && sysroot.is_some_and(|sysroot| sysroot.join(STD_SOURCE).is_file())
}

fn find_linker(workspace: &Path) -> Result<PathBuf> {
    if let Some(linker) = env::var_os("ENDIOD_BPF_LINKER") {
        let dir = Path::new(&linker).parent().context("ENDIOD_BPF_LINKER is not a path")?;
        return Ok(dir.to_path_buf());
    }
    let own = workspace.join(OWN_LINKER_DIR);
    let path = env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(env::split_paths(&path))
        .find(|dir| dir.join("bpf-linker").is_file())
        .context("no bpf-linker; run `cargo xtask setup`")
}

/// Builds both objects in one target directory that all builds of the agent share: `core` is
/// compiled once.
fn build(workspace: &Path, tools: &Tools) -> Result<()> {
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    let target_dir = workspace.join("target/endiod/programs");
    for (object, features) in OBJECTS {
        let output = cargo(workspace, tools, &target_dir, features)?
            .output()
            .context("cannot run cargo for the programs")?;
        if !output.status.success() {
            bail!(
                "building the programs with {} failed:\n{}",
                tools.rustc.display(),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let built = target_dir.join("bpfel-unknown-none/release/endiod-programs");
        fs::copy(&built, out_dir.join(object))
            .with_context(|| format!("cannot copy {}", built.display()))?;
    }
    Ok(())
}

fn cargo(workspace: &Path, tools: &Tools, target_dir: &Path, features: &str) -> Result<Command> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH")?;
    if env::var("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        bail!("the programs are little-endian only; {arch} is not supported");
    }
    // v3: 32-bit jumps and ALU (5.1), and the assembler knows fetch-and-add (5.12; only the object
    // without `lanes` holds one).
    let arch_cfg = format!("--cfg=bpf_target_arch=\"{arch}\"");
    let flags = [&arch_cfg, "-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v3"].join("\x1f");
    let mut path = vec![tools.linker_dir.clone()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));

    let mut cargo = Command::new(env::var_os("CARGO").context("CARGO is not set")?);
    for name in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    // An unpacked compiler has its libraries beside it.
    if let Some(sysroot) = tools.rustc.parent().and_then(Path::parent) {
        cargo.env("LD_LIBRARY_PATH", sysroot.join("lib/x86_64-linux-gnu"));
    }
    cargo
        .current_dir(workspace)
        .args(["build", "--locked", "--release", "--package", "endiod-ebpf", "--bins"])
        .args(["--target", "bpfel-unknown-none", "-Zbuild-std=core", "--features", features])
        .arg("--target-dir")
        .arg(target_dir)
        .env("RUSTC", &tools.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("PATH", env::join_paths(path)?);
    Ok(cargo)
}

/// The commit, for `endiod_build_info`; "unknown" outside a checkout.
fn revision(workspace: &Path) -> String {
    let head = workspace.join(".git/HEAD");
    if head.is_file() {
        println!("cargo::rerun-if-changed={}", workspace.join(".git/logs/HEAD").display());
    }
    let output = Command::new("git")
        .current_dir(workspace)
        .args(["rev-parse", "--short=12", "HEAD"])
        .output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}
