//! YAML as a tree in which every key and value has its place.
//!
//! One document of mappings, lists and scalars. What a configuration has no use for is a mistake: an alias,
//! which could unfold without bound, a key twice, a second document, nesting beyond [`DEPTH_MAX`].

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, StrInput};

use super::{Mistake, Place};

/// Mappings in mappings: `http_server_config`, `headers`, a value, and room.
const DEPTH_MAX: usize = 8;

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) what: What,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// Nothing was written, or `null`, or `~`.
    Nothing,
    /// A scalar; whether it was quoted or a block.
    Text {
        text: String,
        quoted: bool,
    },
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) place: Place,
    pub(super) text: String,
}

impl Node {
    /// What it is, for people.
    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            What::Nothing => "nothing",
            What::Text { .. } => "a text",
            What::List(_) => "a list",
            What::Map(_) => "a mapping",
        }
    }
}

/// The tree of a text; nothing at all is [`What::Nothing`].
pub(super) fn read(text: &str) -> Result<Node, Mistake> {
    let mut reader = Reader { parser: Parser::new_from_str(text) };
    let mut root = Node { place: Place { line: 1, column: 1 }, what: What::Nothing };
    let mut documents = 0;
    loop {
        let (event, span) = reader.next()?;
        match event {
            Event::StreamEnd => return Ok(root),
            Event::StreamStart | Event::DocumentEnd | Event::Nothing => {}
            Event::DocumentStart(_) if documents > 0 => {
                return Err(mistake(span, "a second document; there may be one"));
            }
            Event::DocumentStart(_) => documents += 1,
            event => root = reader.node(event, span, 0)?,
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, StrInput<'a>>,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Result<(Event<'a>, Span), Mistake> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(Mistake {
                place: Some(place(error.marker())),
                what: format!("this is no YAML: {}", error.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    /// The value that begins with an event.
    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Mistake> {
        if depth > DEPTH_MAX {
            return Err(mistake(span, "nested too deeply"));
        }
        let what = match event {
            Event::Scalar(text, style, ..) => match (&*text, style) {
                ("" | "~" | "null" | "Null" | "NULL", ScalarStyle::Plain) => What::Nothing,
                _ => What::Text { text: text.into_owned(), quoted: style != ScalarStyle::Plain },
            },
            Event::SequenceStart(..) => What::List(self.list(depth)?),
            Event::MappingStart(..) => What::Map(self.map(depth)?),
            Event::Alias(_) => return Err(mistake(span, "an alias; write out what it stands for")),
            _ => return Err(mistake(span, "a value is missing")),
        };
        Ok(Node { place: place(&span.start), what })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, Mistake> {
        let mut list = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(list),
                (event, span) => list.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Key, Node)>, Mistake> {
        let mut map: Vec<(Key, Node)> = Vec::new();
        loop {
            let key = match self.next()? {
                (Event::MappingEnd, _) => return Ok(map),
                (Event::Scalar(text, ..), span) => {
                    Key { place: place(&span.start), text: text.into_owned() }
                }
                (_, span) => return Err(mistake(span, "a key must be a text")),
            };
            if let Some((first, _)) = map.iter().find(|(other, _)| other.text == key.text) {
                let what =
                    format!("`{}` is there twice, first in line {}", key.text, first.place.line);
                return Err(Mistake { place: Some(key.place), what });
            }
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            map.push((key, value));
        }
    }
}

fn mistake(span: Span, what: &str) -> Mistake {
    Mistake { place: Some(place(&span.start)), what: what.to_owned() }
}

/// The parser counts columns from 0.
fn place(marker: &Marker) -> Place {
    Place { line: marker.line(), column: marker.col() + 1 }
}
