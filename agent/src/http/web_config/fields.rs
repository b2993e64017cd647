//! A mapping with known keys, taken apart value by value; what does not fit is noted with its place.

use std::fmt::Display;

use super::{
    Mistake, Place, Written,
    yaml::{Key, Node, What},
};

/// How alike a known key must be to be suggested, of 1.
const LIKENESS_MIN: f64 = 0.7;

/// What was found wrong.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<Mistake>);

impl Mistakes {
    pub(super) fn push(&mut self, place: Place, what: impl Into<String>) {
        self.0.push(Mistake { place: Some(place), what: what.into() });
    }

    /// The value, if nothing was wrong; else all that was, in the order of the file.
    pub(super) fn none_or<T>(mut self, value: T) -> Result<T, Vec<Mistake>> {
        self.0.sort_unstable();
        if self.0.is_empty() { Ok(value) } else { Err(self.0) }
    }
}

/// What a mapping has, by key.
pub(super) struct Fields {
    path: &'static str,
    pub(super) entries: Vec<(Key, Node)>,
}

impl Fields {
    /// Of a mapping that may have these keys; `path` says where it is, for people.
    pub(super) fn of(
        path: &'static str,
        node: Node,
        known: &[&str],
        mistakes: &mut Mistakes,
    ) -> Fields {
        let mut fields = Fields::of_any(path, node, mistakes);
        fields.entries.retain(|(key, _)| {
            let is_known = known.contains(&&*key.text);
            if !is_known {
                mistakes.push(key.place, unknown(&key.text, path, known));
            }
            is_known
        });
        fields
    }

    /// Of a mapping with any keys.
    pub(super) fn of_any(path: &'static str, node: Node, mistakes: &mut Mistakes) -> Fields {
        let entries = match node.what {
            What::Map(entries) => entries,
            What::Nothing => Vec::new(),
            What::Text { .. } | What::List(_) => {
                let of = if path.is_empty() { "the file" } else { path };
                let what = format!("{of} is {} where `key: value` is expected", node.kind());
                mistakes.push(node.place, what);
                Vec::new()
            }
        };
        Fields { path, entries }
    }

    /// The value of a key, where the key is, and what it has.
    pub(super) fn take(&mut self, key: &str) -> Option<(Place, Node)> {
        let at = self.entries.iter().position(|(it, _)| it.text == key)?;
        let (key, node) = self.entries.swap_remove(at);
        Some((key.place, node))
    }

    pub(super) fn text(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes,
    ) -> Option<Written<String>> {
        let (_, node) = self.take(key)?;
        let place = node.place;
        let value = text_of(self.path, key, node, mistakes).filter(|text| !text.is_empty())?;
        Some(Written { key, place, value })
    }

    pub(super) fn flag(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes,
    ) -> Option<Written<bool>> {
        let (_, node) = self.take(key)?;
        let place = node.place;
        let value = match &node.what {
            What::Nothing => return None,
            What::Text { text, quoted: false } => match &**text {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            _ => None,
        };
        if value.is_none() {
            mistakes.push(place, format!("{}.{key}: write `true` or `false`", self.path));
        }
        value.map(|value| Written { key, place, value })
    }

    pub(super) fn texts(
        &mut self,
        key: &'static str,
        mistakes: &mut Mistakes,
    ) -> Vec<Written<String>> {
        let Some((_, node)) = self.take(key) else { return Vec::new() };
        let list = match node.what {
            What::List(list) => list,
            What::Nothing => return Vec::new(),
            What::Text { .. } | What::Map(_) => {
                let what = format!("{}.{key} is {}; write a list", self.path, node.kind());
                mistakes.push(node.place, what);
                return Vec::new();
            }
        };
        let text = |node: Node| {
            let place = node.place;
            Some(Written { key, place, value: text_of(self.path, key, node, mistakes)? })
        };
        list.into_iter().filter_map(text).collect()
    }

    /// The one of some values that a text names.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        values: &[(&str, T)],
        mistakes: &mut Mistakes,
    ) -> Option<Written<T>> {
        let text = self.text(key, mistakes)?;
        let value = chosen(&text, values, mistakes)?;
        Some(Written { key, place: text.place, value })
    }

    /// Those that a list of texts names.
    pub(super) fn choices<T: Copy>(
        &mut self,
        key: &'static str,
        values: &[(&str, T)],
        mistakes: &mut Mistakes,
    ) -> Vec<T> {
        let texts = self.texts(key, mistakes);
        texts.iter().filter_map(|text| chosen(text, values, mistakes)).collect()
    }
}

fn chosen<T: Copy>(
    text: &Written<String>,
    values: &[(&str, T)],
    mistakes: &mut Mistakes,
) -> Option<T> {
    let found = values.iter().find(|(name, _)| *name == text.value);
    if found.is_none() {
        let names = values.iter().map(|(name, _)| *name);
        let what = format!("`{}` is not to be had here; {}", text.value, one_of(names));
        mistakes.0.push(text.mistake(what));
    }
    found.map(|(_, value)| *value)
}

/// A scalar's text; nothing is the empty one.
pub(super) fn text_of(
    path: &str,
    key: impl Display,
    node: Node,
    mistakes: &mut Mistakes,
) -> Option<String> {
    match node.what {
        What::Text { text, .. } => Some(text),
        What::Nothing => Some(String::new()),
        What::List(_) | What::Map(_) => {
            mistakes.push(node.place, format!("{path}.{key} is {}; write a text", node.kind()));
            None
        }
    }
}

fn unknown(key: &str, path: &str, known: &[&str]) -> String {
    let likeness = |name: &&&str| strsim::jaro_winkler(key, name);
    let nearest = known.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let of = if path.is_empty() { String::new() } else { format!(" of {path}") };
    match nearest.filter(|name| likeness(name) >= LIKENESS_MIN) {
        Some(name) => format!("no setting{of} is called `{key}`; did you mean `{name}`?"),
        None => format!("no setting{of} is called `{key}`; {}", one_of(known.iter().copied())),
    }
}

fn one_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("there are {}", names.collect::<Vec<_>>().join(", "))
}
