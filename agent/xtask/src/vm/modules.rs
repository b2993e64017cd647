//! Which of a kernel's modules a guest loads, and in which order.
//!
//! The packages have no `modules.dep` (it is made at installation), so dependencies are read from
//! the modules themselves: `depends=` in their `.modinfo`. A module that the tree does not have
//! is taken to be built in; should that be wrong, the guest says which device is missing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// What every guest needs: its disks, its ports, and a FAT file system for /out. ext4 is among
/// them for the kernels that have it as a module, with the checksum its journal asks for by name.
pub(crate) const BASE: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_console",
    "crc32c_generic",
    "ext4",
    "nls_cp437",
    "nls_ascii",
    "nls_iso8859_1",
    "nls_utf8",
    "vfat",
];

/// A directory of modules, by name.
#[derive(Debug)]
pub(crate) struct ModuleTree {
    root: PathBuf,
    busybox: PathBuf,
    paths: BTreeMap<String, PathBuf>,
}

/// A module that is ready to be loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Module {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
}

impl ModuleTree {
    pub(crate) fn open(root: PathBuf, busybox: PathBuf) -> Result<Self> {
        let mut paths = BTreeMap::new();
        find_modules(&root, &mut paths)?;
        Ok(Self { root, busybox, paths })
    }

    /// The modules of the tree that these names need, each after those it depends on.
    /// `replace` gives a module's content in place of the tree's.
    pub(crate) fn load_order(
        &self,
        names: &[&str],
        replace: &BTreeMap<String, PathBuf>,
    ) -> Result<Vec<Module>> {
        let mut order: Vec<Module> = Vec::new();
        for name in names {
            self.visit(&normal(name), replace, &mut order, 0)?;
        }
        Ok(order)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.paths.contains_key(&normal(name))
    }

    fn visit(
        &self,
        name: &str,
        replace: &BTreeMap<String, PathBuf>,
        order: &mut Vec<Module>,
        depth: usize,
    ) -> Result<()> {
        // The kernel refuses cycles; the bound only keeps a broken tree from hanging us.
        if depth > self.paths.len() {
            bail!("the modules under {} depend on each other", self.root.display());
        }
        if order.iter().any(|module| module.name == name) {
            return Ok(());
        }
        let content = match (replace.get(name), self.paths.get(name)) {
            (Some(path), _) => {
                fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
            }
            (None, Some(path)) => self.read(path)?,
            (None, None) => return Ok(()),
        };
        for needed in depends(&content) {
            self.visit(&needed, replace, order, depth + 1)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        if path.extension().is_some_and(|extension| extension == "xz") {
            let mut xzcat = Command::new(&self.busybox);
            let output = xzcat.arg("xzcat").arg(path).output().context("cannot run busybox")?;
            if !output.status.success() {
                bail!("cannot decompress {}", path.display());
            }
            return Ok(output.stdout);
        }
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// What a module's `.modinfo` says it depends on: names in load order of no importance.
pub(crate) fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = &module[at + KEY.len()..];
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let value = String::from_utf8_lossy(&value[..end]).into_owned();
    value.split(',').filter(|name| !name.is_empty()).map(normal).collect()
}

/// A module's name as the kernel writes it.
pub(crate) fn normal(name: &str) -> String {
    name.replace('-', "_")
}

fn find_modules(dir: &Path, paths: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_modules(&path, paths)?;
            continue;
        }
        let file = entry.file_name().to_string_lossy().into_owned();
        if let Some(name) = file.strip_suffix(".ko").or_else(|| file.strip_suffix(".ko.xz")) {
            paths.insert(normal(name), path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str, modules: &[(&str, &str)]) -> (PathBuf, ModuleTree) {
        let root = std::env::temp_dir().join(format!("xtask-tree-{name}-{}", std::process::id()));
        fs::create_dir_all(root.join("kernel/fs")).unwrap();
        for (name, depends) in modules {
            let text = format!("\x7fELF\0license=GPL\0depends={depends}\0name={name}\0");
            fs::write(root.join("kernel/fs").join(format!("{name}.ko")), text).unwrap();
        }
        let tree = ModuleTree::open(root.clone(), PathBuf::new()).unwrap();
        (root, tree)
    }

    #[track_caller]
    fn check(case: &str, modules: &[(&str, &str)], wanted: &[&str], order: &[&str]) {
        let (root, tree) = tree(case, modules);
        let loaded = tree.load_order(wanted, &BTreeMap::new()).unwrap();
        let names: Vec<&str> = loaded.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, order);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn a_module_comes_after_all_it_depends_on_and_once() {
        let modules =
            [("ext4", "mbcache,jbd2,crc16"), ("jbd2", "crc16"), ("mbcache", ""), ("crc16", "")];
        check("order", &modules, &["ext4", "jbd2"], &["mbcache", "crc16", "jbd2", "ext4"]);
    }

    #[test]
    fn a_module_that_the_tree_lacks_is_built_in() {
        check("builtin", &[("vfat", "fat")], &["virtio_pci", "vfat"], &["vfat"]);
    }

    #[test]
    fn a_hyphen_in_a_name_is_an_underscore() {
        check(
            "hyphen",
            &[("dm-mod", ""), ("dm-flakey", "dm-mod")],
            &["dm-flakey"],
            &["dm_mod", "dm_flakey"],
        );
    }

    #[test]
    fn a_cycle_is_an_error_and_not_a_hang() {
        let (root, tree) = tree("cycle", &[("a", "b"), ("b", "a")]);
        tree.load_order(&["a"], &BTreeMap::new()).unwrap_err();
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn bytes_without_modinfo_depend_on_nothing() {
        assert_eq!(depends(b"not a module"), Vec::<String>::new());
    }
}
