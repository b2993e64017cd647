//! Where ext4's code is, and whether any file system is mounted with it.
//!
//! ext4 makes `/sys/fs/ext4` when it starts, and below it a directory for each of its file systems, in
//! whatever mount name space they are mounted (`ext4_init_sysfs`, `ext4_register_sysfs`; 5.10 to 7.3).

use std::fs;

use super::Host;

/// The one directory of `/sys/fs/ext4` that is no file system.
const FEATURES: &str = "features";

/// What there is of ext4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext4 {
    /// Its code is part of the kernel's image.
    BuiltIn,
    /// It is a loaded module.
    Module {
        /// A file system is mounted with it.
        mounted: bool,
    },
    /// Neither.
    Absent,
}

impl Host {
    /// What there is of ext4 now.
    pub fn ext4(&self) -> Ext4 {
        match (self.module_loaded("ext4"), fs::read_dir(self.root.join("sys/fs/ext4"))) {
            (false, Ok(_)) => Ext4::BuiltIn,
            (false, Err(_)) => Ext4::Absent,
            (true, Err(_)) => Ext4::Module { mounted: false },
            (true, Ok(mut entries)) => {
                let mounted =
                    entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != FEATURES));
                Ext4::Module { mounted }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A host with these directories and files.
    #[track_caller]
    fn check(name: &str, paths: &[&str], expected: Ext4) {
        let root = std::env::temp_dir().join(format!("endiod-ext4-{name}-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        for path in paths {
            match path.strip_suffix('/') {
                Some(dir) => fs::create_dir_all(root.join(dir)).unwrap(),
                None => {
                    fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
                    fs::write(root.join(path), "live\n").unwrap();
                }
            }
        }
        let found = Host::at(&root).ext4();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, expected);
    }

    #[test]
    fn built_in_code_has_its_directory_and_is_no_module() {
        check("built-in", &["sys/fs/ext4/features/"], Ext4::BuiltIn);
    }

    #[test]
    fn a_module_without_file_systems_is_not_mounted() {
        let loaded = "sys/module/ext4/initstate";
        check("idle", &[loaded, "sys/fs/ext4/features/"], Ext4::Module { mounted: false });
        check("starting", &[loaded], Ext4::Module { mounted: false });
        let paths = [loaded, "sys/fs/ext4/features/", "sys/fs/ext4/vda/"];
        check("mounted", &paths, Ext4::Module { mounted: true });
    }

    #[test]
    fn neither_is_neither() {
        check("absent", &["sys/fs/"], Ext4::Absent);
    }
}
