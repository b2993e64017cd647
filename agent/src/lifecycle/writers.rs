//! Who wrote: the names of instructions that stores were seen to come from.
//!
//! The stream tells a name (SYMBOL, `function+0x1a`, `function+0x1a[module]`) before the first store from there.
//! A store from an instruction without a name has a writer all the same, who is not known. This module must
//! never say who may write.

use std::collections::BTreeMap;

use crate::event::{CodeAddr, Name};
use crate::limits;

/// Who made a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Writer {
    /// The instruction after the store.
    pub ip: CodeAddr,
    /// What the kernel calls it, if that was told.
    pub name: Option<Name<64>>,
}

impl Writer {
    /// The function, without what a compiler adds to the name of a part or a copy of it (`.isra.0`).
    pub fn function(&self) -> Option<&str> {
        let text = self.name.as_ref()?.text()?;
        let function = text.split(['+', '.']).next()?;
        Some(function).filter(|function| !function.is_empty())
    }
}

/// The names that were told.
#[derive(Default)]
pub(crate) struct Writers(BTreeMap<CodeAddr, Name<64>>);

impl Writers {
    /// Takes a name; beyond the bound it is not kept.
    pub(crate) fn name(&mut self, ip: CodeAddr, name: Name<64>) {
        if self.0.len() < limits::WRITERS_MAX || self.0.contains_key(&ip) {
            self.0.insert(ip, name);
        }
    }

    /// Whose instruction that is.
    pub(crate) fn writer(&self, ip: CodeAddr) -> Writer {
        Writer { ip, name: self.0.get(&ip).copied() }
    }

    /// Another stream: another kernel's addresses, perhaps.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::{Writer, Writers};
    use crate::event::{CodeAddr, Name};

    #[test]
    fn a_function_is_known_without_its_offset_its_module_and_its_copys_number() {
        let of = |text: &str| Writer { ip: CodeAddr(1), name: Some(Name::new(text)) };
        for (text, function) in [
            ("ext4_end_bio+0x4a", Some("ext4_end_bio")),
            ("commit+0x12[saboteur]", Some("commit")),
            ("ext4_put_io_end.isra.0+0x9", Some("ext4_put_io_end")),
            ("", None),
        ] {
            assert_eq!(of(text).function(), function, "{text}");
        }
        assert_eq!(Writer { ip: CodeAddr(1), name: None }.function(), None);
    }

    #[test]
    fn an_instruction_without_a_name_has_a_writer_who_is_not_known() {
        let mut writers = Writers::default();
        writers.name(CodeAddr(5), Name::new("f+0x1"));
        assert_eq!(writers.writer(CodeAddr(5)).function(), Some("f"));
        assert_eq!(writers.writer(CodeAddr(6)).function(), None);
        writers.clear();
        assert_eq!(writers.writer(CodeAddr(5)).function(), None);
    }
}
