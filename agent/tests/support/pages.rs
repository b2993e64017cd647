//! The pages of the repository and their blocks of commands, each with the name of who runs it.
//!
//! The runner stands in the fence, where only the page's source shows it:
//!
//! ````text
//!   ```sh host        `tests/docs.rs` runs it, from the root of the repository
//!   ```sh guest       the guests' suite `package` does, on a Debian 12 with the package of the agent
//!   ```sh replica     the guests' suite `replica` does
//!   ```sh prometheus  `cargo xtask test` does, with promtool
//!   ```sh cargo       the xtask's tests parse it; who runs the same is in a table there
//!   ```sh elsewhere   nobody runs it as it stands; `tests/docs.rs` has a table of reasons
//! ````
//!
//! A block is one script and run as it is written, but for what the runner replaces by a table of its own.
//! It must end with 0, or with N where its last line says `# exit N`. The first block of text below it is
//! what it prints: these lines in this order, where `…` stands for anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Who may run a block.
pub(crate) const RUNNERS: [&str; 6] =
    ["host", "guest", "replica", "prometheus", "cargo", "elsewhere"];

/// A file of Markdown.
#[derive(Debug)]
pub(crate) struct Page {
    /// Its path from the root of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Page and line, for messages.
    pub(crate) place: String,
    /// What follows the fence: language and runner.
    pub(crate) info: String,
    /// Its lines.
    pub(crate) text: String,
    /// The block of text that is right below it.
    pub(crate) prints: Option<String>,
}

/// Every page below a directory, sorted; what is built is left out.
pub(crate) fn pages(root: &Path) -> Vec<Page> {
    let mut found = Vec::new();
    walk(root, &mut found);
    found.sort();
    let page = |path: &PathBuf| Page {
        name: path.strip_prefix(root).expect("it is below").display().to_string(),
        text: fs::read_to_string(path).expect("a page can be read"),
    };
    found.iter().map(page).collect()
}

fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
    for path in fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            walk(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Every block of commands that this runner is to run.
pub(crate) fn blocks_of(root: &Path, runner: &str) -> Vec<Block> {
    let blocks = pages(root).into_iter().flat_map(|page| page.blocks());
    blocks.filter(|block| block.info == format!("sh {runner}")).collect()
}

impl Page {
    /// Its fenced blocks. One in a list is indented, and taken without that.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let (mut open, mut adjoins) = (None, false);
        for (at, line) in self.text.lines().enumerate() {
            match (open, line.trim_start().strip_prefix("```")) {
                (None, Some(info)) => {
                    open = Some(line.len() - line.trim_start().len());
                    let place = format!("{}:{}", self.name, at + 1);
                    let (info, text) = (info.trim().to_owned(), String::new());
                    blocks.push(Block { place, info, text, prints: None });
                }
                (Some(_), Some(_)) => {
                    open = None;
                    settle(&mut blocks, adjoins);
                    adjoins = true;
                }
                (Some(indent), None) => {
                    let block = blocks.last_mut().expect("one is open");
                    block.text.push_str(line.get(indent..).unwrap_or_default());
                    block.text.push('\n');
                }
                (None, None) => adjoins &= line.trim().is_empty(),
            }
        }
        assert!(open.is_none(), "{}: a block does not end", self.name);
        blocks
    }

    /// Its text without fenced blocks.
    pub(crate) fn prose(&self) -> String {
        let mut fenced = false;
        let is_prose = |line: &&str| {
            let is_fence = line.trim_start().starts_with("```");
            fenced ^= is_fence;
            !fenced && !is_fence
        };
        self.text.lines().filter(is_prose).flat_map(|line| [line, "\n"]).collect()
    }
}

/// A block of text that adjoins one of commands is what that prints.
fn settle(blocks: &mut [Block], adjoins: bool) {
    if let [.., commands, text] = blocks
        && adjoins
        && text.info == "text"
        && commands.info.starts_with("sh ")
    {
        commands.prints = Some(text.text.clone());
    }
}

impl Block {
    /// The page it is of.
    pub(crate) fn page(&self) -> &str {
        self.place.split(':').next().unwrap_or_default()
    }

    /// The script, with each of these replaced.
    pub(crate) fn script(&self, replaced: &[(&str, &str)]) -> String {
        replaced.iter().fold(self.text.clone(), |text, (there, here)| text.replace(there, here))
    }

    /// Its commands, one a line, without comments.
    pub(crate) fn commands(&self) -> Vec<String> {
        let joined = self.text.replace("\\\n", " ");
        let without = joined.lines().map(|line| line.split("  #").next().unwrap_or_default());
        let commands = without.flat_map(|line| line.split("&&"));
        let commands = commands.map(|it| it.split_whitespace().collect::<Vec<_>>().join(" "));
        commands.filter(|it| !it.is_empty() && !it.starts_with('#')).collect()
    }

    /// What it must end with.
    pub(crate) fn exit(&self) -> i32 {
        let said = self.text.trim_end().rsplit_once("# exit ");
        let number = said.and_then(|(_, rest)| rest.split([':', ' ', '\n']).next()?.parse().ok());
        number.unwrap_or(0)
    }

    /// How its end differs from what the page says, if it does.
    pub(crate) fn differs(&self, status: Option<i32>, said: &str) -> Option<String> {
        let place = &self.place;
        if status != Some(self.exit()) {
            return Some(format!("{place}: ended with {status:?}, not {}:\n{said}", self.exit()));
        }
        let mut rest = said;
        for line in self.prints.as_deref().unwrap_or_default().lines() {
            for part in line.split('…').map(str::trim).filter(|part| !part.is_empty()) {
                match rest.find(part) {
                    Some(at) => rest = &rest[at + part.len()..],
                    None => return Some(format!("{place}: {part:?} is not printed by\n{said}")),
                }
            }
        }
        None
    }
}
