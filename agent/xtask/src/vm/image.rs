//! The initramfs of one run: the cached base, then what this run adds. Nothing is compressed:
//! the guest reads memory faster than it decompresses.
//!
//! ```text
//! /init            init.sh                 /vm/run                     run.sh
//! /vm/settings     shell variables         /vm/load_base, load_extra   insmod lines
//! /vm/command      the command             /vm/modules/NN-name.ko
//! /bin/endiod      the agent, if built     /in/…                       the caller's files
//! /vm/command.service, of a Debian root, which has no agent but what is installed there
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Vm,
    cpio::Cpio,
    modules::{self, Module, ModuleTree},
};
use crate::{
    binaries,
    command::shell_word,
    setup::{GuestFiles, KernelFiles},
    workspace::Workspace,
};

const INIT: &str = include_str!("init.sh");
const RUN: &str = include_str!("run.sh");
const UNIT: &str = include_str!("command.service");

pub(super) fn write(
    vm: &Vm,
    workspace: &Workspace,
    guest: &GuestFiles,
    kernel: &KernelFiles,
    command: &[&str],
    to: &Path,
) -> Result<()> {
    let mut cpio = Cpio::default();
    cpio.file("init", 0o755, INIT.as_bytes());
    cpio.file("vm/command", 0o755, format!("exec {}\n", quoted(command)).as_bytes());
    cpio.file("vm/run", 0o644, RUN.as_bytes());
    cpio.file("vm/command.service", 0o644, UNIT.as_bytes());
    cpio.file("vm/settings", 0o644, settings(vm).as_bytes());
    add_modules(&mut cpio, vm, &kernel.modules()?)?;
    if let Some(agent) = binaries::built_agent(workspace) {
        add_path(&mut cpio, &agent, "bin/endiod")?;
    }
    for path in &vm.copy_in {
        let path =
            fs::canonicalize(path).with_context(|| format!("cannot copy in {}", path.display()))?;
        let name = path.file_name().context("--copy-in / has no name")?.to_string_lossy();
        add_path(&mut cpio, &path, &format!("in/{name}"))?;
    }
    let mut file = File::create(to).with_context(|| format!("cannot create {}", to.display()))?;
    let mut base = File::open(guest.base_cpio()).context("cannot open the guests' base")?;
    io::copy(&mut base, &mut file).context("cannot write the initramfs")?;
    file.write_all(&cpio.finish()).context("cannot write the initramfs")
}

fn settings(vm: &Vm) -> String {
    let mount = vm.mount.as_deref().filter(|options| !options.is_empty()).unwrap_or("defaults");
    let network = if vm.forward.is_empty() { "" } else { "yes" };
    let timeout = vm.timeout.as_secs();
    let root = vm.root.name();
    format!("MOUNT={}\nNETWORK={network}\nROOT={root}\nTIMEOUT={timeout}\n", shell_word(mount))
}

/// A module of the command line: where it comes from and its parameters.
#[derive(Debug, Eq, PartialEq)]
enum Extra<'a> {
    File(&'a str, Vec<&'a str>),
    Named(&'a str, Vec<&'a str>),
}

fn add_modules(cpio: &mut Cpio, vm: &Vm, tree: &ModuleTree) -> Result<()> {
    cpio.dir("vm/modules");
    let replace = replacements(&vm.replace, tree)?;
    let mut loaded = Loaded { cpio, names: BTreeSet::new() };
    let base = tree.load_order(modules::BASE, &replace)?;
    let load_base = loaded.add_all(base, &[])?;
    let mut load_extra = String::new();
    if !vm.forward.is_empty() {
        load_extra += &loaded.add_all(tree.load_order(&["virtio_net"], &replace)?, &[])?;
    }
    for extra in &vm.modules {
        let (mut modules, parameters) = match parse_extra(extra)? {
            Extra::Named(name, parameters) => {
                if !tree.has(name) {
                    bail!("kernel {} has no module `{name}` (or has it built in)", vm.kernel);
                }
                (tree.load_order(&[name], &replace)?, parameters)
            }
            Extra::File(file, parameters) => (of_file(file, tree, &replace)?, parameters),
        };
        let last = modules.pop().context("a load order ends with the module itself")?;
        load_extra += &loaded.add_all(modules, &[])?;
        load_extra += &loaded.add_all(vec![last], &parameters)?;
    }
    let unused = replace.keys().find(|name| !loaded.names.contains(*name));
    if let Some(unused) = unused {
        bail!("--replace {unused}: nothing loads this module; name it with --module too");
    }
    // The network is needed before the extra modules; both are loaded after the base.
    let (base, extra) = if vm.forward.is_empty() {
        (load_base, load_extra)
    } else {
        (load_base + &load_extra, String::new())
    };
    cpio.file("vm/load_base", 0o644, base.as_bytes());
    cpio.file("vm/load_extra", 0o644, extra.as_bytes());
    Ok(())
}

/// The modules that are in the image already.
struct Loaded<'a> {
    cpio: &'a mut Cpio,
    names: BTreeSet<String>,
}

impl Loaded<'_> {
    /// Puts modules into the image, once each, and says how init loads them.
    fn add_all(&mut self, modules: Vec<Module>, parameters: &[&str]) -> Result<String> {
        let mut lines = String::new();
        for module in modules {
            if !self.names.insert(module.name.clone()) {
                if !parameters.is_empty() {
                    bail!("module {} is loaded already, without parameters", module.name);
                }
                continue;
            }
            let path = format!("vm/modules/{:03}-{}.ko", self.names.len(), module.name);
            self.cpio.file(&path, 0o644, &module.content);
            let file = format!("/{path}");
            let words: Vec<&str> = [file.as_str()].iter().chain(parameters).copied().collect();
            lines += &format!("attempt 'load {}' insmod {}\n", module.name, quoted(&words));
        }
        Ok(lines)
    }
}

fn parse_extra(text: &str) -> Result<Extra<'_>> {
    let mut words = text.split_whitespace();
    let Some(first) = words.next() else { bail!("--module names no module") };
    let parameters = words.collect();
    if first.contains('/') || first.ends_with(".ko") {
        return Ok(Extra::File(first, parameters));
    }
    Ok(Extra::Named(first, parameters))
}

/// A module of this machine, after those of the kernel's own that it depends on.
fn of_file(
    file: &str,
    tree: &ModuleTree,
    replace: &BTreeMap<String, PathBuf>,
) -> Result<Vec<Module>> {
    let content = fs::read(file).with_context(|| format!("cannot read module {file}"))?;
    let needed = modules::depends(&content);
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    let mut order = tree.load_order(&needed, replace)?;
    let stem = Path::new(file).file_stem().unwrap_or_default().to_string_lossy();
    order.push(Module { name: modules::normal(&stem), content });
    Ok(order)
}

fn replacements(options: &[String], tree: &ModuleTree) -> Result<BTreeMap<String, PathBuf>> {
    let mut replace = BTreeMap::new();
    for option in options {
        let Some((name, file)) = option.split_once('=') else {
            bail!("--replace {option}: expected NAME=FILE");
        };
        if !tree.has(name) {
            bail!("--replace {name}: this kernel has it built in (try --kernel 6.1-modular)");
        }
        replace.insert(modules::normal(name), PathBuf::from(file));
    }
    Ok(replace)
}

/// A file or a directory of this machine.
fn add_path(cpio: &mut Cpio, from: &Path, to: &str) -> Result<()> {
    let meta = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?;
    if meta.is_dir() {
        cpio.dir(to);
        let entries = fs::read_dir(from);
        let entries = entries.with_context(|| format!("cannot list {}", from.display()))?;
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            add_path(cpio, &path, &format!("{to}/{name}"))?;
        }
        return Ok(());
    }
    let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    cpio.file(to, meta.permissions().mode() & 0o777, &content);
    Ok(())
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_word_reaches_the_guest_as_it_is() {
        assert_eq!(quoted(&["sh", "-c", "echo 'a b' $x"]), r"'sh' '-c' 'echo '\''a b'\'' $x'");
    }

    #[test]
    fn a_path_is_a_file_and_a_word_is_a_module_of_the_kernel() {
        let parse = |text| parse_extra(text).unwrap();
        assert_eq!(parse("./x.ko fixed=1"), Extra::File("./x.ko", vec!["fixed=1"]));
        assert_eq!(parse("x.ko"), Extra::File("x.ko", Vec::new()));
        assert_eq!(parse("dm-flakey a=1 b=2"), Extra::Named("dm-flakey", vec!["a=1", "b=2"]));
        parse_extra("  ").unwrap_err();
    }

    #[test]
    fn without_options_the_disk_is_mounted_with_the_defaults() {
        let expected = "MOUNT='defaults'\nNETWORK=\nROOT=initramfs\nTIMEOUT=120\n";
        assert_eq!(settings(&Vm::new("6.1")), expected);
    }
}
