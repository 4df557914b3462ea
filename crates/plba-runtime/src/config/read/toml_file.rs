//! Reads TOML into a tree of values with their places.

use std::ops::Range;

use serde_json::{Number, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::sources::Place;
use super::syntax::{MAXIMUM_DEPTH, MAXIMUM_SYNTAX_FAULTS, Parsed, SyntaxFault};
use super::toml_words;
use super::tree::{Content, Node};

/// Reads a document.
pub(crate) fn parse(text: &str, source: usize) -> Parsed {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(faults(text, table.get_ref(), &errors));
    }
    let mut conversion = Conversion {
        source,
        faults: Vec::new(),
    };
    let span = table.span();
    let root = conversion.table(table.get_ref(), span, 0);
    match conversion.faults.is_empty() {
        true => Ok(root),
        false => Err(conversion.faults),
    }
}

/// Reads a single value, such as of an environment variable; `None` if it is no TOML value. All of it stands at `place`.
pub(crate) fn parse_value(text: &str, place: Place) -> Option<Node> {
    let parsed = DeValue::parse(text).ok()?;
    let mut conversion = Conversion {
        source: 0,
        faults: Vec::new(),
    };
    let node = conversion.value(&parsed, 0);
    conversion
        .faults
        .is_empty()
        .then(|| Node::from_value(node.value(), place))
}

/// Reads a dotted key, such as `mail."odd name".port`.
pub(crate) fn parse_key(text: &str) -> Option<Vec<String>> {
    if text.contains(['\n', '\r', '=', '#']) || text.trim_start().starts_with('[') {
        return None;
    }
    let document = format!("{text} = 0");
    let table = DeTable::parse(&document).ok()?;
    let mut path = Vec::new();
    let mut table = table.get_ref();
    loop {
        let (key, value) = table.iter().next()?;
        path.push(key.get_ref().to_string());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// The first few errors, one for each line; `read` is what could be read in spite of them.
fn faults(text: &str, read: &DeTable<'_>, errors: &[toml::de::Error]) -> Vec<SyntaxFault> {
    let line = |at: usize| {
        text.as_bytes()[..at.min(text.len())]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let faults = errors
        .iter()
        .take(MAXIMUM_SYNTAX_FAULTS * 4)
        .map(|error| fault(text, error));
    let mut faults: Vec<(usize, SyntaxFault)> = faults.map(|fault| (line(fault.range.start), fault)).collect();
    // What looks doubled in a broken line mostly follows from what is broken there.
    faults.sort_by_key(|(line, fault)| (*line, fault.message == DUPLICATE, fault.range.start));
    faults.dedup_by_key(|(line, _)| *line);
    faults.truncate(MAXIMUM_SYNTAX_FAULTS);
    let explained = faults
        .into_iter()
        .map(|(_, fault)| toml_words::explained(text, read, fault));
    explained.collect()
}

/// How the parser calls a key that is there twice.
pub(super) const DUPLICATE: &str = "duplicate key";

fn fault(text: &str, error: &toml::de::Error) -> SyntaxFault {
    let range = error.span().unwrap_or(0..0);
    let start = range.start.min(text.len());
    let rest = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let before = text.get(..start).unwrap_or_default().trim_end_matches([' ', '\t']);
    if rest.trim().is_empty() && before.ends_with('=') {
        return SyntaxFault::new("a value is missing after `=`", start..start)
            .help("write a value, or take the line out to have the default");
    }
    if error.message().contains("recursion") {
        return SyntaxFault::depth(start..range.end.max(start));
    }
    SyntaxFault::new(error.message().trim_end(), start..range.end.max(start))
}

struct Conversion {
    source: usize,
    faults: Vec<SyntaxFault>,
}

impl Conversion {
    fn table(&mut self, table: &DeTable<'_>, span: Range<usize>, depth: usize) -> Node {
        let mut entries = std::collections::BTreeMap::new();
        for (key, value) in table {
            let node = self.value(value, depth + 1).keyed(Place::new(self.source, key.span()));
            entries.insert(key.get_ref().to_string(), node);
        }
        Node::new(Content::Table(entries), Place::new(self.source, span))
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, depth: usize) -> Node {
        let span = value.span();
        if depth > MAXIMUM_DEPTH {
            if self.faults.is_empty() {
                self.faults.push(SyntaxFault::depth(span.clone()));
            }
            return Node::table(Place::new(self.source, span));
        }
        let scalar = match value.get_ref() {
            DeValue::Table(table) => return self.table(table, span, depth),
            DeValue::Array(items) => {
                let items = items.iter().map(|item| self.value(item, depth + 1)).collect();
                return Node::new(Content::List(items), Place::new(self.source, span));
            }
            DeValue::String(text) => Value::from(text.as_ref()),
            DeValue::Boolean(value) => Value::from(*value),
            DeValue::Datetime(time) => Value::from(time.to_string()),
            DeValue::Integer(number) => self.number(integer(number.as_str(), number.radix()), &span),
            DeValue::Float(number) => self.number(number.as_str().parse().ok().and_then(Number::from_f64), &span),
        };
        Node::new(Content::Scalar(scalar), Place::new(self.source, span))
    }

    fn number(&mut self, number: Option<Number>, span: &Range<usize>) -> Value {
        if number.is_none() {
            let message = "this number can't be held: whole numbers have 64 bits, others are finite";
            self.faults.push(SyntaxFault::new(message, span.clone()));
        }
        number.map_or(Value::Null, Value::Number)
    }
}

/// A whole number of 64 bits, signed or not.
fn integer(digits: &str, radix: u32) -> Option<Number> {
    let signed = i64::from_str_radix(digits, radix).ok().map(Number::from);
    signed.or_else(|| u64::from_str_radix(digits, radix).ok().map(Number::from))
}
