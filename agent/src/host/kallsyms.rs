//! The kernel's symbols, as `/proc/kallsyms` lists them.
//!
//! Whether it shows addresses is decided when it is opened, by the privileges of who opens it (`kallsyms_open`,
//! kernel/kallsyms.c, 5.8 and later), and holds for as long as it is open: whoever is given the open file
//! needs none.

use std::{
    fs::File,
    io::{self, BufRead as _, Seek as _},
    os::fd::OwnedFd,
};

use serde::{Deserialize, Serialize};

/// Longest function that is believed, bytes: what is longer is a gap in the list of symbols.
const FUNCTION_LEN_MAX: u64 = 1 << 16;

/// A symbol of the kernel's code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeSymbol {
    /// Where it begins.
    pub address: u64,
    /// Its name.
    pub name: String,
    /// The module that it is of; `None`: the kernel itself.
    pub module: Option<String>,
}

impl CodeSymbol {
    /// `[module]` as kallsyms has it.
    fn new(address: u64, name: &str, module: Option<&str>) -> Self {
        let module = module.map(|it| it.trim_matches(['[', ']']).to_owned());
        CodeSymbol { address, name: name.to_owned(), module }
    }
}

/// The list, open.
#[derive(Debug)]
pub struct Kallsyms(File);

impl From<File> for Kallsyms {
    fn from(file: File) -> Self {
        Kallsyms(file)
    }
}

impl From<OwnedFd> for Kallsyms {
    fn from(fd: OwnedFd) -> Self {
        Kallsyms(fd.into())
    }
}

impl From<Kallsyms> for OwnedFd {
    fn from(list: Kallsyms) -> Self {
        list.0.into()
    }
}

impl Kallsyms {
    /// The symbols that `wanted` names and that are not hidden (shown as 0), each with its end: the next
    /// one's begin, wherever that is listed; `None` where that is further than any function is long.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn symbols(
        &self,
        wanted: impl Fn(&str) -> bool,
    ) -> io::Result<Vec<(CodeSymbol, Option<u64>)>> {
        let (mut begins, mut found) = (Vec::new(), Vec::new());
        self.each_line(|address, name, module| {
            begins.push(address);
            if address != 0 && wanted(name) {
                found.push(CodeSymbol::new(address, name, module));
            }
        })?;
        begins.sort_unstable();
        let end = |begin: u64| {
            let next = begins.get(begins.partition_point(|it| *it <= begin)).copied();
            next.filter(|next| next - begin <= FUNCTION_LEN_MAX)
        };
        let with_end = |it: CodeSymbol| {
            let end = end(it.address);
            (it, end)
        };
        Ok(found.into_iter().map(with_end).collect())
    }

    /// The symbol whose code an instruction is in.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn symbol_at(&self, instruction: u64) -> io::Result<Option<CodeSymbol>> {
        let mut nearest: Option<CodeSymbol> = None;
        self.each_line(|address, name, module| {
            let begun = address != 0 && address <= instruction;
            if begun && nearest.as_ref().is_none_or(|it| it.address < address) {
                nearest = Some(CodeSymbol::new(address, name, module));
            }
        })?;
        Ok(nearest.filter(|it| instruction - it.address <= FUNCTION_LEN_MAX))
    }

    fn each_line(&self, mut take: impl FnMut(u64, &str, Option<&str>)) -> io::Result<()> {
        let mut file = &self.0;
        file.rewind()?;
        let mut reader = io::BufReader::with_capacity(1 << 16, file);
        let mut line = String::new();
        while reader.read_line(&mut line)? > 0 {
            let mut words = line.split_ascii_whitespace();
            if let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
                && let Ok(address) = u64::from_str_radix(address, 16)
            {
                take(address, name, words.next());
            }
            line.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;

    #[test]
    fn a_symbol_ends_where_the_next_one_begins_in_whatever_order_they_are_listed() {
        let dir = std::env::temp_dir().join(format!("endiod-kallsyms-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("proc")).unwrap();
        let list = "ffffffff81000400 t far\nffffffff81000100 T one\nffffffff81000180 t next\n\
                    ffffffffc0000000 t mod [ext4]\n0000000000000000 t hidden\n";
        std::fs::write(dir.join("proc/kallsyms"), list).unwrap();
        let listed = Host::at(&dir).kallsyms().unwrap();
        let one = CodeSymbol::new(0xffff_ffff_8100_0100, "one", None);
        let module = CodeSymbol::new(0xffff_ffff_c000_0000, "mod", Some("[ext4]"));
        for _ in 0..2 {
            let found = listed.symbols(|name| ["one", "mod", "hidden"].contains(&name)).unwrap();
            let expected = [(one.clone(), Some(0xffff_ffff_8100_0180)), (module.clone(), None)];
            assert_eq!(found, expected, "it is read from its begin each time");
        }
        assert_eq!(listed.symbol_at(0xffff_ffff_8100_017f).unwrap(), Some(one));
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
