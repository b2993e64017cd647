//! The kernel's type information as one: vmlinux's and, where ext4 is a module, ext4's own.

use super::{KernelError, btf::Btf};
use crate::host::Host;

/// What the kernel describes: vmlinux's types, and ext4's own where it is a module.
pub(super) struct Types<'a> {
    vmlinux: &'a Btf<'a>,
    ext4: Option<Btf<'a>>,
}

impl<'a> Types<'a> {
    pub(super) fn new(vmlinux: &'a Btf<'a>, module: Option<&'a [u8]>) -> Result<Self, KernelError> {
        let ext4 = module.map(|bytes| Btf::parse_split(vmlinux, bytes)).transpose()?;
        Ok(Types { vmlinux, ext4 })
    }

    /// All of them: a module's fall back to vmlinux's.
    pub(super) fn all(&self) -> &Btf<'a> {
        self.ext4.as_ref().unwrap_or(self.vmlinux)
    }

    pub(super) fn check_ext4(&self, host: &Host) -> Result<(), KernelError> {
        if self.all().has_function("ext4_sync_file") {
            return Ok(());
        }
        if host.module_loaded("ext4") {
            return Err(KernelError::NoModuleBtf);
        }
        Err(KernelError::Ext4NotLoaded)
    }
}
