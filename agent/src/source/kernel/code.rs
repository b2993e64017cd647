//! What the kernel calls the instructions that stores come from: `function+0x1a`, `function+0x1a[module]`.
//!
//! Functions that write flags are known before anything is attached. Any other is when it is first seen, which
//! reads /proc/kallsyms for tens of milliseconds while nobody drains the ring, and never again; beyond a bound none
//! is. This module must never say who may write.

use std::{collections::BTreeSet, mem::offset_of};

use endiod_wire::wire::{FlagWrite, Record as _};

use crate::{
    host::{CodeSymbol, Kallsyms},
    limits,
    source::own::OwnRecords,
};

/// The instructions that have a name in the stream, and functions whose instructions need no look.
pub(super) struct Code {
    kallsyms: Kallsyms,
    /// With their ends.
    writers: Vec<(CodeSymbol, u64)>,
    known: BTreeSet<u64>,
}

impl Code {
    /// With the functions that write flags, and their ends.
    pub(super) fn new(kallsyms: Kallsyms, writers: Vec<(CodeSymbol, u64)>) -> Self {
        Code { kallsyms, writers, known: BTreeSet::new() }
    }

    /// Delivers a record; before the first store from an instruction, what that is called.
    pub(super) fn named(
        &mut self,
        record: &[u8],
        own: &mut OwnRecords,
        deliver: &mut dyn FnMut(&[u8]),
    ) {
        if let Some(ip) = written_from(record)
            && let Some(name) = self.name(ip)
        {
            own.symbol(ip, &name, deliver);
        }
        deliver(record);
    }

    /// The name of the instruction before `ip`, the first time that it is asked for and if there is one.
    fn name(&mut self, ip: u64) -> Option<String> {
        if self.known.len() == limits::WRITERS_MAX || !self.known.insert(ip) {
            return None;
        }
        // The store ends where `ip` begins, which may be the next function.
        let store = ip.wrapping_sub(1);
        let of_writer = |(it, end): &&(CodeSymbol, u64)| (it.address..*end).contains(&store);
        let writer = self.writers.iter().find(of_writer).map(|(symbol, _)| symbol.clone());
        let symbol = writer.or_else(|| self.kallsyms.symbol_at(store).ok()?)?;
        let module = symbol.module.map_or(String::new(), |module| format!("[{module}]"));
        Some(format!("{}+{:#x}{module}", symbol.name, ip - symbol.address))
    }
}

/// The instruction after the store that a record tells of, if it tells of one.
fn written_from(record: &[u8]) -> Option<u64> {
    let kind = record.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes));
    if kind != Some(FlagWrite::KIND) {
        return None;
    }
    let ip = record.get(offset_of!(FlagWrite, ip)..)?.first_chunk();
    ip.map(|bytes| u64::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::Symbols, Code};
    use crate::host::Host;

    #[test]
    fn a_writers_instruction_is_named_by_its_function_and_a_strangers_by_the_nearest() {
        let root = std::env::temp_dir().join(format!("endiod-code-{}", std::process::id()));
        fs::create_dir_all(root.join("proc")).unwrap();
        let listed = "1000 t ext4_end_bio\n1100 t other\n1080 t within.cold\n2000 t thief\t[bad]\n";
        fs::write(root.join("proc/kallsyms"), listed).unwrap();
        let host = Host::at(&root);
        let symbols = Symbols::read(&host.kallsyms().unwrap()).unwrap();
        let mut code = Code::new(host.kallsyms().unwrap(), symbols.writers().to_owned());
        assert_eq!(code.writers.len(), 1);
        assert_eq!(code.name(0x1010).as_deref(), Some("ext4_end_bio+0x10"));
        assert_eq!(code.name(0x1010), None, "it has its name");
        // Its last instruction ends where the next symbol begins.
        assert_eq!(code.name(0x1080).as_deref(), Some("ext4_end_bio+0x80"));
        assert_eq!(code.name(0x2004).as_deref(), Some("thief+0x4[bad]"));
        fs::remove_dir_all(root).unwrap();
    }
}
