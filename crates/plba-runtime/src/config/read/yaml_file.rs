//! Reads YAML 1.2 (core schema) into a tree of values with their places. Nesting is kept on a stack of our own, and
//! aliases are written out under a budget.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span, Tag};
use serde_json::{Number, Value};

use super::sources::Place;
use super::syntax::{MAXIMUM_DEPTH, MAXIMUM_VALUES, Parsed, SyntaxFault, openers};
use super::tree::{Content, Node};

/// Reads a document.
pub(crate) fn parse(text: &str, source: usize) -> Parsed {
    read(text, source).map_err(|fault| vec![fault])
}

/// Characters that nobody sees, and of which some readers of YAML make the end of a line and others a part of the text.
const AMBIGUOUS: [char; 4] = ['\u{85}', '\u{2028}', '\u{2029}', '\u{FEFF}'];

fn read(text: &str, source: usize) -> Result<Node, SyntaxFault> {
    if let Some((at, character)) = text.match_indices(AMBIGUOUS).next() {
        let code = character.escape_unicode();
        let fault = SyntaxFault::new(format!("an invisible character, {code}"), at..at + character.len());
        return Err(fault
            .label("it stands before this")
            .help("take it out, or write it as an escape within double quotes"));
    }
    let mut builder = Builder {
        text,
        source,
        open: Vec::new(),
        anchors: HashMap::new(),
        kept: 0,
        values: 0,
        root: None,
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let start = offset(text, error.marker());
            let width = text[start..].chars().next().map_or(0, char::len_utf8);
            match error.kind() {
                ErrorKind::RecursionLimitExceeded => SyntaxFault::depth(start..start + width),
                _ => explained(text, &error.info(), start..start + width),
            }
        })?;
        builder.event(event, range(text, span))?;
    }
    let root = builder.root.unwrap_or_else(|| Node::table(Place::new(source, 0..0)));
    match root.content {
        Content::Table(_) => Ok(root),
        // A file of comments.
        Content::Scalar(Value::Null) => Ok(Node::table(root.place)),
        _ => Err(SyntaxFault::new(
            "the outermost value must be a mapping of tables",
            root.place.start..root.place.end,
        )),
    }
}

/// A message of the parser with what people mostly mean when they get it.
fn explained(text: &str, message: &str, range: Range<usize>) -> SyntaxFault {
    let line = text[..range.start].rfind('\n').map_or(0, |at| at + 1);
    let indent = text[line..].split(|character: char| !character.is_whitespace()).next();
    let fault = SyntaxFault::new(message, range.clone());
    if indent.is_some_and(|indent| indent.contains('\t')) {
        return fault.help("YAML is indented by spaces: replace the tabs of this line");
    }
    if message.contains("unknown anchor") {
        return fault.help("name the value before, such as `key: &name value`");
    }
    let before = text[..line].trim_end().lines().next_back().unwrap_or_default();
    let glued = before
        .match_indices(':')
        .any(|(at, _)| !before[at + 1..].starts_with([' ', '\t']) && at + 1 < before.len());
    if message.contains("mapping values") && glued && !before.contains(": ") {
        return fault.help("is a space missing after the `:` of the line before?");
    }
    // Quotes are looked for only where the parser speaks of them: an apostrophe in plain text is none.
    match openers(text, range.start).pop() {
        Some((open, closing)) if closing != '"' || message.contains("quote") || message.contains("scalar") => fault
            .label("not possible here")
            .related(Some(open..open + 1), "opened here, and not closed")
            .help(format!("is a `{closing}` missing before this?")),
        _ => fault,
    }
}

fn offset(text: &str, marker: &granit_parser::Marker) -> usize {
    let characters = || text.char_indices().nth(marker.index()).map_or(text.len(), |(at, _)| at);
    let mut at = marker.byte_offset().unwrap_or_else(characters).min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn range(text: &str, span: Span) -> Range<usize> {
    let start = offset(text, &span.start);
    let end = offset(text, &span.end).max(start);
    // The end of a block lies at the next token; what is written ends before the white space.
    start..start + text[start..end].trim_end().len()
}

/// A table or list that is not closed yet.
struct Open {
    start: Range<usize>,
    anchor: usize,
    /// How many values had been read when it was opened.
    before: usize,
    content: OpenContent,
}

enum OpenContent {
    Table {
        entries: BTreeMap<String, Node>,
        key: Option<(String, Range<usize>)>,
    },
    List(Vec<Node>),
}

struct Builder<'a> {
    text: &'a str,
    source: usize,
    open: Vec<Open>,
    /// Anchored nodes, each with the number of its values.
    anchors: HashMap<usize, (Node, usize)>,
    /// How many values are kept for aliases: anchors within anchors keep theirs again.
    kept: usize,
    values: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, range: Range<usize>) -> Result<(), SyntaxFault> {
        match event {
            Event::DocumentStart(..) if self.root.is_some() => Err(SyntaxFault::new(
                "a second document; a configuration file holds one",
                range,
            )),
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref(), &range)?;
                self.count(1, &range)?;
                if let Some(key) = self.awaited_key() {
                    *key = Some((text.into_owned(), range));
                    return Ok(());
                }
                let node = Node::new(Content::Scalar(value), Place::new(self.source, range));
                self.finish(node, anchor, 1)
            }
            Event::Alias(id) => match self.anchors.get(&id).cloned() {
                Some((node, count)) => {
                    self.count(count, &range)?;
                    if depth(&node) + self.open.len() > MAXIMUM_DEPTH {
                        return Err(SyntaxFault::depth(range));
                    }
                    let place = Place::new(self.source, range);
                    self.finish(Node { place, ..node }, 0, count)
                }
                None => Err(SyntaxFault::new("an alias within the value that it names", range)),
            },
            Event::SequenceStart(_, anchor, tag) => {
                self.open(OpenContent::List(Vec::new()), anchor, tag.as_deref(), range)
            }
            Event::MappingStart(_, anchor, tag) => {
                let entries = BTreeMap::new();
                self.open(OpenContent::Table { entries, key: None }, anchor, tag.as_deref(), range)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(range),
            _ => Ok(()),
        }
    }

    /// The slot for the next key, if a table waits for one.
    fn awaited_key(&mut self) -> Option<&mut Option<(String, Range<usize>)>> {
        match self.open.last_mut().map(|open| &mut open.content) {
            Some(OpenContent::Table { key, .. }) if key.is_none() => Some(key),
            _ => None,
        }
    }

    fn count(&mut self, values: usize, range: &Range<usize>) -> Result<(), SyntaxFault> {
        self.values = self.values.saturating_add(values);
        match self.values > MAXIMUM_VALUES {
            true => Err(SyntaxFault::values(range.clone())),
            false => Ok(()),
        }
    }

    fn open(
        &mut self,
        content: OpenContent,
        anchor: usize,
        tag: Option<&Tag>,
        start: Range<usize>,
    ) -> Result<(), SyntaxFault> {
        core_tag(tag, &start)?;
        if self.open.len() >= MAXIMUM_DEPTH {
            return Err(SyntaxFault::depth(start));
        }
        if self.awaited_key().is_some() {
            return Err(SyntaxFault::new("a key is text, not a list or a mapping", start));
        }
        let before = self.values;
        self.count(1, &start)?;
        self.open.push(Open {
            start,
            anchor,
            before,
            content,
        });
        Ok(())
    }

    fn close(&mut self, end: Range<usize>) -> Result<(), SyntaxFault> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let count = self.values - open.before;
        let end = end.end.max(open.start.end);
        let end = open.start.start + self.text[open.start.start..end].trim_end().len();
        let content = match open.content {
            OpenContent::Table { entries, .. } => Content::Table(entries),
            OpenContent::List(items) => Content::List(items),
        };
        let node = Node::new(content, Place::new(self.source, open.start.start..end));
        self.finish(node, open.anchor, count)
    }

    /// Puts a finished node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, count: usize) -> Result<(), SyntaxFault> {
        if anchor != 0 {
            self.kept = self.kept.saturating_add(count);
            if self.kept > MAXIMUM_VALUES {
                return Err(SyntaxFault::values(node.place.start..node.place.end));
            }
            self.anchors.insert(anchor, (node.clone(), count));
        }
        let source = self.source;
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Table { entries, key }) => {
                let Some((name, range)) = key.take() else {
                    return Err(SyntaxFault::new(
                        "a key is text, not an alias",
                        node.place.start..node.place.end,
                    ));
                };
                let node = node.keyed(Place::new(source, range.clone()));
                if let Some(first) = entries.insert(name.clone(), node) {
                    let first = first.key.map(|place| place.start..place.end);
                    return Err(SyntaxFault::duplicate(&name, range, first));
                }
            }
        }
        Ok(())
    }
}

/// How deeply a node is nested; what was read before stays within the limit, so this recursion does too.
fn depth(node: &Node) -> usize {
    match &node.content {
        Content::Scalar(_) => 0,
        Content::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Content::Table(entries) => 1 + entries.values().map(depth).max().unwrap_or(0),
    }
}

fn core_tag(tag: Option<&Tag>, range: &Range<usize>) -> Result<(), SyntaxFault> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            let message = format!("the tag `{}` has no meaning here; leave it out", tag.original());
            Err(SyntaxFault::new(message, range.clone()))
        }
        _ => Ok(()),
    }
}

/// A scalar by the rules of the core schema.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>, range: &Range<usize>) -> Result<Value, SyntaxFault> {
    core_tag(tag, range)?;
    let textual = tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str"));
    if style != ScalarStyle::Plain || textual {
        return Ok(Value::from(text));
    }
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::from(text), Value::Number),
    })
}

fn number(text: &str) -> Option<Number> {
    let radix = |prefix, radix| {
        text.strip_prefix(prefix)
            .filter(|digits| digits.chars().all(|digit| digit.is_digit(radix)))
            .and_then(|digits| u64::from_str_radix(digits, radix).ok())
    };
    if let Some(number) = radix("0x", 16).or_else(|| radix("0o", 8)) {
        return Some(Number::from(number));
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mantissa = unsigned.split(['e', 'E']).next()?;
    let numeric = unsigned
        .chars()
        .all(|character| character.is_ascii_digit() || ".eE+-".contains(character));
    if !numeric || !mantissa.contains(|character: char| character.is_ascii_digit()) {
        return None;
    }
    let signed = text.parse::<i64>().ok().map(Number::from);
    let whole = signed.or_else(|| text.parse::<u64>().ok().map(Number::from));
    whole.or_else(|| text.parse::<f64>().ok().and_then(Number::from_f64))
}
