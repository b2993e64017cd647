//! The kernel's type information as one: vmlinux's and, where ext4 is a module, ext4's own.
//!
//! A module without (before 5.11 every one, later one that was built elsewhere) is watched all the same if
//! nothing speaks against its io_ends being those of 5.5 to 7.3.

use endiod_wire::wire::IO_END_SIZE;

use super::{KernelError, Subject, btf::Btf, io_error};
use crate::host::Host;

/// The last kernel whose io_ends are known to be laid out as the image is.
pub const LAYOUT_KNOWN_TO: (u32, u32) = (7, 3);

/// The cache of `struct ext4_io_end`.
pub const IO_END_CACHE: &str = "ext4_io_end";

/// Whether ext4's structures are described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ext4Types {
    /// By BTF.
    Described,
    /// By nothing: the layout of io_ends is assumed, and checked as they go by.
    Assumed,
}

/// What the kernel describes: vmlinux's types, and the subject's own where it is a module.
pub(super) struct Types<'a> {
    vmlinux: &'a Btf<'a>,
    module: Option<Btf<'a>>,
    subject: Subject,
}

impl<'a> Types<'a> {
    pub(super) fn new(
        vmlinux: &'a Btf<'a>,
        module: Option<&'a [u8]>,
        subject: Subject,
    ) -> Result<Self, KernelError> {
        let module = module.map(|bytes| Btf::parse_split(vmlinux, bytes)).transpose()?;
        Ok(Types { vmlinux, module, subject })
    }

    /// All of them: a module's fall back to vmlinux's.
    pub(super) fn all(&self) -> &Btf<'a> {
        self.module.as_ref().unwrap_or(self.vmlinux)
    }

    /// Whose they are.
    pub(super) fn subject(&self) -> Subject {
        self.subject
    }

    /// Whether ext4 is among them.
    ///
    /// # Errors
    /// There is no ext4, or it is not described and what is known of it speaks against an assumption.
    pub(super) fn of_ext4(&self, host: &Host) -> Result<Ext4Types, KernelError> {
        if self.subject == Subject::Replica {
            let described = self.all().has_own_function(self.subject.end_bio());
            return described.then_some(Ext4Types::Described).ok_or(KernelError::ReplicaNotLoaded);
        }
        if self.all().has_function("ext4_sync_file") {
            return Ok(Ext4Types::Described);
        }
        if !host.module_loaded("ext4") {
            return Err(KernelError::Ext4NotLoaded);
        }
        let version = host.version().map_err(|source| io_error("the kernel release", source))?;
        if version > LAYOUT_KNOWN_TO {
            let release =
                host.release().map_err(|source| io_error("the kernel release", source))?;
            return Err(KernelError::NoModuleBtf { release });
        }
        match host.slab_object_bytes(IO_END_CACHE) {
            Some(found) if found != IO_END_SIZE as u64 => Err(KernelError::OtherIoEnd { found }),
            Some(_) | None => Ok(Ext4Types::Assumed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::kernel::btf::tests as synthetic;

    /// A host with these files, whose vmlinux describes nothing of ext4.
    #[track_caller]
    fn check(name: &str, files: &[(&str, &str)], expected: Result<Ext4Types, &str>) {
        let root = std::env::temp_dir().join(format!("endiod-types-{name}-{}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let bytes = synthetic::structures(None, &[("inode", "i_ino", 64)]);
        let vmlinux = Btf::parse(&bytes).unwrap();
        let found = Types::new(&vmlinux, None, Subject::Ext4).unwrap().of_ext4(&Host::at(&root));
        fs::remove_dir_all(&root).unwrap();
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected),
            (Err(error), Err(words)) if error.to_string().contains(words) => {}
            _ => panic!("{found:?} and not {expected:?}"),
        }
    }

    const LOADED: (&str, &str) = ("sys/module/ext4/initstate", "live\n");
    const RELEASE: (&str, &str) = ("proc/sys/kernel/osrelease", "5.10.0-46-amd64\n");
    const OBJECT_SIZE: &str = "sys/kernel/slab/ext4_io_end/object_size";

    #[test]
    fn a_module_without_btf_is_assumed_to_be_as_known_where_nothing_speaks_against_it() {
        check("fits", &[LOADED, RELEASE, (OBJECT_SIZE, "64\n")], Ok(Ext4Types::Assumed));
        check("unshown", &[LOADED, RELEASE], Ok(Ext4Types::Assumed));
    }

    #[test]
    fn io_ends_of_another_length_are_refused_with_both_lengths() {
        let files = [LOADED, RELEASE, (OBJECT_SIZE, "72\n")];
        check("longer", &files, Err("72 bytes long, and not 64"));
    }

    #[test]
    fn a_kernel_newer_than_the_known_layout_is_refused() {
        let newer = ("proc/sys/kernel/osrelease", "7.4.1-local\n");
        check("newer", &[LOADED, newer, (OBJECT_SIZE, "64\n")], Err("7.4.1-local"));
    }

    #[test]
    fn no_ext4_is_not_an_undescribed_one() {
        check("absent", &[RELEASE], Err("neither part of this kernel nor a loaded module"));
    }
}
